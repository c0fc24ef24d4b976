"""Claims about what people at the site do: a retry that is asked for, and acts that are kept for the record."""

from __future__ import annotations

from dataclasses import replace

from bridge.core import codec
from bridge.core.messages import Acted, Answer, ChargerConnected, LimitAnswered, RetryAsked, SetLimit, Started, Woke
from bridge.core.plan import ChargerPlan, OnReturn, Plan
from bridge.core.points import PointTable
from bridge.core.quantities import Now
from bridge.core.site import Site, new_site, step

SERIAL = "A"
PLAN = Plan(
    name="Test",
    capacity_w=50_000,
    min_limit_w=6_000,
    allow_zero=False,
    at_start_w=50_000,
    hold_ms=300_000,
    fallback_w=10_000,
    on_return=OnReturn.KEEP_FALLBACK,
    restore_after_ms=0,
    time_tag_window_ms=10_000,
    chargers=(ChargerPlan(SERIAL, 0, 4_000, 22_000),),
    points=PointTable(()),
)


def at(now_ms: int) -> Now:
    return Now(now_ms, 1_800_000_000_000 + now_ms)


def site_with_a_charger_that_refused() -> Site:
    site = new_site(PLAN, "boot", at(0))
    step(site, Started("boot", PLAN), at(0))
    step(site, ChargerConnected(SERIAL), at(1_000))
    for now_ms in (1_100, 1_200):  # its share, and then the small order that would be its way back to trust
        (order,) = (effect.order for effect in step(site, Woke(), at(now_ms)) if isinstance(effect, SetLimit))
        step(site, LimitAnswered(SERIAL, order, Answer.REFUSED), at(now_ms + 50))
    assert not [effect for effect in step(site, Woke(), at(1_300)) if isinstance(effect, SetLimit)]
    return site


def test_a_retry_that_is_asked_for_orders_at_once_and_counts_nothing_otherwise() -> None:
    site = site_with_a_charger_that_refused()
    worst_w, alarms = site.ledger.total_w, set(site.alarms)
    step(site, RetryAsked(SERIAL, "Ada"), at(1_400))
    assert site.ledger.total_w == worst_w
    assert site.alarms == alarms
    ordered = [effect for effect in step(site, Woke(), at(1_500)) if isinstance(effect, SetLimit)]
    assert [effect.serial for effect in ordered] == [SERIAL]


def test_a_retry_of_a_charger_nobody_knows_changes_nothing() -> None:
    site = site_with_a_charger_that_refused()
    before = codec.pack(site)
    assert step(site, RetryAsked("nobody", "Ada"), at(1_300)) == []
    assert codec.pack(replace(site, last=at(1_300))) == before


def test_an_act_that_is_kept_for_the_record_changes_nothing_and_can_be_read_back() -> None:
    site = site_with_a_charger_that_refused()
    before, event = codec.pack(site), Acted("Ada", "acknowledged limit_refused", SERIAL)
    assert step(site, event, at(1_300)) == []
    assert codec.pack(site) == before
    assert codec.replayed(codec.record(event, at(1_300))) == (event, at(1_300))
