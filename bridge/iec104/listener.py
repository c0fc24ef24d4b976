"""The outstation on TCP: it accepts control centres, moves octets between them and their sessions, and keeps time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections.abc import Callable
from typing import cast

import structlog

from bridge.core.messages import Confirm, Event, PointChanged, ShellAlarm, Terminate
from bridge.core.points import Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104.admission import MAX_SOURCES
from bridge.iec104.event_buffer import EventLog
from bridge.iec104.outstation import Outstation, OutstationPlan, Session
from bridge.iec104.security import Peer, Tls, peer_of

RECORD_TOGETHER_S = 0.02  # one commit for the events of so long: each holds up the loop, and so confirmations
WAKE_S = 1.0
ACCEPT_AGAIN_S = 0.1
UNACKNOWLEDGED_TCP_MS = 20_000
BACKLOG = 100

log = structlog.get_logger(__name__)


class Listener:
    """Our own outstation, listening on TCP.

    Effects are taken in at once and written together at the end of the loop's turn, so that events which come
    together travel together.
    """

    def __init__(
        self,
        plan: OutstationPlan,
        submit: Callable[[Event], None],
        clock: Callable[[], Now],
        events: EventLog | None = None,
    ) -> None:
        self.port = plan.port
        self.clock = clock
        self.outstation = Outstation(plan, submit, events)
        self.links: set[Link] = set()
        self.tls = None if plan.tls is None else Tls(plan.tls)
        self._certificates: dict[str, Peer] = {}
        self._alarms: set[str] = set()
        self._plan = plan
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._writing = False
        self._recording = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Listen; OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        if self.tls is None:
            self._server = await loop.create_server(lambda: Link(self), self._plan.host, self._plan.port)
            self._socket = self._server.sockets[0]
        else:
            family = socket.AF_INET6 if ":" in self._plan.host else socket.AF_INET
            self._socket = socket.create_server((self._plan.host, self._plan.port), family=family, backlog=BACKLOG)
            self._socket.setblocking(False)
            self._accepting = loop.create_task(self._accept(self._socket))
        self.port = self._socket.getsockname()[1]
        now = self.clock()
        is_plain = self.tls is None and not self._socket.getsockname()[0].startswith(("127.", "::1"))
        if is_plain:
            log.warning("control centres are let in without TLS", host=self._plan.host, port=self.port)
        if not self._show(Signal.PLAIN_TCP, is_plain, now):
            self._alarm("plain_tcp", is_open=is_plain)
        self._show(Signal.EVENTS_DROPPED, 0, now)
        self._wake()

    async def close(self) -> None:
        """Stop listening and end every connection; links end as seen by the core."""
        if self._socket is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.outstation.flush()
        if self._accepting is not None:
            for task in (self._accepting, *self._handshakes):
                task.cancel()
            await asyncio.gather(self._accepting, *self._handshakes, return_exceptions=True)
            self._socket.close()
        if self._server is not None:
            self._server.close()
        for link in list(self.links):
            link.close("the outstation is closing")
        self.outstation.events.settle()
        if self._server is not None:
            await self._server.wait_closed()
        self._server = self._socket = self._accepting = None

    async def _accept(self, listening: socket.socket) -> None:
        """Accept TCP connections for TLS: who may not come is ended before a handshake."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:  # no descriptor is left, or the peer is gone already
                log.warning("a connection could not be accepted", why=str(error))
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            host, port = address[:2]
            if not self.admits(host, port):
                _reset(connection)
                connection.close()
                continue
            task = loop.create_task(self._shake_hands(connection, host, port))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket, host: str, port: int) -> None:
        """The handshake, within its deadline; chain and CRL are judged by it, the fingerprint after it."""
        assert self.tls is not None, "a handshake without TLS"  # noqa: S101  only accepted where there is
        self.outstation.admission.opened(host)
        link = Link(self)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: link, connection, ssl=self.tls.context, ssl_handshake_timeout=self.tls.handshake_s
            )
        except (OSError, TimeoutError, asyncio.CancelledError) as error:  # ssl.SSLError is an OSError
            log.warning("TLS handshake failed", master=f"{host}:{port}", why=str(error) or type(error).__name__)
            connection.close()
            if not link.began:
                self.outstation.admission.closed(host)

    def admits(self, host: str, port: int) -> bool:
        """Whether a connection from there may come; else the log says why."""
        why = self.outstation.admission.refusal(host, self.clock().monotonic_ms)
        if why is None and self.outstation.group_of(host) is None:
            why = "this address is in no redundancy group"
        if why is not None:
            log.warning("connection refused", master=f"{host}:{port}", why=why)
        return why is None

    def confirm(self, effect: Confirm) -> None:
        """ACTIVATION_CON to the requester alone."""
        self.outstation.confirm(effect)
        self._write_soon()

    def terminate(self, effect: Terminate) -> None:
        """ACTIVATION_TERMINATION to the requester alone."""
        self.outstation.terminate(effect)
        self._write_soon()

    def publish(self, effect: PointChanged) -> None:
        """Process image, and an event where `report` is set; events of a few milliseconds are recorded together."""
        self.outstation.publish(effect, self.clock())
        if effect.report and not self._recording and self._socket is not None:
            self._recording = True
            asyncio.get_running_loop().call_later(RECORD_TOGETHER_S, self._record)

    def seen(self, host: str, peer: Peer) -> None:
        """A control centre has shown its certificate; another than before from the same address is remarked upon."""
        before = self._certificates.pop(host, peer)
        self._certificates[host] = peer
        if before.fingerprint != peer.fingerprint:
            log.warning("ALARM: another certificate from the same address", host=host, peer=peer, before=before)
        if len(self._certificates) > MAX_SOURCES:
            del self._certificates[next(iter(self._certificates))]

    def _mind_tls(self, now: Now) -> None:
        """Take over changed TLS files, end the links of control centres revoked by them, and mind what expires."""
        tls = self.tls
        if tls is None:
            return
        for link in [link for link in self.links if now.monotonic_ms - link.since_ms >= tls.renew_after_ms]:
            link.close("its keys have served their time")
        if tls.reload():
            for link in [link for link in self.links if link.peer is not None and link.peer.serial in tls.revoked]:
                link.close("its certificate was revoked")
        expires = tls.expires_soon(now.utc_ms)
        self._show(Signal.CERTIFICATE_EXPIRES, expires, now)
        self._alarm("certificate_expires", is_open=expires)

    def _show(self, signal: Signal, value: float, now: Now) -> bool:
        """Publish a point of the outstation's own; False if the DSO profile has none for it."""
        point = self._plan.points.by_signal.get((signal, None))
        if point is None:
            return False
        image = self.outstation.image[point.address]
        if not image.utc_ms or image.value != value:
            self.publish(PointChanged(point, value, Quality.GOOD, now.utc_ms, report=True))
        return True

    def _alarm(self, alarm: str, *, is_open: bool) -> None:
        """Open or close an alarm of the outstation's own, which the common alarm covers."""
        if is_open is not (alarm in self._alarms):
            self._alarms ^= {alarm}
            self.outstation.submit(ShellAlarm(alarm, self._plan.site, is_open))

    def _write_soon(self) -> None:
        if self.links and not self._writing:
            self._writing = True
            asyncio.get_running_loop().call_soon(self._write)

    def _record(self) -> None:
        self._recording = False
        self.outstation.flush()
        self._write()

    def _wake(self) -> None:
        """What the outstation does by time. It is woken every second at the latest."""
        loop, now = asyncio.get_running_loop(), self.clock()
        self._mind_tls(now)
        self.outstation.wake(now)
        self._alarm("address_search", is_open=self.outstation.admission.shuts_out(now.monotonic_ms))
        self._alarm("event_store_lost", is_open=self.outstation.store_failed)
        self._record()
        due_ms = self.outstation.next_deadline()
        delay_s = WAKE_S if due_ms is None else min(max(due_ms - now.monotonic_ms, 1) / 1000, WAKE_S)
        self._timer = loop.call_later(delay_s, self._wake)

    def _write(self) -> None:
        self._writing = False
        for link in list(self.links):
            link.write()


