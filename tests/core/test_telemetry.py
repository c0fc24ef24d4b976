"""What is shown of samples, in which unit, how good it is, and what is reported by itself."""

from __future__ import annotations

import pytest

from bridge.core.messages import MeterSampled
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.telemetry import Image, SitePower
from tests.core.bench import UTC_MS, Bench, charger_plan, points, site_plan

SERIAL = "S4-0000"
POINT = Point(PointAddress(1, 1), PointKind.MEASURED, Signal.SITE_POWER_W, deadband=10.0)


@pytest.mark.parametrize(
    ("signal", "value"),
    [(Signal.CHARGER_VOLTAGE_V, 230.1), (Signal.CHARGER_CURRENT_A, 10.4), (Signal.CHARGER_ENERGY_WH, 1_234_567)],
)
def test_voltage_current_and_energy_are_shown_in_their_units(signal: Signal, value: float) -> None:
    table = PointTable((*points(1).points, Point(PointAddress(1, 500), PointKind.MEASURED, signal, 0)))
    site = Bench(site_plan(charger_plan(0), points=table))
    site.tell(MeterSampled(SERIAL, UTC_MS, voltage_mv=230_100, current_ma=10_400, energy_wh=1_234_567))
    assert site.point(signal, 0).value == value
    assert site.point(Signal.SITE_POWER_W).quality == Quality.INVALID, "of its power nothing is known"


@pytest.mark.parametrize(("value", "quality", "reports"), [(9.0, 0, False), (10.0, 0, True), (0.0, 0x40, True)])
def test_a_change_is_reported_from_the_deadband_on_or_with_its_quality(
    value: float, quality: int, reports: bool
) -> None:
    image = Image()
    image.show(POINT, 0.0, Quality.GOOD, UTC_MS)
    (change,) = image.show(POINT, value, Quality(quality), UTC_MS)
    assert change.report is reports
    assert image.show(POINT, value, Quality(quality), UTC_MS) == [], "nothing changed"


def test_the_site_power_is_not_topical_while_a_newest_sample_is_not_believed_and_good_again_after() -> None:
    site = Bench(site_plan(charger_plan(0)))
    found = []
    for valid in (True, False, True):
        site.tell(MeterSampled(SERIAL, UTC_MS, power_w=5_000, valid=valid))
        found.append(site.point(Signal.SITE_POWER_W).quality)
    assert found == [Quality.GOOD, Quality.NOT_TOPICAL, Quality.GOOD]


def test_a_unit_that_was_never_heard_leaves_the_sum_as_it_is() -> None:
    power = SitePower(doubtful={SERIAL}, counted={"S4-0001": 7_000}, total_w=7_000)
    power.forget(SERIAL)
    assert (power.total_w, power.quality(1)) == (7_000, Quality.GOOD)
