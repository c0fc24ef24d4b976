"""The supervision of the link: the table is complete, and time does what the plan says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bridge.core.fallback import TABLE, LinkState, Supervision, Trigger
from bridge.core.messages import (
    Alive,
    ChargerConnected,
    Confirm,
    JournalLost,
    LimitChanged,
    LinkChanged,
    ManualLimitSet,
    PointChanged,
    SetLimit,
    SetpointRevoked,
    Started,
    Terminate,
)
from bridge.core.plan import OnReturn
from bridge.core.points import Signal
from bridge.core.site import step
from tests.core.bench import Bench, of

Make = Callable[..., Bench]


def test_the_table_says_for_every_state_and_trigger_what_follows() -> None:
    assert set(TABLE) == set(LinkState)
    assert all(set(row) == set(Trigger) for row in TABLE.values())


def test_an_accepted_setpoint_connects_from_every_state() -> None:
    assert {row[Trigger.SETPOINT_ACCEPTED] for row in TABLE.values()} == {LinkState.CONNECTED}


def test_staying_in_a_state_does_not_start_its_time_anew() -> None:
    hold = Supervision(LinkState.HOLD, 5)
    assert hold.moved(Trigger.LINK_LOST, 99) is hold


def test_a_lost_link_keeps_the_last_limit_and_then_falls_back_after_the_timeout(bench: Make) -> None:
    site = bench(hold_ms=300_000)
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(LinkChanged(0))
    site.wait(299.9)
    assert site.site.limit.power_w == 20_000
    assert site.point(Signal.FALLBACK_ACTIVE).value == 0
    site.wait(0.2)
    assert (site.site.limit.power_w, site.site.limit.source.value) == (10_000, "fallback")
    assert site.point(Signal.FALLBACK_ACTIVE).value == 1


def test_a_link_that_returns_within_the_hold_goes_on_as_if_nothing_had_been(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(LinkChanged(0))
    site.wait(299)
    site.link_up()
    site.wait(3_600)
    assert site.site.link.state is LinkState.CONNECTED
    assert site.site.limit.power_w == 20_000


def test_after_fallback_a_returned_link_keeps_the_fallback_until_a_fresh_setpoint(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(LinkChanged(0))
    site.wait(301)
    site.link_up()
    site.wait(86_400)
    assert (site.site.link.state, site.site.limit.power_w) == (LinkState.RECOVERY, 10_000)
    site.setpoint(30_000.0)
    assert (site.site.link.state, site.site.limit.power_w) == (LinkState.CONNECTED, 30_000)


def test_a_refused_setpoint_does_not_end_the_fallback(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.tell(LinkChanged(0))
    site.wait(301)
    site.link_up()
    site.setpoint(0.0)
    assert site.site.link.state is LinkState.RECOVERY


def test_restore_last_takes_the_last_setpoint_up_again_after_its_time(bench: Make) -> None:
    site = bench(on_return=OnReturn.RESTORE_LAST, restore_after_ms=60_000)
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(LinkChanged(0))
    site.wait(301)
    site.link_up()
    site.wait(59.9)
    assert site.site.limit.power_w == 10_000
    site.wait(0.2)
    assert site.site.limit.power_w == 20_000


def test_the_fallback_replaces_the_setpoint_even_where_it_is_higher(bench: Make) -> None:
    site = bench(fallback_w=50_000)
    site.link_up()
    site.setpoint(6_000.0)
    site.tell(LinkChanged(0))
    site.wait(301)
    assert site.site.limit.power_w == 50_000


def test_hold_for_ever_never_falls_back_and_no_hold_falls_back_at_once(bench: Make) -> None:
    for_ever, at_once = bench(hold_ms=None), bench(hold_ms=0)
    for site in (for_ever, at_once):
        site.link_up()
        site.setpoint(20_000.0)
        site.tell(LinkChanged(0))
    for_ever.wait(30 * 86_400)
    assert for_ever.site.limit.power_w == 20_000
    assert at_once.site.limit.power_w == 10_000


def test_before_the_first_setpoint_ever_the_start_limit_is_held(bench: Make) -> None:
    site = bench(at_start_w=42_000)
    assert site.site.link.state is LinkState.HOLD
    assert (site.site.limit.power_w, site.site.limit.source.value) == (42_000, "at_start")
    site.wait(301)
    assert site.site.limit.power_w == 10_000


def restarted(site: Bench, *, away_s: float, wall_step_s: float = 0, boot: str | None = None) -> None:
    site.utc_ms += round((away_s + wall_step_s) * 1000)
    if boot is None:
        site.now_ms += round(away_s * 1000)
    else:
        site.boot, site.now_ms = boot, 30_000
    site.tell(Started(site.boot, site.plan))


@pytest.mark.parametrize("step_s", [0, -7_200, 7_200])
def test_a_restart_on_the_same_boot_counts_the_hold_from_the_last_alive_mark_whatever_the_wall_clock_does(
    bench: Make, step_s: int
) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.wait(100)
    site.tell(Alive())
    restarted(site, away_s=200, wall_step_s=step_s)
    assert site.site.link.state is LinkState.HOLD
    assert site.site.limit.power_w == 20_000
    site.wait(99.9)
    assert site.site.limit.power_w == 20_000
    site.wait(0.2)
    assert site.site.limit.power_w == 10_000


def test_a_restart_on_another_boot_counts_the_hold_by_the_wall_clock(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    restarted(site, away_s=290, boot="boot-2")
    assert site.site.limit.power_w == 20_000
    site.wait(10.1)
    assert site.site.limit.power_w == 10_000


@pytest.mark.parametrize("step_s", [-10_000, 400 * 365 * 86_400])
def test_a_wall_clock_that_cannot_be_believed_after_another_boot_counts_the_hold_as_elapsed(
    bench: Make, step_s: int
) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    restarted(site, away_s=5, wall_step_s=step_s, boot="boot-2")
    assert site.site.limit.power_w == 10_000


def test_a_restart_in_fallback_stays_there_and_the_limit_is_ordered_before_anything_else(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.tell(LinkChanged(0))
    site.wait(301)
    restarted(site, away_s=1)
    assert site.site.link.state is LinkState.FALLBACK
    assert site.site.limit.power_w == 10_000
    (order,) = of(SetLimit, site.tell(ChargerConnected("S4-0000")))
    assert order.limit_w == 0, "the other unit is unproven and may draw everything"


def test_a_changed_plan_takes_hold_at_the_restart(bench: Make) -> None:
    site: Any = bench()
    site.plan = bench(fallback_w=7_000, hold_ms=0).plan
    restarted(site, away_s=1)
    assert site.site.limit.power_w == 7_000


def test_a_hold_that_had_begun_goes_on_after_a_reboot_of_the_machine(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(LinkChanged(0))
    site.wait(100)
    restarted(site, away_s=100, boot="boot-2")
    site.wait(99.9)
    assert site.site.limit.power_w == 20_000
    site.wait(0.2)
    assert site.site.limit.power_w == 10_000


def test_after_a_second_start_on_the_same_boot_the_wall_clock_is_not_asked_again(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    restarted(site, away_s=5, boot="boot-2")
    restarted(site, away_s=5, wall_step_s=-7_200)
    assert site.site.limit.power_w == 20_000


def test_a_machine_that_was_off_for_a_year_holds_what_was_to_be_held_for_two(bench: Make) -> None:
    site = bench(hold_ms=2 * 365 * 86_400_000)
    site.link_up()
    site.setpoint(20_000.0)
    restarted(site, away_s=365 * 86_400, boot="boot-2")
    assert site.site.limit.power_w == 20_000


@pytest.mark.parametrize("duration_ms", [60_000, None])
def test_a_manual_limit_goes_on_after_a_reboot_of_the_machine_until_its_end_if_it_has_one(
    bench: Make, duration_ms: int | None
) -> None:
    site = bench(hold_ms=None)
    site.tell(ManualLimitSet(15_000, "Ada", "work on the transformer", duration_ms))
    restarted(site, away_s=20, boot="boot-2")
    site.wait(39.9)
    assert site.site.limit.power_w == 15_000
    site.wait(0.2)
    assert site.site.limit.power_w == (15_000 if duration_ms is None else 100_000)


def test_a_wall_clock_that_cannot_be_believed_ends_no_hold_for_ever_and_begins_no_fallback_anew(bench: Make) -> None:
    for_ever, released = bench(hold_ms=None), bench(hold_ms=120_000, release_after_ms=7_200_000)
    for_ever.link_up()
    for_ever.setpoint(20_000.0)
    released.wait(120 + 7_000)
    released.tell(Alive())
    for site in (for_ever, released):
        restarted(site, away_s=5, wall_step_s=-10_000, boot="boot-2")
    assert (for_ever.site.limit.power_w, released.site.limit.power_w) == (20_000, 10_000)
    released.wait(201)
    assert released.site.link.state is LinkState.AUTONOMOUS


def test_nothing_of_the_connections_before_a_restart_is_left(bench: Make) -> None:
    site = bench(1)
    site.connect("S4-0000")
    site.link_up()
    effects = site.setpoint(20_000.0)
    restarted(site, away_s=1)
    site.tell(SetpointRevoked(1))
    assert site.site.limit.power_w == 20_000, "it was confirmed in another life, or never will be"
    site.link_up()
    assert site.site.link.state is LinkState.CONNECTED
    site.connect("S4-0000")
    assert of(Terminate, [*effects, *site.effects]) == [], "its requester is gone"


def test_after_a_restart_setpoints_can_be_recorded_again(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.tell(JournalLost())
    restarted(site, away_s=1)
    assert of(Confirm, site.setpoint(20_000.0)) == [Confirm(1)]


@pytest.mark.parametrize(("boot", "now_ms"), [("boot-2", 5_000_000), ("boot-1", 30_000)])
def test_another_boot_is_told_by_its_name_and_by_a_clock_that_began_anew(bench: Make, boot: str, now_ms: int) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.boot, site.now_ms, site.utc_ms = boot, now_ms, site.utc_ms + 200_000
    site.tell(Started(boot, site.plan))
    site.wait(99.9)
    assert site.site.limit.power_w == 20_000
    site.wait(0.2)
    assert site.site.limit.power_w == 10_000


def test_a_wall_clock_that_shows_the_very_moment_of_the_last_event_can_be_believed(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    restarted(site, away_s=0, boot="boot-2")
    assert site.site.limit.power_w == 20_000


def test_a_restart_on_the_same_boot_counts_the_hold_to_the_millisecond(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    alive_ms = site.now_ms
    restarted(site, away_s=10)
    assert site.site.link == Supervision(LinkState.HOLD, alive_ms)


def test_the_limit_after_a_restart_holds_and_is_told_before_anything_else_can_happen(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.now_ms, site.utc_ms = site.now_ms + 301_000, site.utc_ms + 301_000
    effects = step(site.site, Started(site.boot, site.plan), site.now)
    assert site.site.limit.power_w == 10_000
    assert of(LimitChanged, effects) == [LimitChanged(10_000, "fallback")]
    shown = {change.point.signal: change.value for change in of(PointChanged, effects)}
    assert (shown[Signal.LIMIT_IN_FORCE_W], shown[Signal.FALLBACK_ACTIVE]) == (10_000, True)
