"""Sharing out over time: demand, rotation, ramp, leases, and the ladder that refusals climb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Effect,
    JournalLost,
    LimitAnswered,
    MeterSampled,
    SessionChanged,
    SetFloor,
    SetLimit,
    Started,
    WishChanged,
)
from bridge.core.plan import Offline, Way
from bridge.core.points import Signal
from bridge.core.site import last_orders
from tests.core.bench import Bench, charger_plan, of, site_plan

Make = Callable[..., Bench]
A, B = "S4-0000", "S4-0001"


def grants(site: Bench) -> dict[str, int | None]:
    return {serial: charger.grant_w for serial, charger in site.site.chargers.items()}


def run(site: Bench, seconds: float) -> list[Effect]:
    """Let time pass while every order is accepted."""
    effects: list[Effect] = []
    for _ in range(round(seconds)):
        told = site.wait(1)
        while orders := [effect for effect in told if isinstance(effect, SetLimit | SetFloor)]:
            effects += told
            told = site.tell(*(LimitAnswered(order.serial, order.order, Answer.ACCEPTED) for order in orders))
        effects += told
    return effects


def drawing(site: Bench, serial: str, power_w: int, samples: int = 3) -> None:
    for _ in range(samples):
        site.answer(site.tell(MeterSampled(serial, site.utc_ms, power_w=power_w)))


def test_an_idle_charger_lends_what_it_does_not_need_to_one_that_charges(bench: Make) -> None:
    site = bench(2, hold_ms=None, capacity_w=40_000, at_start_w=40_000)
    site.connect(A, B)
    site.answer(site.tell(SessionChanged(A, active=True)))
    run(site, 20)
    assert grants(site) == {A: 34_000, B: 6_000}


def test_a_vehicle_that_arrives_gets_its_share_back(bench: Make) -> None:
    site = bench(2, hold_ms=None, capacity_w=40_000, at_start_w=40_000)
    site.connect(A, B)
    site.answer(site.tell(SessionChanged(A, active=True)))
    run(site, 20)
    site.answer(site.tell(SessionChanged(B, active=True)))
    run(site, 20)
    assert grants(site) == {A: 20_000, B: 20_000}


def test_a_charger_that_draws_less_than_granted_keeps_some_headroom_and_the_other_gets_the_rest(bench: Make) -> None:
    site = bench(2, hold_ms=None, capacity_w=40_000, at_start_w=40_000)
    site.connect(A, B)
    for serial in (A, B):
        site.answer(site.tell(SessionChanged(serial, active=True)))
    run(site, 20)
    drawing(site, A, 8_000)
    drawing(site, B, 20_000)
    run(site, 20)
    assert grants(site) == {A: 9_000, B: 31_000}


def test_a_vehicle_that_has_not_followed_its_grant_yet_is_not_taken_for_satisfied(bench: Make) -> None:
    site = bench(2, hold_ms=None, capacity_w=40_000, at_start_w=40_000)
    site.connect(A, B)
    for serial in (A, B):
        site.answer(site.tell(SessionChanged(serial, active=True)))
    run(site, 20)
    drawing(site, A, 8_000, samples=2)
    run(site, 20)
    assert grants(site) == {A: 20_000, B: 20_000}


def test_where_not_all_minimums_fit_the_pause_moves_on_with_the_slots_of_the_wall_clock(bench: Make) -> None:
    site = bench(3, hold_ms=None, capacity_w=14_000, at_start_w=14_000, rotate_ms=900_000)
    site.connect(A, B, "S4-0002")
    run(site, 10)
    paused = set()
    for _ in range(3):
        paused |= {serial for serial, grant_w in grants(site).items() if grant_w == 0}
        run(site, 900)
    assert paused == {A, B, "S4-0002"}


def test_within_one_slot_nobody_is_paused_for_another(bench: Make) -> None:
    site = bench(3, hold_ms=None, capacity_w=14_000, at_start_w=14_000, rotate_ms=900_000)
    site.utc_ms -= site.utc_ms % 900_000
    site.connect(A, B, "S4-0002")
    run(site, 10)
    before = grants(site)
    run(site, 600)
    assert grants(site) == before


def test_a_ramp_lets_what_is_shared_out_rise_slowly_and_fall_at_once(bench: Make) -> None:
    site = bench(1, hold_ms=None, ramp_w_per_s=1_000)
    site.connect(A)
    site.link_up()
    run(site, 5)
    site.answer(site.setpoint(10_000.0))
    run(site, 5)
    assert grants(site)[A] == 10_000
    site.answer(site.setpoint(40_000.0))
    run(site, 10)
    assert 17_000 <= (grants(site)[A] or 0) <= 21_000
    run(site, 60)
    assert grants(site)[A] == 40_000
    (cut,) = of(SetLimit, site.setpoint(10_000.0))
    assert cut.limit_w == 10_000


def leased(**changes: Any) -> Bench:
    plan = charger_plan(0, minimum_w=4_140, maximum_w=22_000, lease_ms=120_000, floor_w=4_140, **changes)
    return Bench(site_plan(plan, at_start_w=20_000, hold_ms=None))


def test_the_floor_is_found_installed_before_anything_is_granted() -> None:
    site = leased()
    (floor,) = of(SetFloor, site.tell(ChargerConnected(A)))
    assert floor.limit_w == 4_140
    assert of(SetLimit, site.effects) == []
    (grant,) = of(SetLimit, site.tell(LimitAnswered(A, floor.order, Answer.ACCEPTED)))
    assert (grant.limit_w, grant.valid_ms) == (20_000, 120_000)


def test_a_lease_is_renewed_while_we_live_and_nothing_moves() -> None:
    site = leased()
    site.tell(ChargerConnected(A))
    run(site, 5)
    site.answer([])
    effects = run_from_start(site, 600)
    renewals = of(SetLimit, effects)
    assert 10 <= len(renewals) <= 20
    assert {order.limit_w for order in renewals} == {20_000}
    assert site.site.ledger.total_w == 20_000


def run_from_start(site: Bench, seconds: float) -> list[Effect]:
    """Accept what is still open, then let time pass."""
    open_orders = [charger.in_flight for charger in site.site.chargers.values() if charger.in_flight]
    site.answer(site.tell(*(LimitAnswered(A, order.number, Answer.ACCEPTED) for order in open_orders)))
    return run(site, seconds)


def test_an_unreachable_leased_charger_ends_in_its_floor_after_the_lease_and_the_guard() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    site.tell(ChargerDisconnected(A))
    assert site.site.ledger.total_w == 20_000
    site.wait(100)
    assert site.site.ledger.total_w == 20_000
    site.wait(40)
    assert site.site.ledger.total_w == 4_140


def test_a_grant_below_the_floor_counts_at_the_floor_once_its_lease_may_have_ended() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    site.link_up()
    site.tell(LimitAnswered(A, 0, Answer.ACCEPTED))
    site.answer(site.setpoint(6_000.0))
    run(site, 5)
    assert site.site.ledger.total_w == 6_000
    site.tell(ChargerDisconnected(A))
    site.wait(150)
    assert site.site.ledger.total_w == 4_140


def test_a_reboot_unproves_the_floor_too() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    effects = site.tell(ChargerBooted(A, "m", "f"))
    assert site.site.ledger.total_w == 22_000
    assert len(of(SetFloor, effects)) == 1


def test_a_restart_counts_a_lease_on_where_it_was() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    site.now_ms += 60_000
    site.utc_ms += 60_000
    site.tell(Started(site.boot, site.plan))
    assert site.site.ledger.total_w == 20_000
    site.wait(80)
    assert site.site.ledger.total_w == 4_140


def test_a_last_order_that_nobody_records_grants_no_lease_above_the_floor() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    assert site.site.chargers[A].grant_w == 20_000
    (order,) = last_orders(site.site)
    assert order.limit_w == 4_140


@pytest.mark.parametrize("step_ms", [-7_200_000, 7_200_000])
def test_after_a_step_of_our_wall_clock_a_lease_ends_only_once_the_chargers_clock_was_heard(step_ms: int) -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    site.utc_ms += step_ms
    site.tell(ChargerDisconnected(A))
    site.wait(150)
    assert site.site.ledger.total_w == 20_000, "its clock may have been set to what ours said since"
    site.tell(ChargerConnected(A))
    site.tell(MeterSampled(A, site.utc_ms - 2_000, power_w=4_000))
    run_from_start(site, 10)
    site.tell(ChargerDisconnected(A))
    site.wait(150)
    assert site.site.ledger.total_w == 4_140


def test_a_charger_whose_clock_runs_ahead_may_be_in_its_floor_already() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    site.link_up()
    site.answer(site.setpoint(6_000.0))
    site.answer(site.tell(WishChanged(A, 0)))
    run(site, 5)
    assert site.site.ledger.total_w == 0
    site.tell(MeterSampled(A, site.utc_ms + 60_000, power_w=0))
    assert site.site.ledger.total_w == 4_140


def test_refusals_climb_the_ladder_of_the_plan_and_end_in_an_alarm_never_in_an_assumption() -> None:
    site = Bench(site_plan(charger_plan(0, ladder=tuple(Way)), at_start_w=20_000, hold_ms=None))
    told: list[Effect] = list(site.tell(ChargerConnected(A)))
    ways = []
    for _ in range(7):
        (order,) = of(SetLimit, told)
        ways.append(order.way)
        told = list(site.tell(LimitAnswered(A, order.order, Answer.REFUSED)))
        while not of(SetLimit, told):
            told = list(site.wait(1))
    assert ways[:5] == list(Way)
    assert ways[5:] == [Way.STOP, Way.STOP]
    assert ("limit_refused", A) in site.site.alarms
    assert site.site.ledger.total_w == 50_000


def test_a_charger_paused_by_the_ladder_is_tried_by_its_first_way_again_after_a_while() -> None:
    site = Bench(site_plan(charger_plan(0, ladder=(Way.LIMIT, Way.PAUSE)), at_start_w=20_000, hold_ms=None))
    (order,) = of(SetLimit, site.tell(ChargerConnected(A)))
    told = site.tell(LimitAnswered(A, order.order, Answer.REFUSED)) + site.wait(3)
    (pause,) = of(SetLimit, told)
    assert (pause.way, pause.limit_w) == (Way.PAUSE, 0)
    site.answer([pause])
    site.wait(3)
    assert site.site.ledger.total_w == 0
    (again,) = of(SetLimit, site.wait(600))
    assert (again.way, again.limit_w) == (Way.LIMIT, 20_000)


def test_the_number_counted_at_worst_and_the_time_to_reach_are_points() -> None:
    plan = site_plan(charger_plan(0), charger_plan(1))
    site = Bench(plan)
    assert len(site.site.at_worst) == 2
    site.connect(A, B)
    assert len(site.site.at_worst) == 0
    assert Signal.CHARGERS_AT_WORST.value == "chargers_at_worst"


@pytest.mark.parametrize("slot", range(3))
def test_where_not_all_minimums_fit_those_who_charge_run_before_those_who_are_idle(slot: int) -> None:
    site = Bench(site_plan(*map(charger_plan, range(3)), capacity_w=14_000, at_start_w=14_000, hold_ms=None))
    site.utc_ms += (slot + 3) * 900_000 - site.utc_ms % 2_700_000
    site.connect(A, B, "S4-0002")
    run(site, 10)
    site.answer(site.tell(SessionChanged(B, active=True), SessionChanged("S4-0002", active=True)))
    run(site, 30)
    assert {serial for serial, grant_w in grants(site).items() if grant_w == 0} == {A}


@pytest.mark.parametrize(("at_start_w", "told_w"), [(6_000, 6_000), (5_999, 0)])
def test_the_way_back_of_a_unit_that_refused_is_its_minimum_where_the_limit_allows_it(
    bench: Make, at_start_w: int, told_w: int
) -> None:
    site = bench(1, at_start_w=at_start_w, hold_ms=None)
    effects = site.answer(site.tell(ChargerConnected(A)), Answer.REFUSED)
    while not (orders := of(SetLimit, effects)):
        effects = site.wait(1)
    assert [order.limit_w for order in orders] == [told_w]


def test_last_orders_share_the_fallback_equally_among_those_who_are_there_and_raise_nobody(bench: Make) -> None:
    site = bench(4, hold_ms=None, capacity_w=200_000, at_start_w=200_000, fallback_w=30_000)
    site.connect(A, B, "S4-0002")
    site.answer(site.tell(WishChanged(B, 7_000)))
    orders = last_orders(site.site)
    assert {order.serial: order.limit_w for order in orders} == {A: 10_000, B: 7_000, "S4-0002": 10_000}
    numbers = {order.order for order in orders}
    assert len(numbers) == 3
    assert max(numbers) < 0 < min(order.order for order in of(SetLimit, site.effects)), "no answer settles them"


@pytest.mark.parametrize(("fallback_w", "limit_w"), [(6_000, 6_000), (5_999, 0), (100_000, 20_000)])
def test_a_last_order_is_a_pause_below_the_minimum_and_never_above_the_limit(
    bench: Make, fallback_w: int, limit_w: int
) -> None:
    site = bench(1, hold_ms=None, at_start_w=20_000, fallback_w=fallback_w)
    site.tell(ChargerConnected(A))
    assert [order.limit_w for order in last_orders(site.site)] == [limit_w]


def test_nobody_there_is_told_nothing_at_the_last(bench: Make) -> None:
    assert last_orders(bench(1).site) == []


def test_without_a_journal_a_unit_that_was_never_told_anything_is_still_cut_and_its_floor_still_sought(
    bench: Make,
) -> None:
    site = bench(1, hold_ms=None)
    site.tell(JournalLost())
    assert [order.limit_w for order in of(SetLimit, site.tell(ChargerConnected(A)))] == [10_000]
    site = leased()
    site.tell(JournalLost())
    assert len(of(SetFloor, site.tell(ChargerConnected(A)))) == 1


def test_every_order_has_a_number_of_its_own(bench: Make) -> None:
    site = bench(2, hold_ms=None)
    site.connect(A, B)
    site.link_up()
    site.answer(site.setpoint(20_000.0))
    numbers = [order.order for order in of(SetLimit, site.effects)]
    assert len(numbers) == len(set(numbers)) >= 4


def test_a_ramp_rises_by_no_more_than_its_watts_per_second(bench: Make) -> None:
    site = bench(1, hold_ms=None, ramp_w_per_s=1_000)
    site.connect(A)
    site.link_up()
    run(site, 5)
    site.answer(site.setpoint(10_000.0))
    run(site, 5)
    site.answer(site.setpoint(20_000.0))
    found = []
    for _ in range(10):
        run(site, 1)
        found.append(grants(site)[A])
    assert found == list(range(11_000, 21_000, 1_000))


def test_without_a_journal_the_floor_of_a_unit_that_rebooted_is_sought_again() -> None:
    site = leased()
    site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"))
    run_from_start(site, 10)
    site.answer(site.tell(JournalLost()))
    assert len(of(SetFloor, site.tell(ChargerBooted(A, "m", "f")))) == 1


def test_the_others_pay_for_one_silent_unit_though_another_keeps_within_its_share() -> None:
    units = [charger_plan(0, offline=Offline.NAMEPLATE), *map(charger_plan, (1, 2))]
    site = Bench(site_plan(*units, capacity_w=60_000, at_start_w=60_000, hold_ms=None))
    site.connect(A, B, "S4-0002")
    assert grants(site) == {A: 20_000, B: 20_000, "S4-0002": 20_000}
    told = site.tell(ChargerBooted(A, "m", "f"), ChargerBooted(B, "m", "f"))
    effects = site.answer(told, Answer.NOT_SENT)
    assert [(order.serial, order.limit_w) for order in of(SetLimit, effects)] == [("S4-0002", 0)]
