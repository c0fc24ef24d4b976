"""The outstation on TCP: it accepts control centres, moves octets between them and their sessions, and keeps time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import cast

import structlog

from bridge.core.messages import Confirm, Event, PointChanged, Terminate
from bridge.core.quantities import Now
from bridge.iec104.event_buffer import EventLog
from bridge.iec104.outstation import Outstation, OutstationPlan, Session

RECORD_TOGETHER_S = 0.004  # one commit for the events of so long: it bounds commits, not events
WAKE_S = 1.0

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
        self._plan = plan
        self._server: asyncio.Server | None = None
        self._writing = False
        self._recording = False
        self._timer: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Listen; OSError if the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Link(self), self._plan.host, self._plan.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._wake()

    async def close(self) -> None:
        """Stop listening and end every connection; links end as seen by the core."""
        if self._server is None:
            return
        self._server.close()
        if self._timer is not None:
            self._timer.cancel()
        self.outstation.flush()
        for link in list(self.links):
            link.close("the outstation is closing")
        self.outstation.events.settle()
        await self._server.wait_closed()
        self._server = None

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
        if effect.report and not self._recording and self._server is not None:
            self._recording = True
            asyncio.get_running_loop().call_later(RECORD_TOGETHER_S, self._record)

    def has_room(self) -> bool:
        """Whether one more connection is within `max_connections`."""
        return len(self.links) < self._plan.max_connections

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
        self.outstation.wake(now)
        self._record()
        due_ms = self.outstation.next_deadline()
        delay_s = WAKE_S if due_ms is None else min(max(due_ms - now.monotonic_ms, 1) / 1000, WAKE_S)
        self._timer = loop.call_later(delay_s, self._wake)

    def _write(self) -> None:
        self._writing = False
        for link in list(self.links):
            link.write()


class Link(asyncio.Protocol):
    """One TCP connection around its session."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._choked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: float = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the control centre while there is room."""
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = transport = cast("asyncio.Transport", transport)
        host, port = (transport.get_extra_info("peername") or ("unknown", 0))[:2]
        master = f"{host}:{port}"
        if not self._listener.has_room():
            log.warning("connection refused", master=master, why="too many connections")
            transport.abort()
            return
        self._session = Session(self._listener.outstation, master, self._listener.clock())
        self._listener.links.add(self)
        log.info("control centre connected", master=master)
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
        self._listener.links.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if session is not None:
            session.end(why)
            log.info("control centre disconnected", master=session.master, why=session.ended_because)
