"""Passwords of chargers as they stand in their files: in clear, or hashed with scrypt so that a copy lets nobody in.

`python -m bridge.ocpp201.passwords` reads a password from its input and prints the line to put in its place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import sys
from typing import Final, NamedTuple

COST: Final = 2**14  # 16 MiB and some 50 ms of one core, once for each charger after a start
BLOCK_SIZE: Final = 8
MAX_MEMORY_BYTES: Final = 64 << 20
_HASHED: Final = re.compile(rb"scrypt:(\d{1,7}):(\d{1,3}):([A-Za-z0-9+/=]{1,64}):([A-Za-z0-9+/=]{1,64})")


class Hashed(NamedTuple):
    """A password hashed with scrypt, RFC 7914, parallelism 1."""

    cost: int
    block_size: int
    salt: bytes
    digest: bytes

    def is_of(self, password: bytes) -> bool:
        """Whether it is the hash of this password; takes its time. ValueError if its parameters make no sense."""
        digest = _scrypt(password, self.salt, self.cost, self.block_size, len(self.digest))
        return hmac.compare_digest(digest, self.digest)


NOBODYS: Final = Hashed(COST, BLOCK_SIZE, secrets.token_bytes(16), secrets.token_bytes(32))


def read_hashed(line: bytes) -> Hashed | None:
    """Read the content of a password file; None if it is a password in clear."""
    found = _HASHED.fullmatch(line)
    if found is None:
        return None
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in found.group(3, 4))
    except binascii.Error:
        return None
    return Hashed(int(found[1]), int(found[2]), salt, digest)


def hashed(password: bytes) -> str:
    """The line that stands for a password in its file."""
    salt = secrets.token_bytes(16)
    parts = (base64.b64encode(part).decode() for part in (salt, _scrypt(password, salt, COST, BLOCK_SIZE, 32)))
    return ":".join(("scrypt", str(COST), str(BLOCK_SIZE), *parts))


def _scrypt(password: bytes, salt: bytes, cost: int, block_size: int, length: int) -> bytes:
    return hashlib.scrypt(password, salt=salt, n=cost, r=block_size, p=1, maxmem=MAX_MEMORY_BYTES, dklen=length)


if __name__ == "__main__":
    sys.stdout.write(hashed(sys.stdin.buffer.read().strip()) + "\n")
