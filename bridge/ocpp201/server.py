"""The listener for all chargers: says who may connect, under which protocol, and keeps one session for each serial."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

import structlog
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidHeader
from websockets.headers import parse_subprotocol
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from bridge.core.messages import Answer, ChargerConnected, ChargerDisconnected, Event, LimitAnswered, SetFloor, SetLimit
from bridge.core.quantities import Now
from bridge.ocpp201.connection import OPEN_TIMEOUT_S, CountedConnection, address_of, counted, host_of
from bridge.ocpp201.credentials import (
    Credentials,
    Refusal,
    ServerTls,
    Shown,
    certificate_names,
    certificate_number,
)
from bridge.ocpp201.direct import DirectConnection
from bridge.ocpp201.keepalive import KeepAlive
from bridge.ocpp201.rpc import MAX_FRAME_BYTES, WebSocket, parse
from bridge.settings import ChargerEntry, OcppTls

PING_INTERVAL_S: Final = 5.0  # with its timeout and the closing one: a dead unit is offline within 12 s
PING_TIMEOUT_S: Final = 5.0
CLOSE_TIMEOUT_S: Final = 2.0
PROBE_TIMEOUT_S: Final = 2.0
MAX_QUEUED_FRAMES: Final = 16
BACKLOG: Final = 4_096  # all chargers may dial at once; a connection beyond it would wait for TCP to try again
MAX_SWAPS_PER_MINUTE: Final = 3
MINUTE_MS: Final = 60_000
SPARE_CONNECTIONS: Final = 20
NAMED_WITHIN_S: Final = 10.0  # a unit that said no serial so far says it in its BootNotification
MIN_OPENING_PER_ADDRESS: Final = 10
HEED_FILES_S: Final = 10.0  # a revoked certificate counts no longer than that

_IDENTITY: Final = re.compile(r"[A-Za-z0-9*_=:+|@.-]{1,48}")  # OCPP 2.0.1 Part 4 §3.1.1
_CLOSE_TRY_AGAIN: Final = 1013
_CLOSE_POLICY_VIOLATION: Final = 1008
_UNAUTHENTICATED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)

log = structlog.get_logger(__name__)


class Session(Protocol):
    """One connected charger, whatever it speaks."""

    serial: str

    async def serve(self) -> None:
        """Receive until the connection ends; then every open order has been answered."""
        ...

    def set_floor(self, effect: SetFloor) -> None:
        """Install the floor under all grants; answered by one LimitAnswered."""
        ...

    def set_limit(self, effect: SetLimit) -> None:
        """Tell the charger its limit; exactly one LimitAnswered is submitted for it."""
        ...

    async def is_alive(self, within_s: float) -> bool:
        """Say whether the peer answers a ping in time."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """End the connection."""
        ...


MakeSession: TypeAlias = Callable[[WebSocket, ChargerEntry], Session]


@dataclass(frozen=True, slots=True)
class _Live:
    session: Session
    connection: ServerConnection
    address: str


class Server:
    """Listens on `host`:`port` for the `chargers` that may connect, by serial.

    `sessions` says by protocol who answers. `connection_class` reads the beginning of a connection; where it sets
    `hello_serial`, that is the identity, else the last segment of the path, else, of legacy units alone, what their
    BootNotification says; two that disagree are refused. `security_event` is told of a serial, a type of OCPP 2.0.1
    and a reason, at most once a minute for each of both. `max_connections` bounds all connections,
    `max_opening_per_address` those of one address whose handshake is not done; by default twice the chargers and 20
    more, and as many as there are chargers. With `tls` this is wss, and chargers of security profiles 0 and 1 connect
    at `plain` (host, port), which shares everything with it. Submits ChargerConnected and ChargerDisconnected.
    """

    def __init__(
        self,
        host: str,
        port: int,
        chargers: Mapping[str, ChargerEntry],
        sessions: Mapping[str, MakeSession],
        submit: Callable[[Event], None],
        clock: Callable[[], Now],
        connection_class: type[ServerConnection] = ServerConnection,
        *,
        security_event: Callable[[str, str, str], None] = lambda _serial, _type, _why: None,
        tls: OcppTls | None = None,
        plain: tuple[str, int] | None = None,
        max_connections: int | None = None,
        max_opening_per_address: int | None = None,
    ) -> None:
        self.port = port
        self.plain_port = None if plain is None else plain[1]
        self._host = host
        self._plain_host = None if plain is None else plain[0]
        self._tls_plan = tls
        self._credentials = Credentials(clock, None if tls is None else tls.client_organization)
        self._is_guarded = any(entry.security_profile for entry in chargers.values())
        self._chargers = chargers
        self._sessions = sessions
        self._submit = submit
        self._clock = clock
        self._connection_class = connection_class
        self._max_connections = max_connections or 2 * len(chargers) + SPARE_CONNECTIONS
        self._max_opening = max_opening_per_address or max(MIN_OPENING_PER_ADDRESS, len(chargers))
        self._connections: set[CountedConnection] = set()
        self._admitted: dict[ServerConnection, ChargerEntry] = {}
        self._nameless: set[ServerConnection] = set()
        self._security_event = security_event
        self._reported_ms: dict[tuple[str, str], int] = {}
        self._opening: Counter[str] = Counter()
        self._live: dict[str, _Live] = {}
        self._probed: set[str] = set()
        self._swaps: dict[str, deque[int]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._keep_alive = KeepAlive(PING_INTERVAL_S, PING_TIMEOUT_S, CLOSE_TIMEOUT_S)
        self._servers: list[WebSocketServer] = []
        self._heeding: asyncio.TimerHandle | None = None
        self._revoked: frozenset[int] = frozenset()

    async def open(self) -> None:
        """Listen; `port` and `plain_port` are then the bound ones. OSError if one is taken or a TLS file is bad."""
        tls = None if self._tls_plan is None else ServerTls(self._tls_plan)
        if tls is not None:
            self._heed_files(tls)
        self.port = await self._listen(self._host, self.port, tls)
        if self._plain_host is not None and self.plain_port is not None:
            self.plain_port = await self._listen(self._plain_host, self.plain_port, None)

    async def _listen(self, host: str, port: int, tls: ServerTls | None) -> int:
        """Open one listener and return its port."""
        server = await serve(
            self._handle,
            host,
            port,
            create_connection=counted(self._connection_class, self, tls),
            process_request=self._admit,
            select_subprotocol=self._select_subprotocol,
            backlog=BACKLOG,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            max_queue=MAX_QUEUED_FRAMES,
            open_timeout=OPEN_TIMEOUT_S,
            ping_interval=None,  # `KeepAlive` pings
            close_timeout=CLOSE_TIMEOUT_S,
            server_header=None,
        )
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._heeding is not None:
            self._heeding.cancel()
        self._keep_alive.close()
        for server in self._servers:
            server.close()
        for connection in self._connections - self._admitted.keys() - self._nameless:
            connection.abort()
        for server in self._servers:
            await server.wait_closed()
        if self._closing:
            await asyncio.wait(self._closing)

    def set_limit(self, effect: SetLimit) -> None:
        """Hand an order to the charger's session; without one it is answered NOT_SENT."""
        live = self._live.get(effect.serial)
        if live is None:
            self._submit(LimitAnswered(effect.serial, effect.order, Answer.NOT_SENT))
        else:
            live.session.set_limit(effect)

    def set_floor(self, effect: SetFloor) -> None:
        """Hand a floor to the charger's session; one that has none, or no session, cannot hold a lease."""
        live = self._live.get(effect.serial)
        if live is None:
            self._submit(LimitAnswered(effect.serial, effect.order, Answer.NOT_SENT))
        else:
            live.session.set_floor(effect)

    def entered(self, connection: CountedConnection) -> bool:
        """Count a new TCP connection; False if it is one too many."""
        address = host_of(connection)
        self._connections.add(connection)
        self._opening[address] += 1
        if len(self._connections) <= self._max_connections and self._opening[address] <= self._max_opening:
            return True
        log.warning("connection refused: too many", address=address_of(connection), connections=len(self._connections))
        return False

    def opened(self, connection: ServerConnection) -> None:
        """Note that a connection's handshake is decided: it no longer counts as opening."""
        address = host_of(connection)
        self._opening[address] -= 1
        if self._opening[address] <= 0:
            del self._opening[address]

    def left(self, connection: CountedConnection) -> None:
        """Forget an ended TCP connection."""
        self._connections.discard(connection)
        self._admitted.pop(connection, None)
        self._nameless.discard(connection)

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Decide on a handshake before it is answered: identity, service, protocol, and who else has that serial."""
        hello, path = _claims(connection, request)
        identity = hello or path
        shown = _shown(connection, request)
        if not identity and not shown.has_tls and self._may_name_itself(request):
            self._nameless.add(connection)
            return None
        entry, refusal = None, None
        if identity and _IDENTITY.fullmatch(identity):
            entry = self._chargers.get(identity)
            refusal = await self._credentials.refusal(identity, entry, shown) if self._is_guarded else None
        refusal = refusal or _refusal(identity, entry, request)
        if hello and path and hello != path:
            refusal = Refusal(HTTPStatus.FORBIDDEN, f"its hello says {hello[:48]}, its address {path[:48]}")
            self._report(hello if hello in self._chargers else path, refusal.why)
        if refusal is None and entry is not None and entry.profile.protocol not in self._sessions:
            refusal = Refusal(HTTPStatus.NOT_IMPLEMENTED, f"nobody here speaks {entry.profile.protocol}")
        if refusal is None and entry is not None:
            refusal = await self._make_way(entry.serial, connection)
        if refusal is None and entry is not None:
            self._admitted[connection] = entry
            return None
        assert refusal is not None  # noqa: S101  an unknown serial has been refused
        log.warning(
            "charger refused",
            charger=identity,
            path=request.path[:80],
            address=address_of(connection),
            why=refusal.why,
        )
        if refusal.status not in _UNAUTHENTICATED:
            return connection.respond(refusal.status, refusal.why + "\n")
        self._report(identity or "", f"{refusal.why}, from {address_of(connection)}", "FailedToAuthenticateAtCsms")
        response = connection.respond(refusal.status, refusal.status.phrase + "\n")  # to known and unknown alike
        response.headers["WWW-Authenticate"] = 'Basic realm="ocpp"'
        return response

    def _may_name_itself(self, request: Request) -> bool:
        """Whether a connection without an identity may be that of a legacy unit."""
        try:
            offered = _offered(request)
        except InvalidHeader:
            return False
        legacy = {entry.profile.protocol for entry in self._chargers.values()} - {"ocpp2.0.1"}
        return bool(legacy) and set(offered) <= legacy

    def _report(self, serial: str, why: str, kind: str = "IdentityMismatch") -> None:
        """Tell of a connection that claims a serial it should not, once a minute for each of ours."""
        now_ms, key = self._clock().monotonic_ms, (serial, kind)
        if serial in self._chargers and now_ms - self._reported_ms.get(key, -MINUTE_MS) >= MINUTE_MS:
            self._reported_ms[key] = now_ms
            self._security_event(serial, kind, why)

    def drop(self, serial: str) -> None:
        """End the connection of a charger that is out of service now, if it has one."""
        if (live := self._live.get(serial)) is not None:
            self._end(live, "out of service")

    async def _make_way(self, serial: str, newcomer: ServerConnection) -> Refusal | None:
        """Let a newcomer take the place of a dead connection or of one from its own address, and no other.

        A live one gives way at most three times a minute, so that two units with one serial cannot flap for ever.
        """
        live = self._live.get(serial)
        if live is None:
            return None
        if serial in self._probed:
            return Refusal(HTTPStatus.CONFLICT, "another connection of this serial is being decided on")
        self._probed.add(serial)
        try:
            alive = await live.session.is_alive(PROBE_TIMEOUT_S)
        finally:
            self._probed.discard(serial)
        current, why = self._live.get(serial), ""
        if newcomer not in self._connections or (current is not None and current is not live):
            why = "the serial was decided on meanwhile"
        elif current is live and alive and live.address.rpartition(":")[0] != host_of(newcomer):
            why = f"serial is connected and alive from {live.address}"
            self._report(serial, f"another connection from {address_of(newcomer)} while {why}", "DuplicateIdentity")
        elif current is live and alive and not self._may_swap(serial):
            why = f"serial changed its connection {MAX_SWAPS_PER_MINUTE} times within a minute"
            self._report(serial, why, "DuplicateIdentity")
        elif current is live:
            log.info(
                "charger reconnects", charger=serial, before=live.address, now=address_of(newcomer), was_alive=alive
            )
            self._retire(serial, live, drain=alive)
        return Refusal(HTTPStatus.CONFLICT, why) if why else None

    def _may_swap(self, serial: str) -> bool:
        swaps = self._swaps.setdefault(serial, deque(maxlen=MAX_SWAPS_PER_MINUTE))
        now_ms = self._clock().monotonic_ms
        if len(swaps) == MAX_SWAPS_PER_MINUTE and now_ms - swaps[0] < MINUTE_MS:
            return False
        swaps.append(now_ms)
        return True

    def _retire(self, serial: str, live: _Live, *, drain: bool) -> None:
        """Take a session out of use at once; a live connection may end in good order, a dead one holds no place."""
        del self._live[serial]
        self._submit(ChargerDisconnected(serial))
        if drain:
            self._end(live, "connected anew")
        else:
            live.connection.transport.abort()

    def _end(self, live: _Live, why: str) -> None:
        """Let a live connection end in good order."""
        task = asyncio.get_running_loop().create_task(live.session.close(_CLOSE_POLICY_VIOLATION, why))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _heed_files(self, tls: ServerTls) -> None:
        """Take over changed TLS files, and end the connections of chargers whose certificates they revoke."""
        tls.context()
        if tls.revoked != self._revoked:
            self._revoked = tls.revoked
            for serial, live in self._live.items():
                if certificate_number(live.connection.transport.get_extra_info("ssl_object")) in tls.revoked:
                    log.warning("charger refused", charger=serial, address=live.address, why="certificate revoked")
                    self._end(live, "certificate revoked")
        self._heeding = asyncio.get_running_loop().call_later(HEED_FILES_S, self._heed_files, tls)

    def _select_subprotocol(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        if connection in self._nameless:
            return offered[0] if offered else None
        protocol = Subprotocol(self._admitted[connection].profile.protocol)  # _admit has just put it there
        return protocol if protocol in offered else None

    async def _handle(self, connection: ServerConnection) -> None:
        """Serve one admitted connection to its end."""
        entry = self._admitted.get(connection) or await self._named(connection)
        if entry is None:
            return
        serial, address = entry.serial, address_of(connection)
        if serial in self._live:
            log.warning("charger refused", charger=serial, address=address, why="connected at the same moment")
            await connection.close(_CLOSE_TRY_AGAIN, "connected at the same moment")
            return
        live = _Live(self._sessions[entry.profile.protocol](connection, entry), connection, address)
        self._live[serial] = live
        log.info("charger connected", charger=serial, address=address, protocol=entry.profile.protocol)
        self._submit(ChargerConnected(serial))
        if isinstance(connection, DirectConnection):
            self._keep_alive.watch(connection)
        try:
            await live.session.serve()
        except Exception:
            log.exception("session failed", charger=serial, address=address)
        finally:
            log.info("charger disconnected", charger=serial, address=address, code=connection.close_code)
            if self._live.get(serial) is live:
                del self._live[serial]
                self._submit(ChargerDisconnected(serial))

    async def _named(self, connection: ServerConnection) -> ChargerEntry | None:
        """Learn from its BootNotification who a legacy unit is; None, and closed, if that is nobody who may connect."""
        try:
            async with asyncio.timeout(NAMED_WITHIN_S):
                frame = await connection.recv()
        except (TimeoutError, ConnectionClosed):
            await connection.close(_CLOSE_POLICY_VIOLATION, "no BootNotification")
            return None
        said = _said_in_boot(frame)
        entry = self._chargers.get(next(iter(said))) if len(said) == 1 else None
        why = "" if entry is not None else f"its BootNotification says {', '.join(sorted(said))[:80] or 'no serial'}"
        if entry is not None:
            protocol = connection.subprotocol or entry.profile.protocol
            if (
                entry.out_of_service
                or entry.security_profile
                or entry.profile.protocol in ("ocpp2.0.1", "")
                or protocol != entry.profile.protocol
            ):
                why = f"out of service, without its credentials, or its protocol must be {entry.profile.protocol}"
            elif refusal := await self._make_way(entry.serial, connection):
                why = refusal.why
        if entry is None or why:
            log.warning("charger refused", charger=sorted(said), address=address_of(connection), why=why)
            for serial in said:
                self._report(serial, why)
            await connection.close(_CLOSE_POLICY_VIOLATION, "identity")
            return None
        self._admitted[connection] = entry
        setattr(connection, "held", frame)  # noqa: B010  the session reads it first
        return entry


def _said_in_boot(frame: str | bytes) -> set[str]:
    """The serial numbers a BootNotification gives, as far as they can be identities; empty for any other message."""
    message = parse(frame.encode() if isinstance(frame, str) else frame)
    is_boot = isinstance(message, list) and len(message) == 4 and message[2] == "BootNotification"  # noqa: PLR2004
    payload = message[3] if is_boot and isinstance(message, list) else {}
    names = ("chargeBoxSerialNumber", "chargePointSerialNumber")
    said = [payload.get(name) for name in names] if isinstance(payload, dict) else []
    return {each for each in said if isinstance(each, str) and _IDENTITY.fullmatch(each)}


def _shown(connection: ServerConnection, request: Request) -> Shown:
    """What a connection shows for itself."""
    headers = request.headers.get_all("Authorization")
    tls = connection.transport.get_extra_info("ssl_object")
    authorization = headers[0] if len(headers) == 1 else None
    return Shown(host_of(connection), tls is not None, authorization, certificate_names(tls))


def _refusal(identity: str | None, entry: ChargerEntry | None, request: Request) -> Refusal | None:
    if not identity or not _IDENTITY.fullmatch(identity):
        return Refusal(HTTPStatus.NOT_FOUND, "no identity, or one with characters that none has")
    if entry is None:
        return Refusal(HTTPStatus.NOT_FOUND, "unknown serial")
    if entry.out_of_service:
        return Refusal(HTTPStatus.FORBIDDEN, "out of service")
    protocol = entry.profile.protocol
    try:
        offered = _offered(request)
    except InvalidHeader:
        return Refusal(HTTPStatus.BAD_REQUEST, "malformed list of subprotocols")
    # Old units may offer none; whoever offers some must offer the one its charger profile names.
    if protocol in offered or (not offered and protocol != "ocpp2.0.1"):
        return None
    return Refusal(HTTPStatus.BAD_REQUEST, f"offers {', '.join(offered)[:80] or 'no subprotocol'}, must be {protocol}")


def _offered(request: Request) -> list[str]:
    """The subprotocols a handshake offers. Raises InvalidHeader."""
    headers = request.headers.get_all("Sec-WebSocket-Protocol")
    return [str(name) for header in headers for name in parse_subprotocol(header)]


def _claims(connection: ServerConnection, request: Request) -> tuple[str | None, str | None]:
    """Return who a connection says it is: its hello, and the last segment of its path, percent-decoded."""
    hello: str | None = getattr(connection, "hello_serial", None)
    try:
        path = unquote(urlsplit(request.path).path.rpartition("/")[2], errors="strict")
    except ValueError:
        path = "?"  # no identity is written like this
    return hello, path
