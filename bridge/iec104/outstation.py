"""What an outstation does: it keeps the process image, answers requests and holds events until they are acknowledged.

No I/O and no clock: a `Session` takes octets and time and gives octets back; the listener moves them. The order in
which a request is judged is that of IEC 60870-5-101 §7.2.3: type (44), cause (45), common address (46), information
object address (47), each returned to its sender with P/N=1; then what it asks for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from bridge.core import messages
from bridge.core.messages import Confirm, LinkChanged, PointChanged, Reason, Terminate
from bridge.core.points import Cause, Encoding, Point, PointAddress, PointTable, Quality, Signal
from bridge.core.quantities import Millis, Now
from bridge.iec104 import apci, asdu, mapping
from bridge.iec104.admission import Act, Admission, Caps
from bridge.iec104.apci import ProtocolError
from bridge.iec104.asdu import Header, TypeId
from bridge.iec104.event_buffer import Event, EventBuffer, EventLog, Row
from bridge.iec104.requests import REQUESTS, Command, Request, Selection
from bridge.iec104.scans import Flutter, Scans
from bridge.iec104.security import TlsPlan

log = structlog.get_logger(__name__)

LOCAL_POWER_ON: Final = 0
PENDING_EVENTS: Final = 2_000  # what a session holds in memory of the events it is still to send
_TIME_SIZE: Final = 7
_IOA_SIZE: Final = 3
_REFUSALS: Final = frozenset((Cause.UNKNOWN_TYPE, Cause.UNKNOWN_CAUSE, Cause.UNKNOWN_COMMON_ADDRESS, Cause.UNKNOWN_IOA))
_COUNTER_SEQUENCE_BITS: Final = 0x1F


@dataclass(frozen=True, slots=True)
class RedundancyGroup:
    """The control centres of one group by their IP addresses and, with TLS, the SHA-256 of their certificates in hex.

    One of their connections is started at a time (IEC 60870-5-104 §10); no addresses, or no fingerprints: any.
    """

    name: str
    addresses: frozenset[str] = frozenset()
    fingerprints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OutstationPlan:
    """What one outstation was told: where it listens, its points, its timers (IEC 60870-5-104 §5.2) and its limits.

    `site` is what alarms call it.
    `caps` bound what is borne of control centres; with `tls` they need a certificate (IEC 62351-3).

    Without `groups` anybody may connect, and every connection in STARTDT is sent all events. `event_capacity` events
    wait in memory for an acknowledgement, unless a store keeps them; `answer_capacity` answers and `command_capacity`
    undecided commands may wait for one connection. More U-frames than so many a minute end a connection.

    As agreed with the DSO: a selection holds `select_timeout_s`; commands may need a time tag; times on the wire are in
    `time_zone` (None: UTC) and by the control centre's clock where it is within `clock_offset_limit_s` of ours;
    spontaneous transmission is tagged, interrogation is not; SQ=1 packs consecutive addresses (IEC 60870-5-101 §7.2.2).
    """

    host: str
    port: int
    points: PointTable
    k: int = 12
    w: int = 8
    t1_s: float = 15
    t2_s: float = 10
    t3_s: float = 20
    caps: Caps = field(default_factory=Caps)
    tls: TlsPlan | None = None
    event_capacity: int = 20_000
    answer_capacity: int = 4096
    command_capacity: int = 256
    start_stop_per_minute: int = 120
    test_per_minute: int = 600
    groups: tuple[RedundancyGroup, ...] = ()
    select_timeout_s: float = 10
    requires_time_tag: bool = False
    time_zone: str | None = None
    clock_by_control_centre: bool = False
    clock_offset_limit_s: float = 3600
    spontaneous_tagged: bool = True
    interrogation_tagged: bool = False
    sequence_of_objects: bool = False
    flutter: Flutter | None = None
    site: str = "site"

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


class ImagePoint:
    """One monitored point of the process image: its newest value, encoded as interrogation sends it, and its time."""

    __slots__ = ("_address", "encoding", "octets", "point", "quality", "utc_ms", "value")

    def __init__(self, point: Point) -> None:
        self.point = point
        self.encoding = point.wire_encoding
        self.octets = b""
        self._address = point.address.ioa.to_bytes(_IOA_SIZE, "little")
        if not point.kind.is_command:
            self.set(0.0, Quality.INVALID | Quality.NOT_TOPICAL, 0)

    def set(self, value: float, quality: Quality, utc_ms: Millis) -> None:
        """Take a value; `utc_ms` 0 is a time nobody knows."""
        self.value, self.quality, self.utc_ms = value, quality, utc_ms
        self.octets = self._address + asdu.encode_element(mapping.element(self.point, value, quality))


class Group:
    """A redundancy group: its started sessions, of which there is one at most where it is `exclusive`."""

    def __init__(self, name: str, *, exclusive: bool, initialisation: list[Event]) -> None:
        self.name = name
        self.exclusive = exclusive
        self.sessions: list[Session] = []
        self.initialisation = initialisation  # M_EI_NA_1, as far as it is not yet acknowledged


class Outstation:
    """The process image, the commands in progress, the groups and the sessions of one outstation.

    `submit` is called with what the core must know: commands (a limit rounded down), the number of started connections
    whenever it changes. It is answered later through `confirm`, `terminate` and `publish`; octets for the wire appear
    in the sessions, which the listener drains after each of them. `wake` is due at least every second.
    `events_lost` counts what neither memory nor the store could hold; `store_failed` is set when events are kept in
    memory only, because the store cannot be used any more.
    """

    def __init__(
        self, plan: OutstationPlan, submit: Callable[[messages.Event], None], events: EventLog | None = None
    ) -> None:
        self.plan = plan
        self.parameters = plan.parameters()
        self.submit = submit
        self.time = mapping.WireTime(plan.time_zone)
        self.admission = Admission(plan.caps)
        self.image = {point.address: ImagePoint(point) for point in plan.points.points}
        self._of_encoding: dict[tuple[int, Encoding], list[ImagePoint]] = {}
        for address, image in self.image.items():
            if not image.point.kind.is_command:
                self._of_encoding.setdefault((address.common_address, image.encoding), []).append(image)
        self.commands: dict[int, Command] = {}
        self.selections: dict[PointAddress, Selection] = {}
        self.events_lost = 0
        self.store_failed = False
        self.mirror = plan.points.by_signal.get((Signal.SETPOINT_MIRROR, None))
        self.started: list[Session] = []
        self.watch: Callable[[Command, Reason | None], None] | None = None  # who wants to know of every decision
        self._told_started = 0
        self._accepted: dict[PointAddress, int] = {}
        self._unrecorded: list[Event] = []
        self._scans = Scans(self.image.values(), plan.flutter)
        self._groups = {group.name: self._group(group.name, exclusive=True) for group in plan.groups}
        if not plan.groups:
            self._groups[""] = self._group("", exclusive=False)
        self.events = events if events is not None else EventBuffer(plan.event_capacity)
        self.events.serve(list(self._groups))
        self._sequence = self.events.last_sequence

    def _group(self, name: str, *, exclusive: bool) -> Group:
        octets = bytes((0, 0, 0, LOCAL_POWER_ON))
        addresses = sorted(self.plan.points.common_addresses)
        initialisation = [Event(0, TypeId.M_EI_NA_1, Cause.INITIALIZED, address, octets) for address in addresses]
        return Group(name, exclusive=exclusive, initialisation=initialisation)

    def group_of(self, host: str, fingerprint: str | None = None) -> Group | None:
        """The redundancy group of a control centre, None for one that is in none and may not connect.

        Before a certificate is seen (`fingerprint` None), the group its address allows.
        """
        if not self.plan.groups:
            return self._groups[""]
        for group in self.plan.groups:
            known = not group.fingerprints or fingerprint is None or fingerprint in group.fingerprints
            if known and (not group.addresses or host in group.addresses):
                return self._groups[group.name]
        return None

    def confirm(self, effect: Confirm) -> None:
        """ACTIVATION_CON of a command to its requester; the command before it on that point will not be terminated."""
        command = self.commands.get(effect.command)
        if command is None or command.confirmed:
            return
        command.session.undecided -= 1
        if self.watch is not None:
            self.watch(command, effect.reason)
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

    def publish(self, effect: PointChanged, now: Now) -> None:
        """Take a value into the process image; where `report` is set, record it as an event with its own time."""
        image = self.image[effect.point.address]
        quality, report = self._scans.published(image.point, effect, now.monotonic_ms)
        image.set(effect.value, quality, effect.utc_ms)
        if report:
            self._report(image, effect.utc_ms)

    def wake(self, now: Now) -> None:
        """Do what is due by time: cyclic and background transmission, forced refresh, the end of a flutter."""
        now_ms = now.monotonic_ms
        for cause, addresses in self._scans.due(now_ms):
            for session in self.started:
                session.scan(cause, addresses)
        for address, quality in self._scans.steady(now_ms):
            image = self.image[address]
            image.set(image.value, quality, now.utc_ms)
            self._report(image, now.utc_ms)
        for address in self._scans.unreported(now_ms):
            image = self.image[address]
            if self.started and image.utc_ms:
                self._report(image, now.utc_ms)
        self._keep(lambda: self.events.settle())  # noqa: PLW0108  of the log that is in use then

    def next_deadline(self) -> Millis | None:
        """When the next cyclic or background transmission is due."""
        return self._scans.next_due()

    def flush(self) -> None:
        """Record the events that wait, all in one go, and give them to the sessions that are to send them."""
        if not self._unrecorded:
            return
        events, self._unrecorded = self._unrecorded, []

        def append() -> None:
            self.events_lost += self.events.append(events, self._declare_gap)

        self._keep(append)
        for session in self.started:
            session.offer(events)

    def recorded(self, behind: int) -> list[Row]:
        """The oldest events recorded behind that number, as many as a session holds at once."""
        rows: list[Row] = []

        def read() -> None:
            rows[:] = self.events.after(behind, PENDING_EVENTS)

        self._keep(read)
        return rows

    def _keep(self, use: Callable[[], None]) -> None:
        """Use the event log; one that cannot be used any more is left for one in memory, so that events flow on."""
        try:
            use()
        except OSError as error:
            log.critical("events are kept in memory only from now on", why=str(error))
            self.store_failed = True
            acknowledged = {name: self.events.acknowledged(name) for name in self._groups}
            self.events = EventBuffer(self.plan.event_capacity)
            self.events.serve(list(self._groups))
            for name, sequence in acknowledged.items():
                self.events.acknowledge(name, sequence)
            use()

    def join(self, session: Session) -> int:
        """A session begins data transfer; the number of the event behind which it begins.

        It is the newest its group has acknowledged: with several sessions beside each other, the slowest of them. In an
        exclusive group the session started before is stopped without a word (IEC 60870-5-104 §10).
        """
        group = session.group
        behind = min((other.acknowledged for other in group.sessions), default=self.events.acknowledged(group.name))
        self.started.append(session)
        if group.exclusive:
            for other in list(group.sessions):
                log.info("switched over", group=group.name, master=session.master, before=other.master)
                other.stand_down()
        group.sessions.append(session)
        self._tell_started()
        return behind

    def leave(self, session: Session) -> None:
        """A session ended data transfer: what it began is forgotten, what it did not send is its group's next to."""
        self.started.remove(session)
        session.group.sessions.remove(session)
        self.commands = {number: each for number, each in self.commands.items() if each.session is not session}
        self.selections = {at: each for at, each in self.selections.items() if each.session is not session}
        self.acknowledged(session.group)
        self._tell_started()

    def acknowledged(self, group: Group) -> None:
        """A session of this group has had more events acknowledged, or left."""
        if group.sessions:
            self.events.acknowledge(group.name, min(session.acknowledged for session in group.sessions))

    def _tell_started(self) -> None:
        if len(self.started) != self._told_started:
            self._told_started = len(self.started)
            self.submit(LinkChanged(self._told_started))

    def images(self, common_address: int, group: int, *, counters: bool) -> Iterator[ImagePoint]:
        """The monitored points of a common address, of an interrogation group or (0) all, types together."""
        for (address, encoding), images in self._of_encoding.items():
            if address == common_address and (encoding is Encoding.COUNTER) == counters:
                yield from (image for image in images if not group or group in image.point.groups)

    def packed(
        self,
        images: Iterable[ImagePoint],
        header: Header,
        *,
        tagged: bool = False,
        frozen: Mapping[PointAddress, bytes] | None = None,
    ) -> Iterator[bytes]:
        """The process image in ASDUs as full as can be, each value read when its ASDU is asked for."""
        sequence = self.plan.sequence_of_objects and not tagged
        types = mapping.TAGGED if tagged else mapping.UNTAGGED

        def octets(image: ImagePoint) -> bytes:
            held = (frozen or {}).get(image.point.address, image.octets)
            return held + self._time_tag(image.utc_ms) if tagged else held

        for portion in _portions(images, _TIME_SIZE if tagged else 0, sequence=sequence):
            first, *others = [octets(image) for image in portion]
            in_sequence = sequence and bool(others)
            body = first + b"".join([other[_IOA_SIZE:] if in_sequence else other for other in others])
            type_id = types[portion[0].encoding]
            yield header._replace(type_id=type_id, number=len(portion), sequence=in_sequence).encode() + body

    def _time_tag(self, utc_ms: Millis) -> bytes:
        """A time tag; one with IV set for a value that never had a time."""
        return self.time.encode(utc_ms) if utc_ms else asdu.encode_time(0)

    def _report(self, image: ImagePoint, utc_ms: Millis) -> None:
        """Record the present value of a point as an event, twice where that is agreed."""
        point, common_address = image.point, image.point.address.common_address
        self._scans.reported(point)
        tagged = self.plan.spontaneous_tagged
        if not tagged or point.double_transmission:
            self._record(mapping.UNTAGGED[image.encoding], common_address, image.octets)
        if tagged:
            self._record(mapping.TAGGED[image.encoding], common_address, image.octets + self.time.encode(utc_ms))

    def _record(self, type_id: TypeId, common_address: int, octets: bytes) -> None:
        self._sequence += 1
        self._unrecorded.append(Event(self._sequence, type_id, Cause.SPONTANEOUS, common_address, octets))

    def _declare_gap(self, first: Row, number: int) -> Row | None:
        """Events from `first` on were dropped: what stands in their place is how many were ever, at the time of it."""
        point = self.plan.points.by_signal.get((Signal.EVENTS_DROPPED, None))
        if point is None:
            return None
        image = self.image[point.address]
        image.set(image.value + number, Quality.GOOD, image.utc_ms)
        tag = first[4][-_TIME_SIZE:] if self.plan.spontaneous_tagged else b""
        type_id = (mapping.TAGGED if tag else mapping.UNTAGGED)[image.encoding]
        return Event(first[0], type_id, Cause.SPONTANEOUS, point.address.common_address, image.octets + tag)


