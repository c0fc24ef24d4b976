"""Faults of the OCPP side that the limit must survive, each under its number in the list of attacks and faults."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Event,
    LimitAnswered,
    SetLimit,
)
from bridge.core.plan import Offline
from tests.core.bench import Bench, charger_plan, of, site_plan

Make = Callable[..., Bench]
A, B = "S4-0000", "S4-0001"


def forgetful(**changes: object) -> Bench:
    """Two units at 30 kW each that forget their limits when they reboot."""
    units = [charger_plan(index, offline=Offline.NAMEPLATE) for index in range(2)]
    site = Bench(site_plan(*units, **{"capacity_w": 60_000, "at_start_w": 60_000} | changes))
    site.connect(A, B)
    assert [site.site.chargers[serial].worst_w for serial in (A, B)] == [30_000, 30_000]
    return site


def test_o36_a_unit_that_reboots_counts_at_its_nameplate_until_it_was_told_anew_and_nobody_rises_meanwhile() -> None:
    site = forgetful()
    effects = site.tell(ChargerBooted(B, "S4-ULTRA", "1.0"))
    assert site.site.chargers[B].worst_w == 50_000
    (told,) = of(SetLimit, effects)
    assert (told.serial, told.limit_w) == (B, 30_000)
    assert of(SetLimit, site.wait(5)) == []
    site.tell(LimitAnswered(B, told.order, Answer.ACCEPTED))
    site.wait(2.1)
    assert site.site.ledger.total_w == 60_000


def test_o36_the_others_make_room_for_a_unit_that_rebooted_and_answers_no_order() -> None:
    site = forgetful()
    effects = site.tell(ChargerBooted(B, "S4-ULTRA", "1.0"))
    for _ in range(60):
        answers = [
            LimitAnswered(order.serial, order.order, Answer.UNANSWERED if order.serial == B else Answer.ACCEPTED)
            for order in of(SetLimit, effects)
        ]
        effects = site.tell(*answers) + site.wait(1)
    assert site.site.ledger.total_w <= 60_000
    assert site.site.chargers[B].target_w == 30_000, "its share stays there for it to come back to"


def test_o40_units_that_all_come_back_at_once_are_told_within_the_limit_and_nothing_is_exceeded(bench: Make) -> None:
    chargers = 30
    serials = [f"S4-{index:04d}" for index in range(chargers)]
    site = bench(chargers, capacity_w=300_000, at_start_w=300_000)
    site.connect(*serials)
    assert site.site.ledger.total_w <= 300_000
    site.tell(*(ChargerDisconnected(serial) for serial in serials))
    back: list[Event] = [ChargerConnected(serial) for serial in serials]
    effects = site.tell(*back, *(ChargerBooted(serial, "S4-ULTRA", "1.0") for serial in serials)) + site.wait(1)
    orders = {order.serial: order.limit_w for order in of(SetLimit, effects)}
    assert set(orders) == set(serials), "each is told anew"
    assert sum(orders.values()) <= 300_000
    worst_w = site.site.ledger.total_w
    while orders_now := of(SetLimit, effects):
        effects = site.answer(orders_now) + site.wait(6)
        assert site.site.ledger.total_w <= max(worst_w, 300_000)
        worst_w = site.site.ledger.total_w
    assert worst_w <= 300_000


@pytest.mark.parametrize("seed", range(20))
def test_o45_a_unit_that_comes_and_goes_within_a_round_gives_the_others_no_room_that_is_not_proven(
    bench: Make, seed: int
) -> None:
    print(f"seed {seed}")  # noqa: T201  to be played again
    chance = random.Random(seed)
    site = bench(2, capacity_w=60_000, at_start_w=60_000)
    site.connect(A, B)
    pending: list[SetLimit] = []
    for _ in range(60):
        flips: list[Event] = [
            ChargerConnected(A) if chance.random() < 0.5 else ChargerDisconnected(A) for _ in range(3)
        ]
        before_w = site.site.chargers[B].worst_w
        effects = site.tell(*flips) + site.wait(chance.choice([0, 0.5, 3, 6]))
        for order in of(SetLimit, effects):
            if order.serial == B and order.limit_w > before_w:
                assert order.limit_w + site.site.chargers[A].worst_w <= 60_000, f"seed {seed}"
        pending += of(SetLimit, effects)
        chance.shuffle(pending)
        for order in [pending.pop() for _ in range(min(len(pending), chance.randrange(3)))]:
            site.tell(LimitAnswered(order.serial, order.order, chance.choice(list(Answer))))
