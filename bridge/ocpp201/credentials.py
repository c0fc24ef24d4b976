"""Who a charger proves to be: passwords, client certificates and the TLS of the security profiles of OCPP 2.0.1."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import structlog

from bridge.certificates import revocations
from bridge.core.quantities import Now
from bridge.ocpp201.passwords import NOBODYS, Hashed, read_hashed
from bridge.settings import MAX_PASSWORD_BYTES, ChargerEntry, OcppTls

MAX_WRONG_TRIES: Final = 5
MINUTE_MS: Final = 60_000
MAX_REMEMBERED: Final = 10_000  # identities and addresses that tried in vain

# TLS 1.2: authenticated encryption only; the last one is what A00.FR.319 asks of a CSMS with an RSA certificate.
# Security level 2 refuses RSA below 2048 bits, curves below 224 and SHA-1 (A00.FR.501 to .503).
_CIPHERS: Final = "ECDHE+AESGCM:DHE+AESGCM:kRSA+AESGCM:!aNULL:!PSK:@SECLEVEL=2"
_NOBODYS: Final = secrets.token_bytes(32)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is refused: the HTTP status it is told, and the reason for the log."""

    status: HTTPStatus
    why: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What a connection shows for itself: its address, whether it has TLS, its Authorization, its certificate's names.

    `names` are the common name and the organization of a client certificate that was verified, None without one.
    """

    address: str
    has_tls: bool
    authorization: str | None = None
    names: tuple[str, str] | None = None


class Credentials:
    """Decides whether a connection is the charger it says it is (OCPP 2.0.1 A00).

    Each charger has one security profile and no other is accepted (A00.FR.001 to .005). Five wrong tries of an identity
    from an address within a minute, then all from there are refused until the minute is over. `organization` is what
    the certificate of a charger must name as its owner (A00.FR.404), None for any. A hashed password is checked in a
    thread, one at a time, and remembered in memory once it was right; with any of them an unknown serial takes as long.
    """

    def __init__(self, clock: Callable[[], Now], organization: str | None = None) -> None:
        self._clock = clock
        self._organization = organization
        self._wrong: dict[tuple[str, str], deque[int]] = {}
        self._proven: dict[str, bytes] = {}
        self._some_are_hashed = False
        self._hashing = asyncio.Lock()

    async def refusal(self, identity: str, entry: ChargerEntry | None, shown: Shown) -> Refusal | None:
        """Say why the connection may not be `identity`; `entry` is None for one that is unknown, never let in."""
        key, is_right = (identity, shown.address), False
        if not self._is_shut(key):
            is_right = await self._is_right(entry, _basic(shown.authorization))
        if self._is_shut(key):
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, f"{MAX_WRONG_TRIES} wrong tries within a minute")
        why = _problem(identity, entry, shown, self._organization, is_right=is_right)
        if why is None:
            self._wrong.pop(key, None)
            return None
        self._wrong.setdefault(key, deque(maxlen=MAX_WRONG_TRIES)).append(self._clock().monotonic_ms)
        if len(self._wrong) > MAX_REMEMBERED:
            del self._wrong[next(iter(self._wrong))]
        return Refusal(HTTPStatus.UNAUTHORIZED, why)

    def _is_shut(self, key: tuple[str, str]) -> bool:
        tries = self._wrong.get(key, deque())
        return len(tries) == MAX_WRONG_TRIES and self._clock().monotonic_ms - tries[0] < MINUTE_MS

    async def _is_right(self, entry: ChargerEntry | None, given: tuple[bytes, bytes] | None) -> bool:
        """Whether the password given is the one of the charger, in a time that does not tell whether there is one."""
        kept = None if entry is None else _password(entry)
        if given is None:
            return False
        proof = hmac.digest(_NOBODYS, given[1] + b"\n" + (kept or b""), "sha256")
        if entry is not None and hmac.compare_digest(self._proven.get(entry.serial, b""), proof):
            return True
        wanted = None if kept is None else read_hashed(kept)
        self._some_are_hashed |= wanted is not None
        is_right = hmac.compare_digest(_digest(given[1]), _digest(kept or _NOBODYS)) and wanted is None
        if self._some_are_hashed:
            async with self._hashing:
                is_hashed = await asyncio.to_thread(_is_of, wanted or NOBODYS, given[1])
            is_right = is_right or is_hashed
            if is_hashed and entry is not None:
                self._proven[entry.serial] = proof
        return is_right


def _is_of(wanted: Hashed, password: bytes) -> bool:
    try:
        return wanted.is_of(password)
    except ValueError as error:
        log.error("hashed password cannot be used: hash it anew", why=str(error))  # noqa: TRY400
        return False


def _problem(
    identity: str, entry: ChargerEntry | None, shown: Shown, organization: str | None, *, is_right: bool
) -> str | None:
    """What is wrong with what a connection shows, None if nothing is; `is_right` is its password."""
    if entry is None:
        return "unknown serial"
    given = _basic(shown.authorization)
    profile, said = entry.security_profile or 0, None
    if (profile >= 2) != shown.has_tls:  # noqa: PLR2004  the security profiles with TLS
        said = f"security profile {profile} is spoken {'without' if shown.has_tls else 'with'} TLS"
    elif shown.names is not None and shown.names[0] != identity:
        said = f"its certificate is that of {shown.names[0][:48]!r}"
    elif profile and given is not None and given[0] != identity.encode():
        said = f"its user name is {given[0][:48]!a}"
    elif profile == 3:  # noqa: PLR2004  the security profile with client certificates
        said = _certificate_problem(shown, organization)
    elif profile and not is_right:
        said = "no password" if given is None else "wrong password"
    return said


def _certificate_problem(shown: Shown, organization: str | None) -> str | None:
    if shown.names is None:
        return "no client certificate"
    if organization not in (None, shown.names[1]):
        return f"its certificate is owned by {shown.names[1][:48]!r}, not {organization!r}"
    return None


def _basic(authorization: str | None) -> tuple[bytes, bytes] | None:
    """User and password of an Authorization header, RFC 7617; None if there are none."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(token.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _password(entry: ChargerEntry) -> bytes | None:
    """The password of a charger, or its hash, as its file has it now; None, with a log line, where none can be read."""
    path = entry.password_file
    if path is None or not entry.security_profile:
        return None
    try:
        with path.open("rb") as file:
            password = file.read(MAX_PASSWORD_BYTES).strip()
    except OSError as error:
        log.error("password cannot be read", charger=entry.serial, file=str(path), why=error.strerror)  # noqa: TRY400
        return None
    if not password:
        log.error("password file is empty: write the password into it", charger=entry.serial, file=str(path))
    return password or None


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