def _portions(images: Iterable[ImagePoint], tag_size: int, *, sequence: bool) -> Iterator[list[ImagePoint]]:
    """Points that fit one ASDU together: of one type, with SQ=1 at consecutive addresses."""
    portion: list[ImagePoint] = []
    room = 0
    for image in images:
        follows = portion and portion[-1].encoding is image.encoding
        if follows and sequence:
            follows = portion[-1].point.address.ioa + 1 == image.point.address.ioa
        if portion and (not follows or len(portion) >= room):
            yield portion
            portion = []
        if not portion:
            size = len(image.octets) + tag_size
            room = (asdu.OBJECTS_SIZE - _IOA_SIZE) // (size - _IOA_SIZE) if sequence else asdu.OBJECTS_SIZE // size
            room = min(room, asdu.MAXIMUM_OBJECTS)
        portion.append(image)
    if portion:
        yield portion


class Session:
    """One connection of a control centre, from its TCP connection to its end; `master` names it, host:port."""

    def __init__(
        self, outstation: Outstation, master: str, now: Now, group: Group | None = None, host: str | None = None
    ) -> None:
        self.master = master
        self.host = master.rpartition(":")[0] if host is None else host
        self.now = now
        found = group or outstation.group_of(self.host)
        assert found is not None, "a session of no group"  # noqa: S101  the listener lets no such connection in
        self.group = found
        self.undecided = 0
        self.ended_because: str | None = None
        self.outstation = outstation
        self.acknowledged = 0
        self.interrogations: dict[tuple[int, int], Iterator[bytes]] = {}
        self.frozen: dict[PointAddress, bytes] = {}
        self._connection = apci.Connection(outstation.parameters, now.monotonic_ms)
        self._started = False
        self._answers: deque[bytes] = deque()
        self._pending: deque[Event] = deque()
        self._behind = False  # there are more events to send than `_pending` holds
        self._last_pending = 0
        self._in_flight: deque[int | None] = deque()  # the newest event in each ASDU; 0: M_EI_NA_1, None: no event
        self._events_next = True

    def receive(self, data: bytes, now: Now) -> None:
        """Octets as TCP delivered them; what they cause is in `data_to_send`, or `ended_because` is set."""
        self.now = now
        self._act(self._connection.receive(data, now.monotonic_ms))

    def wake(self, now: Now) -> None:
        """`next_deadline` has come."""
        self.now = now
        self._act(self._connection.wake(now.monotonic_ms))

    def next_deadline(self) -> Millis | None:
        """Monotonic milliseconds of the next `wake`, None once ended."""
        return self._connection.next_deadline()

    def data_to_send(self, now: Now) -> bytes:
        """Fill the send window and return the octets to write: answers first, events and interrogations by turns."""
        connection = self._connection
        while connection.window:
            newest = None
            if self._answers:
                octets = self._answers.popleft()
            elif (self._events_next or not self.interrogations) and self._has_events():
                octets, newest = self._next_events()
                self._events_next = False
            elif (answer := self._next_interrogated()) is not None:
                octets = answer
                self._events_next = True
            elif self._has_events():
                continue
            else:
                break
            connection.send(octets, now.monotonic_ms)
            self._in_flight.append(newest)
        return connection.data_to_send()

    def end(self, why: str) -> None:
        """The connection is over: what was not acknowledged goes back, commands in progress stay unanswered."""
        if self.ended_because is None:
            self.ended_because = why
            self._stop()

    def stand_down(self) -> None:
        """Another connection of the group was started: this one is a standby again."""
        self._connection.stand_down()
        self._stop()

    def offer(self, events: list[Event]) -> None:
        """Newly recorded events; what does not fit is fetched from the log later."""
        if len(self._pending) + len(events) > PENDING_EVENTS:
            self._behind = True
        if not self._behind:
            self._pending += events
            self._last_pending = events[-1].sequence

    def scan(self, cause: Cause, addresses: list[PointAddress]) -> None:
        """Send these points by themselves, cyclic or as background scan; not while the scan before is still going."""
        outstation = self.outstation
        for common_address in sorted({address.common_address for address in addresses}):
            images = [outstation.image[address] for address in addresses if address.common_address == common_address]
            header = Header(0, 0, cause, common_address)
            self.interrogations.setdefault((-cause, common_address), outstation.packed(images, header))

    def freeze(self, common_address: int, group: int) -> None:
        """Keep the present counter readings of a group (0: all) for this control centre's next counter interrogation.

        Each freeze has the next sequence number, 0–31 (IEC 60870-5-101 §7.2.6.9).
        """
        for image in self.outstation.images(common_address, group, counters=True):
            address, octets = image.point.address, image.octets
            before = self.frozen.get(address)
            number = 1 if before is None else (before[-1] + 1) & _COUNTER_SEQUENCE_BITS
            self.frozen[address] = octets[:-1] + bytes((octets[-1] & ~_COUNTER_SEQUENCE_BITS | number,))

    def answer(self, octets: bytes) -> None:
        """Queue an answer; it is dropped if data transfer was stopped meanwhile. Who takes none is disconnected."""
        if not self._started:
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
        if cause in (Cause.UNKNOWN_IOA, Cause.UNKNOWN_COMMON_ADDRESS):
            too_many = self.too_many(Act.UNKNOWN_ADDRESS)
            if too_many is not None:
                log.error("ALARM: somebody searches for addresses and is shut out", master=self.master, why=too_many)
                self.outstation.admission.shut_out(self.host, self.now.monotonic_ms)
                self.end(too_many)

    def too_many(self, act: Act) -> str | None:
        """Count what this source address does; what is too much of it, None while it is borne."""
        return self.outstation.admission.too_many(self.host, act, self.now.monotonic_ms)

    def _act(self, events: list[apci.Event]) -> None:
        for event in events:
            if self.ended_because is not None:
                return
            match event:
                case apci.AsduReceived(octets):
                    self._asdu_received(octets)
                case apci.Acknowledged(number):
                    self._events_acknowledged(number)
                case apci.Started():
                    self._start()
                    log.info("data transfer started", master=self.master, group=self.group.name)
                    self._end_if(self.too_many(Act.START_STOP))
                case apci.Stopped():
                    self._stop()
                    log.info("data transfer stopped", master=self.master)
                    self._end_if(self.too_many(Act.START_STOP))
                case apci.Closed(why):
                    self.end(why)

    def _end_if(self, why: str | None) -> None:
        if why is not None:
            self.end(why)

    def _start(self) -> None:
        self.acknowledged = self._last_pending = self.outstation.join(self)
        self._pending.extend(self.group.initialisation)
        self._started = self._behind = True

    def _stop(self) -> None:
        if not self._started:
            return
        self._started = False
        self._in_flight.clear()
        self._pending.clear()
        self._answers.clear()
        self.interrogations.clear()
        self.undecided = 0
        self.outstation.leave(self)

    def _events_acknowledged(self, number: int) -> None:
        before = self.acknowledged
        for _ in range(number):
            newest = self._in_flight.popleft()
            if newest:
                self.acknowledged = newest
            elif newest == 0 and self.group.initialisation:
                del self.group.initialisation[0]
        if self._started and self.acknowledged != before:
            self.outstation.acknowledged(self.group)

    def _has_events(self) -> bool:
        """Whether an event is to be sent; fetches more of what is recorded where `_pending` runs out."""
        if self._behind and len(self._pending) <= asdu.MAXIMUM_OBJECTS:
            rows = self.outstation.recorded(self._last_pending)
            self._pending.extend(map(Event._make, rows))
            self._behind = bool(rows)
            if rows:
                self._last_pending = rows[-1][0]
        return bool(self._pending)

    def _next_events(self) -> tuple[bytes, int]:
        """The oldest events that one ASDU can carry, and the number of the newest of them."""
        pending = self._pending
        first = newest = pending.popleft()
        octets = [first.octets]
        for _ in range(min(asdu.OBJECTS_SIZE // len(first.octets), asdu.MAXIMUM_OBJECTS) - 1):
            if not pending or pending[0][1:4] != first[1:4]:  # another type, cause or common address
                break
            newest = pending.popleft()
            octets.append(newest.octets)
        header = Header(first.type_id, len(octets), first.cause, first.common_address).encode()
        return header + b"".join(octets), newest.sequence

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
        request = REQUESTS.get(header.type_id)
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

    def _addressed(self, header: Header, request: Request) -> list[int]:
        known = self.outstation.plan.points.common_addresses
        if request.broadcast and header.common_address == asdu.BROADCAST:
            return sorted(known)
        return [header.common_address] if header.common_address in known else []

    def _next_interrogated(self) -> bytes | None:
        """The next ASDU of what was asked for first, None if nothing is; an interrogation ends with its termination."""
        while self.interrogations:
            key, interrogation = next(iter(self.interrogations.items()))
            octets = next(interrogation, None)
            if octets is None or octets[2] & 0x3F == Cause.ACTIVATION_TERMINATION:
                del self.interrogations[key]
            if octets is not None:
                return octets
        return None