class Link(asyncio.Protocol):
    """One TCP connection around its session, which begins after the TLS handshake where there is one."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._host = "unknown"
        self._port = 0
        self.peer: Peer | None = None
        self.since_ms = listener.clock().monotonic_ms
        self.began = False  # it counts among the connections and stops to when it is lost
        self._choked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: float = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, after the handshake where there is TLS; without, end it before any octet if it may not come."""
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = transport = cast("asyncio.Transport", transport)
        self._host, self._port = (transport.get_extra_info("peername") or ("unknown", 0))[:2]
        listener = self._listener
        if listener.tls is None:
            if not listener.admits(self._host, self._port):
                _reset(transport.get_extra_info("socket"))
                transport.abort()
                return
            listener.outstation.admission.opened(self._host)
        listener.links.add(self)
        self.began = True
        _detect_loss(transport.get_extra_info("socket"))
        if listener.tls is not None:
            self.peer = peer_of(transport.get_extra_info("ssl_object"))
            if listener.outstation.group_of(self._host, self.peer.fingerprint) is None:
                log.warning(
                    "connection refused", host=self._host, peer=self.peer, why="this certificate is in no group"
                )
                self.close("a certificate that is in no redundancy group")
                return
            listener.seen(self._host, self.peer)
        self._begin()

    def _begin(self) -> None:
        outstation, peer = self._listener.outstation, self.peer
        group = outstation.group_of(self._host, None if peer is None else peer.fingerprint)
        master = f"{self._host}:{self._port}" + (f" ({peer.name})" if peer is not None else "")
        self._session = Session(outstation, master, self._listener.clock(), group, self._host)
        log.info("control centre connected", master=master, certificate=peer and peer.fingerprint)
        self.write()

    def data_received(self, data: bytes) -> None:
        """Octets from the control centre."""
        if self._session is not None:
            self._session.receive(data, self._listener.clock())
            self.write()

    def pause_writing(self) -> None:
        """The control centre does not read: take nothing more from it, and send nothing, until it does."""
        self._choked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        self._choked = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        self.write()

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP ended: the link is lost at once."""
        self._forget(f"TCP connection lost: {exc}" if exc else "TCP connection ended by the control centre")

    def close(self, why: str) -> None:
        """End the connection from this side; what a control centre has not read of our octets is dropped."""
        transport = self._transport
        self._forget(why)
        if transport is not None:
            if transport.get_write_buffer_size():
                transport.abort()
            else:
                transport.close()

    def write(self) -> None:
        """Write what the session has to say, or end the connection if it is over; be woken at its next deadline."""
        session, transport = self._session, self._transport
        if session is None or transport is None:
            return
        if session.ended_because is None and not self._choked:
            data = session.data_to_send(self._listener.clock())
            if data:
                transport.write(data)
        if session.ended_because is not None:
            self.close(session.ended_because)
        else:
            self._set_timer(session)

    def _set_timer(self, session: Session) -> None:
        """An armed timer that is early costs one wake-up, so only an earlier deadline moves it."""
        deadline_ms = session.next_deadline()
        if deadline_ms is not None and deadline_ms < self._timer_ms:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ms = deadline_ms
            delay_ms = max(deadline_ms - self._listener.clock().monotonic_ms, 0)
            self._timer = self._loop.call_later(delay_ms / 1000, self._wake)

    def _wake(self) -> None:
        self._timer, self._timer_ms = None, math.inf
        if self._session is not None:
            self._session.wake(self._listener.clock())
            self.write()

    def _forget(self, why: str) -> None:
        session, self._session = self._session, None
        if self in self._listener.links:
            self._listener.links.discard(self)
            self._listener.outstation.admission.closed(self._host)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if session is not None:
            session.end(why)
            log.info("control centre disconnected", master=session.master, why=session.ended_because)


def _reset(connection: socket.socket) -> None:
    """Have a TCP connection end by RST when it is closed, leaving nothing behind."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _detect_loss(connection: socket.socket) -> None:
    """Have TCP give up octets that nobody acknowledges, so that a dead peer is not fed for a quarter of an hour."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_TCP_MS)