class ServerTls:
    """TLS of the listener, its files read anew when they change; ssl.SSLError or OSError if they are bad at first.

    `revoked` are the serial numbers of the certificates that count no more.
    """

    def __init__(self, plan: OcppTls) -> None:
        self._plan = plan
        self._files = [path for _, path in plan if isinstance(path, Path)]
        self._state = self._files_state()
        self._context, self.revoked = _context(plan), _revoked(plan)

    def context(self) -> ssl.SSLContext:
        """The context for a new connection. Files that have become bad are logged once and the old ones stay."""
        state = self._files_state()
        if state != self._state:
            self._state = state
            try:
                self._context, self.revoked = _context(self._plan), _revoked(self._plan)
                log.info("the TLS files of chargers were read anew", revoked=len(self.revoked))
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                log.error("the changed TLS files cannot be used: the old ones stay", why=str(error))  # noqa: TRY400
        return self._context

    def _files_state(self) -> list[tuple[int, int] | None]:
        def state(path: Path) -> tuple[int, int] | None:
            try:
                found = path.stat()
            except OSError:
                return None
            return found.st_mtime_ns, found.st_size

        return [state(path) for path in self._files]


def _context(plan: OcppTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if plan.minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    # No session comes back by a ticket after its certificate was revoked.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.load_cert_chain(plan.certificate, plan.key)
    if plan.client_ca is not None:
        context.load_verify_locations(cafile=plan.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL  # security profile 2 shows none; one that is shown must be good
    if plan.revocation_list is not None:
        context.load_verify_locations(cafile=plan.revocation_list)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _revoked(plan: OcppTls) -> frozenset[int]:
    return frozenset() if plan.revocation_list is None else revocations(plan.revocation_list)[1]


def certificate_number(connection: Any) -> int | None:
    """Serial number of the verified certificate at the other end of an `ssl.SSLObject`, if any."""
    told = None if connection is None else connection.getpeercert()
    return int(told["serialNumber"], 16) if told else None


def certificate_names(connection: Any) -> tuple[str, str] | None:
    """Common name and organization of the verified certificate at the other end of an `ssl.SSLObject`, if any."""
    told = None if connection is None else connection.getpeercert()
    if not told:
        return None
    subject = [pair for part in told.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    owner = next((value for key, value in subject if key == "organizationName"), "")
    return (names[0] if len(names) == 1 else "", owner)
