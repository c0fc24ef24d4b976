"""What was commanded is shown: each switch and step as a point of its own, and how many chargers there are for it."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.core.messages import (
    ChargerConnected,
    ChargerDisconnected,
    Effect,
    ManualLimitLifted,
    ManualLimitSet,
    PointChanged,
    SessionChanged,
    SetpointRevoked,
    Switch,
    SwitchReceived,
)
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from tests.core.bench import Bench, charger_plan, points, site_plan

SHOWN = [
    (400, Signal.LIMIT_ENABLED, None),
    (401, Signal.EMERGENCY_STOP_ACTIVE, None),
    *((402 + place, Signal.LIMIT_STEP_ACTIVE, percent) for place, percent in enumerate((100, 60, 30, 0))),
    (406, Signal.LOCAL_LIMIT_ACTIVE, None),
]
COUNTED = [(410, Signal.CHARGERS_CONNECTED), (411, Signal.CHARGERS_CHARGING)]


def bench() -> Bench:
    single = [Point(PointAddress(1, at), PointKind.SINGLE, signal, percent=of) for at, signal, of in SHOWN]
    counted = [Point(PointAddress(1, at), PointKind.MEASURED, signal) for at, signal in COUNTED]
    table = PointTable((*points(2).points, *single, *counted))
    return Bench(site_plan(charger_plan(0), charger_plan(1), points=table))


def shown(effects: Sequence[Effect]) -> dict[int, float]:
    """Value by address of what is newly shown of these points, each good and reported at once."""
    changes = [each for each in effects if isinstance(each, PointChanged) and 400 <= each.point.address.ioa < 500]
    assert all(each.report and each.quality is Quality.GOOD for each in changes)
    return {each.point.address.ioa: each.value for each in changes}


def switch(command: int, kind: Switch, *, on: bool, percent: int = 100) -> SwitchReceived:
    return SwitchReceived(command, "m", kind, on, percent)


def test_every_switch_has_a_point_that_shows_it_from_the_start_on() -> None:
    site = bench()
    assert shown(site.effects) == {400: 1, 401: 0, 402: 0, 403: 0, 404: 0, 405: 0, 406: 0, 410: 0, 411: 0}
    assert shown(site.tell(switch(1, Switch.EMERGENCY_STOP, on=True))) == {401: 1}
    assert shown(site.tell(switch(2, Switch.LIMIT_ENABLED, on=False))) == {400: 0}
    assert shown(site.tell(switch(3, Switch.EMERGENCY_STOP, on=False))) == {401: 0}


def test_one_step_is_shown_at_a_time_and_none_where_none_holds() -> None:
    site = bench()
    assert shown(site.tell(switch(1, Switch.STEP, on=True, percent=60))) == {403: 1}
    assert shown(site.tell(switch(2, Switch.STEP, on=True, percent=0))) == {403: 0, 405: 1}
    assert shown(site.tell(switch(3, Switch.STEP, on=False, percent=0))) == {405: 0}


def test_a_switch_that_is_revoked_is_shown_as_it_was() -> None:
    site = bench()
    site.tell(switch(1, Switch.EMERGENCY_STOP, on=True))
    assert shown(site.tell(SetpointRevoked(1))) == {401: 0}


def test_a_limit_set_at_the_site_is_shown_while_it_holds() -> None:
    site = bench()
    assert shown(site.tell(ManualLimitSet(50_000, "Ada", "work on the transformer"))) == {406: 1}
    assert shown(site.tell(ManualLimitLifted("Ada"))) == {406: 0}


def test_chargers_are_counted_as_they_come_serve_and_go() -> None:
    site = bench()
    assert shown(site.tell(ChargerConnected("S4-0000")))[410] == 1
    assert shown(site.tell(SessionChanged("S4-0000", active=True)))[411] == 1
    assert shown(site.tell(ChargerDisconnected("S4-0000"))) == {410: 0, 411: 0}
