"""What the CSMS is told of the grid limit: each beginning and end, each significant change, and not its own wish."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.limit import Source
from bridge.ocpp201.grid_limit import GridLimit, Notice
from bridge.ocpp201.schemas import Schemas201

T0 = 1_788_256_800_000
SCHEMAS = Schemas201()
CLEARED_SO = ("ClearedChargingLimit", {"chargingLimitSource": "SO"})


def actions(notice: Notice) -> list[str]:
    for action, payload in notice.requests:
        assert SCHEMAS.problem_in_request(action, payload) is None
    return [action for action, _ in notice.requests]


def limited(grant_w: int = 20_000, source: Source = Source.SETPOINT) -> GridLimit:
    grid = GridLimit(50_000)
    grid.granted(grant_w, None, source, T0)
    return grid


def test_the_first_limit_is_told_with_its_source_and_schedule() -> None:
    notice = GridLimit(50_000).granted(20_000, None, Source.SETPOINT, T0)
    assert notice.requests == [
        (
            "NotifyChargingLimit",
            {
                "chargingLimit": {"chargingLimitSource": "SO", "isGridCritical": False},
                "chargingSchedule": [
                    {
                        "id": T0 // 1_000 - 1_577_836_800,
                        "startSchedule": "2026-09-01T10:00:00.000Z",
                        "chargingRateUnit": "W",
                        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20_000}],
                    }
                ],
            },
        )
    ]
    assert notice.charging_rate_changed
    assert actions(notice)


@pytest.mark.parametrize(
    ("grant_w", "told"), [(20_200, False), (20_201, True), (19_800, False), (19_799, True), (20_000, False), (0, True)]
)
def test_a_change_of_more_than_one_percent_is_told_and_a_lesser_one_is_not(grant_w: int, told: bool) -> None:
    notice = limited().granted(grant_w, None, Source.SETPOINT, T0)
    assert actions(notice) == (["NotifyChargingLimit"] if told else [])
    assert notice.charging_rate_changed is told


def test_small_changes_add_up_until_they_are_told() -> None:
    grid = limited()
    told = [bool(grid.granted(20_000 - 100 * n, None, Source.SETPOINT, T0).requests) for n in range(1, 4)]
    assert told == [False, False, True]


def test_from_zero_any_rise_is_significant() -> None:
    assert actions(limited(0).granted(1, None, Source.SETPOINT, T0)) == ["NotifyChargingLimit"]


def test_the_release_is_told_and_ends_the_report() -> None:
    grid = limited()
    assert grid.reported() is not None
    notice = grid.granted(50_000, None, Source.SETPOINT, T0)
    assert notice == Notice([CLEARED_SO], charging_rate_changed=True)
    assert actions(notice)
    assert grid.reported() is None
    assert grid.granted(50_000, None, Source.SETPOINT, T0) == Notice([])


def test_after_a_restart_a_charger_without_a_limit_is_cleared_once_since_nobody_knows_what_was_told() -> None:
    grid = GridLimit(50_000)
    assert grid.granted(50_000, None, Source.CAPACITY, T0) == Notice([CLEARED_SO], charging_rate_changed=False)
    assert grid.granted(50_000, None, Source.CAPACITY, T0) == Notice([])


@pytest.mark.parametrize(
    ("source", "limit_source", "critical"),
    [
        (Source.SETPOINT, "SO", False),
        (Source.STEP, "SO", False),
        (Source.AT_START, "SO", False),
        (Source.FALLBACK, "SO", True),
        (Source.EMERGENCY_STOP, "SO", True),
        (Source.CAPACITY, "EMS", False),
        (Source.MANUAL, "Other", False),
    ],
)
def test_each_limit_is_told_under_whose_it_is_and_never_as_the_csms_own(
    source: Source, limit_source: str, critical: bool
) -> None:
    ((_, payload),) = GridLimit(50_000).granted(6_000, None, source, T0).requests
    assert payload["chargingLimit"] == {"chargingLimitSource": limit_source, "isGridCritical": critical}


def test_a_reduction_by_fallback_is_critical_a_rise_by_it_is_not() -> None:
    ((_, down),) = limited().granted(6_000, None, Source.FALLBACK, T0).requests
    ((_, up),) = limited().granted(30_000, None, Source.FALLBACK, T0).requests
    assert down["chargingLimit"]["isGridCritical"]
    assert not up["chargingLimit"]["isGridCritical"]


def test_a_limit_that_passes_to_another_source_is_cleared_under_the_old_one() -> None:
    notice = limited().granted(20_000, None, Source.CAPACITY, T0)
    assert actions(notice) == ["ClearedChargingLimit", "NotifyChargingLimit"]
    assert notice.requests[0] == CLEARED_SO


def test_what_the_csms_wished_itself_is_no_grid_limit() -> None:
    grid = limited()
    assert actions(grid.granted(10_000, 10_000, Source.SETPOINT, T0)) == ["ClearedChargingLimit"]
    assert actions(grid.granted(9_000, 10_000, Source.SETPOINT, T0)) == ["NotifyChargingLimit"]


def test_what_never_arrived_is_said_again() -> None:
    grid = limited()
    assert grid.again(T0) == Notice([])
    grid.not_told()
    assert actions(grid.again(T0)) == ["NotifyChargingLimit"]
    assert grid.again(T0) == Notice([])


def test_the_charging_rate_changes_once_however_often_it_must_be_told() -> None:
    grid = limited()
    grid.not_told()
    assert grid.again(T0).charging_rate_changed is False
    grid.not_told()
    notice = grid.granted(20_000, None, Source.SETPOINT, T0)
    assert actions(notice) == ["NotifyChargingLimit"]
    assert notice.charging_rate_changed is False


def test_the_report_is_an_external_constraint_with_a_negative_id() -> None:
    grid = limited(4_200)
    reported = grid.reported()
    assert reported is not None
    source, charging_profile = reported
    report: dict[str, Any] = {"requestId": 7, "chargingLimitSource": source, "evseId": 0}
    assert (
        SCHEMAS.problem_in_request("ReportChargingProfiles", report | {"chargingProfile": [charging_profile]}) is None
    )
    assert (source, charging_profile["id"], charging_profile["stackLevel"]) == ("SO", -1, 0)
    assert charging_profile["chargingProfilePurpose"] == "ChargingStationExternalConstraints"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 60_000), st.none() | st.integers(0, 60_000), st.sampled_from(Source), st.integers(0, 3_000)
        )
    )
)
def test_whatever_is_granted_the_csms_never_believes_in_another_limit_than_there_is(grants: list[Any]) -> None:
    grid = GridLimit(50_000)
    believed: dict[str, int] = {}
    ids: list[int] = []
    at_ms = T0
    for grant_w, wish_w, source, later_ms in grants:
        at_ms += later_ms
        notice = grid.granted(grant_w, wish_w, source, at_ms)
        for action, payload in notice.requests:
            assert SCHEMAS.problem_in_request(action, payload) is None
            if action == "ClearedChargingLimit":
                believed.pop(payload["chargingLimitSource"], None)
            else:
                (schedule,) = payload["chargingSchedule"]
                believed[payload["chargingLimit"]["chargingLimitSource"]] = schedule["chargingSchedulePeriod"][0][
                    "limit"
                ]
                ids.append(schedule["id"])
        now = grid.now
        assert set(believed) == (set() if now is None else {now.source})
        assert now is None or abs(believed[now.source] - now.limit_w) * 100 <= believed[now.source]
    assert len(set(ids)) == len(ids)
