"""Wire values and core values: a limit is never rounded up, a value that cannot be sent is never sent as good."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.points import PointKind, Quality
from bridge.iec104 import asdu, mapping
from bridge.iec104.asdu import CounterReading, ShortFloat, SinglePoint, TimeTag


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


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        (None, (None, True)),
        (TimeTag(5), (5, True)),
        (TimeTag(5, invalid=True), (5, False)),
        (TimeTag(5, summer=True), (5, False)),
    ],
)
def test_a_time_tag_is_valid_in_utc_only(tag: TimeTag | None, expected: tuple[int | None, bool]) -> None:
    assert mapping.time_tag(tag) == expected


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
    assert mapping.element(kind, value, quality) == element


@given(st.sampled_from([PointKind.MEASURED, PointKind.SINGLE, PointKind.TOTAL]), st.floats(), st.integers(0, 255))
def test_every_value_can_be_encoded(kind: PointKind, value: float, quality: int) -> None:
    octets = asdu.encode_element(mapping.element(kind, value, Quality(quality & 0xF1)))
    assert len(octets) == asdu.LAYOUTS[mapping.UNTAGGED[kind]].size
