"""What an outstation does: it keeps the process image, answers requests and holds events until they are acknowledged.

No I/O and no clock: a `Session` takes octets and time and gives octets back; the listener moves them. The order in
which a request is judged is that of IEC 60870-5-101 §7.2.3: type (44), cause (45), common address (46), information
object address (47), each returned to its sender with P/N=1; then what it asks for.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import structlog

from bridge.core import messages
from bridge.core.messages import Confirm, LinkChanged, PointChanged, SetpointReceived, Terminate
from bridge.core.points import Cause, Point, PointAddress, PointKind, PointTable, Quality
from bridge.core.quantities import Millis, Now
from bridge.iec104 import apci, asdu, mapping
from bridge.iec104.apci import ProtocolError
from bridge.iec104.asdu import Header, InformationObject, TypeId
from bridge.iec104.event_buffer import Event, EventBuffer

log = structlog.get_logger(__name__)

STATION_INTERROGATION: Final = 20
GENERAL_COUNTER_READ: Final = 5
LOCAL_POWER_ON: Final = 0

_COMMANDS = itertools.count(1)
_REFUSALS: Final = frozenset((Cause.UNKNOWN_TYPE, Cause.UNKNOWN_CAUSE, Cause.UNKNOWN_COMMON_ADDRESS, Cause.UNKNOWN_IOA))


@dataclass(frozen=True, slots=True)
class OutstationPlan:
    """What one outstation was told: where it listens, its points, its timers (IEC 60870-5-104 §5.2) and its limits.

    `event_capacity` events wait for an acknowledgement; `answer_capacity` answers and `command_capacity` undecided
    commands may wait for one connection. More U-frames than so many a minute end a connection.
    """

    host: str
    port: int
    points: PointTable
    k: int = 12
    w: int = 8
    t1_s: float = 15
    t2_s: float = 10
    t3_s: float = 20
    max_connections: int = 8
    event_capacity: int = 20_000
    answer_capacity: int = 4096
    command_capacity: int = 256
    start_stop_per_minute: int = 120
    test_per_minute: int = 600

    def parameters(self) -> apci.Parameters:
        """The same as the connection's state machine takes them; ValueError says which is impossible."""
        return apci.Parameters(
            k=self.k,
            w=self.w,
            t1_ms=round(self.t1_s * 1000),
            t2_ms=round(self.t2_s * 1000),
            t3_ms=round(self.t3_s * 1000),
            start_stop_per_minute=self.start_stop_per_minute,
            test_per_minute=self.test_per_minute,
        )


class _ImagePoint:
    """One point of the process image: its address and present value, encoded as interrogation sends it."""

    __slots__ = ("_address", "kind", "octets", "point")

    def __init__(self, point: Point) -> None:
        self.point = point
        self.kind = point.kind
        self.octets = b""
        self._address = point.address.ioa.to_bytes(3, "little")
        if self.kind is not PointKind.SETPOINT:
            self.set(0.0, Quality.INVALID | Quality.NOT_TOPICAL)

    def set(self, value: float, quality: Quality) -> None:
        self.octets = self._address + asdu.encode_element(mapping.element(self.kind, value, quality))


