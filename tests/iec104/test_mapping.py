"""Wire values and core values: a limit is never rounded up, a value that cannot be sent is never sent as good."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.points import ENCODINGS, Encoding, Point, PointAddress, PointKind, Quality, Signal
from bridge.iec104 import asdu, mapping
from bridge.iec104.asdu import (
    CounterReading,
    DoublePoint,
    NormalizedValue,
    ScaledValue,
    ShortFloat,
    SinglePoint,
    TimeTag,
)
from bridge.iec104.mapping import WireTime


@pytest.mark.parametrize(
    ("value", "limit_w"),
    [(0.0, 0), (-0.0, 0), (0.9, 0), (20000.99, 20000), (-0.1, -1), (1e-45, 0), (3.4e38, 3.4e38)],
)
def test_a_limit_is_rounded_down(value: float, limit_w: float) -> None:
    assert mapping.limit_w(value) == limit_w


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_no_limit(value: float) -> None:
    assert mapping.limit_w(value) is None


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_limit_is_never_above_the_setpoint(value: float) -> None:
    limit_w = mapping.limit_w(value)
    assert limit_w is not None
    assert limit_w <= value < limit_w + 1 or math.isclose(limit_w, value)
    assert limit_w <= value


def point(kind: PointKind, encoding: Encoding | None = None, per_unit: float = 1.0) -> Point:
    return Point(PointAddress(1, 1), kind, Signal.SITE_POWER_W, encoding=encoding, per_unit=per_unit)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (None, (None, True)),
        (TimeTag(5), (5, True)),
        (TimeTag(5, invalid=True), (5, False)),
        (TimeTag(5, summer=True), (5, False)),
    ],
)
def test_where_the_wire_is_in_utc_a_tag_of_summer_time_is_invalid(
    tag: TimeTag | None, expected: tuple[int | None, bool]
) -> None:
    assert WireTime().command_time(tag) == expected


def utc_ms(year: int, month: int, day: int, hour: int, minute: int = 0) -> int:
    return round(datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("reads", "summer", "means"),
    [
        (utc_ms(2026, 1, 15, 12), False, utc_ms(2026, 1, 15, 11)),
        (utc_ms(2026, 7, 15, 12), True, utc_ms(2026, 7, 15, 10)),
        (utc_ms(2026, 10, 25, 2, 30), True, utc_ms(2026, 10, 25, 0, 30)),
        (utc_ms(2026, 10, 25, 2, 30), False, utc_ms(2026, 10, 25, 1, 30)),
        (utc_ms(2026, 7, 15, 12), False, None),
        (utc_ms(2026, 1, 15, 12), True, None),
        (utc_ms(2026, 3, 29, 2, 30), False, None),
        (utc_ms(2026, 3, 29, 2, 30), True, None),
    ],
    ids=["winter", "summer", "first 02:30", "second 02:30", "SU missing", "SU wrong", "no such hour", "nor in summer"],
)
def test_i23_local_time_is_read_with_su_and_refused_where_they_contradict_each_other(
    reads: int, summer: bool, means: int | None
) -> None:
    time = WireTime("Europe/Berlin")
    understood, valid = time.command_time(TimeTag(reads, summer=summer))
    assert valid is (means is not None)
    if means is not None:
        assert understood == means
        assert asdu.decode_time(time.encode(means)) == (reads, False, summer)


@given(st.integers(utc_ms(2000, 1, 2, 0), utc_ms(2099, 12, 30, 0)), st.sampled_from(["Europe/Berlin", None, "UTC"]))
def test_every_time_of_ours_is_read_back_as_it_was_written(time_ms: int, zone: str | None) -> None:
    time = WireTime(zone)
    assert time.command_time(asdu.decode_time(time.encode(time_ms))) == (time_ms, True)


def test_i29_the_control_centres_clock_moves_our_time_tags_within_its_bounds_and_nothing_else() -> None:
    time = WireTime()
    assert time.set_by(TimeTag(10_000), 4_000, largest_ms=6_000)
    assert time.encode(100_000_000_000_0) == asdu.encode_time(100_000_000_600_0)
    assert time.command_time(TimeTag(10_500)) == (4_500, True)
    assert not time.set_by(TimeTag(10_001), 4_000, largest_ms=6_000)
    assert not time.set_by(TimeTag(5_000, invalid=True), 4_000, largest_ms=6_000)
    assert time.offset_ms == 6_000


@pytest.mark.parametrize(
    ("value", "per_unit", "limit_w"),
    [(60.0, 1000.0, 60_000), (20.5, 1000.0, 20_500), (59.99, 1000.0, 59_990), (100.0, 333.33, 33_333), (0.1, 1.0, 0)],
)
def test_a_limit_in_percent_or_kilowatts_is_rounded_down_in_watts(value: float, per_unit: float, limit_w: int) -> None:
    assert mapping.limit_w(value, per_unit) == limit_w
    assert mapping.limit_w(math.nextafter(value, 0), per_unit) in (limit_w, limit_w - 1)


@pytest.mark.parametrize(
    ("kind", "value", "quality", "element"),
    [
        (PointKind.MEASURED, 7200.0, Quality.GOOD, ShortFloat(7200.0, 0)),
        (PointKind.MEASURED, float("nan"), Quality.GOOD, ShortFloat(0.0, 0x80)),
        (PointKind.MEASURED, float("inf"), Quality.NOT_TOPICAL, ShortFloat(0.0, 0xC0)),
        (PointKind.MEASURED, -1e300, Quality.GOOD, ShortFloat(-3.4028234663852886e38, 0x01)),
        (PointKind.SINGLE, 1.0, Quality.NOT_TOPICAL, SinglePoint(True, 0x40)),
        (PointKind.SINGLE, 0.0, Quality.GOOD, SinglePoint(False, 0)),
        (PointKind.TOTAL, 1234.9, Quality.GOOD, CounterReading(1234)),
        (PointKind.TOTAL, 2.0**31 + 5, Quality.GOOD, CounterReading(5, carry=True)),
        (PointKind.TOTAL, 7.0, Quality.NOT_TOPICAL, CounterReading(7, invalid=True)),
    ],
)
def test_a_value_becomes_an_element(kind: PointKind, value: float, quality: Quality, element: asdu.Element) -> None:
    assert mapping.element(point(kind), value, quality) == element


@pytest.mark.parametrize(
    ("kind", "encoding", "per_unit", "value", "element"),
    [
        (PointKind.MEASURED, Encoding.SHORT_FLOAT, 1000.0, 7250.0, ShortFloat(7.25)),
        (PointKind.MEASURED, Encoding.SCALED, 100.0, 7250.0, ScaledValue(72)),
        (PointKind.MEASURED, Encoding.SCALED, 1.0, 40_000.0, ScaledValue(32767, 1)),
        (PointKind.MEASURED, Encoding.SCALED, 1.0, -40_000.0, ScaledValue(-32768, 1)),
        (PointKind.MEASURED, Encoding.NORMALIZED, 100_000.0, 50_000.0, NormalizedValue(0.5)),
        (PointKind.MEASURED, Encoding.NORMALIZED, 100_000.0, 100_000.0, NormalizedValue(1 - 2**-15)),
        (PointKind.MEASURED, Encoding.NORMALIZED, 100_000.0, 101_000.0, NormalizedValue(1 - 2**-15, 1)),
        (PointKind.MEASURED, Encoding.NORMALIZED, 100_000.0, -1e30, NormalizedValue(-1.0, 1)),
        (PointKind.SINGLE, Encoding.DOUBLE, 1.0, 1.0, DoublePoint(2)),
        (PointKind.SINGLE, Encoding.DOUBLE, 1.0, 0.0, DoublePoint(1)),
    ],
)
def test_a_value_becomes_the_element_its_point_asks_for(
    kind: PointKind, encoding: Encoding, per_unit: float, value: float, element: asdu.Element
) -> None:
    assert mapping.element(point(kind, encoding, per_unit), value, Quality.GOOD) == element


def test_the_setpoint_mirror_is_what_was_received_whatever_its_unit() -> None:
    mirror = Point(PointAddress(1, 1), PointKind.MEASURED, Signal.SETPOINT_MIRROR, per_unit=1000.0, unit="kW")
    assert mapping.element(mirror, 20.5, Quality.GOOD) == ShortFloat(20.5)


KINDS = [(kind, encoding) for kind, encodings in ENCODINGS.items() if not kind.is_command for encoding in encodings]


@given(st.sampled_from(KINDS), st.floats(), st.integers(0, 255), st.sampled_from([1.0, 1000.0, 0.001]))
def test_every_value_can_be_encoded(
    kind: tuple[PointKind, Encoding], value: float, quality: int, per_unit: float
) -> None:
    octets = asdu.encode_element(mapping.element(point(*kind, per_unit), value, Quality(quality & 0xF1)))
    assert len(octets) == asdu.LAYOUTS[mapping.UNTAGGED[kind[1]]].size
