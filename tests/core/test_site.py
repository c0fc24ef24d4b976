"""The site as a whole: setpoints, telemetry, what is lost with the journal, and that all of it can be replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from bridge.core import codec
from bridge.core.fallback import LinkState
from bridge.core.limit import Limit, Source
from bridge.core.messages import (
    AlarmChanged,
    Alive,
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Confirm,
    Event,
    InvariantBroken,
    JournalLost,
    LimitAnswered,
    LimitChanged,
    LinkChanged,
    LinkStateChanged,
    ManualLimitSet,
    MeterSampled,
    PointChanged,
    Reason,
    SessionChanged,
    SetFloor,
    SetLimit,
    SetpointReceived,
    SetpointRevoked,
    ShellAlarm,
    Started,
    Terminate,
    WishChanged,
)
from bridge.core.plan import Offline
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.core.site import Site, new_site, next_deadline
from bridge.core.status import describe
from tests.core.bench import UTC_MS, Bench, charger_plan, of, points, site_plan

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


def test_before_it_is_started_a_site_holds_the_limit_of_the_start(bench: Make) -> None:
    plan = bench(1, at_start_w=30_000).plan
    assert new_site(plan, "boot", Now(0, UTC_MS)).limit == Limit(30_000, Source.AT_START)


@pytest.mark.parametrize(("step_ms", "counted_w"), [(999, 0), (1_000, 3_000), (-999, 0), (-1_000, 3_000)])
def test_a_step_of_the_wall_clock_by_a_second_may_have_ended_every_lease_at_once(step_ms: int, counted_w: int) -> None:
    site = Bench(site_plan(charger_plan(0, lease_ms=120_000, floor_w=3_000), hold_ms=None))
    effects = site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"), WishChanged(A, 0))
    for _ in range(3):
        orders = [effect for effect in effects if isinstance(effect, SetFloor | SetLimit)]
        effects = site.tell(*(LimitAnswered(A, order.order, Answer.ACCEPTED) for order in orders)) + site.wait(3)
    assert site.site.ledger.total_w == 0
    site.utc_ms += step_ms
    site.tell(Alive())
    assert site.site.ledger.total_w == counted_w


def test_what_can_no_longer_be_trusted_is_an_alarm_of_its_own(bench: Make) -> None:
    site = bench(1)
    assert AlarmChanged("journal_lost", "Depot Nord", True) in site.tell(JournalLost())
    assert AlarmChanged("invariant_broken", "Depot Nord", True) in site.tell(InvariantBroken("why"))


def test_the_time_to_reach_counts_from_the_acceptance_to_the_proof() -> None:
    points_ = PointTable((*points(1).points, Point(PointAddress(1, 500), PointKind.MEASURED, Signal.TIME_TO_REACH_S)))
    site = Bench(site_plan(charger_plan(0), points=points_))
    site.connect(A)
    site.link_up()
    site.wait(60)
    effects = site.setpoint(20_000.0)
    site.wait(1.5)
    site.answer(effects)
    site.wait(10)
    assert site.point(Signal.TIME_TO_REACH_S).value == 3.5


def test_a_revoked_command_is_never_terminated_and_no_other_is_revoked_in_its_place(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.link_up()
    site.setpoint(50_000.0)
    effects = site.setpoint(20_000.0)
    site.tell(SetpointRevoked(1))
    assert site.site.limit.power_w == 20_000
    site.tell(SetpointRevoked(2))
    effects = [*effects, *site.tell(WishChanged(A, 6_000))]
    for _ in range(3):
        effects = [*site.answer(effects), *site.wait(3)]
        assert of(Terminate, effects) == []


def test_a_command_is_revoked_only_once(bench: Make) -> None:
    site = bench(1)
    site.link_up()
    site.setpoint(50_000.0)
    site.tell(SetpointRevoked(1), LinkChanged(0))
    site.wait(301)
    site.tell(SetpointRevoked(1))
    assert (site.site.limit.power_w, site.site.limit.source.value) == (10_000, "fallback")


def test_a_manual_limit_of_nothing_is_one_and_less_than_nothing_is_the_same(bench: Make) -> None:
    site = bench(1)
    for limit_w in (0, -5):
        site.tell(ManualLimitSet(limit_w, "Ada", "work on the transformer"))
        assert (site.site.limit.power_w, site.site.limit.source.value) == (0, "manual")


def test_a_move_of_the_link_is_told_and_a_revoked_setpoint_leaves_nobody_there_who_is_not(bench: Make) -> None:
    site = bench(1)
    assert LinkStateChanged("HOLD", "CONNECTED") in site.link_up()
    site.tell(LinkChanged(0))
    site.wait(301)
    site.link_up()
    site.setpoint(50_000.0)
    site.tell(LinkChanged(0), SetpointRevoked(1))
    assert site.site.link.state is LinkState.FALLBACK


def test_a_setpoint_that_ends_the_fallback_is_terminated_and_one_that_the_fallback_replaced_is_not(bench: Make) -> None:
    site = bench(1, fallback_w=5_000)
    site.connect(A)
    site.tell(LinkChanged(0))
    site.answer(site.wait(301))
    site.wait(3)
    site.link_up()
    effects = site.setpoint(20_000.0)
    assert of(Terminate, effects) == [Terminate(1)]
    site.answer(effects)
    effects = site.setpoint(10_000.0)
    site.tell(LinkChanged(0))
    effects = site.answer(effects, Answer.NOT_SENT) + site.wait(301)
    for _ in range(5):
        effects = site.answer(effects) + site.wait(3)
        assert of(Terminate, effects) == []


def test_a_connection_that_takes_the_place_of_another_proves_nothing_of_what_that_one_knew() -> None:
    site = Bench(site_plan(charger_plan(0, offline=Offline.NAMEPLATE), at_start_w=20_000))
    site.connect(A)
    assert site.site.ledger.total_w == 20_000
    (again,) = of(SetLimit, site.tell(ChargerConnected(A)))
    assert (again.limit_w, site.site.ledger.total_w) == (20_000, 50_000)


def test_after_a_new_connection_a_lease_may_have_ended_until_its_clock_was_heard_again() -> None:
    site = Bench(site_plan(charger_plan(0, lease_ms=120_000, floor_w=3_000), hold_ms=None))
    effects = site.tell(ChargerConnected(A), ChargerBooted(A, "m", "f"), WishChanged(A, 0))
    for _ in range(3):
        orders = [effect for effect in effects if isinstance(effect, SetFloor | SetLimit)]
        effects = site.tell(*(LimitAnswered(A, order.order, Answer.ACCEPTED) for order in orders)) + site.wait(3)
    site.tell(ChargerDisconnected(A))
    assert site.site.ledger.total_w == 0
    site.tell(ChargerConnected(A))
    assert site.site.ledger.total_w == 3_000


def test_a_vehicle_that_arrives_at_a_metered_unit_takes_its_share_back_at_once(bench: Make) -> None:
    site = bench(2, hold_ms=None, capacity_w=40_000, at_start_w=40_000)
    site.connect(A, B)
    site.answer(site.tell(SessionChanged(A, active=True)))
    for _ in range(3):
        site.answer(site.tell(MeterSampled(B, site.utc_ms, power_w=0)) + site.wait(6))
    assert site.site.chargers[B].grant_w == 6_000
    cut = of(SetLimit, site.tell(SessionChanged(B, active=True)))
    assert [(order.serial, order.limit_w) for order in cut] == [(A, 20_000)]


def test_a_session_that_is_told_twice_changes_nothing_the_second_time(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.tell(SessionChanged(A, active=True))
    before = codec.pack(site.site)
    assert site.tell(SessionChanged(A, active=True)) == []
    assert codec.pack(site.site) == before


def test_a_demand_that_changes_by_no_more_than_a_tenth_moves_no_share(bench: Make) -> None:
    site = bench(1, hold_ms=None)
    site.connect(A)
    site.tell(SessionChanged(A, active=True))
    found = []
    for power_w in (9_000, 9_000, 9_000, 10_000, 10_001):
        site.tell(MeterSampled(A, site.utc_ms, power_w=power_w))
        found.append(site.site.chargers[A].demand_w)
    assert found[2:] == [10_000, 10_000, 11_001]


def test_the_site_power_is_topical_once_every_unit_in_service_was_heard() -> None:
    out_of_service = charger_plan(2, out_of_service=True)
    site = Bench(site_plan(charger_plan(0), charger_plan(1), out_of_service))
    site.tell(ChargerConnected(A), ChargerConnected(B))
    found = []
    for serial in (A, B):
        site.tell(MeterSampled(serial, UTC_MS, power_w=5_000))
        found.append(site.point(Signal.SITE_POWER_W).quality)
    assert found == [Quality.NOT_TOPICAL, Quality.GOOD]


def test_a_restart_shows_everything_anew(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.link_up()
    site.setpoint(20_000.0)
    site.tell(MeterSampled(A, UTC_MS, power_w=5_000))
    before = {(change.point.signal, change.point.charger) for change in of(PointChanged, site.effects)}
    after = of(PointChanged, site.tell(Started(site.boot, site.plan)))
    assert {(change.point.signal, change.point.charger) for change in after} == before


def test_a_unit_that_is_planned_no_more_is_forgotten_by_a_restart(bench: Make) -> None:
    site, smaller = bench(2), bench(1).plan
    site.connect(A, B)
    site.answer(site.tell(MeterSampled(B, site.utc_ms, power_w=5_000)), Answer.REFUSED)
    site.tell(ChargerBooted(B, "m", "f"))
    site.tell(Started(site.boot, smaller))
    site.tell(ChargerConnected(A), MeterSampled(A, site.utc_ms, power_w=1_000))
    site.wait(600)
    assert describe(site.site, site.now)["power_w"] == 1_000
    assert [each["serial"] for each in describe(site.site, site.now)["counted_at_worst"]] == []


def test_after_a_reboot_of_the_machine_a_unit_that_connects_is_told_at_once(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.boot, site.now_ms, site.utc_ms = "boot-2", 5_000, site.utc_ms + 60_000
    site.tell(Started(site.boot, site.plan))
    assert len(of(SetLimit, site.tell(ChargerConnected(A)))) == 1


def test_another_limit_is_told_and_a_command_is_terminated_once_whatever_happens_then(bench: Make) -> None:
    site = bench(1)
    site.connect(A)
    site.link_up()
    effects = site.setpoint(20_000.0)
    assert of(LimitChanged, effects) == [LimitChanged(20_000, "setpoint")]
    assert of(Terminate, [*site.answer(effects), *site.wait(3)]) == [Terminate(1)]
    later = site.tell(SessionChanged(A, active=True), WishChanged(A, 10_000))
    assert of(Terminate, [*later, *site.answer(later), *site.wait(10)]) == []


def test_a_site_at_rest_sleeps_until_the_world_changes(bench: Make) -> None:
    site = bench(2, hold_ms=None)
    site.connect(A, B)
    site.wait(10)
    assert next_deadline(site.site) is None


@pytest.mark.parametrize("slot", range(3))
@pytest.mark.parametrize("late", range(3))
def test_who_comes_within_a_slot_takes_the_place_of_nobody_who_runs(slot: int, late: int) -> None:
    units = [charger_plan(index, offline=Offline.STOPS) for index in range(3)]
    site = Bench(site_plan(*units, capacity_w=14_000, at_start_w=14_000, hold_ms=None))
    site.utc_ms += (slot + 3) * 900_000 - site.utc_ms % 2_700_000
    early = [unit.serial for unit in units if unit.index != late]
    site.connect(*early)
    site.connect(units[late].serial)
    fed = {serial for serial, charger in site.site.chargers.items() if charger.target_w > 0}
    assert fed == set(early)


def test_a_site_without_units_has_no_alarm_and_says_so() -> None:
    site = Bench(site_plan())
    assert site.point(Signal.COMMON_ALARM).value == 0


def test_the_number_counted_at_worst_is_a_point() -> None:
    points_ = PointTable((*points(2).points, Point(PointAddress(1, 500), PointKind.MEASURED, Signal.CHARGERS_AT_WORST)))
    site = Bench(site_plan(charger_plan(0), charger_plan(1), points=points_))
    found = [site.point(Signal.CHARGERS_AT_WORST).value]
    for serial in (A, B):
        site.connect(serial)
        found.append(site.point(Signal.CHARGERS_AT_WORST).value)
    assert found == [2, 1, 0]


def test_a_grant_is_invalid_before_the_first_and_not_topical_while_it_is_not_acknowledged_anew(bench: Make) -> None:
    site = bench(1, at_start_w=20_000)
    grant = site.point(Signal.CHARGER_GRANT_W, 0)
    assert (grant.value, bool(grant.quality & Quality.INVALID)) == (0, True)
    site.connect(A)
    site.tell(ChargerDisconnected(A))
    grant = site.point(Signal.CHARGER_GRANT_W, 0)
    assert (grant.value, grant.quality) == (20_000, Quality.NOT_TOPICAL)
