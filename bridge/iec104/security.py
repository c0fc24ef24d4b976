"""TLS for the outstation after IEC 62351-3: whom we trust, who is revoked, when it all ends; read anew as files change.

Declared deviations: Python's TLS has no key update of its own accord, and renegotiation is refused. With TLS 1.3 the
control centre updates the keys whenever it wants; where it does not, `renew_after_s` ends a connection so that the next
one has new keys. Sessions are never resumed, so that a revoked certificate cannot come back by one.
"""

from __future__ import annotations

import hashlib
import math
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from bridge.certificates import ends_utc_ms, revocations
from bridge.core.quantities import Millis

log = structlog.get_logger(__name__)

_CIPHERS: Final = "ECDHE+AESGCM:DHE+AESGCM:!aNULL:!PSK"  # TLS 1.2: forward secrecy and authenticated encryption only
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class TlsPlan:
    """The files (PEM): our certificate with its chain, its key, who signs control centres' certificates, and the CRL.

    `minimum_version` is "1.2" or "1.3"; the alarm is raised so many days before certificate or CRL end. A connection is
    ended after `renew_after_s`, so that certificates and keys are negotiated anew; None: never.
    """

    certificate: Path
    key: Path
    authorities: Path
    revocation_list: Path | None = None
    minimum_version: str = "1.2"
    expiry_alarm_days: int = 30
    handshake_s: float = 10.0
    renew_after_s: float | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that are there."""
        files = (self.certificate, self.key, self.authorities, self.revocation_list)
        return tuple(path for path in files if path is not None)


class Peer(NamedTuple):
    """A control centre as its certificate names it: SHA-256 of it in hex, its common name, its serial number."""

    fingerprint: str
    name: str
    serial: int


class Tls:
    """The context for new connections. ssl.SSLError, OSError or ValueError if the files cannot be used at first."""

    def __init__(self, plan: TlsPlan) -> None:
        self._plan = plan
        self.handshake_s = plan.handshake_s
        self.renew_after_ms = math.inf if plan.renew_after_s is None else plan.renew_after_s * 1000
        self._state = self._files_state()
        self.context = _context(plan)
        self.ends_utc_ms, self.revoked = _read(plan)

    def reload(self) -> bool:
        """Read the files again if they have changed; True if they have and are good, else all stays as it was."""
        state = self._files_state()
        if state == self._state:
            return False
        self._state = state
        try:
            context = _context(self._plan)
            self.ends_utc_ms, self.revoked = _read(self._plan)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            log.error("the TLS files have changed and cannot be used: the old ones stay", why=str(error))  # noqa: TRY400
            return False
        self.context = context
        log.info("the TLS files were read anew", revoked=len(self.revoked))
        return True

    def expires_soon(self, utc_ms: Millis) -> bool:
        """Whether certificate or CRL end within `expiry_alarm_days`, or have ended."""
        return self.ends_utc_ms - utc_ms < self._plan.expiry_alarm_days * _DAY_MS

    def _files_state(self) -> tuple[tuple[int, int] | None, ...]:
        def state(path: Path) -> tuple[int, int] | None:
            try:
                found = path.stat()
            except OSError:
                return None
            return found.st_mtime_ns, found.st_size

        return tuple(map(state, self._plan.files))


def peer_of(connection: ssl.SSLObject) -> Peer:
    """Who is at the other end of a finished handshake."""
    der, told = connection.getpeercert(binary_form=True) or b"", connection.getpeercert() or {}
    subject = {key: value for part in told.get("subject", ()) for key, value in part}  # type: ignore[str-unpack]
    serial = int(str(told.get("serialNumber", "0")), 16)
    return Peer(hashlib.sha256(der).hexdigest(), str(subject.get("commonName", "")), serial)


def _context(plan: TlsPlan) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if plan.minimum_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.load_cert_chain(plan.certificate, plan.key)
    context.load_verify_locations(cafile=plan.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    if plan.revocation_list is not None:
        context.load_verify_locations(cafile=plan.revocation_list)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _read(plan: TlsPlan) -> tuple[Millis, frozenset[int]]:
    """When the first of our certificate and the CRLs ends (UTC), and the serial numbers revoked."""
    due, revoked = ([], frozenset[int]()) if plan.revocation_list is None else revocations(plan.revocation_list)
    return min([ends_utc_ms(plan.certificate), *due]), revoked