class Outstation:
    """The process image, the commands in progress and the sessions of one outstation.

    `submit` is called with what the core must know: a setpoint (its limit rounded down), the number of started
    connections whenever it changes. It is answered later through `confirm`, `terminate` and `publish`; octets for
    the wire appear in the sessions, which the listener drains after each of them. `events_lost` counts what did not
    fit an event buffer.
    """

    def __init__(self, plan: OutstationPlan, submit: Callable[[messages.Event], None]) -> None:
        self.plan = plan
        self.parameters = plan.parameters()
        self.submit = submit
        self.image = {point.address: _ImagePoint(point) for point in plan.points.points}
        self._of_kind: dict[tuple[int, PointKind], list[_ImagePoint]] = {}
        for address, image in self.image.items():
            self._of_kind.setdefault((address.common_address, image.kind), []).append(image)
        self.commands: dict[int, Command] = {}
        self.events_lost = 0
        self._accepted: dict[PointAddress, int] = {}
        self._started: list[Session] = []
        self._sequence = itertools.count()
        self._kept = EventBuffer(plan.event_capacity)
        initialised = bytes((0, 0, 0, LOCAL_POWER_ON))
        for common_address in sorted(plan.points.common_addresses):
            self._record(TypeId.M_EI_NA_1, Cause.INITIALIZED, common_address, initialised)

    def confirm(self, effect: Confirm) -> None:
        """ACTIVATION_CON of a command to its requester; the command before it on that point will not be terminated."""
        command = self.commands.get(effect.command)
        if command is None or command.confirmed:
            return
        command.session.undecided -= 1
        if effect.reason is not None:
            del self.commands[effect.command]
            command.session.refuse(command.octets, Cause.ACTIVATION_CON, effect.reason.value)
            return
        command.confirmed = True
        superseded = self._accepted.get(command.address)
        if superseded is not None:
            self.commands.pop(superseded, None)
        self._accepted[command.address] = effect.command
        command.session.answer(asdu.mirror(command.octets, Cause.ACTIVATION_CON))

    def terminate(self, effect: Terminate) -> None:
        """ACTIVATION_TERMINATION of a confirmed command to its requester, once."""
        command = self.commands.get(effect.command)
        if command is not None and command.confirmed:
            del self.commands[effect.command]
            command.session.answer(asdu.mirror(command.octets, Cause.ACTIVATION_TERMINATION))

    def publish(self, effect: PointChanged) -> None:
        """Take a value into the process image; where `report` is set, record it as an event with its own time."""
        image = self.image[effect.point.address]
        image.set(effect.value, effect.quality)
        if effect.report:
            octets = image.octets + asdu.encode_time(effect.utc_ms)
            self._record(mapping.TAGGED[image.kind], Cause.SPONTANEOUS, effect.point.address.common_address, octets)

    def started(self, session: Session) -> EventBuffer:
        """A session began data transfer: the events it is to send.

        They are those no session has had, or, while others are started, what the slowest of them has not had
        acknowledged: it may be dead and not yet noticed.
        """
        if self._started:
            buffer = EventBuffer(self.plan.event_capacity)
            for event in max((other.unacknowledged() for other in self._started), key=len):
                buffer.record(event)
        else:
            buffer = self._kept
        self._started.append(session)
        self.submit(LinkChanged(len(self._started)))
        return buffer

    def stopped(self, session: Session, buffer: EventBuffer) -> None:
        """A session ended data transfer: its events are kept for the next, unless another session has them."""
        self._started.remove(session)
        for number in [number for number, command in self.commands.items() if command.session is session]:
            del self.commands[number]
        if not self._started:
            self._kept = buffer
        elif len(buffer):
            log.warning(
                "events dropped with their connection, others have them", master=session.master, number=len(buffer)
            )
        self.submit(LinkChanged(len(self._started)))

    def interrogated(self, common_address: int, kinds: frozenset[PointKind]) -> Iterator[tuple[TypeId, list[bytes]]]:
        """The process image of one common address in portions for one ASDU, read when each is asked for."""
        for (address, kind), images in self._of_kind.items():
            if address == common_address and kind in kinds:
                portion = min(asdu.OBJECTS_SIZE // len(images[0].octets), asdu.MAXIMUM_OBJECTS)
                for start in range(0, len(images), portion):
                    yield mapping.UNTAGGED[kind], [image.octets for image in images[start : start + portion]]

    def _record(self, type_id: TypeId, cause: Cause, common_address: int, octets: bytes) -> None:
        event = Event(next(self._sequence), type_id, cause, common_address, octets)
        if not self._started:
            self.events_lost += self._kept.record(event)
        for session in self._started:
            self.events_lost += session.record(event)


@dataclass(slots=True)
class Command:
    """A command in progress: who asked, what, and whether it was confirmed."""

    session: Session
    octets: bytes
    address: PointAddress
    confirmed: bool = False


class Session:
    """One connection of a control centre, from its TCP connection to its end; `master` names it, host:port."""

    def __init__(self, outstation: Outstation, master: str, now: Now) -> None:
        self.master = master
        self.undecided = 0
        self.ended_because: str | None = None
        self.outstation = outstation
        self._connection = apci.Connection(outstation.parameters, now.monotonic_ms)
        self._buffer: EventBuffer | None = None
        self._answers: deque[bytes] = deque()
        self.interrogations: dict[tuple[int, int], Iterator[bytes]] = {}
        self._in_flight: deque[list[Event]] = deque()
        self._events_next = True

    def receive(self, data: bytes, now: Now) -> None:
        """Octets as TCP delivered them; what they cause is in `data_to_send`, or `ended_because` is set."""
        self._act(self._connection.receive(data, now.monotonic_ms))

    def wake(self, now: Now) -> None:
        """`next_deadline` has come."""
        self._act(self._connection.wake(now.monotonic_ms))

    def next_deadline(self) -> Millis | None:
        """Monotonic milliseconds of the next `wake`, None once ended."""
        return self._connection.next_deadline()

    def data_to_send(self, now: Now) -> bytes:
        """Fill the send window and return the octets to write: answers first, events and interrogations by turns."""
        connection = self._connection
        while connection.window:
            if self._answers:
                octets, events = self._answers.popleft(), []
            elif self._buffer and (self._events_next or not self.interrogations):
                events = self._buffer.take()
                self._events_next = False
                first = events[0]
                header = Header(first.type_id, len(events), first.cause, first.common_address).encode()
                octets = header + b"".join([event.octets for event in events])
            elif self.interrogations:
                octets, events = self._next_interrogated(), []
                self._events_next = True
            else:
                break
            connection.send(octets, now.monotonic_ms)
            self._in_flight.append(events)
        return connection.data_to_send()

    def end(self, why: str) -> None:
        """The connection is over: what was not acknowledged goes back, commands in progress stay unanswered."""
        if self.ended_because is None:
            self.ended_because = why
            self._stop()

    def record(self, event: Event) -> int:
        """One more event to send, only while started; returns how many had to be dropped for it."""
        assert self._buffer is not None, "an event for a session that is not started"  # noqa: S101  our own bug
        return self._buffer.record(event)

    def unacknowledged(self) -> list[Event]:
        """All events sent and not acknowledged or not sent yet, oldest first; only while started."""
        return [*itertools.chain.from_iterable(self._in_flight), *(self._buffer or ())]

    def answer(self, octets: bytes) -> None:
        """Queue an answer; it is dropped if data transfer was stopped meanwhile. Who takes none is disconnected."""
        if self._buffer is None:
            return
        if len(self._answers) >= self.outstation.plan.answer_capacity:
            self.end(f"{len(self._answers)} answers were not acknowledged")
            return
        self._answers.append(octets)

    def refuse(self, octets: bytes, cause: Cause, why: str) -> None:
        """Return a request to its sender with P/N=1, and say in the log who was refused and why."""
        header = Header.decode(octets)
        ioa = int.from_bytes(octets[asdu.HEADER_SIZE : asdu.HEADER_SIZE + 3], "little")
        log.warning(
            "request refused",
            master=self.master,
            type=asdu.type_name(header.type_id),
            cause=header.cause,
            common_address=header.common_address,
            ioa=ioa,
            answer=cause.value,
            why=why,
        )
        self.answer(asdu.mirror(octets, cause, negative=True))

    def _act(self, events: list[apci.Event]) -> None:
        for event in events:
            if self.ended_because is not None:
                return
            match event:
                case apci.AsduReceived(octets):
                    self._asdu_received(octets)
                case apci.Acknowledged(number):
                    for _ in range(number):
                        self._in_flight.popleft()
                case apci.Started():
                    self._buffer = self.outstation.started(self)
                    log.info("data transfer started", master=self.master)
                case apci.Stopped():
                    self._stop()
                    log.info("data transfer stopped", master=self.master)
                case apci.Closed(why):
                    self.end(why)

    def _stop(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is None:
            return
        self.outstation.events_lost += buffer.give_back(itertools.chain.from_iterable(self._in_flight))
        self._in_flight.clear()
        self._answers.clear()
        self.interrogations.clear()
        self.undecided = 0
        self.outstation.stopped(self, buffer)

    def _asdu_received(self, octets: bytes) -> None:
        """Judge an ASDU in the standard's order and hand it to its handler."""
        try:
            header = Header.decode(octets)
        except ProtocolError as error:
            self.end(str(error))
            return
        if header.cause in _REFUSALS:
            log.warning("refused by the control centre", master=self.master, type=header.type_id, cause=header.cause)
            return
        request = _REQUESTS.get(header.type_id)
        if request is None:
            self.refuse(octets, Cause.UNKNOWN_TYPE, "unknown type")
        elif header.test or header.negative or header.cause not in request.causes:
            flags = " with T=1" * header.test + " with P/N=1" * header.negative
            self.refuse(octets, Cause.UNKNOWN_CAUSE, f"cause of transmission {header.cause}{flags}")
        elif not (addresses := self._addressed(header, request)):
            self.refuse(octets, Cause.UNKNOWN_COMMON_ADDRESS, "unknown common address")
        else:
            try:
                objects = asdu.decode_objects(header, octets)
            except ProtocolError as error:
                self.refuse(octets, Cause.UNKNOWN_TYPE, str(error))
                return
            if header.number != 1:
                self.refuse(octets, Cause.UNKNOWN_TYPE, f"{header.number} objects in one request")
            elif request.to_station and objects[0].ioa:
                self.refuse(octets, Cause.UNKNOWN_IOA, "information object address of this type is 0")
            else:
                for common_address in addresses:
                    specific = asdu.mirror(octets, header.cause, common_address=common_address)
                    request.handle(self, header._replace(common_address=common_address), objects[0], specific)

    def _addressed(self, header: Header, request: _Request) -> list[int]:
        known = self.outstation.plan.points.common_addresses
        if request.broadcast and header.common_address == asdu.BROADCAST:
            return sorted(known)
        return [header.common_address] if header.common_address in known else []

    def _next_interrogated(self) -> bytes:
        """The next ASDU of the interrogation asked for first; it is over with its termination."""
        key, interrogation = next(iter(self.interrogations.items()))
        octets = next(interrogation)
        if octets[2] & 0x3F == Cause.ACTIVATION_TERMINATION:
            del self.interrogations[key]
        return octets


def _command(session: Session, header: Header, item: InformationObject, octets: bytes) -> None:
    """A command to a point, IEC 60870-5-101 §6.8, direct."""
    address = PointAddress(header.common_address, item.ioa)
    image = session.outstation.image.get(address)
    if image is None:
        session.refuse(octets, Cause.UNKNOWN_IOA, "unknown information object address")
    elif image.kind is not PointKind.SETPOINT or not isinstance(item.element, asdu.ShortFloatSetpoint):
        session.refuse(octets, Cause.UNKNOWN_TYPE, f"{asdu.type_name(header.type_id)} on {image.point.signal.value}")
    elif header.cause == Cause.DEACTIVATION:
        session.refuse(octets, Cause.DEACTIVATION_CON, "a direct setpoint cannot be deactivated")
    elif item.element.select:
        session.refuse(octets, Cause.ACTIVATION_CON, "select on a point that is commanded directly")
    elif item.element.qualifier:
        session.refuse(octets, Cause.ACTIVATION_CON, f"QL={item.element.qualifier} is not supported")
    elif session.undecided >= session.outstation.plan.command_capacity:
        session.refuse(octets, Cause.ACTIVATION_CON, f"{session.undecided} commands are undecided")
    else:
        _setpoint(session, address, item.element.value, item.time, octets)


def _setpoint(session: Session, address: PointAddress, value: float, tag: asdu.TimeTag | None, octets: bytes) -> None:
    number = next(_COMMANDS)
    session.outstation.commands[number] = Command(session, octets, address)
    session.undecided += 1
    tag_utc_ms, tag_valid = mapping.time_tag(tag)
    session.outstation.submit(
        SetpointReceived(number, session.master, value, mapping.limit_w(value), tag_utc_ms, tag_valid)
    )


def _interrogation(session: Session, header: Header, item: InformationObject, octets: bytes) -> None:
    """C_IC_NA_1, IEC 60870-5-101 §7.4.5, and C_CI_NA_1 without freeze, §7.4.8: untagged types, then termination."""
    counters = header.type_id == TypeId.C_CI_NA_1
    key = header.type_id, header.common_address
    if header.cause == Cause.DEACTIVATION:
        if session.interrogations.pop(key, None) is None:
            session.refuse(octets, Cause.DEACTIVATION_CON, "no such interrogation is running")
        else:
            session.answer(asdu.mirror(octets, Cause.DEACTIVATION_CON))
    elif item.element != asdu.Qualifier(GENERAL_COUNTER_READ if counters else STATION_INTERROGATION):
        session.refuse(octets, Cause.ACTIVATION_CON, f"qualifier {octets[-1]} is not supported")
    elif key in session.interrogations:
        session.refuse(octets, Cause.ACTIVATION_CON, "the interrogation before it is still running")
    else:
        session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))
        session.interrogations[key] = _interrogated(session, header, octets, counters=counters)


