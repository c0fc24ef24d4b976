"""Dialling a CSMS: address, credentials and TLS of the security profiles of OCPP 2.0.1, and when to try again."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from bridge.settings import Csms

MAX_FRAME_BYTES: Final = 1 << 20  # certificate chains, lists of identifiers
OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
PING_S: Final = 20.0
MAX_PASSWORD_BYTES: Final = 256

# What the world can do to a connection that is being opened; anything else is a bug.
NOT_CONNECTED: Final = (OSError, TimeoutError, WebSocketException, ssl.SSLError, ValueError)


class BackOff:
    """How long to wait before the next attempt, doubled `repeat_times` times (OCPP 2.0.1 Part 4 §5.3); seconds."""

    def __init__(self, wait_minimum_s: float, random_range_s: float, repeat_times: int) -> None:
        self._wait_minimum_s = wait_minimum_s
        self._random_range_s = random_range_s
        self._repeat_times = repeat_times
        self._repeated = 0

    def reset(self) -> None:
        """Begin anew: the last attempt succeeded."""
        self._repeated = 0

    def next_s(self, chance: float) -> float:
        """Return the next wait; `chance` from 0 to 1 says which part of the random range is added."""
        wait_s = self._wait_minimum_s * float(2**self._repeated) + chance * self._random_range_s
        self._repeated = min(self._repeated + 1, self._repeat_times)
        return wait_s


async def dial(csms: Csms, serial: str) -> ClientConnection:
    """Open the WebSocket of one serial, subprotocol ocpp2.0.1. Raises one of `NOT_CONNECTED`."""
    assert csms.url is not None  # noqa: S101  nobody dials where there is no CSMS
    headers = {}
    password = _password(csms, serial)
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{serial}:{password}".encode()).decode()
    connection = await connect(
        f"{csms.url}/{quote(serial, safe='')}",
        subprotocols=[Subprotocol("ocpp2.0.1")],
        additional_headers=headers,
        ssl=await asyncio.to_thread(_tls, csms, serial) if csms.url.startswith("wss:") else None,
        compression=None,
        user_agent_header=None,
        proxy=None,
        max_size=MAX_FRAME_BYTES,
        open_timeout=OPEN_TIMEOUT_S,
        close_timeout=CLOSE_TIMEOUT_S,
        ping_interval=PING_S,
        ping_timeout=PING_S,
    )
    if connection.subprotocol != "ocpp2.0.1":
        await connection.close(1002, "no ocpp2.0.1")
        raise ConnectionError("the CSMS does not speak ocpp2.0.1")
    return connection


def why_not_connected(error: BaseException) -> str:
    """Say why a connection could not be opened, in words that hold no secret."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        hint = {401: ": check its password", 404: ": does it know this serial?"}.get(status, "")
        return f"HTTP {status}{hint}"
    return f"{type(error).__name__}: {error}"[:200]


def security_event(error: BaseException) -> str | None:
    """The security event of OCPP 2.0.1 (Part 2, appendix 1) that a failed connection is, None for none."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "InvalidCsmsCertificate"
    if isinstance(error, ssl.SSLError) and "VERSION" in str(error.reason):
        return "InvalidTLSVersion"
    if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
        return "FailedToAuthenticateAtCsms"
    return None


def _password(csms: Csms, serial: str) -> str | None:
    """Read the password of a serial (security profiles 1 and 2)."""
    path = csms.password_file if csms.passwords_dir is None else csms.passwords_dir / serial
    if path is None:
        return None
    password = _short(path).strip()
    if not password:
        raise ValueError(f"{path}: is empty: write the password into it")
    return password


def _short(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.read(MAX_PASSWORD_BYTES)


def _tls(csms: Csms, serial: str) -> ssl.SSLContext:
    """TLS 1.2 or newer with the certificate of the CSMS checked (A00.FR.308, .309, .313), ours shown in profile 3."""
    context = ssl.create_default_context(cafile=csms.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION
    if csms.certificates_dir is not None:
        certificate, key = (csms.certificates_dir / f"{serial}.{suffix}" for suffix in ("pem", "key"))
        has_key = certificate.is_file() and b"PRIVATE KEY" in certificate.read_bytes()
        for path in (certificate,) if has_key else (certificate, key):
            if not path.is_file():
                raise FileNotFoundError(f"No such file: {path}: put the certificate and key of {serial} there")
        context.load_cert_chain(certificate, None if has_key else key)
    return context
