"""What the seeded worlds found: each of these was once wrong."""

from __future__ import annotations

from dataclasses import replace

from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    JournalLost,
    LimitAnswered,
    LinkChanged,
    SessionChanged,
    SetFloor,
    SetLimit,
    SetpointRevoked,
    Started,
    Switch,
    SwitchReceived,
    Terminate,
    WishChanged,
)
from bridge.core.plan import Offline
from bridge.core.points import Signal
from tests.core.bench import Bench, charger_plan, of, site_plan

LEASE = {"lease_ms": 120_000, "floor_w": 3_000, "reaction_ms": 5_000}


def leased(bench: Bench, serial: str = "S4-0000") -> None:
    """It connects, has its floor installed and takes its first grant."""
    effects = bench.tell(ChargerConnected(serial), ChargerBooted(serial, "S4-ULTRA", "1.0"))
    (floor,) = of(SetFloor, effects)
    effects = bench.tell(LimitAnswered(serial, floor.order, Answer.ACCEPTED))
    bench.answer(effects)
    bench.wait(6)


def test_a_setpoint_that_is_switched_off_is_not_terminated_while_more_may_be_drawn() -> None:
    bench = Bench(site_plan(charger_plan(0)))
    bench.link_up()
    bench.connect("S4-0000")
    bench.tell(SwitchReceived(1, "master", Switch.LIMIT_ENABLED, on=False))
    bench.command = 1
    assert not of(Terminate, bench.setpoint(20_000.0))
    effects = bench.tell(SwitchReceived(3, "master", Switch.LIMIT_ENABLED, on=True))
    effects += bench.answer(effects)
    assert [effect.command for effect in of(Terminate, effects + bench.wait(6))] == [3]


def test_a_setpoint_of_a_group_that_does_not_decide_is_not_terminated_while_more_may_be_drawn() -> None:
    bench = Bench(site_plan(charger_plan(0), deciding_group="A"))
    bench.link_up()
    bench.connect("S4-0000")
    assert of(Terminate, bench.setpoint(50_000.0, group="A"))
    assert not of(Terminate, bench.setpoint(20_000.0, group="B"))


def test_after_a_boot_the_floor_counts_until_a_grant_is_accepted_again() -> None:
    bench = Bench(site_plan(charger_plan(0, **LEASE)))
    bench.link_up()
    leased(bench)
    bench.setpoint(6_000.0)
    bench.answer(bench.effects[-5:])
    bench.wait(6)
    effects = bench.tell(WishChanged("S4-0000", 0))
    bench.answer(effects)
    bench.wait(6)
    assert bench.site.ledger.total_w == 0
    effects = bench.tell(ChargerBooted("S4-0000", "S4-ULTRA", "1.0"))
    effects = bench.tell(LimitAnswered("S4-0000", of(SetFloor, effects)[0].order, Answer.ACCEPTED))
    bench.wait(4)
    bench.answer(effects)
    bench.wait(4)
    assert bench.site.ledger.total_w == 3_000, "the floor may still be drawn for the reaction time"
    bench.wait(2)
    assert bench.site.ledger.total_w == 0


def test_a_floor_alone_does_not_prove_that_no_grant_of_an_earlier_life_is_left() -> None:
    bench = Bench(site_plan(charger_plan(0, **LEASE)))
    bench.setpoint(10_000.0)
    effects = bench.tell(ChargerConnected("S4-0000"), ChargerBooted("S4-0000", "S4-ULTRA", "1.0"))
    bench.tell(LimitAnswered("S4-0000", of(SetFloor, effects)[0].order, Answer.ACCEPTED))
    bench.wait(10)
    assert bench.site.ledger.total_w == 50_000


def test_without_a_journal_no_grant_is_raised() -> None:
    bench = Bench(site_plan(charger_plan(0)))
    bench.link_up()
    bench.setpoint(20_000.0)
    bench.connect("S4-0000")
    effects = bench.tell(WishChanged("S4-0000", 8_000))
    bench.answer(effects)
    bench.wait(3)
    effects = bench.tell(JournalLost(), WishChanged("S4-0000", None))
    assert not of(SetLimit, effects + bench.wait(10)), "after a restart only what was recorded would count"
    assert [order.limit_w for order in of(SetLimit, bench.tell(WishChanged("S4-0000", 6_000)))] == [6_000]


def test_a_charger_that_is_planned_otherwise_after_a_restart_is_proven_anew() -> None:
    bench = Bench(site_plan(charger_plan(0, **LEASE)))
    bench.link_up()
    bench.setpoint(10_000.0)
    leased(bench)
    bench.tell(WishChanged("S4-0000", 7_000))
    plan = replace(bench.plan, chargers=(replace(bench.plan.chargers[0], floor_w=0),))
    bench.tell(Started(bench.boot, plan))
    assert bench.site.ledger.total_w == 50_000, "the floor in the charger is still the old one"
    assert bench.site.chargers["S4-0000"].wish_w == 7_000


