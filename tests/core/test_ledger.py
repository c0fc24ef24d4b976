"""What each charger is counted at, and which orders may leave: the promise never to exceed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core.charger import Charger
from bridge.core.ledger import budget_w
from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    LimitAnswered,
    MeterSampled,
    SetLimit,
    Terminate,
    WishChanged,
)
from bridge.core.plan import Offline
from bridge.core.points import Quality, Signal
from tests.core.bench import Bench, charger_plan, of, site_plan

Make = Callable[..., Bench]
A, B = "S4-0000", "S4-0001"


def test_before_anybody_connects_every_charger_counts_at_its_hardware_maximum(bench: Make) -> None:
    site = bench(2)
    assert site.site.ledger.total_w == 100_000


def test_a_raise_waits_until_the_cut_that_makes_room_is_acknowledged_and_reacted_to(bench: Make) -> None:
    site = bench(2, capacity_w=60_000, at_start_w=60_000)
    (first,) = of(SetLimit, site.tell(ChargerConnected(A)))
    assert first.limit_w == 10_000, "the other may draw 50 kW: it was never told anything"
    site.answer([first])
    site.wait(3)
    (cut,) = of(SetLimit, site.tell(ChargerConnected(B)))
    assert (cut.serial, cut.limit_w) == (B, 30_000), "a cut leaves at once, the raise of the other does not"
    assert of(SetLimit, site.answer([cut])) == [], "acknowledged, but its reaction time has not passed"
    (raised,) = of(SetLimit, site.wait(2.1))
    assert (raised.serial, raised.limit_w) == (A, 30_000)


def test_cuts_leave_at_once_and_to_all_in_the_same_turn(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    orders = of(SetLimit, site.setpoint(20_000.0))
    assert [(order.serial, order.limit_w) for order in orders] == [(A, 10_000), (B, 10_000)]


def test_a_lowered_charger_counts_at_its_old_limit_until_it_has_acknowledged_and_reacted(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=50_000)
    site.connect(A)
    site.link_up()
    orders = site.setpoint(20_000.0)
    assert site.site.ledger.total_w == 50_000
    site.answer(orders)
    assert site.site.ledger.total_w == 50_000
    site.wait(1.9)
    assert site.site.ledger.total_w == 50_000
    site.wait(0.2)
    assert site.site.ledger.total_w == 20_000


def test_termination_comes_once_when_the_worst_case_is_within_the_limit_and_not_before(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    effects = site.setpoint(20_000.0)
    assert of(Terminate, effects) == []
    assert of(Terminate, site.answer(effects)) == []
    assert of(Terminate, site.wait(2.1)) == [Terminate(site.command)]
    assert of(Terminate, site.wait(3_600)) == []


def test_a_superseded_command_gets_no_termination(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    first = site.setpoint(20_000.0)
    second = site.setpoint(15_000.0)
    effects = site.answer(first) + site.answer(second) + site.wait(1)
    for _ in range(5):
        effects += site.answer(effects[-4:]) + site.wait(3)
    assert of(Terminate, effects) == [Terminate(2)]


def test_an_order_without_an_answer_may_be_in_force_and_counts_until_another_is_acknowledged(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=20_000)
    site.connect(A)
    site.link_up()
    (raise_,) = of(SetLimit, site.setpoint(40_000.0))
    site.answer([raise_], Answer.UNANSWERED)
    site.setpoint(10_000.0)
    assert site.site.ledger.total_w == 40_000


def test_an_answer_that_never_comes_is_given_up_and_the_order_is_sent_again(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=20_000)
    site.tell(ChargerConnected(A))
    repeated = of(SetLimit, site.wait(13))
    assert [order.limit_w for order in repeated] == [20_000]


def test_a_late_answer_to_an_order_given_up_proves_nothing(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=20_000)
    (order,) = of(SetLimit, site.tell(ChargerConnected(A)))
    site.wait(10.5)
    site.tell(LimitAnswered(A, order.order, Answer.ACCEPTED))
    assert not site.site.chargers[A].proven


@pytest.mark.parametrize(
    ("offline", "counted_w"), [(Offline.STOPS, 0), (Offline.KEEPS_LIMIT, 20_000), (Offline.NAMEPLATE, 50_000)]
)
def test_a_charger_without_its_connection_counts_as_its_make_behaves(offline: Offline, counted_w: int) -> None:
    site = Bench(site_plan(charger_plan(0, offline=offline), at_start_w=20_000))
    site.connect(A)
    site.tell(ChargerDisconnected(A))
    site.wait(3)
    assert site.site.ledger.total_w == counted_w


def test_a_reboot_takes_the_proof_away_from_a_make_that_forgets() -> None:
    site = Bench(site_plan(charger_plan(0, offline=Offline.NAMEPLATE), at_start_w=20_000))
    site.connect(A)
    (again,) = of(SetLimit, site.tell(ChargerBooted(A, "m", "f")))
    assert site.site.ledger.total_w == 50_000
    site.answer([again])
    site.wait(2.1)
    assert site.site.ledger.total_w == 20_000


def test_a_refusal_counts_at_the_hardware_maximum_until_an_order_is_accepted(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    orders = of(SetLimit, site.setpoint(60_000.0))
    cut = [site.tell(LimitAnswered(orders[0].serial, orders[0].order, Answer.REFUSED))]
    assert site.site.chargers[A].worst_w == 50_000
    assert ("limit_refused", A) in site.site.alarms
    site.answer(orders[1:])
    retried = of(SetLimit, cut[0]) + of(SetLimit, site.wait(3))
    site.answer(retried[:1])
    site.wait(3)
    assert ("limit_refused", A) not in site.site.alarms


def test_a_unit_that_accepts_but_reads_back_more_than_it_was_told_has_refused(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    (order,) = of(SetLimit, site.tell(ChargerConnected(A)))
    site.tell(LimitAnswered(A, order.order, Answer.ACCEPTED, read_back_w=20_001))
    assert site.site.chargers[A].worst_w == 50_000
    assert ("limit_refused", A) in site.site.alarms


def test_a_unit_that_draws_more_than_granted_is_caught_within_two_samples_and_the_others_pay(bench: Make) -> None:
    site = bench(2, capacity_w=70_000, at_start_w=40_000)
    site.connect(A, B)
    site.tell(MeterSampled(A, site.utc_ms, power_w=45_000))
    assert not site.site.chargers[A].disobeys, "one sample may have been measured before the cut"
    orders = of(SetLimit, site.tell(MeterSampled(A, site.utc_ms, power_w=45_000)))
    assert ("limit_disobeyed", A) in site.site.alarms
    assert site.site.chargers[A].worst_w == 50_000
    assert (B, 0) in [(order.serial, order.limit_w) for order in orders]


def test_a_unit_that_obeys_again_is_believed_after_two_samples(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    site.connect(A)
    for power_w in (45_000, 45_000):
        site.answer(site.tell(MeterSampled(A, site.utc_ms, power_w=power_w)))
    site.wait(3)
    site.tell(MeterSampled(A, site.utc_ms, power_w=5_000))
    assert site.site.chargers[A].disobeys
    site.tell(MeterSampled(A, site.utc_ms, power_w=5_000))
    assert not site.site.chargers[A].disobeys


def test_a_liar_is_not_believed_for_what_it_may_still_draw_while_it_reacts(bench: Make) -> None:
    """The small order on its way back to trust leaves its maximum in force for a while: that proves nothing."""
    site = bench(2, capacity_w=70_000, at_start_w=40_000)
    site.connect(A, B)
    liar = site.site.chargers[A]
    lies = [MeterSampled(A, site.utc_ms, power_w=45_000)] * 2
    site.answer(site.tell(*lies))
    assert liar.grant_w == liar.target_w == 6_000
    for _ in range(10):
        site.answer(site.tell(*lies))
        assert liar.disobeys
        site.wait(0.5)


def test_a_charger_out_of_service_counts_nothing_and_gets_nothing() -> None:
    site = Bench(site_plan(charger_plan(0, out_of_service=True), charger_plan(1)))
    assert site.site.ledger.total_w == 50_000
    assert ("charger_offline", A) not in site.site.alarms


def test_zero_watts_reach_the_charger_as_an_order_of_zero(bench: Make) -> None:
    site = bench(1, allow_zero=True)
    site.connect(A)
    site.link_up()
    (order,) = of(SetLimit, site.setpoint(0.0))
    assert order.limit_w == 0


def test_limit_reached_is_said_only_while_it_is_true(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=50_000)
    site.connect(A)
    assert site.point(Signal.LIMIT_REACHED).value == 1
    site.link_up()
    orders = site.setpoint(20_000.0)
    assert site.point(Signal.LIMIT_REACHED).value == 0
    site.answer(orders)
    site.wait(2.1)
    assert site.point(Signal.LIMIT_REACHED).value == 1
    assert site.point(Signal.WORST_CASE_W).value == 20_000


def test_the_granted_limit_of_a_charger_is_not_topical_until_it_is_acknowledged(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    orders = site.tell(ChargerConnected(A))
    assert site.point(Signal.CHARGER_GRANT_W, 0).quality & Quality.INVALID
    site.answer(orders)
    assert site.point(Signal.CHARGER_GRANT_W, 0).quality == Quality.GOOD
    assert site.point(Signal.CHARGER_GRANT_W, 0).value == 20_000


def test_the_wish_of_a_central_system_caps_a_charger_and_never_raises_it(bench: Make) -> None:
    site = bench(2, capacity_w=60_000, at_start_w=60_000)
    site.connect(A, B)
    site.answer(site.tell(WishChanged(A, 10_000)))
    site.answer(site.wait(3))
    grants = {serial: site.site.chargers[serial].grant_w for serial in (A, B)}
    assert grants == {A: 10_000, B: 50_000}
    assert [order.limit_w for order in of(SetLimit, site.tell(WishChanged(A, 500_000)))] == [30_000]


def test_a_wish_below_the_minimum_pauses_the_charger(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    assert [order.limit_w for order in of(SetLimit, site.tell(WishChanged(A, 5_999)))] == [0]


def test_no_termination_while_the_newest_sample_since_the_cut_contradicts_it(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=50_000)
    site.connect(A)
    site.link_up()
    effects = site.setpoint(20_000.0)
    site.answer(effects)
    site.wait(1)
    site.tell(MeterSampled(A, site.utc_ms, power_w=48_000))
    assert of(Terminate, site.wait(5)) == []
    assert site.point(Signal.LIMIT_REACHED).value == 0
    assert of(Terminate, site.tell(MeterSampled(A, site.utc_ms, power_w=19_000))) == [Terminate(1)]
    assert site.point(Signal.LIMIT_REACHED).value == 1


def test_a_contradicted_cut_is_disobedience_after_two_more_samples(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=50_000)
    site.connect(A)
    site.link_up()
    site.answer(site.setpoint(20_000.0))
    site.tell(MeterSampled(A, site.utc_ms, power_w=48_000))
    site.wait(3)
    for _ in range(2):
        site.tell(MeterSampled(A, site.utc_ms, power_w=48_000))
    assert ("limit_disobeyed", A) in site.site.alarms


def test_a_sample_from_before_the_cut_holds_nothing_back(bench: Make) -> None:
    site = bench(1, capacity_w=50_000, at_start_w=50_000)
    site.connect(A)
    site.link_up()
    site.tell(MeterSampled(A, site.utc_ms, power_w=48_000))
    site.wait(10)
    effects = site.setpoint(20_000.0)
    assert of(Terminate, site.answer(effects) + site.wait(3)) == [Terminate(1)]


def test_nothing_at_all_is_left_to_share_out_where_those_that_cannot_be_told_may_draw_more_than_the_limit() -> None:
    assert budget_w(10_000, [Charger(A, worst_w=50_000)]) == 0