def _interrogated(session: Session, header: Header, octets: bytes, *, counters: bool) -> Iterator[bytes]:
    cause = Cause.COUNTER_INTERROGATION if counters else Cause.INTERROGATED_BY_STATION
    kinds = _COUNTERS if counters else _STATION
    for type_id, objects in session.outstation.interrogated(header.common_address, kinds):
        answer = Header(type_id, len(objects), cause, header.common_address, header.originator)
        yield answer.encode() + b"".join(objects)
    yield asdu.mirror(octets, Cause.ACTIVATION_TERMINATION)


def _read(session: Session, header: Header, item: InformationObject, octets: bytes) -> None:
    """C_RD_NA_1, IEC 60870-5-101 §7.4.2: the value, untagged; a setpoint or a counter cannot be read."""
    image = session.outstation.image.get(PointAddress(header.common_address, item.ioa))
    if image is None or image.kind not in _STATION:
        session.refuse(octets, Cause.UNKNOWN_IOA, "nothing to read at this information object address")
    else:
        type_id = mapping.UNTAGGED[image.kind]
        answer = Header(type_id, 1, Cause.REQUEST, header.common_address, header.originator)
        session.answer(answer.encode() + image.octets)


def _clock(session: Session, _header: Header, item: InformationObject, octets: bytes) -> None:
    """C_CS_NA_1, IEC 60870-5-101 §7.4.6: confirmed; the clock of this machine is not a control centre's to set."""
    if item.time is None or item.time.invalid:
        session.refuse(octets, Cause.ACTIVATION_CON, "time tag invalid")
    else:
        session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))


