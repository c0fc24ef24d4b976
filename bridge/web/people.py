"""Who may look and who may act: tokens with a name and a role, kept as hashes in a file.

A token is 192 bits of chance that we make ourselves, never a password of a person's choice. There is nothing to guess,
so its SHA-256 is kept: a slow hash (scrypt, Argon2) protects weak secrets, and would here only let strangers buy tens
of milliseconds of the loop that carries the limit with every wrong word they send.

While the file is empty or missing, this machine may look and nobody may act. The commands on the host prove
themselves by a token of their own, which every start of the service writes anew for its own user to read.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()

MAX_TOKENS: Final = 1_000
TOKEN_BYTES: Final = 24
PREFIX: Final = "gl_"  # so that scanners for secrets know one when they see it
HOST_NAME: Final = "host"
HOST_TOKEN_FILE: Final = "host-token"  # noqa: S105  its name, not the token
_HEADING: Final = "# name role sha256: written by `gridlimit token`; a line taken out no longer counts\n"


class Role(Enum):
    """What the bearer of a token may do; who operates may also view."""

    VIEW = "view"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: the name that is journalled with an act, and the role."""

    name: str
    role: Role


class TokenFileError(Exception):
    """The file of tokens makes no sense; the text says where and why."""


def read_tokens(path: Path) -> dict[str, Person]:
    """The persons by the hash of their token, SHA-256 in hex. Raises TokenFileError, OSError."""
    people: dict[str, Person] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            name, role, digest = words
            people[digest] = Person(name, Role(role))
        except ValueError:
            raise TokenFileError(f"{path}:{number}: must be a name, view or operate, and a hash") from None
    if len(people) > MAX_TOKENS:
        raise TokenFileError(f"{path}: more than {MAX_TOKENS} tokens")
    return people


def write_tokens(path: Path, people: dict[str, Person]) -> None:
    """Replace the file in one go, readable for its owner alone. Raises OSError."""
    lines = [f"{person.name} {person.role.value} {digest}\n" for digest, person in people.items()]
    _replace(path, _HEADING + "".join(lines))


def new_token() -> str:
    """A token nobody has; it is shown once and never kept."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if os.geteuid() == 0:  # a token that root makes is for the service to read
            folder = path.parent.stat()
            os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Tokens:
    """The tokens of one service: those of the file, read anew when it changes, and that of this host.

    A file that cannot be read keeps what was read last, so that a slip of the pen neither opens nor closes doors.
    """

    def __init__(self, path: Path, *, anyone_may_view: bool = False) -> None:
        self._path = path
        self._anyone_may_view = anyone_may_view
        self._people: dict[str, Person] = {}
        self._of_host: dict[str, Person] = {}
        self._read_of: tuple[int, int, int] | None = None

    def write_host_token(self, folder: Path) -> None:
        """Give this host a token of its own, for the commands there and the dashboard. Raises OSError."""
        token = new_token()
        _replace(folder / HOST_TOKEN_FILE, token)
        self._of_host = {digest_of(token): Person(HOST_NAME, Role.OPERATE)}

    def person(self, token: str) -> Person | None:
        """Whose token this is, None if nobody's."""
        self._read_if_changed()
        digest = digest_of(token)
        return self._people.get(digest) or self._of_host.get(digest)

    def may_look_unnamed(self, address: str, host: str) -> bool:
        """Whether a caller without a token may look: everybody where the settings say so, this machine without tokens.

        `host` is what the request was addressed to: a page of elsewhere that has its name resolved to this machine
        must not look with the browser of somebody here (DNS rebinding).
        """
        if self._anyone_may_view:
            return True
        self._read_if_changed()
        return not self._people and _is_this_machine(address) and _is_this_machine(host)

    def _read_if_changed(self) -> None:
        try:
            found = self._path.stat()
        except OSError:
            self._people, self._read_of = {}, None
            return
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen == self._read_of:
            return
        self._read_of = seen
        try:
            self._people = read_tokens(self._path)
        except (TokenFileError, OSError, UnicodeDecodeError) as error:
            log.error(  # noqa: TRY400  what and where is all there is to say
                "the tokens are not as they should be: those read before still count", why=str(error)
            )


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
