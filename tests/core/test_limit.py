"""Which limit is in force: of setpoints, steps, switches, people and paragraphs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.core import codec
from bridge.core.fallback import LinkState
from bridge.core.limit import Limit, Source, lowest, minimum_14a_w
from bridge.core.messages import (
    Confirm,
    LinkChanged,
    ManualLimitLifted,
    ManualLimitSet,
    Reason,
    SetpointReceived,
    Started,
    Switch,
    SwitchReceived,
    Terminate,
)
from tests.core.bench import UTC_MS, Bench, of

Make = Callable[..., Bench]


def in_force(site: Bench) -> tuple[int, str]:
    return site.site.limit.power_w, site.site.limit.source.value


def switch(command: int, kind: Switch, *, on: bool, percent: int = 100, tag: int | None = None) -> SwitchReceived:
    return SwitchReceived(command, "m", kind, on, percent, tag)


@pytest.mark.parametrize(
    ("devices", "minimum_w"),
    [
        (0, 0),
        (1, 4_200),
        (2, 7_560),
        (3, 10_500),
        (4, 13_020),
        (5, 15_120),
        (6, 16_800),
        (7, 18_060),
        (8, 18_900),
        (9, 19_320),
        (10, 21_210),
        (20, 40_110),
        (50, 96_810),
    ],
)
def test_the_minimum_of_section_14a_follows_the_published_vectors(devices: int, minimum_w: int) -> None:
    assert minimum_14a_w(devices) == minimum_w


def test_the_lowest_limit_is_in_force_and_zero_is_one() -> None:
    limits = [Limit(100, Source.CAPACITY), Limit(0, Source.SETPOINT), Limit(0, Source.CAPACITY)]
    assert lowest(limits) == Limit(0, Source.SETPOINT)


def test_a_step_is_a_share_of_the_capacity_and_zero_percent_is_never_refused_for_the_minimum(bench: Make) -> None:
    site = bench()
    site.link_up()
    assert of(Confirm, site.tell(switch(1, Switch.STEP, on=True, percent=60))) == [Confirm(1)]
    assert in_force(site) == (60_000, "step")
    assert of(Confirm, site.tell(switch(2, Switch.STEP, on=True, percent=0))) == [Confirm(2)]
    assert in_force(site) == (0, "step")
    site.tell(switch(3, Switch.STEP, on=False, percent=0))
    assert in_force(site) == (100_000, "at_start")


def test_a_step_ends_the_fallback_like_a_setpoint_and_an_emergency_stop_does_not(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.tell(LinkChanged(0))
    site.wait(301)
    site.link_up()
    site.tell(switch(1, Switch.EMERGENCY_STOP, on=True))
    assert site.site.link.state is LinkState.RECOVERY
    assert in_force(site) == (0, "emergency_stop")
    site.tell(switch(2, Switch.EMERGENCY_STOP, on=False))
    assert in_force(site) == (10_000, "fallback")
    site.tell(switch(3, Switch.STEP, on=True, percent=30))
    assert in_force(site) == (30_000, "step")


def test_an_emergency_stop_outlives_the_link_and_a_new_setpoint(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.tell(switch(1, Switch.EMERGENCY_STOP, on=True))
    site.setpoint(50_000.0)
    assert in_force(site) == (0, "emergency_stop")
    site.tell(LinkChanged(0))
    site.wait(400)
    assert in_force(site) == (0, "emergency_stop")


def test_a_disabled_limit_does_not_hold_until_it_is_enabled_again(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(switch(2, Switch.LIMIT_ENABLED, on=False))
    assert in_force(site) == (100_000, "capacity")
    site.tell(switch(3, Switch.LIMIT_ENABLED, on=True))
    assert in_force(site) == (20_000, "setpoint")


def test_a_stale_switch_is_refused_and_changes_nothing(bench: Make) -> None:
    site = bench()
    site.link_up()
    effects = site.tell(switch(1, Switch.EMERGENCY_STOP, on=True, tag=UTC_MS - 60_000))
    assert of(Confirm, effects) == [Confirm(1, Reason.STALE_TIME_TAG)]
    assert not site.site.commanded.emergency_stop


def test_of_two_groups_the_lowest_setpoint_holds_unless_the_plan_names_one(bench: Make) -> None:
    lowest_wins, named = bench(), bench(deciding_group="A")
    for site in (lowest_wins, named):
        site.link_up()
        site.tell(SetpointReceived(1, "a", 50_000.0, 50_000, group="A"))
        site.tell(SetpointReceived(2, "b", 20_000.0, 20_000, group="B"))
    assert in_force(lowest_wins) == (20_000, "setpoint")
    assert in_force(named) == (50_000, "setpoint")
    lowest_wins.tell(SetpointReceived(3, "b", 80_000.0, 80_000, group="B"))
    assert in_force(lowest_wins) == (50_000, "setpoint")


def test_a_group_that_does_not_decide_ends_neither_the_limit_of_the_start_nor_the_fallback(bench: Make) -> None:
    site = bench(deciding_group="A", at_start_w=30_000)
    site.link_up()
    site.tell(SetpointReceived(1, "b", 90_000.0, 90_000, group="B"))
    assert in_force(site) == (30_000, "at_start")
    site.tell(LinkChanged(0))
    site.wait(301)
    site.link_up()
    site.tell(SetpointReceived(2, "b", 80_000.0, 80_000, group="B"))
    assert in_force(site) == (10_000, "fallback")
    site.tell(SetpointReceived(3, "a", 40_000.0, 40_000, group="A"))
    assert in_force(site) == (40_000, "setpoint")


def test_after_both_clocks_were_set_back_tagged_commands_are_accepted_again(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(50_000.0, tag_utc_ms=site.utc_ms)
    site.utc_ms -= 7_200_000
    site.setpoint(20_000.0, tag_utc_ms=site.utc_ms)
    assert in_force(site) == (20_000, "setpoint")
    site.setpoint(60_000.0, tag_utc_ms=site.utc_ms - 1)
    assert in_force(site) == (20_000, "setpoint"), "what is older than that is a replay as before"


def test_a_setpoint_with_an_end_ends_by_itself_and_a_renewal_starts_its_time_anew(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0, duration_ms=60_000)
    site.wait(50)
    site.setpoint(20_000.0, duration_ms=60_000)
    site.wait(59)
    assert in_force(site) == (20_000, "setpoint")
    site.wait(1.1)
    assert in_force(site) == (100_000, "capacity")


def test_a_manual_limit_holds_until_its_end_or_until_it_is_lifted(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(50_000.0)
    site.tell(ManualLimitSet(15_000, "Ada", "work on the transformer", 3_600_000))
    assert in_force(site) == (15_000, "manual")
    site.wait(3_601)
    assert in_force(site) == (50_000, "setpoint")
    site.tell(ManualLimitSet(15_000, "Ada", "again"))
    site.wait(90_000)
    assert in_force(site) == (15_000, "manual")
    site.tell(ManualLimitLifted("Ada"))
    assert in_force(site) == (50_000, "setpoint")


def test_a_manual_limit_cannot_raise_the_limit(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(ManualLimitSet(90_000, "Ada", "more"))
    assert in_force(site) == (20_000, "setpoint")


def test_after_eebus_lpc_it_starts_in_its_fail_safe_and_leaves_it_by_a_link_and_a_fresh_setpoint(bench: Make) -> None:
    site = bench(start_in_fallback=True, hold_ms=120_000, release_after_ms=7_200_000)
    assert in_force(site) == (10_000, "fallback")
    site.link_up()
    site.wait(10)
    assert in_force(site) == (10_000, "fallback")
    site.setpoint(30_000.0)
    assert in_force(site) == (30_000, "setpoint")
    site.tell(LinkChanged(0))
    site.wait(119)
    assert in_force(site) == (30_000, "setpoint")
    site.wait(2)
    assert in_force(site) == (10_000, "fallback")


def test_after_eebus_lpc_a_fail_safe_that_lasts_is_released_to_the_capacity(bench: Make) -> None:
    site = bench(start_in_fallback=True, hold_ms=120_000, release_after_ms=7_200_000)
    site.wait(7_199)
    assert in_force(site) == (10_000, "fallback")
    site.wait(2)
    assert in_force(site) == (100_000, "capacity")
    site.link_up()
    assert in_force(site) == (10_000, "fallback")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_setpoints_of_several_groups_end_each_at_its_own_time(bench: Make, order: tuple[int, ...]) -> None:
    site = bench(hold_ms=None)
    site.link_up()
    commands = [("A", 50_000, None), ("B", 20_000, 60_000), ("C", 10_000, 30_000)]
    for group, limit_w, duration_ms in [commands[place] for place in order]:
        site.setpoint(float(limit_w), group=group, duration_ms=duration_ms)
    found = []
    for seconds in (29.9, 0.2, 29.8, 0.2):
        site.wait(seconds)
        found.append(in_force(site)[0])
    assert found == [10_000, 20_000, 20_000, 50_000]


def test_a_setpoint_with_an_end_ends_as_agreed_after_a_reboot_of_the_machine(bench: Make) -> None:
    site = bench(hold_ms=None)
    site.setpoint(20_000.0, duration_ms=60_000)
    site.boot, site.now_ms, site.utc_ms = "boot-2", 5_000, site.utc_ms + 20_000
    site.tell(Started(site.boot, site.plan))
    site.wait(39.9)
    assert in_force(site) == (20_000, "setpoint")
    site.wait(0.2)
    assert in_force(site) == (100_000, "capacity")


def test_a_step_takes_the_place_of_the_limit_of_the_start(bench: Make) -> None:
    site = bench(at_start_w=30_000)
    site.link_up()
    site.tell(switch(1, Switch.STEP, on=True, percent=60))
    assert in_force(site) == (60_000, "step")


def test_a_refused_command_changes_nothing_while_a_setpoint_waits_for_its_end(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.setpoint(20_000.0, duration_ms=60_000)
    before = codec.pack(site.site)
    assert of(Confirm, site.setpoint(0.0)) == [Confirm(2, Reason.BELOW_MINIMUM)]
    assert codec.pack(site.site) == before


def test_a_switch_is_terminated_once_what_it_commands_is_proven_and_one_that_is_lifted_at_once(bench: Make) -> None:
    site = bench()
    site.connect("S4-0000", "S4-0001")
    site.link_up()
    effects = site.tell(switch(1, Switch.EMERGENCY_STOP, on=True))
    assert of(Terminate, effects + site.answer(effects)) == []
    assert of(Terminate, site.wait(2.1)) == [Terminate(1)]
    effects = site.tell(switch(2, Switch.EMERGENCY_STOP, on=False))
    assert of(Terminate, effects) == [Terminate(2)]
    site.answer(effects)
    effects = site.tell(switch(3, Switch.STEP, on=True, percent=60))
    assert of(Terminate, effects + site.answer(effects) + site.wait(2.1)) == [Terminate(3)]
    assert of(Terminate, site.tell(switch(4, Switch.STEP, on=False, percent=30))) == [Terminate(4)]


def test_a_switch_cannot_be_replayed_and_one_without_a_tag_lets_nothing_be_replayed(bench: Make) -> None:
    site = bench()
    site.link_up()
    site.tell(switch(1, Switch.EMERGENCY_STOP, on=True, tag=UTC_MS))
    effects = site.tell(switch(2, Switch.EMERGENCY_STOP, on=False, tag=UTC_MS))
    assert of(Confirm, effects) == [Confirm(2, Reason.REPLAYED_TIME_TAG)]
    site.tell(switch(3, Switch.EMERGENCY_STOP, on=True))
    effects = site.tell(switch(4, Switch.EMERGENCY_STOP, on=False, tag=UTC_MS))
    assert of(Confirm, effects) == [Confirm(4, Reason.REPLAYED_TIME_TAG)]
    assert site.site.commanded.emergency_stop