def _test(session: Session, _header: Header, _item: InformationObject, octets: bytes) -> None:
    """C_TS_TA_1, IEC 60870-5-104 §8.8: returned as it came."""
    session.answer(asdu.mirror(octets, Cause.ACTIVATION_CON))


_STATION: Final = frozenset((PointKind.MEASURED, PointKind.SINGLE))
_COUNTERS: Final = frozenset((PointKind.TOTAL,))

_Handler: TypeAlias = Callable[[Session, Header, InformationObject, bytes], None]


class _Request(NamedTuple):
    """What may be asked with one type: its causes, whether to everybody, whether to the station instead of a point."""

    handle: _Handler
    causes: frozenset[int]
    broadcast: bool = False
    to_station: bool = False


_ACTIVATION: Final = frozenset((Cause.ACTIVATION,))
_ACTIVATION_OR_NOT: Final = frozenset((Cause.ACTIVATION, Cause.DEACTIVATION))

_REQUESTS: Final[dict[int, _Request]] = {
    TypeId.C_SC_NA_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_DC_NA_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SE_NA_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SE_NB_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SE_NC_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SC_TA_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_DC_TA_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SE_TA_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SE_TB_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_SE_TC_1: _Request(_command, _ACTIVATION_OR_NOT),
    TypeId.C_IC_NA_1: _Request(_interrogation, _ACTIVATION_OR_NOT, broadcast=True, to_station=True),
    TypeId.C_CI_NA_1: _Request(_interrogation, _ACTIVATION_OR_NOT, broadcast=True, to_station=True),
    TypeId.C_RD_NA_1: _Request(_read, frozenset((Cause.REQUEST,))),
    TypeId.C_CS_NA_1: _Request(_clock, _ACTIVATION, broadcast=True, to_station=True),
    TypeId.C_TS_TA_1: _Request(_test, _ACTIVATION, to_station=True),
}
