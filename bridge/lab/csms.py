"""A small, strict OCPP 2.0.1 central system: it believes no one it does not know and writes down what it was told."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import http
import logging
import re
import ssl
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from bridge.lab.charger import stamp, utc_now
from bridge.lab.peer import Answer, CallError, Payload, Peer

log = logging.getLogger(__name__)

MAX_TOLD = 100_000
MAX_TRANSACTIONS = 100_000
MAX_FRAME_BYTES = 1 << 20
# Identifiers of OCPP 2.0.1 Part 4 §3.1.1, at most 48 characters; a colon would break Basic authentication.
IDENTITY = r"[A-Za-z0-9*\-_=+|@.]{1,48}"
# What a station may send before its boot is accepted (B02.FR.02, B03.FR.02).
BEFORE_ACCEPTED = ("BootNotification",)


@dataclass(frozen=True, slots=True)
class Told:
    """One request a station sent, and what it was answered."""

    identity: str
    action: str
    payload: Payload
    answer: Answer


@dataclass(slots=True)
class Connected:
    """One station while it is connected; `accepted` is whether its boot was."""

    peer: Peer
    accepted: bool = False


class Csms:
    """Listens for stations at ws://host:port/<identity>, subprotocol ocpp2.0.1.

    Only identities in `serials`, or matching the regular expression `pattern`, may connect, with `password` if one is
    set; others are refused before the upgrade: 404, 401, or 400 without the subprotocol. With `tls` it listens at
    wss://; where that demands client certificates, their common name must be the identity (A00.FR.405). A second
    connection of one identity takes the place of the first. Every request is kept in `told`; what the standard forbids
    though its schema allows it is refused, or noted in `complaints`. `boot_status` is what a boot is answered,
    `refused_tags` are the idTokens that are Invalid, and `answers` overrides the answer to an action.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        serials: Collection[str] = (),
        pattern: str | None = None,
        password: str | None = None,
        heartbeat_s: int = 300,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.boot_status = "Accepted"
        self.refused_tags: set[str] = set()
        self.answers: dict[str, Callable[[str, Payload], Answer]] = {}
        self.told: deque[Told] = deque(maxlen=MAX_TOLD)
        self.complaints: deque[str] = deque(maxlen=MAX_TOLD)
        self.connected: dict[str, Connected] = {}
        self._serials = frozenset(serials)
        self._pattern = re.compile(pattern) if pattern else None
        self._password = password
        self._heartbeat_s = heartbeat_s
        self._tls = tls
        self._next_number: dict[tuple[str, str], int] = {}
        self._news = asyncio.Condition()
        self._server: Server | None = None

    async def open(self) -> None:
        """Listen; OSError if the port is taken. Port 0 takes a free one; `port` is the bound one."""
        self._server = await serve(
            self._serve,
            self.host,
            self.port,
            subprotocols=[Subprotocol("ocpp2.0.1")],
            process_request=self._admit,
            ssl=self._tls,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            ping_interval=20,
            ping_timeout=20,
            close_timeout=1,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def call(self, identity: str, action: str, payload: Payload) -> Answer:
        """Send any request to a station; None when it is not connected or does not answer. ValueError if ill-formed."""
        station = self.connected.get(identity)
        return await station.peer.call(action, payload) if station else None

    def heard(self, identity: str, action: str) -> list[Payload]:
        """Return the payloads of one action from one station, oldest first."""
        return [each.payload for each in self.told if (each.identity, each.action) == (identity, action)]

    async def hears(self, identity: str, action: str, *, count: int = 1, within_s: float = 10.0) -> Payload:
        """Wait until a station has sent an action `count` times and return the last; TimeoutError otherwise."""
        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: len(self.heard(identity, action)) >= count)
        return self.heard(identity, action)[count - 1]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        identity = _identity(request)
        known = identity in self._serials or (self._pattern is not None and self._pattern.fullmatch(identity))
        if not known or not re.fullmatch(IDENTITY, identity):
            log.warning("csms: unknown identity %r refused", identity[:60])
            return connection.respond(http.HTTPStatus.NOT_FOUND, "unknown charging station\n")
        certificate = connection.transport.get_extra_info("peercert")
        if certificate and ((("commonName", identity),) not in certificate["subject"]):
            log.warning("csms: %s refused: its certificate is another's", identity)
            return connection.respond(http.HTTPStatus.FORBIDDEN, "not your certificate\n")
        if self._password is not None and not self._authentic(identity, request):
            log.warning("csms: %s refused: wrong or no credentials", identity)
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "credentials, please\n")
            response.headers["WWW-Authenticate"] = 'Basic realm="csms", charset="UTF-8"'
            return response
        return None

    def _authentic(self, identity: str, request: Request) -> bool:
        """Check HTTP Basic authentication: the username is the identity (A00.FR.204, .207)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(token, validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, f"{identity}:{self._password}".encode())

    async def _serve(self, websocket: ServerConnection) -> None:
        identity = _identity(websocket.request) if websocket.request else ""

        async def answer(action: str, payload: Payload) -> Answer:
            return await self._answer(identity, station, action, payload)

        station = Connected(Peer(websocket, answer, name=f"csms/{identity}", checked=True))
        former = self.connected.get(identity)
        self.connected[identity] = station
        if former is not None:
            self._complain(identity, "connected twice; the first connection is closed")
            await former.peer.close()
        log.info("csms: %s connected", identity)
        try:
            await station.peer.run()
        finally:
            if self.connected.get(identity) is station:
                del self.connected[identity]
            log.info("csms: %s disconnected", identity)

    async def _answer(self, identity: str, station: Connected, action: str, payload: Payload) -> Answer:
        if not station.accepted and action not in BEFORE_ACCEPTED:
            answer: Answer = CallError("SecurityError", f"{action} before the boot was accepted")
        elif action in self.answers:
            answer = self.answers[action](identity, payload)
        else:
            answer = self._refusal(identity, action, payload) or self._own_answer(identity, action, payload)
        if action == "BootNotification" and isinstance(answer, dict):
            station.accepted = answer["status"] == "Accepted"
        if isinstance(answer, CallError):
            self._complain(identity, f"{action}: {answer.code} {answer.description}")
        log.info("csms: %s %s %s -> %s", identity, action, payload, answer)
        async with self._news:
            self.told.append(Told(identity, action, payload, answer))
            self._news.notify_all()
        return answer

    def _refusal(self, identity: str, action: str, payload: Payload) -> CallError | None:
        """Refuse what the schemas allow and the text does not."""
        match action:
            case "BootNotification":
                serial = payload["chargingStation"].get("serialNumber", identity)
                if serial != identity[:25]:
                    return CallError("SecurityError", f"serialNumber {serial} is not the identity {identity}")
            case "StatusNotification" if payload["evseId"] < 1 or payload["connectorId"] < 1:
                return CallError("PropertyConstraintViolation", "a status is that of a connector (F06.FR.13)")
            case "TransactionEvent" if payload["seqNo"] < 0:
                return CallError("PropertyConstraintViolation", "seqNo below 0")
            case "TransactionEvent" if payload["eventType"] == "Started" and "evse" not in payload:
                return CallError("OccurrenceConstraintViolation", "Started without evse (E01.FR.16)")
        return None

    def _own_answer(self, identity: str, action: str, payload: Payload) -> Answer:
        if action == "TransactionEvent":
            self._check_number(identity, payload)
        now = stamp(utc_now())
        of_token: Payload = {"idTokenInfo": self._token_info(payload["idToken"])} if "idToken" in payload else {}
        unsupported = CallError("NotSupported", f"{action} is not supported here")
        answers: dict[str, Answer] = {
            "BootNotification": {"status": self.boot_status, "currentTime": now, "interval": self._heartbeat_s},
            "Heartbeat": {"currentTime": now},
            "Authorize": of_token,
            "TransactionEvent": of_token,
            "DataTransfer": {"status": "UnknownVendorId"},
            "NotifyEVChargingSchedule": {"status": "Accepted"},
            "NotifyEVChargingNeeds": unsupported,
            "SignCertificate": unsupported,
            "Get15118EVCertificate": unsupported,
            "GetCertificateStatus": unsupported,
        }
        return answers.get(action, {})

    def _token_info(self, id_token: Payload) -> dict[str, Any]:
        return {"status": "Invalid" if id_token["idToken"] in self.refused_tags else "Accepted"}

    def _check_number(self, identity: str, payload: Payload) -> None:
        """Complain of a gap or a repetition in seqNo; a transaction first heard of in its middle begins where it is."""
        transaction, number = (identity, payload["transactionInfo"]["transactionId"]), payload["seqNo"]
        expected = self._next_number.get(transaction, number if payload["eventType"] != "Started" else 0)
        if number != expected:
            self._complain(identity, f"transaction {transaction[1]}: seqNo {number} where {expected} was due")
        self._next_number[transaction] = number + 1
        if len(self._next_number) > MAX_TRANSACTIONS:
            del self._next_number[next(iter(self._next_number))]

    def _complain(self, identity: str, text: str) -> None:
        log.warning("csms: %s: %s", identity, text)
        self.complaints.append(f"{identity}: {text}")


def _identity(request: Request) -> str:
    return unquote(urlsplit(request.path).path.rpartition("/")[2])
