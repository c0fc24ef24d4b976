"""What is monitored, in every form agreed: groups, counters, scans, refresh, flutter, double transmission, SQ=1."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from bridge.core.messages import PointChanged
from bridge.core.points import Encoding, Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104 import asdu as codec
from bridge.iec104.asdu import InformationObject, encode_time
from bridge.iec104.outstation import Outstation, OutstationPlan
from bridge.iec104.scans import Flutter
from tests.iec104.fake_site import UTC_MS
from tests.iec104.quiet_master import Master, outcome
from tests.iec104.raw_master import asdu, interrogation, ioa

SIGNALS = list(Signal)


def measured(address: int, charger: int, **more: Any) -> Point:
    return Point(PointAddress(1, address), PointKind.MEASURED, Signal.CHARGER_POWER_W, charger, **more)


def single(address: int, charger: int, **more: Any) -> Point:
    return Point(PointAddress(1, address), PointKind.SINGLE, Signal.CHARGER_CONNECTED, charger, **more)


def total(address: int, charger: int, **more: Any) -> Point:
    return Point(PointAddress(1, address), PointKind.TOTAL, Signal.CHARGER_ENERGY_WH, charger, **more)


class World:
    def __init__(self, *points: Point, **plan: Any) -> None:
        self.points = {point.address.ioa: point for point in points}
        self.outstation = Outstation(OutstationPlan("", 0, PointTable(points), **plan), lambda _event: None)
        self.master = Master(self.outstation)

    def publish(self, address: int, value: float, now_ms: int = 0, *, report: bool = True, **more: Any) -> None:
        quality, utc_ms = more.get("quality", Quality.GOOD), more.get("utc_ms", UTC_MS)
        changed = PointChanged(self.points[address], value, quality, utc_ms, report)
        self.outstation.publish(changed, Now(now_ms, UTC_MS + now_ms))

    def wake(self, now_ms: int) -> list[bytes]:
        """What is sent by itself by then."""
        self.outstation.wake(Now(now_ms, UTC_MS + now_ms))
        self.outstation.flush()
        return self.master.all(now_ms)


def objects(asdus: list[bytes]) -> list[tuple[int, int, InformationObject]]:
    """(type, cause, object) of every object."""
    decoded = [codec.decode(octets) for octets in asdus]
    return [(header.type_id, header.cause, each) for header, them in decoded for each in them]


def told(asdus: list[bytes]) -> list[tuple[int, int, int]]:
    """(type, cause, address) of every object."""
    return [(type_id, cause, each.ioa) for type_id, cause, each in objects(asdus)]


def test_every_encoding_has_its_type_in_interrogation_and_as_an_event() -> None:
    encodings = (Encoding.SHORT_FLOAT, Encoding.SCALED, Encoding.NORMALIZED)
    points = [measured(200 + n, n, encoding=each, per_unit=100.0) for n, each in enumerate(encodings)]
    points += [single(300 + n, n, encoding=each) for n, each in enumerate((Encoding.SINGLE, Encoding.DOUBLE))]
    world = World(*points, total(400, 0))
    for address in world.points:
        world.publish(address, 50.0)
    assert [type_id for type_id, cause, _ in told(world.wake(1)) if cause == 3] == [36, 35, 34, 30, 31, 37]
    asked = world.master.send(interrogation()) + world.master.all()
    assert [(type_id, cause) for type_id, cause, _ in told(asked)[1:-1]] == [
        (13, 20), (11, 20), (9, 20), (1, 20), (3, 20),
    ]  # fmt: skip
    assert [each.element for *_, each in objects(asked)[1:-1]] == [
        codec.ShortFloat(0.5),
        codec.ScaledValue(0),
        codec.NormalizedValue(0.5),
        codec.SinglePoint(True),
        codec.DoublePoint(2),
    ]


def test_i30_a_group_interrogation_answers_its_group_with_its_own_cause() -> None:
    world = World(measured(200, 0, groups=(1,)), measured(201, 1, groups=(1, 16)), measured(202, 2))
    for qualifier, addresses in ((21, [200, 201]), (36, [201]), (20, [200, 201, 202])):
        confirmation, *answers, termination = world.master.send(interrogation(qualifier=qualifier)) + world.master.all()
        assert (outcome(confirmation), outcome(termination)) == ((7, False), (10, False))
        assert told(answers) == [(13, qualifier, address) for address in addresses]
    for qualifier in (22, 37, 19, 255):
        assert outcome(world.master.ask(interrogation(qualifier=qualifier))) == (7, True)


def counters(code: int) -> bytes:
    return asdu(101, 6, ioa(0) + bytes((code,)))


def readings(world: World, code: int = 5) -> dict[int, tuple[int, int]]:
    """Reading and sequence number by address, as a counter interrogation answers them."""
    _, *answers, _ = world.master.send(counters(code)) + world.master.all()
    elements = {each.ioa: each.element for *_, each in objects(answers)}
    return {
        address: (element.value, element.sequence)
        for address, element in elements.items()
        if isinstance(element, codec.CounterReading)
    }


def test_frozen_counters_stay_as_they_were_until_they_are_frozen_again() -> None:
    world = World(total(400, 0, groups=(1,)), total(401, 1, groups=(2,)))
    world.publish(400, 10.0, report=False)
    world.publish(401, 20.0, report=False)
    assert readings(world) == {400: (10, 0), 401: (20, 0)}
    freeze = world.master.send(counters(0x45))
    assert [outcome(each) for each in freeze] == [(7, False), (10, False)]
    world.publish(400, 11.0, report=False)
    assert readings(world) == {400: (10, 1), 401: (20, 1)}
    world.master.send(counters(0x41))
    assert readings(world) == {400: (11, 2), 401: (20, 1)}
    assert readings(world, code=1) == {400: (11, 2)}
    other = Master(world.outstation, "10.0.0.9:1")
    world.master = other
    assert readings(world) == {400: (11, 0), 401: (20, 0)}, "another control centre froze nothing"


def test_a_counter_group_has_its_own_cause_and_one_without_points_is_refused() -> None:
    world = World(total(400, 0, groups=(4,)))
    _, answer, _ = world.master.send(counters(4)) + world.master.all()
    assert told([answer]) == [(15, 41, 400)]
    for code in (1, 0, 6, 0x3F):
        assert outcome(world.master.ask(counters(code))) == (7, True)


def test_cyclic_and_background_points_are_sent_by_themselves_untagged() -> None:
    world = World(measured(200, 0, cyclic_ms=1_000), single(300, 0, background_ms=2_500), measured(201, 1))
    sent = {now_ms: told(world.wake(now_ms)) for now_ms in (0, 999, 1_000, 1_999, 2_000, 2_500, 3_000)}
    cyclic, background = (13, 1, 200), (1, 2, 300)
    assert sent == {0: [], 999: [], 1_000: [cyclic], 1_999: [], 2_000: [cyclic], 2_500: [background], 3_000: [cyclic]}
    assert world.outstation.next_deadline() == 4_000


def test_a_scan_that_is_still_going_is_not_begun_again() -> None:
    points = [measured(200 + 2 * n, n, cyclic_ms=1_000) for n in range(100)]
    world = World(*points, k=1)
    world.wake(0)
    for now_ms in (1_000, 2_000, 3_000):
        world.outstation.wake(Now(now_ms, UTC_MS))
    assert len(told(world.master.all())) == 100


def test_what_was_not_reported_for_long_is_reported_again_with_the_present_time() -> None:
    world = World(measured(200, 0, refresh_ms=300_000), measured(201, 1, refresh_ms=300_000), measured(202, 2))
    world.wake(1_000)
    world.publish(200, 7.0, 1_000)
    world.publish(202, 7.0, 1_000)
    world.wake(1_000)
    assert told(world.wake(300_999)) == []
    assert [(*each[:2], each[2].ioa, each[2].time) for each in objects(world.wake(301_000))] == [
        (36, 3, 200, codec.TimeTag(UTC_MS + 301_000))
    ], "200 alone: 201 was never known, 202 needs no refresh"
    world.publish(200, 8.0, 400_000)
    world.wake(400_000)
    assert told(world.wake(601_000)) == []
    assert told(world.wake(700_000)) == [(36, 3, 200)]


def test_a_fluttering_point_is_blocked_until_it_is_quiet_and_then_told_as_it_is() -> None:
    world = World(single(300, 0), flutter=Flutter(changes=6, window_s=10, quiet_s=30))
    for number in range(20):
        world.publish(300, number % 2, 1_000 + number * 500)
    seen = [each.element for *_, each in objects(world.wake(11_000))]
    assert seen == [*(codec.SinglePoint(n % 2 == 1) for n in range(5)), codec.SinglePoint(True, 0x90)]
    (_, answer, _) = world.master.send(interrogation(), 11_000) + world.master.all(11_000)
    assert objects([answer])[0][2].element == codec.SinglePoint(True, 0x90)
    assert world.wake(40_499) == []
    assert [each.element for *_, each in objects(world.wake(40_500))] == [codec.SinglePoint(True)]
    world.publish(300, 0, 41_000)
    assert [each.element for *_, each in objects(world.wake(41_000))] == [codec.SinglePoint(False)]


def test_double_transmission_reports_once_without_and_once_with_the_time() -> None:
    world = World(single(300, 0, double_transmission=True), single(301, 1))
    world.publish(300, 1)
    world.publish(301, 1)
    assert told(world.wake(0)) == [(1, 3, 300), (30, 3, 300), (30, 3, 301)]


def test_spontaneous_transmission_is_untagged_and_interrogation_tagged_where_that_is_agreed() -> None:
    world = World(measured(200, 0), measured(201, 1), spontaneous_tagged=False, interrogation_tagged=True)
    world.publish(200, 5.0)
    assert told(world.wake(0)) == [(13, 3, 200)]
    _, answer, _ = world.master.send(interrogation()) + world.master.all()
    (_, _, known), (_, _, unknown) = objects([answer])
    assert answer[0] == 36
    assert known.time == codec.TimeTag(UTC_MS)
    assert unknown.time is not None
    assert unknown.time.invalid


def test_quality_bits_travel_as_the_core_set_them() -> None:
    world = World(measured(200, 0), single(300, 0))
    every = Quality.BLOCKED | Quality.SUBSTITUTED | Quality.NOT_TOPICAL | Quality.INVALID
    world.publish(200, 1.0, quality=every | Quality.OVERFLOW)
    world.publish(300, 1.0, quality=every)
    assert [each.element for *_, each in objects(world.wake(0))] == [
        codec.ShortFloat(1.0, 0xF1),
        codec.SinglePoint(True, 0xF0),
    ]


@pytest.mark.parametrize(("count", "gap"), [(1, 0), (2, 0), (48, 0), (49, 0), (200, 0), (60, 30)])
def test_consecutive_addresses_are_packed_as_a_sequence_on_request_and_only_then(count: int, gap: int) -> None:
    addresses = [1000 + n + (5 if gap and n >= gap else 0) for n in range(count)]
    points = [measured(address, n) for n, address in enumerate(addresses)]
    for packed in (True, False):
        world = World(*points, sequence_of_objects=packed)
        for number, address in enumerate(addresses):
            world.publish(address, float(number), report=False)
        _, *answers, _ = world.master.send(interrogation()) + world.master.all()
        assert [(each.ioa, each.element) for *_, each in objects(answers)] == [
            (address, codec.ShortFloat(float(number))) for number, address in enumerate(addresses)
        ]
        assert any(octets[1] & 0x80 for octets in answers) is (packed and count > 1)
        assert all(len(octets) <= 249 for octets in answers)
    if not gap:
        assert len(answers) == -(-count // 30)


def test_i29_the_control_centres_clock_moves_our_tags_where_that_is_agreed_and_never_far() -> None:
    world = World(measured(200, 0), clock_by_control_centre=True)
    assert outcome(world.master.ask(asdu(103, 6, ioa(0) + encode_time(UTC_MS + 2_500)))) == (7, False)
    for far_ms in (-2 * 3_600_000, 10 * 365 * 86_400_000):
        assert outcome(world.master.ask(asdu(103, 6, ioa(0) + encode_time(UTC_MS + far_ms)))) == (7, True)
    world.publish(200, 1.0)
    assert objects(world.wake(0))[0][2].time == codec.TimeTag(UTC_MS + 2_500)


def test_an_asdu_of_a_sequence_is_what_an_independent_reading_makes_of_it() -> None:
    world = World(measured(1000, 0), measured(1001, 1), sequence_of_objects=True)
    world.publish(1001, 1.0, report=False)
    _, answer, _ = world.master.send(interrogation()) + world.master.all()
    assert answer == struct.pack("<BBBBH", 13, 0x82, 20, 0, 1) + ioa(1000) + struct.pack("<fBfB", 0, 0xC0, 1, 0)
