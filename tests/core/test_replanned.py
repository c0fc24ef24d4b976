"""Another plan while the site runs: what changes holds at once, what is proven stays proven, nothing is exceeded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.messages import (
    Answer,
    ChargerConnected,
    ChargerDisconnected,
    JournalLost,
    LimitAnswered,
    LinkChanged,
    MeterSampled,
    Replanned,
    SetFloor,
    SetLimit,
    WishChanged,
)
from bridge.core.points import Quality, Signal
from tests.core.bench import Bench, charger_plan, of, points, site_plan

SERIALS = ("S4-0000", "S4-0001")


@pytest.fixture
def bench() -> Bench:
    bench = Bench(site_plan(charger_plan(0), charger_plan(1)))
    bench.link_up()
    bench.connect(*SERIALS)
    return bench


def replan(bench: Bench, **changes: Any) -> None:
    bench.plan = replace(bench.plan, **changes)
    effects = bench.tell(Replanned(bench.plan))
    while of(SetLimit, effects):
        effects = bench.answer(effects)
        effects += bench.wait(3)


def with_charger(bench: Bench, **changes: Any) -> dict[str, Any]:
    first, *others = bench.plan.chargers
    return {"chargers": (replace(first, **changes), *others)}


def test_a_lower_capacity_holds_at_once_and_is_proven_like_any_limit(bench: Bench) -> None:
    replan(bench, capacity_w=40_000)
    assert (bench.site.limit.power_w, bench.site.limit.source.value) == (40_000, "capacity")
    assert bench.site.ledger.total_w <= 40_000


def test_a_plan_that_changes_nothing_of_a_charger_orders_nothing_of_it(bench: Bench) -> None:
    before = bench.site.orders
    replan(bench, hold_ms=60_000)
    assert bench.site.orders == before
    assert all(charger.proven for charger in bench.site.chargers.values())


def test_another_hold_counts_from_when_the_link_was_lost(bench: Bench) -> None:
    bench.setpoint(20_000)
    bench.tell(LinkChanged(0))
    bench.wait(50)
    replan(bench, hold_ms=60_000, fallback_w=9_000)
    assert bench.site.limit.power_w == 20_000
    bench.wait(11)
    assert bench.site.limit.power_w == 9_000


def test_a_charger_taken_out_of_service_leaves_the_sum_the_power_and_the_alarms(bench: Bench) -> None:
    for serial in SERIALS:
        bench.tell(MeterSampled(serial, bench.utc_ms, 10_000))
    bench.tell(LimitAnswered("S4-0000", 10**6, Answer.REFUSED))
    replan(bench, **with_charger(bench, out_of_service=True))
    site = bench.site
    assert site.chargers["S4-0000"].worst_w == 0
    assert site.power.total_w == 10_000
    assert not site.alarms
    assert bench.point(Signal.SITE_POWER_W).quality == Quality.GOOD
    replan(bench, **with_charger(bench, out_of_service=False))
    assert ("charger_offline", "S4-0000") in site.alarms
    assert site.chargers["S4-0000"].worst_w > 0


def test_another_floor_must_be_found_installed_before_it_counts() -> None:
    bench = Bench(site_plan(charger_plan(0, lease_ms=60_000, floor_w=6_000)))
    bench.link_up()
    effects = bench.connect("S4-0000")
    floors = of(SetFloor, bench.effects)
    effects = bench.tell(*(LimitAnswered(floor.serial, floor.order, Answer.ACCEPTED) for floor in floors))
    bench.answer(effects)
    assert bench.site.chargers["S4-0000"].floored
    bench.plan = replace(bench.plan, **with_charger(bench, floor_w=0))
    effects = bench.tell(Replanned(bench.plan))
    assert [floor.limit_w for floor in of(SetFloor, effects)] == [0]
    assert bench.site.chargers["S4-0000"].worst_w == 50_000
    effects = bench.tell(LimitAnswered("S4-0000", of(SetFloor, effects)[0].order, Answer.ACCEPTED))
    bench.answer(effects)
    bench.wait(3)
    assert bench.site.chargers["S4-0000"].proven


@pytest.mark.parametrize("lease_ms", [None, 120_000])
def test_another_lease_unproves_what_was_granted_with_the_old_one(lease_ms: int | None) -> None:
    bench = Bench(site_plan(charger_plan(0, lease_ms=None if lease_ms else 60_000, floor_w=6_000)))
    bench.link_up()
    bench.connect("S4-0000")
    floors = of(SetFloor, bench.effects)
    bench.answer(bench.tell(*(LimitAnswered(floor.serial, floor.order, Answer.ACCEPTED) for floor in floors)))
    bench.plan = replace(bench.plan, **with_charger(bench, lease_ms=lease_ms))
    effects = bench.tell(Replanned(bench.plan))
    assert bench.site.chargers["S4-0000"].worst_w == 50_000
    assert len(of(SetLimit, effects) + of(SetFloor, effects)) == 1, "and it is told anew"


def test_a_higher_priority_is_fed_first(bench: Bench) -> None:
    bench.setpoint(8_000)
    bench.answer(bench.effects)
    bench.wait(5)
    replan(bench, **with_charger(bench, priority=5))
    bench.wait(10)
    assert bench.site.chargers["S4-0000"].target_w >= 6_000
    assert bench.site.chargers["S4-0001"].target_w < 6_000


def test_nothing_rises_by_a_plan_that_cannot_be_journalled(bench: Bench) -> None:
    bench.setpoint(20_000)
    bench.tell(JournalLost())
    before = bench.site.limit
    bench.tell(Replanned(replace(bench.plan, fallback_w=90_000, capacity_w=200_000)))
    assert bench.site.limit == before
    assert bench.site.plan.fallback_w == 10_000


def test_a_plan_for_other_chargers_or_points_is_a_broken_promise(bench: Bench) -> None:
    with pytest.raises(AssertionError, match="other chargers"):
        bench.tell(Replanned(site_plan(charger_plan(0))))
    with pytest.raises(AssertionError, match="other points"):
        bench.tell(Replanned(replace(bench.plan, points=points(1))))


def test_a_liar_without_a_connection_leaves_the_alarms_and_the_points_with_its_service(bench: Bench) -> None:
    bench.tell(MeterSampled(SERIALS[0], bench.utc_ms, power_w=5_000), MeterSampled(SERIALS[1], bench.utc_ms, power_w=7))
    bench.tell(*[MeterSampled(SERIALS[0], bench.utc_ms, power_w=52_000)] * 2)
    bench.tell(ChargerDisconnected(SERIALS[0]))
    assert {alarm for alarm, _ in bench.site.alarms} == {"charger_offline", "limit_disobeyed"}
    bench.tell(Replanned(replace(bench.plan, **with_charger(bench, out_of_service=True))))
    assert not bench.site.alarms
    power = bench.point(Signal.SITE_POWER_W)
    assert (power.value, power.quality) == (7, Quality.GOOD)
    bench.tell(Replanned(replace(bench.plan, **with_charger(bench, out_of_service=False))))
    assert bench.point(Signal.SITE_POWER_W).quality == Quality.NOT_TOPICAL, "it was not heard since"


def test_a_unit_taken_out_of_service_is_shown_as_gone(bench: Bench) -> None:
    assert bench.point(Signal.CHARGER_CONNECTED, 0).value
    bench.tell(Replanned(replace(bench.plan, **with_charger(bench, out_of_service=True))))
    assert not bench.point(Signal.CHARGER_CONNECTED, 0).value


def test_a_lease_that_is_planned_no_more_may_still_end_in_its_floor() -> None:
    bench = Bench(site_plan(charger_plan(0, lease_ms=120_000, floor_w=3_000), at_start_w=50_000, hold_ms=None))
    effects = bench.tell(ChargerConnected(SERIALS[0]), WishChanged(SERIALS[0], 0))
    for _ in range(3):
        orders = [effect for effect in effects if isinstance(effect, SetFloor | SetLimit)]
        effects = bench.tell(*(LimitAnswered(SERIALS[0], order.order, Answer.ACCEPTED) for order in orders))
        effects += bench.wait(3)
    bench.tell(ChargerDisconnected(SERIALS[0]))
    bench.tell(Replanned(replace(bench.plan, **with_charger(bench, lease_ms=None))))
    assert bench.site.ledger.total_w == 50_000
