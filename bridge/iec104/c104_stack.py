"""The same outstation on c104's server (`iec104.stack: c104`), for one control centre on a trusted network.

What it cannot do, each measured, none of it in our hands; `iec104.stack: native` has none of these limits:

- One type for each address: the setpoint is C_SE_NC_1 only (C_SE_TC_1 is refused), and interrogation answers with the
  tagged types the points have (M_ME_TF_1, M_SP_TB_1), consecutive addresses as SQ=1.
- An interrogation beyond about 1,800 points is cut without its ACTIVATION_TERMINATION.
- Nothing is kept for a control centre that is away: what changed meanwhile is seen by interrogation.
- A setpoint with COT 8, the test flag or P/N=1 is refused with ACTIVATION_CON P/N=1 where another cause is due, one
  with COT 3, 7 or above without an answer; an unknown address is answered twice.
- ACTIVATION_TERMINATION goes to every control centre with originator 0; with `max_connections` 1 there is only one.
- Three kinds of short malformed frames end the process, and so does another thread that holds Python's lock too long.

No `from __future__ import annotations` here: c104 compares the annotations of its callbacks as text.
"""

import asyncio
import contextlib
import functools
import itertools
import operator
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from bridge.core.messages import (
    Confirm,
    Event,
    LinkChanged,
    PointChanged,
    SetpointReceived,
    SetpointRevoked,
    ShellAlarm,
    Terminate,
)
from bridge.core.points import ENCODINGS, Point, PointAddress, PointKind, Quality
from bridge.core.quantities import Now
from bridge.iec104.asdu import CounterReading, ShortFloat, SinglePoint
from bridge.iec104.mapping import element, limit_w
from bridge.iec104.outstation import OutstationPlan

if TYPE_CHECKING:
    import c104

HAND_OVER_S = 1.0  # a command that waited longer for the loop is refused
ANSWER_S = 1.5  # a command that is not decided by then is refused and taken back
POLL_S = 0.1  # c104 announces neither STARTDT nor a disconnect
CONFIRMED_S = 0.1  # c104 sends the confirmation after its callback returned, and does not say when
STOP_S = 5.0
_UNKNOWN = Quality.INVALID | Quality.NOT_TOPICAL

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Command:
    """One setpoint between c104's thread and the loop. `decision` holds whether it is accepted."""

    number: int
    point: Point
    value: float
    arrived_ms: int
    decision: Future[bool]
    confirmed_s: float = 0.0


