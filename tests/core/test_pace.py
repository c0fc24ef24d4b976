"""Many chargers at once: what each of them changes is settled together, and a limit waits for none of it."""

from __future__ import annotations

from bridge.core.messages import Answer, ChargerBooted, ChargerConnected, Effect, LimitAnswered, SetLimit, Terminate
from tests.core.bench import Bench, charger_plan, of, site_plan

CHARGERS = 400


def full_bench() -> Bench:
    plans = [charger_plan(index) for index in range(CHARGERS)]
    return Bench(site_plan(*plans, capacity_w=CHARGERS * 20_000, at_start_w=CHARGERS * 20_000))


def come_back(bench: Bench) -> list[SetLimit]:
    """All connect within 400 ms, one a millisecond, and obey at once; every order that was given."""
    orders: list[SetLimit] = []
    for plan in bench.plan.chargers:
        effects = bench.tell(ChargerConnected(plan.serial), ChargerBooted(plan.serial, "S4-ULTRA", "1.0"))
        orders += obey(bench, effects + bench.wait(0.001))
    return orders


def obey(bench: Bench, effects: list[Effect]) -> list[SetLimit]:
    """Answer all orders, and those that follow from the answers."""
    orders: list[SetLimit] = []
    while given := of(SetLimit, effects):
        orders += given
        effects = bench.answer(given)
    return orders


def test_units_that_come_back_together_do_not_have_all_others_told_for_each_of_them() -> None:
    bench = full_bench()
    orders = come_back(bench)
    assert len(orders) < 10 * CHARGERS


def test_they_all_hold_their_shares_in_the_end() -> None:
    bench = full_bench()
    come_back(bench)
    for _ in range(10):
        obey(bench, bench.wait(1))
    chargers = bench.site.chargers.values()
    assert all(charger.settled(bench.site.plans[charger.serial]) for charger in chargers)
    assert {charger.grant_w for charger in chargers} == {20_000}


def test_a_setpoint_is_shared_out_at_once_however_much_is_going_on() -> None:
    bench = full_bench()
    bench.link_up()
    come_back(bench)
    bench.tell(ChargerBooted("S4-0007", "S4-ULTRA", "1.0"))
    orders = of(SetLimit, bench.setpoint(CHARGERS * 7_000.0))
    assert len(orders) > CHARGERS // 2
    assert max(order.limit_w for order in orders) <= 7_000


def test_the_termination_does_not_wait_for_the_next_settlement() -> None:
    bench = full_bench()
    bench.link_up()
    come_back(bench)
    for _ in range(10):
        obey(bench, bench.wait(1))
    orders = of(SetLimit, bench.setpoint(CHARGERS * 7_000.0))
    for order in orders:
        bench.tell(LimitAnswered(order.serial, order.order, Answer.ACCEPTED))
    assert of(Terminate, bench.wait(0.0)) == []
    effects = bench.wait(2.0)  # the reaction time of the make
    assert len(of(Terminate, effects)) == 1
