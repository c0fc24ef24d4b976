"""The site as a whole: setpoints, telemetry, what is lost with the journal, and that all of it can be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.core import codec
from bridge.core.messages import (
    AlarmChanged,
    Alive,
    ChargerConnected,
    ChargerDisconnected,
    Confirm,
    Event,
    InvariantBroken,
    JournalLost,
    LinkChanged,
    MeterSampled,
    PointChanged,
    Reason,
    SetLimit,
    SetpointReceived,
    SetpointRevoked,
    ShellAlarm,
    Started,
)
from bridge.core.points import Quality, Signal
from bridge.core.site import Site
from bridge.core.status import describe
from tests.core.bench import UTC_MS, Bench, of

Make = Callable[..., Bench]
A, B = "S4-0000", "S4-0001"


def test_t1_a_lower_setpoint_is_confirmed_and_cuts_the_chargers(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    site.answer(site.setpoint(50_000.0))
    site.wait(3)
    effects = site.setpoint(20_000.0)
    assert of(Confirm, effects) == [Confirm(2)]
    assert sum(order.limit_w for order in of(SetLimit, effects)) == 20_000


def test_t3_a_setpoint_below_the_minimum_is_refused_and_changes_nothing(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    site.answer(site.setpoint(50_000.0))
    site.wait(3)
    before = codec.pack(replace(site.site, last=site.now))
    effects = site.setpoint(0.0)
    assert effects == [Confirm(2, Reason.BELOW_MINIMUM)]
    assert codec.pack(site.site) == before, "not even a timer"


def test_t4_a_sample_becomes_the_point_of_its_charger_and_of_the_site_with_its_own_time(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    effects = site.tell(MeterSampled(A, UTC_MS - 700, power_w=7_200))
    changed = {(e.point.signal, e.value, e.quality) for e in of(PointChanged, effects)}
    assert (Signal.CHARGER_POWER_W, 7_200, Quality.GOOD) in changed
    assert (Signal.SITE_POWER_W, 7_200, Quality.GOOD) in changed
    assert site.point(Signal.CHARGER_POWER_W, 0).utc_ms == UTC_MS - 700


def test_a_setpoint_above_capacity_is_accepted_and_capacity_holds(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(150_000.0)
    assert (site.site.limit.power_w, site.site.limit.source.value) == (100_000, "capacity")
    assert site.point(Signal.SETPOINT_MIRROR).value == 150_000
    assert site.point(Signal.LIMIT_ACTIVE).value == 0


def test_a_fraction_of_a_watt_is_rounded_down_and_mirrored_as_received(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(20_000.9)
    assert site.site.limit.power_w == 20_000
    assert site.point(Signal.SETPOINT_MIRROR).value == 20_000.9


def test_the_mirror_is_invalid_before_the_first_accepted_setpoint(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(0.0)
    assert site.point(Signal.SETPOINT_MIRROR).quality & Quality.INVALID
    site.setpoint(20_000.0)
    assert site.point(Signal.SETPOINT_MIRROR).quality == Quality.GOOD


def test_a_revoked_setpoint_is_taken_back_with_its_mirror(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(50_000.0)
    site.setpoint(20_000.0)
    site.tell(SetpointRevoked(2))
    assert site.site.limit.power_w == 50_000
    assert site.point(Signal.SETPOINT_MIRROR).value == 50_000
    site.tell(SetpointRevoked(1))
    assert site.site.limit.power_w == 50_000, "only the newest can be revoked"


def test_changes_below_the_deadband_update_the_image_without_being_reported(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.tell(MeterSampled(A, UTC_MS, power_w=7_200))
    (small, _) = of(PointChanged, site.tell(MeterSampled(A, UTC_MS + 1, power_w=7_209)))
    assert (small.value, small.report) == (7_209, False)
    (grown, _) = of(PointChanged, site.tell(MeterSampled(A, UTC_MS + 2, power_w=7_210)))
    assert (grown.value, grown.report) == (7_210, True)


def test_a_silent_meter_becomes_not_topical_and_says_so_once(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.tell(MeterSampled(A, UTC_MS, power_w=7_200))
    effects = site.wait(181)
    stale = [e for e in of(PointChanged, effects) if e.point.signal is Signal.CHARGER_POWER_W]
    assert [(e.value, e.quality, e.report) for e in stale] == [(7_200, Quality.NOT_TOPICAL, True)]
    assert site.point(Signal.SITE_POWER_W).quality == Quality.NOT_TOPICAL


def test_a_lost_charger_is_not_topical_at_once(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.tell(MeterSampled(A, UTC_MS, power_w=7_200))
    site.tell(ChargerDisconnected(A))
    assert site.point(Signal.CHARGER_POWER_W, 0).quality == Quality.NOT_TOPICAL
    assert site.point(Signal.CHARGER_CONNECTED, 0).value == 0


def test_an_implausible_sample_is_shown_as_invalid_and_counts_neither_for_the_sum_nor_as_disobedience(
    bench: Make,
) -> None:
    site = bench(1)
    site.connect(A)
    site.tell(MeterSampled(A, UTC_MS, power_w=7_200))
    for place in range(3):
        site.tell(MeterSampled(A, UTC_MS + place, power_w=9_000_000))
    assert site.point(Signal.CHARGER_POWER_W, 0).quality & Quality.INVALID
    assert site.point(Signal.SITE_POWER_W).value == 7_200
    assert not site.site.chargers[A].disobeys


def test_without_a_journal_setpoints_are_refused_and_the_limit_can_only_fall(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(50_000.0)
    site.tell(JournalLost())
    assert (site.site.limit.power_w, site.site.limit.source.value) == (10_000, "fallback")
    assert of(Confirm, site.setpoint(60_000.0)) == [Confirm(2, Reason.NOT_RECORDED)]
    assert site.site.limit.power_w == 10_000
    assert site.point(Signal.COMMON_ALARM).value == 1


def test_after_a_broken_invariant_only_the_fallback_limit_is_trusted(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(50_000.0)
    site.tell(Started("boot-1", site.plan), InvariantBroken("why"))
    assert site.site.limit.power_w == 10_000
    site.link_up()
    assert site.site.limit.power_w == 10_000
    site.setpoint(50_000.0)
    assert site.site.limit.power_w == 50_000


def test_a_charger_that_the_plan_does_not_know_changes_nothing(bench: Make) -> None:
    site = bench(1)
    before = codec.pack(site.site)
    assert site.tell(ChargerConnected("STRANGER"), MeterSampled("STRANGER", UTC_MS, power_w=1)) == []
    assert codec.pack(site.site) == before


def test_a_site_survives_its_snapshot_to_the_letter(bench: Make) -> None:
    site = bench(2)
    site.connect(A, B)
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(MeterSampled(A, UTC_MS, power_w=7_200, voltage_mv=230_100, current_ma=10_400, energy_wh=5))
    text = json.dumps(codec.pack(site.site))
    assert json.dumps(codec.pack(codec.unpack(Site, json.loads(text)))) == text


@pytest.mark.parametrize("value", [20_000.5, float("nan"), float("inf"), -0.0])
def test_every_event_survives_its_record(bench: Make, value: float) -> None:
    site = bench(2)
    events: list[Event] = [Started("b", site.plan), Alive(), LinkChanged(1), MeterSampled(A, UTC_MS, power_w=1)]
    for event in events:
        assert codec.replayed(codec.record(event, site.now)) == (event, site.now)
    event = SetpointReceived(1, "m", value, None, 5, tag_valid=False)
    assert repr(codec.replayed(codec.record(event, site.now))[0]) == repr(event)


def test_a_record_of_an_unknown_event_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Nothing"):
        codec.replayed('["Nothing",1,2]')


def test_the_status_is_json_and_says_why_a_charger_is_counted_as_it_is(bench: Make) -> None:
    site = bench(2)
    site.connect(A)
    status = describe(site.site, site.now)
    json.dumps(status)
    assert [charger["counted_as"] for charger in status["chargers"]] == ["holds its grant", "offline, keeps_limit"]
    (burden,) = status["counted_at_worst"]
    assert (burden["serial"], burden["worst_case_w"], burden["costs_w"]) == (B, 50_000, 50_000)
    assert "its connection" in burden["frees"]


def test_an_alarm_of_the_shell_is_shown_until_it_closes_and_must_be_opened_anew_after_a_start(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    opened = site.tell(ShellAlarm("dead_letters", "Site", True))
    assert of(AlarmChanged, opened) == [AlarmChanged("dead_letters", "Site", True)]
    assert site.point(Signal.COMMON_ALARM).value == 1
    assert {"alarm": "dead_letters", "subject": "Site"} in describe(site.site, site.now)["alarms"]
    assert of(AlarmChanged, site.tell(ShellAlarm("dead_letters", "Site", True))) == []
    site.tell(ShellAlarm("dead_letters", "Site", False))
    assert site.point(Signal.COMMON_ALARM).value == 0
    site.tell(ShellAlarm("dead_letters", "Site", True), Started("boot", site.site.plan))
    assert ("dead_letters", "Site") not in site.site.alarms