class C104Stack:
    """An outstation with the outside of `bridge.iec104.listener.Listener`, its wire in c104's threads.

    Each command waits in c104's thread for `confirm()` from the loop, at most `ANSWER_S`; then it is refused on the
    wire and `SetpointRevoked` takes back what may have been decided. The process must run with TZ=UTC.
    """

    def __init__(self, plan: OutstationPlan, submit: Callable[[Event], None], clock: Callable[[], Now]) -> None:
        self.port = plan.port
        self._plan = plan
        self._submit = submit
        self._clock = clock
        self._numbers = itertools.count(1)
        self._commands: dict[int, _Command] = {}
        self._points: dict[PointAddress, c104.Point] = {}
        self._before_open: dict[PointAddress, PointChanged] = {}
        self._started = 0
        self._poll: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        """Listen; OSError if the port is taken, RuntimeError where c104 is not installed or TZ is not UTC."""
        if time.timezone or time.daylight:
            raise RuntimeError("iec104.stack: c104 writes local time into its time tags: start the service with TZ=UTC")
        try:
            import c104  # noqa: PLC0415  an extra: GPL-3, and never needed by the native stack
        except ImportError as error:
            raise RuntimeError(
                "iec104.stack: c104 is not installed: pip install 'grid-limit-bridge[lab]', or use iec104.stack: native"
            ) from error
        for point in self._plan.points.points:
            whole = point.kind is not PointKind.COMMAND and point.per_unit == 1 and not point.select_before_operate
            if not whole or point.wire_encoding is not ENCODINGS[point.kind][0]:
                raise RuntimeError(
                    f"iec104.stack: c104 cannot carry {point.name or point.signal.value} at {point.address.ioa} as the"
                    " DSO profile has it: use iec104.stack: native"
                )
        self._c104 = c104
        self._loop = asyncio.get_running_loop()
        found = await self._loop.getaddrinfo(self._plan.host, self._plan.port, family=socket.AF_INET)
        host = str(found[0][4][0])
        self.port = self._plan.port or _free_port(host)
        self._server = c104.Server(ip=host, port=self.port, tick_rate_ms=50, max_connections=1)
        parameters = self._server.protocol_parameters
        parameters.send_window_size, parameters.receive_window_size = self._plan.k, self._plan.w
        parameters.message_timeout = int(self._plan.t1_s)
        parameters.confirm_interval = int(self._plan.t2_s)
        parameters.keep_alive_interval = int(self._plan.t3_s)
        for common_address in sorted(self._plan.points.common_addresses):
            self._add_points(common_address)
        try:
            self._server.start()
        except RuntimeError as error:
            raise OSError(f"IEC 104 cannot listen on {self._plan.host}:{self.port}: {error}") from error
        self._poll = asyncio.create_task(self._watch_link())
        if not host.startswith("127."):
            log.warning("control centres are let in without TLS", host=host, port=self.port)
            self._submit(ShellAlarm("plain_tcp", self._plan.site, open=True))

    async def close(self) -> None:
        """Refuse what waits, end every connection and stop listening."""
        self._closing = True
        for command in list(self._commands.values()):
            _decide(command, accepted=False)
        if self._poll is not None:
            self._poll.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poll
            await asyncio.wait_for(asyncio.to_thread(self._server.stop), STOP_S)

    def confirm(self, effect: Confirm) -> None:
        """Let the waiting command go, positive without a reason (IEC 60870-5-101 §7.2.3, P/N)."""
        command = self._commands.get(effect.command)
        if command is None or not _decide(command, accepted=effect.reason is None):
            return
        if effect.reason is not None:
            del self._commands[effect.command]
        else:
            command.confirmed_s = self._loop.time()
            self._commands = {effect.command: command}  # an earlier one is superseded and gets no termination

    def terminate(self, effect: Terminate) -> None:
        """Send ACTIVATION_TERMINATION, never before the confirmation and not after the link was lost."""
        command = self._commands.get(effect.command)
        if command is not None and command.confirmed_s:
            self._loop.call_at(command.confirmed_s + CONFIRMED_S, self._terminate, command)

    def publish(self, effect: PointChanged) -> None:
        """Put a value into the process image; send it spontaneously if it is to be reported and somebody listens."""
        if self._poll is None:
            self._before_open[effect.point.address] = effect
            return
        point = self._points.get(effect.point.address)
        if point is None or self._closing:
            return
        point.info = self._info(effect.point, effect.value, effect.quality, effect.utc_ms)
        if effect.report and self._started:
            point.transmit(cause=self._c104.Cot.SPONTANEOUS)

    def _add_points(self, common_address: int) -> None:
        types = {
            PointKind.SETPOINT: self._c104.Type.C_SE_NC_1,
            PointKind.MEASURED: self._c104.Type.M_ME_TF_1,
            PointKind.SINGLE: self._c104.Type.M_SP_TB_1,
            PointKind.TOTAL: self._c104.Type.M_IT_TB_1,
        }
        station = self._server.add_station(common_address=common_address)
        assert station is not None, common_address  # noqa: S101  the point table allows 1–65534, each once
        for point in self._plan.points.points:
            if point.address.common_address != common_address:
                continue
            added = station.add_point(io_address=point.address.ioa, type=types[point.kind])
            assert added is not None, point  # noqa: S101  the point table has each address once
            self._points[point.address] = added
            if point.kind is PointKind.SETPOINT:
                added.on_receive(callable=self._command_callback(point))
                continue
            known = self._before_open.get(point.address)
            if known is None:
                added.info = self._info(point, 0.0, _UNKNOWN, self._clock().utc_ms)
            else:
                added.info = self._info(point, known.value, known.quality, known.utc_ms)

    def _command_callback(self, point: Point) -> Callable[..., "c104.ResponseState"]:
        import c104  # noqa: PLC0415  the names in the annotations below

        def on_receive(
            point: c104.Point,  # noqa: ARG001  c104 compares the signature
            previous_info: c104.Information,  # noqa: ARG001  likewise
            message: c104.IncomingMessage,
        ) -> c104.ResponseState:
            # Whatever is raised here c104 would confirm as positive, and never call again.
            try:
                accepted = self._received(known, message)
            except BaseException:
                log.exception("setpoint refused: the outstation failed", ioa=known.address.ioa)
                accepted = False
            return c104.ResponseState.SUCCESS if accepted else c104.ResponseState.FAILURE

        known = point
        return on_receive

    def _received(self, point: Point, message: "c104.IncomingMessage") -> bool:
        """Decide one command in c104's thread: whether it is confirmed positively."""
        if message.cot != self._c104.Cot.ACTIVATION or message.is_test or message.is_negative:
            log.warning(
                "setpoint refused: no plain activation",
                ioa=point.address.ioa,
                cause=message.cot.name,
                test=message.is_test,
                negative=message.is_negative,
            )
            return False
        info = message.info
        if not isinstance(info, self._c104.ShortCmd):
            return False
        command = _Command(next(self._numbers), point, float(info.target), self._clock().monotonic_ms, Future())
        master = f"originator {message.originator_address}"
        self._loop.call_soon_threadsafe(self._hand_over, command, master)
        try:
            return command.decision.result(timeout=ANSWER_S)
        except FutureTimeoutError:
            if not command.decision.cancel():  # decided in this very moment
                return command.decision.result(timeout=ANSWER_S)
        log.error("setpoint refused: not decided in time", ioa=point.address.ioa, value=command.value)
        self._loop.call_soon_threadsafe(self._revoke, command)
        return False

    def _hand_over(self, command: _Command, master: str) -> None:
        late_ms = self._clock().monotonic_ms - command.arrived_ms
        if self._closing or late_ms > HAND_OVER_S * 1000:
            log.error("setpoint refused: handed over too late", value=command.value, late_ms=late_ms)
            _decide(command, accepted=False)
            return
        self._heed_link()
        self._commands[command.number] = command
        try:
            self._submit(SetpointReceived(command.number, master, command.value, limit_w(command.value)))
        except Exception:
            self._commands.pop(command.number, None)
            _decide(command, accepted=False)
            raise

    def _revoke(self, command: _Command) -> None:
        if self._commands.pop(command.number, None) is not None:
            self._submit(SetpointRevoked(command.number))

    def _terminate(self, command: _Command) -> None:
        if self._commands.pop(command.number, None) is None or self._closing:
            return
        point = self._points[command.point.address]
        point.info = self._c104.ShortCmd(target=command.value)  # c104 keeps refused values too
        point.transmit(cause=self._c104.Cot.ACTIVATION_TERMINATION)

    def _info(self, known: Point, value: float, quality: Quality, utc_ms: int) -> "c104.Information":
        """A monitored value as c104 has it, with the same rules as on the native stack."""
        import c104  # noqa: PLC0415  an extra, see open()

        at = datetime.fromtimestamp(utc_ms / 1000, tz=UTC)
        made = element(known, value, quality)
        if isinstance(made, CounterReading):
            total_quality = c104.BinaryCounterQuality
            wanted = ((total_quality.Invalid, made.invalid), (total_quality.Carry, made.carry))
            flags = functools.reduce(operator.or_, (flag for flag, on in wanted if on), total_quality())
            sequence = c104.UInt5(made.sequence)
            return c104.BinaryCounterInfo(counter=made.value, sequence=sequence, quality=flags, recorded_at=at)
        if isinstance(made, SinglePoint):
            return c104.SingleInfo(on=made.on, quality=self._flags(made.quality & 0xF0), recorded_at=at)
        assert isinstance(made, ShortFloat), known  # noqa: S101  the kinds of monitored values are these three
        return c104.ShortInfo(actual=made.value, quality=self._flags(made.quality), recorded_at=at)

    def _flags(self, quality: int) -> "c104.Quality":
        flags = self._c104.Quality.__members__.values()
        return functools.reduce(operator.or_, (flag for flag in flags if flag.value & quality), self._c104.Quality())

    async def _watch_link(self) -> None:
        while True:
            self._heed_link()
            await asyncio.sleep(POLL_S)

    def _heed_link(self) -> None:
        started = self._server.active_connection_count
        if started == self._started:
            return
        self._started = started
        if not started:  # a disconnected command gets no ACTIVATION_TERMINATION
            self._commands = {n: c for n, c in self._commands.items() if not c.confirmed_s}
        self._submit(LinkChanged(started))


def _decide(command: _Command, *, accepted: bool) -> bool:
    """Answer the waiting thread; False where it has given up, or was answered before."""
    if command.decision.done() or not command.decision.set_running_or_notify_cancel():
        return False
    command.decision.set_result(accepted)
    return True


def _free_port(host: str) -> int:
    """c104 cannot listen on port 0 and say which it got."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
