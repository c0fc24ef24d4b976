"""What the outstation answers, over real sockets and, where time matters, on octets with the time handed in."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.messages import Confirm, LinkChanged, PointChanged, Reason, SetpointReceived, Terminate
from bridge.core.messages import Event as CoreEvent
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104.asdu import decode_time, encode_time
from bridge.iec104.outstation import Outstation, OutstationPlan, Session
from tests.iec104.fake_site import UTC_MS, FakeSite, eventually, running, table
from tests.iec104.raw_master import (
    STARTDT,
    STARTDT_CON,
    STOPDT,
    STOPDT_CON,
    TESTFR,
    RawMaster,
    asdu,
    interrogation,
    ioa,
    setpoint,
)

TAG = encode_time(UTC_MS)


async def started(site: FakeSite) -> RawMaster:
    """A master past the end of initialisation, which only the first one sees."""
    master = await RawMaster.connect(site.listener.port)
    if site.started == [1]:
        assert (await master.asdu()).type_id == 70
    return master


async def test_a_setpoint_is_confirmed_and_terminated_as_it_was_asked() -> None:
    async with running() as site:
        master = await started(site)
        request = setpoint(20000.75, originator=9)
        for cause in (7, 10):
            answer = await (master.answer(request) if cause == 7 else master.asdu())
            assert (answer.type_id, answer.number, answer.cause, answer.negative, answer.test) == (
                50,
                1,
                cause,
                False,
                False,
            )
            assert (answer.originator, answer.common_address, answer.body) == (9, 1, request[6:])
        assert [(event.value, event.limit_w, event.tag_utc_ms) for event in site.setpoints] == [(20000.75, 20000, None)]
        assert site.setpoints[0].master.startswith("127.0.0.1:")


async def test_a_tagged_setpoint_brings_its_time_to_the_core() -> None:
    async with running() as site:
        master = await started(site)
        for tag in (TAG, encode_time(UTC_MS, invalid=True), encode_time(UTC_MS, summer=True), bytes(7)):
            answer = await master.answer(asdu(63, 6, ioa(100) + struct.pack("<fB", 7000.0, 0) + tag))
            assert (answer.type_id, answer.cause) == (63, 7)
            assert (await master.asdu()).cause == 10
        tags = [(event.tag_utc_ms, event.tag_valid) for event in site.setpoints]
        assert tags == [(UTC_MS, True), (UTC_MS, False), (UTC_MS, False), (0, False)]


@pytest.mark.parametrize("value", [0.0, 5999.9, -1.0, -1e30, float("nan"), float("inf"), float("-inf")])
async def test_i20_what_the_core_refuses_is_confirmed_negative_and_not_terminated(value: float) -> None:
    async with running() as site:
        master = await started(site)
        request = setpoint(value, originator=3)
        answer = await master.answer(request)
        assert (answer.cause, answer.negative, answer.originator, answer.body) == (7, True, 3, request[6:])
        assert (await master.answer(setpoint(20000.0))).negative is False
        assert (await master.asdu()).cause == 10


async def test_answers_reach_the_requester_alone() -> None:
    async with running() as site:
        first, second = await started(site), await started(site)
        assert (await second.answer(setpoint(20000.0))).cause == 7
        assert (await second.asdu()).cause == 10
        site.publish(200, 1.0)
        assert (await first.asdu()).cause == 3
        assert (await second.asdu()).cause == 3


async def test_a_superseded_command_is_never_terminated_and_none_twice() -> None:
    async with running() as site:
        site.terminates = False
        first, second = await started(site), await started(site)
        await first.answer(setpoint(20000.0))
        await second.answer(setpoint(10000.0))
        older, newer = (event.command for event in site.setpoints)
        for number in (older, newer, newer, 10**9):
            site.listener.terminate(Terminate(number))
        site.listener.confirm(Confirm(newer))
        site.publish(200, 1.0)
        assert (await second.asdu()).cause == 10
        assert (await second.asdu()).cause == 3
        assert (await first.asdu()).cause == 3


async def test_a_command_whose_requester_is_gone_is_answered_to_nobody() -> None:
    async with running() as site:
        gone = await started(site)
        stays = await started(site)
        site.listener.outstation.submit = site.events.append
        gone.send(setpoint(20000.0))
        await eventually(lambda: bool(site.setpoints))
        gone.close()
        await eventually(lambda: site.started[-1] == 1)
        site.listener.confirm(Confirm(site.setpoints[0].command))
        site.listener.terminate(Terminate(site.setpoints[0].command))
        site.publish(200, 1.0)
        assert (await stays.asdu()).cause == 3
        assert site.listener.outstation.commands == {}


POINT = ioa(100) + struct.pack("<fB", 20000.0, 0)
REFUSED: list[tuple[str, bytes, int]] = [
    ("i18 an unknown type", asdu(127, 6, POINT), 44),
    ("a monitoring type in control direction", asdu(13, 6, POINT), 44),
    ("i31 reset process", asdu(105, 6, ioa(0) + b"\x01"), 44),
    ("i31 file transfer", asdu(120, 13, ioa(0) + bytes(5)), 44),
    ("i31 a parameter", asdu(112, 6, POINT), 44),
    ("an unknown type of an unknown address without a body", asdu(127, 6, b"", common_address=9, number=0), 44),
    *((f"i17 cause {cause}", asdu(50, cause, POINT), 45) for cause in (1, 3, 5, 7, 9, 10, 11, 20, 63)),
    ("i17 the test flag", asdu(50, 0x86, POINT), 45),
    ("i17 P/N=1", asdu(50, 0x46, POINT), 45),
    ("interrogation with cause 5", interrogation(cause=5), 45),
    ("read with cause 6", asdu(102, 6, ioa(200)), 45),
    ("clock with cause 8", asdu(103, 8, ioa(0) + TAG), 45),
    ("i18 an unknown common address", asdu(50, 6, POINT, common_address=2), 46),
    ("i18 common address 0", asdu(50, 6, POINT, common_address=0), 46),
    ("i18 a setpoint to everybody", asdu(50, 6, POINT, common_address=65535), 46),
    ("a read of everybody", asdu(102, 5, ioa(200), common_address=65535), 46),
    ("i18 an unknown address", setpoint(20000.0, address=101), 47),
    ("a scaled setpoint to an unknown address", asdu(49, 6, ioa(77) + bytes(3)), 47),
    ("reading an unknown address", asdu(102, 5, ioa(99)), 47),
    ("reading a setpoint", asdu(102, 5, ioa(100)), 47),
    ("reading a counter", asdu(102, 5, ioa(1004)), 47),
    ("an interrogation with an address", asdu(100, 6, ioa(1) + b"\x14"), 47),
    ("a setpoint on a measured value", setpoint(20000.0, address=200), 44),
    ("a scaled setpoint on the limit", asdu(49, 6, ioa(100) + bytes(3)), 44),
    ("a normalized setpoint on the limit", asdu(48, 6, ioa(100) + bytes(3)), 44),
    ("a single command on the limit", asdu(45, 6, ioa(100) + b"\x01"), 44),
    ("i19 SQ=1", asdu(50, 6, POINT, number=0x81), 44),
    ("i19 no object", asdu(50, 6, POINT, number=0), 44),
    ("i19 two objects announced", asdu(50, 6, POINT, number=2), 44),
    ("i19 two objects", asdu(50, 6, POINT + POINT, number=2), 44),
    ("i19 a trailing octet", asdu(50, 6, POINT + b"\x00"), 44),
    ("i19 a missing octet", asdu(50, 6, POINT[:-1]), 44),
    ("i19 no body", asdu(50, 6, b""), 44),
    ("i19 a truncated test command", asdu(107, 6, b""), 44),
    ("i19 a truncated clock", asdu(103, 6, b""), 44),
    ("i22 select on a direct point", setpoint(20000.0, qualifier=0x80), 7),
    ("i22 QL", setpoint(20000.0, qualifier=1), 7),
    ("i17 deactivation of a direct setpoint", setpoint(20000.0, cause=8), 9),
    ("i30 a group interrogation", interrogation(qualifier=21), 7),
    ("an interrogation with an unused qualifier", interrogation(qualifier=0), 7),
    ("deactivation of no interrogation", interrogation(cause=8), 9),
    ("i31 counters frozen and reset", asdu(101, 6, ioa(0) + b"\x85"), 7),
    ("i31 counters reset", asdu(101, 6, ioa(0) + b"\xc5"), 7),
    ("a group of counters", asdu(101, 6, ioa(0) + b"\x01"), 7),
    ("a clock with an invalid tag", asdu(103, 6, ioa(0) + encode_time(UTC_MS, invalid=True)), 7),
]


@pytest.mark.parametrize(("request_octets", "cause"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_a_refused_request_is_mirrored_negative_changes_nothing_and_leaves_one_log_line(
    request_octets: bytes, cause: int
) -> None:
    request_octets = request_octets[:3] + b"\x2a" + request_octets[4:]
    async with running() as site:
        master = await started(site)
        with capture_logs() as lines:
            answer = await master.answer(request_octets)
        assert (answer.cause, answer.negative, answer.originator) == (cause, True, 42)
        assert answer.test is bool(request_octets[2] & 0x80)
        assert answer.body == request_octets[6:]
        assert request_octets[:2] + request_octets[4:6] == struct.pack(
            "<BBH", answer.type_id, request_octets[1], answer.common_address
        )
        assert site.setpoints == []
        refusals = [line for line in lines if line["event"] == "request refused"]
        assert len(refusals) == 1
        assert refusals[0]["master"].startswith("127.0.0.1:")
        assert refusals[0]["why"]
        assert (await master.answer(setpoint(20000.0))).negative is False


async def test_the_cores_refusal_leaves_one_log_line_that_names_who_and_why() -> None:
    async with running() as site:
        master = await started(site)
        with capture_logs() as lines:
            await master.answer(setpoint(0.0))
        assert [(line["why"], line["answer"], line["ioa"]) for line in lines] == [("below the minimum profile", 7, 100)]


async def test_a_refusal_by_the_control_centre_is_never_answered() -> None:
    async with running() as site:
        master = await started(site)
        for cause in (44, 45, 46, 47):
            master.send(asdu(36, 0x40 | cause, bytes(15)))
        assert (await master.answer(setpoint(20000.0))).cause == 7


async def test_an_asdu_without_a_header_ends_the_connection() -> None:
    async with running() as site:
        master = await started(site)
        master.send(b"\x32\x01\x06")
        assert await master.is_closed()


async def test_an_interrogation_answers_everything_untagged_and_nothing_else() -> None:
    async with running() as site:
        site.publish(200, 7200.0, report=False)
        site.publish(300, 1.0, Quality.NOT_TOPICAL, report=False)
        master = await started(site)
        seen = await master.interrogate(interrogation(originator=5))
        assert {(one.cause, one.originator, one.common_address) for one in seen} == {(20, 5, 1)}
        assert [one.type_id for one in seen] == [13, 1]
        values = dict(seen[0].objects(5)) | dict(seen[1].objects(1))
        assert sorted(values) == [200, 201, 202, 300, 303, 1000, 1005, 1010, 1015]
        assert values[200] == struct.pack("<fB", 7200.0, 0)
        assert values[201] == struct.pack("<fB", 0.0, 0xC0), "never published: invalid and not topical"
        assert values[300] == b"\x41"
        assert values[303] == b"\xc0"


async def test_an_interrogation_to_everybody_is_answered_by_each_common_address() -> None:
    second = tuple(
        Point(PointAddress(7, 200 + index), PointKind.MEASURED, Signal.CHARGER_POWER_W, index) for index in range(3)
    )
    async with running(FakeSite(PointTable(table(0).points + second))) as site:
        master = await RawMaster.connect(site.listener.port)
        assert {(await master.asdu()).common_address for _ in range(2)} == {1, 7}
        master.send(interrogation(common_address=65535))
        seen = [await master.asdu() for _ in range(7)]
        assert [(one.common_address, one.cause) for one in seen] == [
            (1, 7),
            (7, 7),
            (1, 20),
            (1, 20),
            (1, 10),
            (7, 20),
            (7, 10),
        ]
        assert (await master.answer(asdu(103, 6, ioa(0) + TAG, common_address=65535))).common_address == 1
        assert (await master.asdu()).common_address == 7


async def test_an_interrogation_of_20000_points_is_complete_in_packed_asdus() -> None:
    points = PointTable(
        tuple(Point(PointAddress(1, 1000 + n), PointKind.MEASURED, Signal.CHARGER_POWER_W, n) for n in range(20_000))
    )
    async with running(FakeSite(points)) as site:
        master = await started(site)
        seen = await master.interrogate()
        assert [address for one in seen for address, _ in one.objects(5)] == list(range(1000, 21_000))
        assert len(seen) == -(-20_000 // 30)


async def test_i30_an_overlapping_interrogation_is_refused_and_the_first_goes_on() -> None:
    async with running(FakeSite(table(60), k=1)) as site:
        master = await started(site)
        master.confirm = False
        master.send(interrogation())
        master.send(interrogation())
        seen = []
        while (one := await master.asdu()).cause != 10:
            seen.append((one.cause, one.negative))
            master.supervise()
        assert seen[:2] == [(7, False), (7, True)]
        assert {cause for cause, _ in seen[2:]} == {20}
        assert len(seen) == 2 + 3 + 2
        master.supervise()
        master.confirm = True
        assert len(await master.interrogate()) == 5


async def test_an_interrogation_can_be_deactivated() -> None:
    async with running(FakeSite(table(300), k=1)) as site:
        master = await started(site)
        master.confirm = False
        master.send(interrogation())
        assert (await master.asdu()).cause == 7
        master.supervise()
        assert (await master.asdu()).cause == 20
        master.send(interrogation(cause=8))
        assert (await master.asdu()).cause == 9
        master.confirm = True
        assert (await master.answer(setpoint(20000.0))).cause == 7


async def test_i30_events_are_not_starved_by_an_interrogation_nor_it_by_them() -> None:
    async with running(FakeSite(table(600), k=2)) as site:
        master = await started(site)
        master.confirm = False
        master.send(interrogation())
        causes = [(await master.asdu()).cause for _ in range(2)]
        assert causes == [7, 20]
        for number in range(400):
            site.publish(200, float(number))
        site.listener.outstation.flush()
        master.confirm = True
        master.supervise()
        order = []
        while (one := await master.asdu()).cause != 10:
            order.append(one.cause)
        assert order[:8] == [3, 20] * 4


async def test_a_counter_interrogation_answers_the_counters_untagged() -> None:
    async with running() as site:
        site.publish(1004, 123456.0, report=False)
        master = await started(site)
        seen = await master.interrogate(asdu(101, 6, ioa(0) + b"\x05", originator=2))
        assert [(one.type_id, one.cause, one.originator) for one in seen] == [(15, 37, 2)]
        assert seen[0].objects(5) == [(1004, struct.pack("<iB", 123456, 0)), (1014, struct.pack("<iB", 0, 0x80))]


async def test_a_read_answers_the_value_untagged() -> None:
    async with running() as site:
        site.publish(200, 7200.0, report=False)
        master = await started(site)
        answer = await master.answer(asdu(102, 5, ioa(200), originator=4))
        assert (answer.type_id, answer.cause, answer.originator) == (13, 5, 4)
        assert answer.objects(5) == [(200, struct.pack("<fB", 7200.0, 0))]
        answer = await master.answer(asdu(102, 5, ioa(303)))
        assert (answer.type_id, answer.objects(1)) == (1, [(303, b"\xc0")])


async def test_i29_the_clock_is_confirmed_and_test_commands_come_back_as_they_were() -> None:
    async with running() as site:
        master = await started(site)
        for request in (asdu(103, 6, ioa(0) + TAG), asdu(107, 6, ioa(0) + b"\xaa\x55" + TAG)):
            answer = await master.answer(request)
            assert (answer.cause, answer.negative, answer.body) == (7, False, request[6:])


async def test_an_event_carries_value_quality_and_its_own_time_in_utc() -> None:
    async with running() as site:
        master = await started(site)
        site.publish(200, 7200.0, Quality.NOT_TOPICAL, UTC_MS)
        site.publish(300, 1.0, utc_ms=UTC_MS + 1)
        site.publish(1004, 42.0, utc_ms=UTC_MS + 2)
        power, active, energy = [await master.asdu() for _ in range(3)]
        assert [(one.type_id, one.cause, one.originator) for one in (power, active, energy)] == [
            (36, 3, 0),
            (30, 3, 0),
            (37, 3, 0),
        ]
        assert power.body[:8] == ioa(200) + struct.pack("<fB", 7200.0, 0x40)
        assert decode_time(power.body[8:]) == (UTC_MS, False, False)
        assert active.body == ioa(300) + b"\x01" + encode_time(UTC_MS + 1)
        assert energy.body == ioa(1004) + struct.pack("<iB", 42, 0) + encode_time(UTC_MS + 2)


async def test_events_that_come_together_share_an_asdu_in_order() -> None:
    async with running() as site:
        master = await started(site)
        for number in range(20):
            site.publish(200 + number % 3, float(number))
        assert [(await master.asdu()).number for _ in range(2)] == [16, 4]


async def test_a_value_that_is_not_to_be_reported_is_in_the_image_only() -> None:
    async with running() as site:
        master = await started(site)
        site.publish(200, 5.0, report=False)
        site.publish(202, 6.0)
        assert (await master.asdu()).ioa == 202
        assert dict((await master.interrogate())[0].objects(5))[200] == struct.pack("<fB", 5.0, 0)


async def test_the_end_of_initialisation_is_told_once() -> None:
    async with running() as site:
        for expected in (70, 36):
            master = await RawMaster.connect(site.listener.port)
            site.publish(200, 1.0)
            assert (await master.asdu()).type_id == expected
            await master.answer(setpoint(20000.0))
            await master.asdu()
            await master.stop()


async def test_more_undecided_commands_than_agreed_are_refused_at_once() -> None:
    async with running(FakeSite(command_capacity=2)) as site:
        site.listener.outstation.submit = site.events.append
        master = await started(site)
        for _ in range(2):
            master.send(setpoint(20000.0))
        assert (await master.answer(setpoint(20000.0))).negative is True
        site.listener.confirm(Confirm(site.setpoints[0].command))
        assert (await master.asdu()).negative is False
        master.send(setpoint(20000.0))
        await eventually(lambda: len(site.setpoints) == 3)


async def test_who_takes_no_answers_is_disconnected_at_the_cap() -> None:
    async with running(FakeSite(answer_capacity=50)) as site:
        master = await started(site)
        master.confirm = False
        for _ in range(100):
            master.send(asdu(107, 6, ioa(0) + b"\xaa\x55" + TAG))
        assert await master.is_closed()


class Wire:
    """A session without a socket: octets in, frames out, the time in milliseconds as an argument."""

    def __init__(self, outstation: Outstation, now_ms: int = 0) -> None:
        self.session = Session(outstation, "wire:1", Now(now_ms, UTC_MS))

    def exchange(self, data: bytes, now_ms: int) -> list[bytes]:
        now = Now(now_ms, UTC_MS)
        self.session.receive(data, now)
        return self.frames(now_ms)

    def frames(self, now_ms: int) -> list[bytes]:
        if self.session.ended_because is not None:
            return []
        stream, frames = self.session.data_to_send(Now(now_ms, UTC_MS)), []
        while stream:
            frames.append(stream[: stream[1] + 2])
            stream = stream[stream[1] + 2 :]
        return frames


def times(frames: list[bytes]) -> list[int]:
    """The time tags of all events in these frames, relative to UTC_MS."""
    octets = [frame[12:] for frame in frames if not frame[2] & 1 and frame[6] == 36]
    return [decode_time(body[at + 8 : at + 15]).utc_ms - UTC_MS for body in octets for at in range(0, len(body), 15)]


class World:
    """An outstation without a socket; its points are those of the fake site."""

    def __init__(self, **plan: Any) -> None:
        self.points = table()
        self.events: list[CoreEvent] = []
        self.outstation = Outstation(OutstationPlan("", 0, self.points, **plan), self.events.append)
        wire = Wire(self.outstation)
        wire.exchange(STARTDT, 0)
        wire.exchange(struct.pack("<BBHH", 0x68, 4, 1, 2), 0)
        wire.session.end("end of initialisation was told")
        self.events.clear()

    def publish(self, *numbers: int) -> None:
        point = self.points.by_address[PointAddress(1, 200)]
        for number in numbers:
            changed = PointChanged(point, float(number), Quality.GOOD, UTC_MS + number, True)
            self.outstation.publish(changed, Now(0, UTC_MS))
        self.outstation.flush()

    @property
    def started(self) -> list[int]:
        return [event.started for event in self.events if isinstance(event, LinkChanged)]


def confirm(number: int) -> bytes:
    return struct.pack("<BBHH", 0x68, 4, 1, number << 1)


def test_events_without_a_master_are_kept_in_order_with_their_time() -> None:
    world = World()
    world.publish(*range(100))
    wire = Wire(world.outstation)
    assert times(wire.exchange(STARTDT, 0)) == list(range(100))


def test_i11_unacknowledged_events_come_again_after_a_reconnection_and_acknowledged_ones_do_not() -> None:
    world = World()
    wire = Wire(world.outstation)
    wire.exchange(STARTDT, 0)
    for number in range(5):
        world.publish(number)
        assert times(wire.frames(0)) == [number]
    wire.exchange(confirm(3), 10)
    world.publish(5, 6)
    wire.session.wake(Now(15_000, 0))
    assert wire.session.ended_because == "an I-frame was not confirmed within t1"
    assert world.started == [1, 0]
    world.publish(7)
    assert times(Wire(world.outstation).exchange(STARTDT, 20_000)) == [3, 4, 5, 6, 7]


def test_i13_a_silent_link_is_lost_after_t3_and_t1() -> None:
    world = World()
    wire = Wire(world.outstation)
    wire.exchange(STARTDT, 0)
    assert wire.session.next_deadline() == 20_000
    wire.session.wake(Now(20_000, 0))
    assert wire.frames(20_000) == [TESTFR]
    assert wire.session.next_deadline() == 35_000
    wire.session.wake(Now(35_000, 0))
    assert wire.session.ended_because is not None
    assert world.started == [1, 0]


def test_i15_a_new_connection_beside_a_dead_one_gets_all_it_has_not_acknowledged() -> None:
    world = World()
    dead = Wire(world.outstation)
    dead.exchange(STARTDT, 0)
    world.publish(1, 2)
    assert times(dead.frames(0)) == [1, 2]
    world.publish(3)
    new = Wire(world.outstation)
    assert times(new.exchange(STARTDT, 5_000)) == [1, 2, 3]
    world.publish(4)
    assert times(new.frames(5_000)) == [4]
    new.exchange(confirm(2), 5_001)
    dead.session.wake(Now(15_000, 0))
    world.publish(5)
    assert times(new.frames(15_000)) == [5]
    assert world.started == [1, 2, 1]


def test_i16_a_stop_keeps_events_for_the_next_start() -> None:
    world = World()
    wire = Wire(world.outstation)
    wire.exchange(STARTDT, 0)
    world.publish(1)
    assert times(wire.frames(0)) == [1]
    assert wire.exchange(STOPDT, 1) == []
    world.publish(2)
    assert wire.frames(1) == []
    assert wire.exchange(confirm(1), 2) == [STOPDT_CON]
    world.publish(3)
    assert wire.frames(3) == []
    assert world.started == [1, 0]
    frames = wire.exchange(STARTDT, 4)
    assert frames[0] == STARTDT_CON
    assert times(frames) == [2, 3]


def test_a_full_buffer_drops_the_oldest_measured_values_counts_them_and_says_so() -> None:
    world = World(event_capacity=10)
    with capture_logs() as lines:
        world.publish(*range(25))
        wire = Wire(world.outstation)
        assert times(wire.exchange(STARTDT, 0)) == list(range(15, 25))
        wire.exchange(confirm(1), 1)
    assert world.outstation.events_lost == 15
    assert [line["event"] for line in lines if "buffer" in line["event"]] == [
        "the event buffer is full, the oldest measured values are dropped",
        "the event buffer was full",
    ]


def test_a_stopped_session_forgets_its_answers_and_commands() -> None:
    world = World(k=1)
    wire = Wire(world.outstation)
    wire.exchange(STARTDT, 0)
    request = setpoint(20000.0)
    frame = struct.pack("<BBHH", 0x68, len(request) + 4, 0, 0) + request
    wire.exchange(frame, 0)
    command = next(event for event in world.events if isinstance(event, SetpointReceived)).command
    wire.exchange(STOPDT, 1)
    world.outstation.confirm(Confirm(command))
    assert wire.exchange(STARTDT, 2) == [STARTDT_CON]
    world.outstation.confirm(Confirm(command, Reason.TOO_LATE))
    assert wire.frames(3) == []


def test_the_send_window_is_never_exceeded() -> None:
    world = World(k=4)
    wire = Wire(world.outstation)
    wire.exchange(STARTDT, 0)
    for number in range(10):
        world.publish(number)
        assert len(wire.frames(0)) == (1 if number < 4 else 0)
    assert len(wire.exchange(confirm(1), 1)) == 1


def test_impossible_timers_are_refused_before_anything_listens() -> None:
    with pytest.raises(ValueError, match="t2 < t1"):
        Outstation(OutstationPlan("", 0, table(), t1_s=5, t2_s=10), lambda _event: None)