def test_a_charger_planned_otherwise_that_stops_offline_is_given_its_reaction_time() -> None:
    bench = Bench(site_plan(charger_plan(0, offline=Offline.STOPS)))
    bench.link_up()
    bench.connect("S4-0000")
    plan = replace(bench.plan, chargers=(replace(bench.plan.chargers[0], minimum_w=5_000),))
    bench.tell(Started(bench.boot, plan))
    assert bench.site.ledger.total_w == 50_000
    bench.wait(3)
    assert bench.site.ledger.total_w == 0


def test_a_wall_clock_that_jumped_while_the_machine_was_down_ends_no_lease() -> None:
    bench = Bench(site_plan(charger_plan(0, **LEASE)))
    bench.link_up()
    bench.setpoint(10_000.0)
    leased(bench)
    bench.now_ms, bench.utc_ms = 5_000, bench.utc_ms + 2 * 3_600_000
    bench.tell(Started("boot-2", bench.plan))
    assert bench.site.ledger.total_w == 10_000
    bench.wait(140)
    assert bench.site.ledger.total_w == 3_000


def test_after_a_reboot_of_the_machine_a_grant_may_have_ended_in_a_higher_floor() -> None:
    bench = Bench(site_plan(charger_plan(0, **LEASE)))
    bench.link_up()
    leased(bench)
    bench.answer(bench.tell(WishChanged("S4-0000", 0)))
    bench.wait(6)
    assert bench.site.ledger.total_w == 0
    bench.now_ms, bench.utc_ms = 5_000, bench.utc_ms + 60_000
    bench.tell(Started("boot-2", bench.plan))
    assert bench.site.ledger.total_w == 3_000


def test_a_ramp_goes_on_after_a_reboot_of_the_machine() -> None:
    bench = Bench(site_plan(charger_plan(0, offline=Offline.KEEPS_LIMIT), ramp_w_per_s=1_000))
    bench.link_up()
    bench.setpoint(20_000.0)
    bench.connect("S4-0000")
    bench.wait(60)
    bench.now_ms, bench.utc_ms = 5_000, bench.utc_ms + 10_000
    bench.tell(Started("boot-2", bench.plan))
    bench.link_up()
    bench.connect("S4-0000")
    bench.wait(5)
    assert bench.site.chargers["S4-0000"].target_w == 20_000


def test_a_charger_that_accepts_after_a_refusal_is_given_its_share_at_once() -> None:
    bench = Bench(site_plan(charger_plan(0), charger_plan(1, offline=Offline.NAMEPLATE)))
    bench.link_up()
    bench.setpoint(20_000.0)
    bench.answer(bench.tell(ChargerConnected("S4-0000")), Answer.REFUSED)
    effects = bench.wait(3)
    assert [order.limit_w for order in of(SetLimit, effects)] == [6_000], "its way back to trust"
    effects = bench.answer(effects) + bench.wait(0.1)
    assert [order.limit_w for order in of(SetLimit, effects)] == [0], "the unreachable one leaves nothing for it"


def test_a_large_site_never_says_for_a_moment_that_a_limit_is_reached_which_is_not() -> None:
    bench = Bench(site_plan(*(charger_plan(index, offline=Offline.NAMEPLATE) for index in range(60))))
    bench.link_up()
    serials = [plan.serial for plan in bench.plan.chargers]
    effects = bench.tell(*(ChargerConnected(serial) for serial in serials))
    for _ in range(20):
        effects = bench.answer(effects) + bench.wait(3)
    assert bench.point(Signal.LIMIT_REACHED).value
    bench.tell(SessionChanged(serials[0], active=True))
    bench.tell(ChargerBooted(serials[1], "S4-ULTRA", "1.0"))
    assert bench.site.ledger.total_w > bench.site.limit.power_w
    assert not bench.point(Signal.LIMIT_REACHED).value


def test_who_stops_offline_may_have_come_back_unrecorded_before_a_restart() -> None:
    bench = Bench(site_plan(charger_plan(0, offline=Offline.STOPS)))
    bench.link_up()
    bench.connect("S4-0000")
    bench.tell(ChargerDisconnected("S4-0000"))
    bench.wait(10)
    assert bench.site.ledger.total_w == 0
    bench.tell(Started(bench.boot, bench.plan))
    assert bench.site.ledger.total_w == 50_000
    bench.wait(3)
    assert bench.site.ledger.total_w == 0


def test_a_setpoint_revoked_after_the_link_was_lost_leaves_the_fallback_in_force() -> None:
    bench = Bench(site_plan(charger_plan(0)))
    bench.link_up()
    bench.setpoint(90_000.0)
    bench.tell(LinkChanged(0))
    bench.wait(301)
    bench.link_up()
    bench.setpoint(50_000.0)
    bench.tell(LinkChanged(0))
    bench.tell(SetpointRevoked(bench.command))
    assert bench.site.limit.power_w == bench.plan.fallback_w


def test_without_a_journal_no_lease_is_renewed_and_a_cut_goes_to_the_floor() -> None:
    bench = Bench(site_plan(charger_plan(0, **LEASE)))
    bench.link_up()
    bench.setpoint(20_000.0)
    leased(bench)
    effects = bench.tell(JournalLost())
    assert [order.limit_w for order in of(SetLimit, effects)] == [3_000], "after the recorded end the floor counts"
    bench.answer(effects)
    assert not of(SetLimit, bench.wait(100))
