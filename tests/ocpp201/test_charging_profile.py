"""Limits as charging profiles: their form, and that no watt is added on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ocpp201.charging_profile import (
    NOMINAL_VOLTAGE_V,
    Grants,
    composite_limit_w,
    composite_request,
    floor_profile,
    grant_profile,
)
from bridge.ocpp201.schemas import Schemas201

START_UTC_MS = 1_788_256_800_000


def period(request: dict[str, Any]) -> dict[str, Any]:
    (schedule,) = request["chargingProfile"]["chargingSchedule"]
    (only,) = schedule["chargingSchedulePeriod"]
    return dict(only)


def test_a_grant_is_a_maximum_for_the_whole_station_absolute_from_now() -> None:
    assert grant_profile(20_000, START_UTC_MS, schedule_id=7) == {
        "evseId": 0,
        "chargingProfile": {
            "id": 104_001,
            "stackLevel": 1,
            "chargingProfilePurpose": "ChargingStationMaxProfile",
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [
                {
                    "id": 7,
                    "startSchedule": "2026-09-01T10:00:00.000Z",
                    "chargingRateUnit": "W",
                    "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 20_000}],
                }
            ],
        },
    }


def test_a_grant_can_end_by_itself_and_the_floor_below_it_never_does() -> None:
    grant = grant_profile(20_000, START_UTC_MS, schedule_id=1, valid_to_utc_ms=START_UTC_MS + 60_000)
    floor = floor_profile(4_200, START_UTC_MS, schedule_id=2)
    assert grant["chargingProfile"]["validTo"] == "2026-09-01T10:01:00.000Z"
    assert "validTo" not in floor["chargingProfile"]
    assert floor["chargingProfile"]["stackLevel"] < grant["chargingProfile"]["stackLevel"]
    assert floor["chargingProfile"]["id"] != grant["chargingProfile"]["id"]


@pytest.mark.parametrize(
    ("limit_w", "phases", "current_a"),
    [(4_200, 1, 18), (4_200, 3, 6), (4_139, 3, 0), (11_000, 3, 15), (22_000, 3, 31), (1_379, 1, 0), (0, 3, 0)],
)
def test_amperes_are_rounded_down_and_below_six_are_none(limit_w: int, phases: int, current_a: int) -> None:
    request = grant_profile(limit_w, START_UTC_MS, schedule_id=1, unit="A", phases=phases)
    assert period(request) == {"startPeriod": 0, "limit": current_a, "numberPhases": phases}


def test_a_step_never_leads_below_six_amperes() -> None:
    assert period(grant_profile(5_000, START_UTC_MS, schedule_id=1, unit="A", step=4))["limit"] == 0
    assert period(grant_profile(5_999, START_UTC_MS, schedule_id=1, step=500))["limit"] == 5_500


@given(
    st.integers(0, 1_000_000), st.sampled_from(["W", "A"]), st.integers(1, 500), st.integers(1, 3), st.integers(0, 9)
)
def test_no_charging_profile_allows_more_than_the_limit_and_each_is_valid(
    limit_w: int, unit: Any, step: int, phases: int, schedule_id: int
) -> None:
    request = grant_profile(limit_w, START_UTC_MS, schedule_id=schedule_id, unit=unit, step=step, phases=phases)
    factor = phases * NOMINAL_VOLTAGE_V if unit == "A" else 1
    allowed = period(request)["limit"]
    assert allowed * factor <= limit_w
    assert round(allowed, 1) == allowed
    assert Schemas201().problem_in_request("SetChargingProfile", request) is None


def composite(*limits: float, unit: str = "W", **more: Any) -> dict[str, Any]:
    periods = [{"startPeriod": number * 60, "limit": limit} | more for number, limit in enumerate(limits)]
    return {
        "status": "Accepted",
        "schedule": {
            "evseId": 0,
            "duration": 300,
            "scheduleStart": "2026-09-01T10:00:00Z",
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": periods,
        },
    }


@pytest.mark.parametrize(
    ("response", "limit_w"),
    [
        (composite(20_000), 20_000),
        (composite(6_000, 20_000.2), 20_001),
        (composite(16, unit="A"), 11_040),
        (composite(16, unit="A", numberPhases=1), 3_680),
        (composite(0), 0),
        (composite(1e300), 1_000_000_000),
        (composite(-1), None),
        ({"status": "Accepted"}, None),
        ({"status": "Rejected"}, None),
    ],
)
def test_the_composite_schedule_is_read_as_the_highest_power_it_allows(
    response: dict[str, Any], limit_w: int | None
) -> None:
    assert composite_limit_w(response, 3) == limit_w


def test_the_composite_schedule_is_asked_for_the_whole_station() -> None:
    assert Schemas201().problem_in_request("GetCompositeSchedule", composite_request()) is None
    assert composite_request()["evseId"] == 0


def test_stations_told_the_same_in_one_moment_are_told_it_in_the_same_words() -> None:
    grants = Grants()
    first = grants.form(20_000, START_UTC_MS, 7, "W", 1, 3, 60_000)
    assert first == grant_profile(20_000, START_UTC_MS, schedule_id=7, valid_to_utc_ms=START_UTC_MS + 60_000)
    assert grants.form(20_000, START_UTC_MS + 250, 8, "W", 1, 3, 60_000) is first


def test_another_limit_unit_lease_or_moment_has_words_of_its_own() -> None:
    grants = Grants()
    told = [
        grants.form(20_000, START_UTC_MS, 1, "W", 1, 3, None),
        grants.form(20_001, START_UTC_MS, 2, "W", 1, 3, None),
        grants.form(20_000, START_UTC_MS, 3, "A", 1, 3, None),
        grants.form(20_000, START_UTC_MS, 4, "W", 1, 3, 60_000),
        grants.form(20_000, START_UTC_MS + 251, 5, "W", 1, 3, None),
        grants.form(20_000, START_UTC_MS - 1, 6, "W", 1, 3, None),
    ]
    assert len({each.text for each in told}) == len(told)
    assert [each["chargingProfile"]["chargingSchedule"][0]["id"] for each in told] == [1, 2, 3, 4, 5, 6]
