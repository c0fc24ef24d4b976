"""The certificate a charger shows to its CSMS: renewed at its request, or before it ends (OCPP 2.0.1 A02, A03)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.certificates import ends_utc_ms
from bridge.core.quantities import Millis, Now
from bridge.ocpp201.above import OnAnswer
from bridge.ocpp201.rpc import Outcome, Payload

DAY_MS: Final = 86_400_000
RENEW_BEFORE_MS: Final = 30 * DAY_MS  # A03: in time, with room for an authority that takes some days
LOOK_AGAIN_S: Final = 86_400.0
SIGNING_WAIT_S: Final = 60.0  # CertSigningWaitMinimum, doubled with every repetition (A02.FR.18)
SIGNING_REPEATS: Final = 3  # CertSigningRepeatTimes (A02.FR.19)
TAKE_OVER_S: Final = 1.0  # so that the answer leaves before the connection ends

log = structlog.get_logger(__name__)


def new_request(folder: Path, serial: str) -> str:
    """Make a new key, kept as <serial>.new.key, and the request for its certificate, PEM (A02.FR.03).

    Its subject is that of the certificate in use. OSError or ValueError if that cannot be read, or nothing written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.load_pem_x509_certificates((folder / f"{serial}.pem").read_bytes())[0].subject
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(folder / f"{serial}.new.key", private)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def problem_in(folder: Path, serial: str, chain: str, utc_ms: Millis) -> str | None:
    """Why a signed certificate, PEM with its chain, is not the one that was asked for, None if it is (A02.FR.06)."""
    try:
        signed = x509.load_pem_x509_certificates(chain.encode())[0]
        key = serialization.load_pem_private_key((folder / f"{serial}.new.key").read_bytes(), None)
        names = [name.value for name in signed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        ends_ms, begins_ms = _utc_ms(signed.not_valid_after_utc), _utc_ms(signed.not_valid_before_utc)
    except FileNotFoundError:
        return "none was asked for"
    except (OSError, ValueError) as error:
        return f"unreadable: {error}"
    if signed.public_key() != key.public_key():
        return "it is for another key"
    if names != [serial]:
        return f"its common name is not {serial}"
    return None if begins_ms - utc_ms < DAY_MS and ends_ms > utc_ms else "it is not valid now"


def take_over(folder: Path, serial: str, chain: str) -> None:
    """Show this certificate from now on: <serial>.pem, with its key in it; what was there is <serial>.before.pem.

    OSError if it cannot be written; then all stays as it was.
    """
    pem, pending = folder / f"{serial}.pem", folder / f"{serial}.new.key"
    before = pem.read_bytes()
    if b"PRIVATE KEY" not in before:
        before = before.rstrip() + b"\n" + (folder / f"{serial}.key").read_bytes()
    write_secret(folder / f"{serial}.before.pem", before)
    write_secret(pem, chain.encode().rstrip() + b"\n" + pending.read_bytes())
    pending.unlink()


def _utc_ms(moment: datetime) -> Millis:
    return round(moment.timestamp() * 1000)


def write_secret(path: Path, content: bytes) -> None:
    """Put a secret in the place of a file, whole or not at all."""
    beside = path.with_name(f"{path.name}.part")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123  with its mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Renewal:
    """The procedure for one serial, whose files are in `folder`.

    `send` sends a request to the CSMS, `reconnect` ends the connection so that the next one shows the new certificate,
    `security_event` tells of one that is none.
    """

    def __init__(
        self,
        serial: str,
        folder: Path,
        clock: Callable[[], Now],
        send: Callable[[str, Payload, OnAnswer], None],
        reconnect: Callable[[], None],
        security_event: Callable[[str], None],
    ) -> None:
        self._serial = serial
        self._folder = folder
        self._clock = clock
        self._send = send
        self._reconnect = reconnect
        self._security_event = security_event
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0
        self._csr = ""

    def close(self) -> None:
        """Do nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Renew the certificate if it ends within 30 days, and look again every day."""
        if self._csr:
            return  # under way
        self._later(LOOK_AGAIN_S, self.look)
        try:
            ends_ms = ends_utc_ms(self._folder / f"{self._serial}.pem")
        except (OSError, ValueError):
            return
        if ends_ms - self._clock().utc_ms < RENEW_BEFORE_MS:
            self.begin()

    def begin(self) -> None:
        """Ask the CSMS for a certificate for a new key."""
        try:
            self._csr = new_request(self._folder, self._serial)
        except (OSError, ValueError) as error:
            log.error("csms: certificate not renewed", charger=self._serial, why=str(error))  # noqa: TRY400
            return
        self._asked = 0
        self._ask()

    def answer(self, action: str, payload: Payload) -> Payload | None:
        """Answer a request of the CSMS that concerns this certificate; None for any other."""
        if action == "TriggerMessage" and payload["requestedMessage"] == "SignChargingStationCertificate":
            asyncio.get_running_loop().call_soon(self.begin)
            return {"status": "Accepted"}
        if action == "CertificateSigned" and payload.get("certificateType") != "V2GCertificate":
            return self._signed(payload["certificateChain"])
        return None

    def _ask(self) -> None:
        """Send the request; again while no certificate comes, each time after twice as long."""
        if self._asked > SIGNING_REPEATS:
            self._give_up("the CSMS sends none")
            return
        self._later(SIGNING_WAIT_S * 2**self._asked, self._ask)
        self._asked += 1
        request = {"csr": self._csr, "certificateType": "ChargingStationCertificate"}
        self._send("SignCertificate", request, self._answered)

    def _answered(self, outcome: Outcome) -> None:
        if self._csr and isinstance(outcome, dict) and outcome["status"] != "Accepted":
            self._give_up("the CSMS refuses to sign it")

    def _give_up(self, why: str) -> None:
        log.warning("csms: certificate not renewed", charger=self._serial, why=why)
        self._csr = ""
        self._later(LOOK_AGAIN_S, self.look)

    def _signed(self, chain: str) -> Payload:
        problem = problem_in(self._folder, self._serial, chain, self._clock().utc_ms)
        if problem is not None:
            log.warning("csms: certificate refused", charger=self._serial, why=problem)
            self._security_event("InvalidChargingStationCertificate")
            info = {"reasonCode": "InvalidCertificate", "additionalInfo": problem[:512]}
            return {"status": "Rejected", "statusInfo": info}
        begins_ms = _utc_ms(x509.load_pem_x509_certificates(chain.encode())[0].not_valid_before_utc)
        wait_s = max(begins_ms - self._clock().utc_ms, 0) / 1000 + TAKE_OVER_S
        self._later(wait_s, lambda: self._take_over(chain))
        return {"status": "Accepted"}

    def _take_over(self, chain: str) -> None:
        try:
            take_over(self._folder, self._serial, chain)
        except OSError as error:
            self._give_up(str(error))
            return
        log.info("csms: certificate renewed", charger=self._serial)
        self._csr = ""
        self._later(LOOK_AGAIN_S, self.look)
        self._reconnect()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(delay_s, call)
