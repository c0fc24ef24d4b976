"""One charger in the corners that everyday events reach rarely: what counts, what is asked of it again, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.charger import Charger, Measurand
from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    LimitAnswered,
    MeterSampled,
    SetFloor,
    SetLimit,
    WishChanged,
)
from bridge.core.plan import ChargerPlan, Offline, Way
from bridge.core.quantities import Now
from bridge.core.status import describe
from tests.core.bench import UTC_MS, Bench, charger_plan, of, site_plan

Make = Callable[..., Bench]
A, B = "S4-0000", "S4-0001"


class Unit:
    """One charger on its own, connected at 0 ms; every order is accepted when it is given."""

    def __init__(self, **changes: Any) -> None:
        self.plan: ChargerPlan = charger_plan(0, **changes)
        self.charger = Charger(A, connected=True, clock_known=True)
        self.orders = 0

    def accepts(self, limit_w: int, now_ms: int) -> None:
        self.answers(limit_w, Answer.ACCEPTED, now_ms)

    def answers(self, limit_w: int, answer: Answer, now_ms: int) -> None:
        self.orders += 1
        self.charger.send(self.orders, limit_w, now_ms, self.plan)
        self.charger.answered(self.orders, answer, now_ms, self.plan)

    def counts_w(self, now_ms: int) -> int:
        self.charger.look(now_ms, self.plan)
        return self.charger.worst_case_w(self.plan)

    def draws(self, power_w: int, now_ms: int, **changes: Any) -> list[Measurand]:
        return self.charger.sampled(MeterSampled(A, UTC_MS, power_w=power_w, **changes), Now(now_ms, UTC_MS), self.plan)


def test_of_several_cuts_within_one_reaction_time_each_old_limit_counts_until_its_own_has_passed() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(30_000, 0)
    unit.accepts(20_000, 10_000)
    unit.accepts(10_000, 11_000)
    assert [unit.counts_w(at_ms) for at_ms in (11_999, 12_000, 12_999, 13_000)] == [30_000, 20_000, 20_000, 10_000]


def test_a_refusal_counts_at_the_hardware_maximum_even_of_a_make_that_keeps_its_limit() -> None:
    unit = Unit(offline=Offline.KEEPS_LIMIT)
    unit.accepts(20_000, 0)
    unit.answers(10_000, Answer.REFUSED, 10_000)
    assert unit.counts_w(20_000) == 50_000


def test_a_floor_counts_only_where_a_lease_can_end_in_it() -> None:
    unit = Unit(floor_w=6_000)
    unit.charger.doubt_clock()
    unit.accepts(0, 0)
    assert unit.counts_w(10_000) == 0


def test_the_operator_sees_a_unit_that_refused_and_one_that_lies_among_those_counted_at_worst(bench: Make) -> None:
    site = bench(2, at_start_w=40_000)
    site.connect(A, B)
    orders = of(SetLimit, site.tell(*[MeterSampled(A, site.utc_ms, power_w=45_000)] * 2))
    said = {A: Answer.ACCEPTED, B: Answer.REFUSED}
    site.tell(*(LimitAnswered(order.serial, order.order, said[order.serial]) for order in orders))
    burdens = {each["serial"]: each["why"] for each in describe(site.site, site.now)["counted_at_worst"]}
    assert burdens == {A: "draws more than granted", B: "refused its limit"}


def test_the_others_pay_for_a_unit_as_soon_as_one_answer_is_missing_and_not_before() -> None:
    units = [charger_plan(index, offline=Offline.NAMEPLATE) for index in range(2)]
    site = Bench(site_plan(*units, capacity_w=60_000, at_start_w=60_000, hold_ms=None))
    site.connect(A, B)
    (awaited,) = of(SetLimit, site.tell(ChargerBooted(B, "m", "f")))
    effects = site.tell(LimitAnswered(B, awaited.order, Answer.UNANSWERED))
    assert [(order.serial, order.limit_w) for order in of(SetLimit, effects)] == [(A, 10_000)]


def test_the_others_pay_for_a_liar_what_it_was_last_seen_to_draw(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.answer(site.tell(*[MeterSampled(A, site.utc_ms, power_w=52_000)] * 2))
    assert site.site.chargers[B].grant_w == 48_000
    orders = of(SetLimit, site.tell(MeterSampled(A, site.utc_ms, power_w=55_000)))
    assert (B, 45_000) in [(order.serial, order.limit_w) for order in orders]


def test_an_order_that_was_never_answered_is_superseded_even_by_the_limit_that_held_before(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    site.connect(A)
    site.link_up()
    site.answer(site.setpoint(40_000.0), Answer.UNANSWERED)
    effects = site.setpoint(20_000.0)
    assert [order.limit_w for order in of(SetLimit, effects)] == [20_000]
    site.answer(effects)
    site.wait(3)
    assert site.site.ledger.total_w == 20_000


def test_what_was_granted_by_a_way_of_last_resort_is_granted_by_the_first_way_again_after_a_while() -> None:
    site = Bench(site_plan(charger_plan(0, ladder=(Way.LIMIT, Way.OTHER_UNIT)), at_start_w=20_000, hold_ms=None))
    effects = site.answer(site.tell(ChargerConnected(A)), Answer.REFUSED) + site.wait(3)
    while of(SetLimit, effects):
        effects = site.answer(effects) + site.wait(3)
    assert site.site.ledger.total_w == 20_000
    (again,) = of(SetLimit, site.wait(600))
    assert (again.way, again.limit_w) == (Way.LIMIT, 20_000)


def test_a_unit_that_reads_back_exactly_what_it_was_told_has_accepted_it(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    (order,) = of(SetLimit, site.tell(ChargerConnected(A)))
    site.tell(LimitAnswered(A, order.order, Answer.ACCEPTED, read_back_w=20_000))
    site.wait(3)
    assert site.site.ledger.total_w == 20_000


def test_an_order_that_never_left_counts_for_nothing() -> None:
    unit = Unit()
    unit.accepts(10_000, 0)
    unit.answers(30_000, Answer.NOT_SENT, 10_000)
    assert unit.counts_w(10_000) == 10_000


def test_an_order_for_the_floor_that_was_not_answered_is_no_grant() -> None:
    unit = Unit(lease_ms=120_000, floor_w=3_000)
    unit.accepts(20_000, 0)
    unit.accepts(10_000, 1_000)
    unit.charger.booted()
    unit.answers(20_000, Answer.UNANSWERED, 20_000)
    unit.accepts(20_000, 30_000)
    assert [unit.counts_w(at_ms) for at_ms in (31_999, 32_000)] == [50_000, 10_000]


def test_a_late_answer_to_one_order_proves_nothing_of_the_next(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    (late,) = of(SetLimit, site.tell(ChargerConnected(A)))
    (_next,) = of(SetLimit, site.wait(12.5))
    site.tell(LimitAnswered(A, late.order, Answer.ACCEPTED))
    site.wait(3)
    assert site.site.ledger.total_w == 50_000


def test_an_order_that_is_refused_again_and_again_is_tried_after_ever_longer_waits_but_within_a_minute() -> None:
    site = Bench(site_plan(charger_plan(0), at_start_w=20_000, hold_ms=None))
    effects = list(site.answer(site.tell(ChargerConnected(A)), Answer.REFUSED))
    effects = site.answer(effects, Answer.REFUSED)  # the smaller order that would be its way back
    waits_s = []
    for _ in range(7):
        told_ms = site.now_ms
        while not of(SetLimit, effects):
            effects = site.wait(1)
        waits_s.append((site.now_ms - told_ms) // 1000)
        effects = site.answer(effects, Answer.REFUSED)
    assert waits_s == [4, 8, 16, 32, 60, 60, 60]


def test_after_an_answer_the_waits_begin_anew() -> None:
    unit = Unit()
    for at_ms in (0, 10_000, 20_000):
        unit.answers(20_000, Answer.NOT_SENT, at_ms)
    unit.accepts(20_000, 30_000)
    unit.counts_w(35_000)
    unit.answers(10_000, Answer.NOT_SENT, 40_000)
    unit.counts_w(41_999)
    assert unit.charger.due_ms(unit.plan) == 42_000


def test_of_several_orders_without_an_answer_the_highest_counts() -> None:
    unit = Unit()
    unit.accepts(10_000, 0)
    unit.answers(40_000, Answer.UNANSWERED, 1_000)
    unit.answers(30_000, Answer.UNANSWERED, 2_000)
    assert unit.counts_w(60_000) == 40_000


def test_a_pause_without_an_answer_counts_for_nothing_more() -> None:
    unit = Unit()
    unit.accepts(0, 0)
    unit.answers(0, Answer.UNANSWERED, 1_000)
    assert unit.counts_w(60_000) == 0


def test_leases_without_an_answer_count_until_the_last_of_them_has_ended() -> None:
    unit = Unit(lease_ms=120_000, floor_w=3_000, guard_ms=15_000)
    unit.accepts(5_000, 0)
    unit.accepts(5_000, 0)
    unit.answers(20_000, Answer.UNANSWERED, 1_000)
    unit.answers(15_000, Answer.UNANSWERED, 50_000)
    assert [unit.counts_w(at_ms) for at_ms in (184_999, 185_000)] == [20_000, 3_000]


def test_who_refused_and_then_accepts_may_draw_anything_until_it_has_reacted() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(20_000, 0)
    unit.answers(10_000, Answer.REFUSED, 10_000)
    unit.accepts(10_000, 20_000)
    assert [unit.counts_w(at_ms) for at_ms in (21_999, 22_000)] == [50_000, 10_000]


def test_who_lied_and_then_accepts_may_draw_anything_until_it_has_reacted() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(20_000, 0)
    unit.counts_w(9_000)
    for at_ms in (10_000, 11_000):
        unit.draws(45_000, at_ms)
    unit.accepts(10_000, 20_000)
    for at_ms in (20_500, 21_000):
        unit.draws(5_000, at_ms)
    assert not unit.charger.disobeys
    assert [unit.counts_w(at_ms) for at_ms in (21_999, 22_000)] == [50_000, 10_000]


def test_however_often_a_limit_swings_within_one_reaction_time_no_more_is_remembered_of_it() -> None:
    unit = Unit(reaction_ms=60_000)
    for at_ms in range(0, 50_000, 1_000):
        unit.accepts(20_000, at_ms)
        unit.accepts(10_000, at_ms + 500)
    assert len(unit.charger.leaving) <= 2


def test_a_limit_that_is_only_renewed_leaves_nothing_to_react_to() -> None:
    unit = Unit(lease_ms=120_000)
    for at_ms in (0, 0, 30_000, 60_000):
        unit.accepts(10_000, at_ms)
        unit.counts_w(at_ms + 29_000)
    unit.accepts(10_000, 90_000)
    assert not unit.charger.leaving


def test_a_lease_that_was_accepted_ends_by_itself_and_not_with_one_before_that_had_no_answer() -> None:
    unit = Unit(lease_ms=120_000, floor_w=3_000, guard_ms=15_000)
    unit.accepts(5_000, 0)
    unit.answers(5_000, Answer.UNANSWERED, 1_000)
    unit.accepts(0, 60_000)
    assert [unit.counts_w(at_ms) for at_ms in (164_999, 165_000)] == [0, 3_000]


def test_a_lease_whose_end_is_not_known_may_have_ended_already() -> None:
    unit = Unit(lease_ms=120_000, floor_w=3_000)
    unit.accepts(5_000, 0)
    order = unit.charger.send(9, 0, 10_000, unit.plan)
    unit.charger.doubt_clock()
    unit.draws(0, 11_000)
    assert unit.charger.clock_known
    unit.charger.answered(order.number, Answer.ACCEPTED, 12_000, unit.plan)
    assert unit.counts_w(20_000) == 3_000


@pytest.mark.parametrize(("lease_ms", "renewed_ms"), [(120_000, 40_000), (60_000, 10_000)])
def test_a_lease_is_renewed_after_a_third_of_it_but_two_guards_before_its_end(lease_ms: int, renewed_ms: int) -> None:
    unit = Unit(lease_ms=lease_ms, guard_ms=25_000)
    unit.accepts(5_000, 0)
    unit.counts_w(0)
    due = set()
    for _ in range(3):
        unit.accepts(5_000, 0)
        due.add(unit.charger.renew_ms)
    assert all(at_ms is not None and renewed_ms - 1_000 < at_ms < renewed_ms for at_ms in due)
    assert len(due) == 3, "not all in the same moment"


def test_a_lost_connection_lengthens_no_reaction_of_a_make_that_keeps_its_limit() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(30_000, 0)
    unit.accepts(10_000, 10_000)
    unit.charger.lost_connection(11_000, unit.plan)
    assert [unit.counts_w(at_ms) for at_ms in (11_999, 12_000)] == [30_000, 10_000]


def test_a_connection_can_be_lost_only_once() -> None:
    unit = Unit(offline=Offline.STOPS, reaction_ms=2_000)
    unit.accepts(10_000, 0)
    unit.counts_w(5_000)
    for at_ms in (10_000, 11_000):
        unit.charger.lost_connection(at_ms, unit.plan)
    assert [unit.counts_w(at_ms) for at_ms in (11_999, 12_000)] == [10_000, 0]


def test_an_order_on_its_way_when_the_connection_is_lost_may_hold_and_the_next_waits_for_no_answer_to_it(
    bench: Make,
) -> None:
    site = bench(1, at_start_w=20_000)
    site.connect(A)
    site.link_up()
    site.setpoint(40_000.0)
    site.tell(ChargerDisconnected(A))
    assert site.site.ledger.total_w == 40_000
    assert [order.limit_w for order in of(SetLimit, site.tell(ChargerConnected(A)))] == [40_000]


def test_a_new_connection_is_told_at_once_by_the_first_way_whatever_was_refused_before() -> None:
    site = Bench(site_plan(charger_plan(0, ladder=(Way.LIMIT, Way.OTHER_UNIT)), at_start_w=20_000, hold_ms=None))
    site.answer(site.answer(site.tell(ChargerConnected(A)), Answer.REFUSED), Answer.REFUSED)
    site.wait(1)
    assert of(SetLimit, site.tell(ChargerDisconnected(A))) == []
    (order,) = of(SetLimit, site.tell(ChargerConnected(A)))
    assert (order.way, order.limit_w) == (Way.LIMIT, 6_000)
    refused = site.answer([order], Answer.REFUSED)
    assert of(SetLimit, [*refused, *site.wait(1.9)]) == []
    assert of(SetLimit, site.wait(0.2)) != [], "the waits begin anew, too"


def test_a_sample_is_believed_up_to_a_fifth_above_the_hardware_maximum() -> None:
    unit = Unit()
    for power_w, believed in ((60_000, True), (60_001, False)):
        unit.draws(power_w, 0)
        assert unit.charger.readings[Measurand.POWER].valid is believed


def test_a_sample_that_its_meter_calls_invalid_is_not_believed() -> None:
    unit = Unit()
    unit.accepts(10_000, 0)
    for at_ms in (5_000, 6_000, 7_000):
        assert unit.draws(45_000, at_ms, valid=False) == [Measurand.POWER]
    assert not unit.charger.readings[Measurand.POWER].valid
    assert not unit.charger.disobeys


def test_a_sample_without_a_power_says_nothing_of_the_power() -> None:
    unit = Unit()
    sample = MeterSampled(A, UTC_MS, voltage_mv=230_000)
    assert unit.charger.sampled(sample, Now(0, UTC_MS), unit.plan) == [Measurand.VOLTAGE]
    assert unit.charger.readings[Measurand.VOLTAGE].valid
    assert unit.charger.samples_of_grant == 0


def liar(**changes: Any) -> Unit:
    """Granted 10 kW, it was seen to draw 45 kW twice."""
    unit = Unit(**changes)
    unit.accepts(10_000, 0)
    unit.counts_w(5_000)
    for at_ms in (6_000, 7_000):
        unit.draws(45_000, at_ms)
    assert unit.charger.disobeys
    return unit


@pytest.mark.parametrize(
    ("samples_w", "believed"),
    [
        ((10_200, 10_200), True),
        ((10_201, 10_200), False),
        ((10_200, 45_000, 10_200), False),
        ((10_200, 45_000), False),
        ((10_200, 45_000, 10_200, 10_200), True),
    ],
)
def test_a_liar_is_believed_after_two_samples_in_a_row_within_its_grant(
    samples_w: tuple[int, ...], believed: bool
) -> None:
    unit = liar()
    for place, power_w in enumerate(samples_w):
        unit.draws(power_w, 8_000 + 1_000 * place)
    assert unit.charger.disobeys is not believed


def test_what_a_liar_may_still_be_leaving_is_no_sign_of_obedience() -> None:
    unit = liar()
    unit.accepts(6_000, 8_000)
    unit.draws(30_000, 8_500)
    unit.draws(5_000, 9_000)
    assert unit.charger.disobeys


def test_a_liar_that_rebooted_proves_nothing_before_it_was_told_anew() -> None:
    unit = liar(offline=Offline.NAMEPLATE)
    unit.charger.booted()
    for at_ms in (8_000, 9_000, 10_000):
        unit.draws(5_000, at_ms)
    assert unit.charger.disobeys


def test_a_liar_that_is_believed_again_counts_at_its_hardware_maximum_at_worst_and_no_longer_at_what_it_drew() -> None:
    unit = liar(offline=Offline.NAMEPLATE)
    unit.draws(55_000, 8_000)
    assert unit.counts_w(8_000) == 55_000
    for at_ms in (9_000, 10_000):
        unit.draws(5_000, at_ms)
    unit.charger.lost_connection(11_000, unit.plan)
    assert unit.counts_w(20_000) == 50_000


def test_only_two_samples_in_a_row_above_what_may_be_in_force_are_disobedience() -> None:
    unit = Unit()
    unit.accepts(0, 0)
    unit.counts_w(5_000)
    for place, power_w in enumerate((201, 200, 201)):
        unit.draws(power_w, 6_000 + 1_000 * place)
        assert not unit.charger.disobeys
    unit.draws(201, 10_000)
    assert unit.charger.disobeys


def test_drawing_the_highest_limit_that_may_still_be_leaving_is_no_disobedience() -> None:
    unit = Unit(reaction_ms=60_000)
    unit.accepts(40_000, 0)
    unit.counts_w(60_000)
    unit.accepts(30_000, 100_000)
    unit.accepts(10_000, 101_000)
    for at_ms in (102_000, 103_000, 104_000):
        unit.draws(40_000, at_ms)
    assert not unit.charger.disobeys


def test_a_contradicted_cut_counts_at_its_old_limit_until_a_sample_shows_the_new_one() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(40_000, 0)
    unit.counts_w(5_000)
    unit.accepts(20_000, 10_000)
    for at_ms in (11_000, 13_000):
        unit.draws(38_000, at_ms)
        assert unit.counts_w(at_ms + 1_500) == 40_000
    unit.draws(20_200, 15_000)
    assert unit.counts_w(15_000) == 20_000


def test_a_contradicted_cut_counts_at_its_old_limit_while_any_newer_sample_contradicts_it() -> None:
    unit = Unit(reaction_ms=2_000, stale_ms=180_000)
    unit.accepts(40_000, 0)
    unit.counts_w(5_000)
    unit.accepts(20_000, 10_000)
    unit.draws(38_000, 11_000)
    assert unit.counts_w(12_000) == 40_000
    unit.draws(38_000, 150_000)
    assert unit.counts_w(200_000) == 40_000, "the first sample is stale, the second is not"


def leased(**changes: Any) -> Unit:
    """With its floor of 3 kW found installed and nothing granted above 0 W."""
    unit = Unit(**{"lease_ms": 120_000, "floor_w": 3_000, "guard_ms": 15_000} | changes)
    unit.accepts(0, 0)
    unit.accepts(0, 0)
    assert unit.counts_w(5_000) == 0
    return unit


def test_after_a_doubt_of_its_clock_the_floor_may_hold_until_its_clock_was_heard_and_a_grant_followed() -> None:
    unit = leased()
    unit.charger.doubt_clock()
    unit.accepts(0, 10_000)
    assert unit.counts_w(10_000) == 3_000, "its clock was not heard"
    unit.draws(0, 11_000)
    assert unit.counts_w(11_000) == 3_000, "it may have been set a moment ago"
    unit.accepts(0, 12_000)
    assert [unit.counts_w(at_ms) for at_ms in (13_999, 14_000)] == [3_000, 0]


def test_a_grant_from_before_a_doubt_of_its_clock_may_never_end() -> None:
    unit = leased()
    unit.accepts(20_000, 5_000)
    unit.charger.doubt_clock()
    unit.draws(0, 6_000)
    assert not unit.charger.settled(unit.plan), "it is told anew"
    assert unit.counts_w(600_000) == 20_000


@pytest.mark.parametrize(
    ("ahead_ms", "known"), [(-15_001, False), (-15_000, True), (0, True), (15_000, True), (15_001, False)]
)
def test_a_sample_tells_the_clock_of_its_charger_as_far_as_the_guard_reaches(ahead_ms: int, known: bool) -> None:
    unit = leased()
    unit.charger.doubt_clock()
    sample = MeterSampled(A, UTC_MS + ahead_ms, power_w=0)
    unit.charger.sampled(sample, Now(10_000, UTC_MS), unit.plan)
    assert unit.charger.clock_known is known


def test_a_clock_that_goes_wrong_is_noticed_and_one_that_goes_right_ends_no_lease() -> None:
    unit = leased()
    unit.draws(0, 10_000)
    assert unit.counts_w(10_000) == 0
    assert unit.charger.renew_ms is not None
    sample = MeterSampled(A, UTC_MS + 15_001, power_w=0)
    unit.charger.sampled(sample, Now(11_000, UTC_MS), unit.plan)
    assert unit.counts_w(11_000) == 3_000


@pytest.mark.parametrize(
    ("active", "power_w", "wanted_w"),
    [
        (False, None, 6_000),
        (False, 200, 6_000),
        (False, 201, 6_000),
        (False, 9_000, 10_000),
        (True, None, 50_000),
        (True, 200, 6_000),
        (True, 9_000, 10_000),
        (True, 20_000, 22_000),
        (True, 37_999, 41_798),
        (True, 38_000, 50_000),
    ],
)
def test_a_charger_wants_its_minimum_while_idle_some_headroom_while_charging_and_all_while_hungry(
    active: bool, power_w: int | None, wanted_w: int
) -> None:
    unit = Unit()
    unit.accepts(40_000, 0)
    unit.charger.active, unit.charger.demand_w = active, 30_000
    for at_ms in (10_000, 11_000, 12_000) if power_w is not None else ():
        unit.draws(power_w or 0, at_ms)
    assert unit.charger.wanted_w(unit.plan) == wanted_w


@pytest.mark.parametrize(("power_w", "wanted_w"), [(200, 6_000), (201, 50_000)])
def test_a_charger_that_draws_though_no_session_is_known_wants_all_it_can_take_until_its_demand_is_known(
    power_w: int, wanted_w: int
) -> None:
    unit = Unit()
    unit.accepts(40_000, 0)
    for at_ms in (10_000, 11_000, 12_000):
        unit.draws(power_w, at_ms)
    assert unit.charger.wanted_w(unit.plan) == wanted_w


@pytest.mark.parametrize(("believed", "silent_ms"), [(True, 180_000), (False, 0)])
def test_a_meter_that_is_silent_or_not_believed_says_nothing_of_the_demand(believed: bool, silent_ms: int) -> None:
    unit = Unit()
    unit.accepts(40_000, 0)
    unit.charger.demand_w = 30_000
    for at_ms in (10_000, 11_000, 12_000):
        unit.draws(9_000, at_ms, valid=believed)
    unit.counts_w(12_000 + silent_ms)
    for active, wanted_w in ((False, 6_000), (True, 50_000)):
        unit.charger.active = active
        assert unit.charger.wanted_w(unit.plan) == wanted_w


def test_a_charger_that_was_granted_nothing_yet_wants_all_it_can_take() -> None:
    unit = Unit()
    unit.charger.active, unit.charger.demand_w = True, 30_000
    unit.draws(9_000, 10_000)
    assert unit.charger.wanted_w(unit.plan) == 50_000


@pytest.mark.parametrize(
    ("power_w", "at_ms", "stale_ms", "valid", "held"),
    [
        (38_000, 11_000, 180_000, True, True),
        (38_000, 10_000, 180_000, True, True),
        (20_201, 11_000, 180_000, True, True),
        (20_200, 11_000, 180_000, True, False),
        (38_000, 9_999, 180_000, True, False),
        (38_000, 11_000, 180_000, False, False),
        (38_000, 11_000, 1_001, True, True),
        (38_000, 11_000, 1_000, True, False),
        (38_000, 10_500, 1_000, True, False),
    ],
)
def test_a_cut_is_contradicted_only_by_a_fresh_and_valid_sample_that_was_taken_since(
    power_w: int, at_ms: int, stale_ms: int, valid: bool, held: bool
) -> None:
    unit = Unit(reaction_ms=2_000, stale_ms=stale_ms)
    unit.accepts(40_000, 0)
    unit.counts_w(5_000)
    if at_ms < 10_000:
        unit.draws(power_w, at_ms, valid=valid)
    unit.accepts(20_000, 10_000)
    if at_ms >= 10_000:
        unit.draws(power_w, at_ms, valid=valid)
    assert unit.counts_w(12_000) == (40_000 if held else 20_000)


def test_a_meter_that_fell_silent_with_its_connection_contradicts_no_cut() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(40_000, 0)
    unit.counts_w(5_000)
    unit.accepts(20_000, 10_000)
    unit.draws(38_000, 11_000)
    unit.charger.lost_connection(11_500, unit.plan)
    assert unit.counts_w(12_000) == 20_000


def test_a_measurand_becomes_stale_once() -> None:
    unit = Unit()
    unit.draws(5_000, 0)
    assert unit.charger.look(179_999, unit.plan) == []
    assert unit.charger.look(180_000, unit.plan) == [Measurand.POWER]
    assert unit.charger.look(190_000, unit.plan) == []


def test_a_lease_ends_by_no_clock_that_goes_wrong() -> None:
    unit = leased()
    unit.accepts(20_000, 5_000)
    sample = MeterSampled(A, UTC_MS + 60_000, power_w=0)
    unit.charger.sampled(sample, Now(6_000, UTC_MS), unit.plan)
    assert unit.counts_w(600_000) == 20_000


def test_of_a_grant_and_a_later_order_without_an_answer_the_floor_counts_once_the_first_may_have_ended() -> None:
    unit = leased()
    unit.accepts(0, 5_000)
    unit.answers(0, Answer.UNANSWERED, 60_000)
    assert [unit.counts_w(at_ms) for at_ms in (109_999, 110_000)] == [0, 3_000]


def test_a_lease_that_ended_left_nothing_that_was_acknowledged() -> None:
    unit = leased()
    unit.accepts(20_000, 5_000)
    assert unit.counts_w(139_999) == 20_000
    assert unit.charger.proven
    assert unit.counts_w(140_000) == 3_000
    assert not unit.charger.proven


def test_time_wakes_for_the_renewal_of_a_lease_for_its_possible_end_and_for_its_certain_end() -> None:
    unit = leased()
    unit.accepts(0, 5_000)
    unit.answers(0, Answer.UNANSWERED, 6_000)
    woken = []
    while (due_ms := unit.charger.due_ms(unit.plan)) is not None:
        woken.append(due_ms)
        unit.charger.look(due_ms, unit.plan)
    retry_ms, renewal_ms, *ends_ms = woken
    assert (retry_ms, renewal_ms // 1_000) == (8_000, 44)
    assert ends_ms == [110_000, 140_000, 141_000]


@pytest.mark.parametrize("clock_known", [True, False])
def test_nobody_is_woken_for_the_end_of_a_lease_by_a_clock_that_is_not_known(clock_known: bool) -> None:
    unit = leased()
    unit.counts_w(100_000)
    unit.charger.clock_known = clock_known
    assert (unit.charger.due_ms(unit.plan) is not None) is clock_known


def test_after_a_reboot_of_the_machine_what_was_counted_goes_on_by_the_new_clock() -> None:
    unit = Unit(reaction_ms=2_000)
    unit.accepts(40_000, 1_000_000)
    unit.counts_w(1_005_000)
    unit.accepts(20_000, 1_010_000)
    unit.draws(5_000, 1_010_500)
    unit.charger.machine_rebooted(-1_000_000)
    assert [unit.counts_w(at_ms) for at_ms in (11_999, 12_000)] == [40_000, 20_000]
    assert [unit.charger.look(at_ms, unit.plan) for at_ms in (190_499, 190_500)] == [[], [Measurand.POWER]]


def test_after_a_reboot_of_the_machine_an_order_on_its_way_counts_until_its_lease_ends_by_the_new_clock() -> None:
    unit = leased()
    unit.charger.send(9, 20_000, 1_000_000, unit.plan)
    unit.charger.machine_rebooted(-990_000)
    unit.charger.lost_connection(10_000, unit.plan)
    assert [unit.counts_w(at_ms) for at_ms in (144_999, 145_000)] == [20_000, 3_000]


def test_after_a_reboot_of_the_machine_an_order_without_a_lease_on_its_way_still_counts() -> None:
    unit = Unit()
    unit.accepts(10_000, 1_000_000)
    unit.charger.send(9, 20_000, 1_010_000, unit.plan)
    unit.charger.machine_rebooted(-1_000_000)
    unit.charger.lost_connection(20_000, unit.plan)
    assert unit.counts_w(600_000) == 20_000


def test_a_unit_that_stops_without_its_connection_is_not_among_those_counted_at_worst_while_it_is_away() -> None:
    site = Bench(site_plan(charger_plan(0, offline=Offline.STOPS), charger_plan(1)))
    site.wait(3)
    assert [each["serial"] for each in describe(site.site, site.now)["counted_at_worst"]] == [B]


def test_the_others_leave_room_for_the_floor_of_a_unit_whose_clock_was_not_heard() -> None:
    units = [charger_plan(0, lease_ms=120_000, floor_w=12_000), charger_plan(1)]
    site = Bench(site_plan(*units, capacity_w=30_000, at_start_w=30_000, hold_ms=None))
    site.tell(WishChanged(A, 6_000))
    site.connect(B)
    effects = site.tell(ChargerConnected(A))
    while orders := [effect for effect in effects if isinstance(effect, SetFloor | SetLimit)]:
        effects = site.tell(*(LimitAnswered(each.serial, each.order, Answer.ACCEPTED) for each in orders))
        effects += site.wait(6)
    assert {serial: charger.grant_w for serial, charger in site.site.chargers.items()} == {A: 6_000, B: 18_000}


@pytest.mark.parametrize("refusals", [3, 4])
def test_a_ladder_that_is_planned_shorter_ends_with_its_own_last_rung(refusals: int) -> None:
    unit = Unit(ladder=tuple(Way))
    for place in range(refusals):
        unit.answers(20_000, Answer.REFUSED, 100_000 * place)
    shorter = replace(unit.plan, ladder=(Way.LIMIT, Way.OTHER_UNIT, Way.PAUSE))
    assert unit.charger.way(shorter) is Way.PAUSE
