"""The charging profiles of the CSMS: every rule of K01–K10, and that no sum of them ever allows more than its parts."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.ocpp201.profile_engine import ROOM, ChargingProfiles
from bridge.ocpp201.profile_rules import Abilities
from bridge.ocpp201.schemas import Schemas201
from bridge.ocpp201.timestamps import rfc3339

T0 = 1_788_256_800_000  # 2026-09-01T10:00:00Z, a Tuesday
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ACCEPTED = {"status": "Accepted"}
ABILITIES = Abilities(maximum_w=22_000, evses=2)


class FakeShelf:
    """Keeps values in a dictionary."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}

    def get(self, room: str, key: str) -> str | None:
        return self.values.get((room, key))

    def put(self, room: str, key: str, value: str) -> None:
        self.values[room, key] = value


def engine(abilities: Abilities = ABILITIES, shelf: FakeShelf | None = None) -> ChargingProfiles:
    return ChargingProfiles("S4-1", abilities, shelf or FakeShelf())


def profile(
    identity: int = 1,
    *limits: tuple[int, float],
    purpose: str = "TxDefaultProfile",
    kind: str = "Absolute",
    stack_level: int = 0,
    unit: str = "W",
    start: int | None = T0,
    duration: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    schedule: dict[str, Any] = {
        "id": identity,
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [{"startPeriod": s, "limit": limit} for s, limit in limits or [(0, 10_000)]],
    }
    if start is not None and kind != "Relative":
        schedule["startSchedule"] = rfc3339(start)
    if duration is not None:
        schedule["duration"] = duration
    return {
        "id": identity,
        "stackLevel": stack_level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": kind,
        "chargingSchedule": [schedule],
    } | more


def put(profiles: ChargingProfiles, charging_profile: dict[str, Any], evse_id: int = 0, at: int = T0) -> dict[str, Any]:
    request = {"evseId": evse_id, "chargingProfile": charging_profile}
    assert Schemas201().problem_in_request("SetChargingProfile", request) is None
    response = profiles.set_charging_profile(request, at)
    assert Schemas201().problem_in_response("SetChargingProfile", response) is None
    return response


def clear(profiles: ChargingProfiles, request: dict[str, Any]) -> str:
    assert Schemas201().problem_in_request("ClearChargingProfile", request) is None
    response = profiles.clear_charging_profile(request)
    assert Schemas201().problem_in_response("ClearChargingProfile", response) is None
    return str(response["status"])


def composite(profiles: ChargingProfiles, at: int = T0, external_w: int | None = None, **request: Any) -> Any:
    asked = {"evseId": 0, "duration": 86_400} | request
    assert Schemas201().problem_in_request("GetCompositeSchedule", asked) is None
    response = profiles.get_composite_schedule(asked, at, external_w)
    assert Schemas201().problem_in_response("GetCompositeSchedule", response) is None
    return response


def steps(response: dict[str, Any]) -> list[tuple[int, float]]:
    return [(each["startPeriod"], each["limit"]) for each in response["schedule"]["chargingSchedulePeriod"]]


def get(profiles: ChargingProfiles, criteria: dict[str, Any], external: Any = None, **request: Any) -> Any:
    asked = {"requestId": 7, "chargingProfile": criteria} | request
    assert Schemas201().problem_in_request("GetChargingProfiles", asked) is None
    response, reports = profiles.get_charging_profiles(asked, external)
    assert Schemas201().problem_in_response("GetChargingProfiles", response) is None
    for report in reports:
        assert Schemas201().problem_in_request("ReportChargingProfiles", report) is None
    return response["status"], reports


def reason(response: dict[str, Any]) -> str:
    assert response["status"] == "Rejected"
    return str(response["statusInfo"]["reasonCode"])


def with_schedule(**changes: Any) -> dict[str, Any]:
    charging_profile = profile()
    charging_profile["chargingSchedule"][0] |= changes
    return charging_profile


def with_period(**changes: Any) -> dict[str, Any]:
    return with_schedule(chargingSchedulePeriod=[{"startPeriod": 0, "limit": 6_000} | changes])


MAXIMUM: dict[str, Any] = {"purpose": "ChargingStationMaxProfile"}
OWN: dict[str, Any] = {"purpose": "TxProfile"}


@pytest.mark.parametrize(
    ("rule", "evse_id", "charging_profile", "reason_code"),
    [
        ("K01.FR.03", 1, profile(**OWN), "MissingParam"),
        ("K01.FR.09", 2, profile(**OWN, transactionId="tx"), "TxNotFound"),
        ("K01.FR.16", 0, profile(**OWN, transactionId="tx"), "InvalidProfile"),
        ("K01.FR.19", 1, with_period(numberPhases=3, phaseToUse=2), "InvalidSchedule"),
        ("K01.FR.22", 0, profile(purpose="ChargingStationExternalConstraints"), "InvalidValue"),
        ("K01.FR.26", 1, with_schedule(chargingRateUnit="A"), "UnsupportedRateUnit"),
        ("K01.FR.28", 3, profile(), "UnknownEvse"),
        ("K01.FR.28", -1, profile(), "UnknownEvse"),
        ("K01.FR.31", 1, profile(1, (60, 6_000)), "InvalidSchedule"),
        ("K01.FR.33", 1, profile(**OWN, transactionId="another"), "TxNotFound"),
        ("K01.FR.34", 1, profile() | {"chargingSchedule": profile()["chargingSchedule"] * 2}, "TooManyElements"),
        ("K01.FR.35", 1, profile(1, (0, 1), (60, 2), (60, 3)), "InvalidSchedule"),
        ("K01.FR.35", 1, profile(1, (0, 1), (60, 2), (30, 3)), "InvalidSchedule"),
        ("K01.FR.38", 0, profile(kind="Relative", **MAXIMUM), "InvalidProfile"),
        ("K01.FR.40", 1, profile(start=None), "InvalidSchedule"),
        ("K01.FR.40", 1, profile(kind="Recurring", start=None, recurrencyKind="Daily"), "InvalidSchedule"),
        ("K01.FR.41", 1, profile() | {"chargingProfileKind": "Relative"}, "InvalidSchedule"),
        ("K01.FR.43", 1, with_period(numberPhases=1), "UnsupportedParam"),
        ("K01.FR.48", 1, with_period(numberPhases=1, phaseToUse=2), "UnsupportedParam"),
        ("K04.FR.03", 1, profile(**MAXIMUM), "InvalidProfile"),
        ("limit", 1, profile(1, (0, 6.25)), "InvalidSchedule"),
        ("limit", 1, profile(1, (0, -0.1)), "InvalidSchedule"),
        ("duration", 1, profile(duration=0), "InvalidSchedule"),
        ("recurrency", 1, profile(kind="Recurring"), "InvalidProfile"),
        ("stack level", 1, profile(stack_level=10), "InvalidStackLevel"),
        ("stack level", 1, profile(stack_level=-1), "InvalidStackLevel"),
        ("validity", 1, profile(validFrom=rfc3339(T0), validTo=rfc3339(T0)), "InvalidProfile"),
        ("validity", 1, profile(validTo="tomorrow"), "InvalidProfile"),
        ("phases", 1, with_period(numberPhases=4), "InvalidSchedule"),
        ("periods", 1, profile(1, *((s, 1) for s in range(97))), "TooManyElements"),
        ("size", 1, profile(customData={"vendorId": "x", "blob": "y" * 9_000}), "TooLargeElement"),
        ("transaction", 1, profile(transactionId="tx"), "InvalidProfile"),
        ("reserved", 0, profile(104_001, **MAXIMUM), "InvalidValue"),
        ("reserved", 0, profile(-1, **MAXIMUM), "InvalidValue"),
    ],
)
def test_a_charging_profile_against_the_rules_is_rejected_with_its_reason_and_changes_nothing(
    rule: str, evse_id: int, charging_profile: dict[str, Any], reason_code: str
) -> None:
    del rule
    profiles = engine(Abilities(maximum_w=22_000, evses=2, rate_units=("W",)))
    profiles.transaction_started("tx", 1, T0)
    assert reason(put(profiles, charging_profile, evse_id)) == reason_code
    assert len(profiles) == 0
    assert profiles.wish_w(T0) is None


def test_the_same_id_replaces_whatever_stood_there_even_at_another_place() -> None:
    profiles = engine()
    assert put(profiles, profile(5, (0, 10_000))) == ACCEPTED
    assert put(profiles, profile(5, (0, 7_000), **MAXIMUM)) == ACCEPTED
    assert profiles.wish_w(T0) == 7_000
    assert len(profiles) == 1


@pytest.mark.parametrize(
    ("first", "first_evse", "second", "second_evse", "duplicate"),
    [
        (profile(1), 0, profile(2), 0, True),
        (profile(1), 1, profile(2), 1, True),
        (profile(1), 1, profile(2), 2, False),
        (profile(1), 1, profile(2, stack_level=1), 1, False),
        (profile(1, **MAXIMUM), 0, profile(2), 0, False),
        (profile(1, validTo=rfc3339(T0)), 0, profile(2, validFrom=rfc3339(T0)), 0, False),
        (profile(1, validTo=rfc3339(T0 + 1)), 0, profile(2, validFrom=rfc3339(T0)), 0, True),
        (profile(1, validTo=rfc3339(T0)), 0, profile(2, validFrom=rfc3339(T0)), 1, True),  # K01.FR.53
        (profile(1), 1, profile(2), 0, True),  # K01.FR.52
        (profile(1, **OWN, transactionId="tx"), 1, profile(2, **OWN, transactionId="tx"), 1, True),  # K01.FR.39
        (profile(1, **OWN, transactionId="tx"), 1, profile(2, **OWN, transactionId="other"), 2, False),
    ],
)
def test_two_ids_cannot_share_purpose_stack_level_and_place_while_both_are_valid(
    first: dict[str, Any], first_evse: int, second: dict[str, Any], second_evse: int, duplicate: bool
) -> None:
    profiles = engine()
    profiles.transaction_started("tx", 1, T0)
    profiles.transaction_started("other", 2, T0)
    assert put(profiles, first, first_evse) == ACCEPTED
    answer = put(profiles, second, second_evse)
    assert (reason(answer) == "DuplicateProfile") if duplicate else (answer == ACCEPTED)


def test_a_higher_stack_level_overrules_a_lower_one_even_upwards_and_purposes_are_a_minimum() -> None:
    profiles = engine(Abilities(maximum_w=22_000))
    put(profiles, profile(1, (0, 6_000), stack_level=0))
    put(profiles, profile(2, (0, 9_000), stack_level=1, duration=3_600))
    assert profiles.wish_w(T0) == 9_000
    put(profiles, profile(3, (0, 8_000), **MAXIMUM))
    assert profiles.wish_w(T0) == 8_000
    assert profiles.wish_w(T0 + HOUR_MS) == 6_000  # the higher one sets nothing after its duration (K01.FR.11-13)


def test_a_transaction_charging_profile_overrules_the_default_one_and_dies_with_the_transaction() -> None:
    profiles = engine(Abilities(maximum_w=22_000))
    put(profiles, profile(1, (0, 6_000)))
    profiles.transaction_started("tx", 1, T0)
    put(profiles, profile(2, (0, 12_000), **OWN, duration=600, transactionId="tx"), 1)
    assert profiles.wish_w(T0) == 12_000
    assert profiles.wish_w(T0 + 600_000) == 6_000  # K02.FR.08
    profiles.transaction_ended("tx")
    assert 2 not in profiles
    assert 1 in profiles
    assert reason(put(profiles, profile(2, **OWN, transactionId="tx"), 1)) == "TxNotFound"


def test_transactions_that_ended_unseen_take_their_charging_profiles_with_them() -> None:
    profiles = engine()
    profiles.transaction_started("gone", 1, T0)
    profiles.transaction_started("there", 2, T0)
    put(profiles, profile(1, **OWN, transactionId="gone"), 1)
    put(profiles, profile(2, **OWN, transactionId="there"), 2)
    profiles.only_running(["there"])
    assert 1 not in profiles
    assert 2 in profiles


def test_a_charging_profile_that_came_with_the_request_to_start_holds_from_the_start() -> None:
    profiles = engine()
    requested = profile(9, (0, 5_000), (60, 4_000), kind="Relative", **OWN)
    assert profiles.refusal_at_start(1, requested) is None
    profiles.transaction_started("tx", 1, T0 + 5_000, requested)
    assert profiles.wish_w(T0 + 5_000) == 5_000
    assert profiles.next_change_ms(T0 + 5_000) == T0 + 65_000
    assert profiles.wish_w(T0 + 65_000) == 4_000


@pytest.mark.parametrize(
    "requested", [profile(1), profile(1, **OWN, transactionId="tx"), profile(1, (1, 5), **OWN), profile(-1, **OWN)]
)
def test_a_bad_charging_profile_in_a_request_to_start_is_named(requested: dict[str, Any]) -> None:
    assert engine().refusal_at_start(1, requested) is not None


def test_a_relative_schedule_counts_from_the_transaction_and_as_if_it_began_now_without_one() -> None:
    profiles = engine(Abilities(maximum_w=22_000))
    put(profiles, profile(1, (0, 11_000), (600, 4_000), kind="Relative"))
    assert profiles.wish_w(T0) == 11_000
    assert profiles.wish_w(T0 + HOUR_MS) == 11_000
    profiles.transaction_started("tx", 1, T0)
    assert profiles.wish_w(T0 + 599_999) == 11_000
    assert profiles.wish_w(T0 + 600_000) == 4_000
    assert steps(composite(profiles, T0 + 300_000)) == [(0, 11_000), (300, 4_000)]


@pytest.mark.parametrize(("kind", "every_ms"), [("Daily", DAY_MS), ("Weekly", 7 * DAY_MS)])
def test_a_recurring_schedule_starts_anew_every_day_or_week(kind: str, every_ms: int) -> None:
    profiles = engine(Abilities(maximum_w=22_000))
    evening = profile(1, (0, 3_000), (1_800, 2_000), kind="Recurring", recurrencyKind=kind, duration=3_600)
    put(profiles, evening)
    assert profiles.wish_w(T0 - 1) is None  # K01.FR.30
    for turn in range(3):
        at = T0 + turn * every_ms
        assert profiles.next_change_ms(at - 1) == at
        assert profiles.wish_w(at) == 3_000
        assert profiles.next_change_ms(at) == at + 1_800_000
        assert profiles.wish_w(at + 1_800_000) == 2_000
        assert profiles.next_change_ms(at + 1_800_000) == at + HOUR_MS
        assert profiles.wish_w(at + HOUR_MS) is None


def test_validity_begins_at_valid_from_and_ends_before_valid_to() -> None:
    profiles = engine()
    put(profiles, profile(1, (0, 3_000), **MAXIMUM, validFrom=rfc3339(T0 + 10), validTo=rfc3339(T0 + 20)))
    assert [profiles.wish_w(T0 + ms) for ms in (9, 10, 19, 20)] == [None, 3_000, 3_000, None]
    assert profiles.next_change_ms(T0) == T0 + 10
    assert profiles.next_change_ms(T0 + 10) == T0 + 20
    assert profiles.next_change_ms(T0 + 20) is None


@pytest.mark.parametrize(("phases", "limit_w"), [(3, 11_040), (1, 3_680)])
def test_amperes_are_per_phase_at_the_nominal_voltage_over_the_phases_there_are(phases: int, limit_w: int) -> None:
    profiles = engine(Abilities(maximum_w=22_000, phases=phases))
    put(profiles, profile(1, (0, 16), unit="A", **MAXIMUM))
    assert profiles.wish_w(T0) == limit_w
    assert steps(composite(profiles, chargingRateUnit="A")) == [(0, 16.0)]


def test_the_wish_is_rounded_down_to_whole_watts() -> None:
    profiles = engine()
    put(profiles, profile(1, (0, 6_000.9), **MAXIMUM))
    assert profiles.wish_w(T0) == 6_000


def test_evses_with_a_transaction_share_the_wish_and_without_any_the_first_vehicle_finds_its_default() -> None:
    profiles = engine()
    put(profiles, profile(1, (0, 6_000)))
    assert profiles.wish_w(T0) == 6_000
    profiles.transaction_started("one", 1, T0)
    assert profiles.wish_w(T0) == 6_000
    profiles.transaction_started("two", 2, T0)
    assert profiles.wish_w(T0) == 12_000
    put(profiles, profile(2, (0, 4_000), **OWN, transactionId="two"), 2)
    assert profiles.wish_w(T0) == 10_000
    assert steps(composite(profiles)) == [(0, 10_000)]
    assert steps(composite(profiles, evseId=2)) == [(0, 4_000)]


def test_clearing_by_id_or_by_all_criteria_removes_what_matches_and_nothing_else() -> None:
    profiles = engine()
    put(profiles, profile(1))
    put(profiles, profile(2, stack_level=1), 1)
    put(profiles, profile(3, **MAXIMUM))
    assert clear(profiles, {"chargingProfileId": 9}) == "Unknown"
    assert clear(profiles, {"chargingProfileCriteria": {"stackLevel": 1, "evseId": 2}}) == "Unknown"
    assert clear(profiles, {"chargingProfileCriteria": {"stackLevel": 1, "evseId": 1}}) == "Accepted"
    assert clear(profiles, {"chargingProfileCriteria": {"chargingProfilePurpose": "TxDefaultProfile"}}) == "Accepted"
    assert 3 in profiles
    assert clear(profiles, {"chargingProfileId": 3}) == "Accepted"
    assert len(profiles) == 0
    assert clear(profiles, {"chargingProfileId": 3}) == "Unknown"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"chargingProfileCriteria": {}},
        {"chargingProfileId": -1},
        {"chargingProfileCriteria": {"chargingProfilePurpose": "ChargingStationExternalConstraints"}},
    ],
)
def test_a_clear_that_names_nothing_or_the_grid_limit_is_unknown_and_clears_nothing(request_: dict[str, Any]) -> None:
    profiles = engine()
    put(profiles, profile(1))
    assert clear(profiles, request_) == "Unknown"
    assert len(profiles) == 1


GRID = profile(-1, (0, 4_200), purpose="ChargingStationExternalConstraints")


def test_reports_go_one_source_and_evse_at_a_time_and_all_but_the_last_are_to_be_continued() -> None:
    profiles = engine()
    put(profiles, profile(1))
    put(profiles, profile(2, stack_level=1), 1)
    put(profiles, profile(3, **MAXIMUM))
    status, reports = get(profiles, {}, ("SO", GRID))
    assert status == "Accepted"
    assert [(each["chargingLimitSource"], each["evseId"]) for each in reports] == [("CSO", 0), ("CSO", 1), ("SO", 0)]
    assert [each["tbc"] for each in reports] == [True, True, False]
    assert {each["requestId"] for each in reports} == {7}
    assert [[one["id"] for one in each["chargingProfile"]] for each in reports] == [[1, 3], [2], [-1]]


@pytest.mark.parametrize(
    ("criteria", "evse", "ids"),
    [
        ({"chargingLimitSource": ["SO"]}, {}, [-1]),
        ({"chargingLimitSource": ["CSO"]}, {}, [1, 3, 2]),
        ({"chargingLimitSource": ["EMS"]}, {}, []),
        ({"chargingProfilePurpose": "ChargingStationExternalConstraints"}, {}, [-1]),
        ({"chargingProfileId": [2, -1]}, {}, [2, -1]),
        ({"stackLevel": 1}, {}, [2]),
        ({"stackLevel": 0}, {"evseId": 0}, [1, 3, -1]),
        ({"stackLevel": 0}, {"evseId": 1}, []),
    ],
)
def test_only_what_matches_every_criterion_is_reported(criteria: dict[str, Any], evse: Any, ids: list[int]) -> None:
    profiles = engine()
    put(profiles, profile(1))
    put(profiles, profile(2, stack_level=1), 1)
    put(profiles, profile(3, **MAXIMUM))
    status, reports = get(profiles, criteria, ("SO", GRID), **evse)
    assert [one["id"] for each in reports for one in each["chargingProfile"]] == ids
    assert status == ("Accepted" if ids else "NoProfiles")


def test_many_charging_profiles_are_reported_in_several_messages() -> None:
    profiles = engine()
    for level in range(10):
        put(profiles, profile(level, stack_level=level, customData={"vendorId": "x" * 255, "blob": "y" * 4_000}))
    _, reports = get(profiles, {})
    assert [len(each["chargingProfile"]) for each in reports] == [3, 3, 3, 1]
    assert [each["tbc"] for each in reports] == [True, True, True, False]


def test_the_composite_schedule_includes_the_grid_limit_and_the_hardware() -> None:
    profiles = engine()
    assert steps(composite(profiles)) == [(0, 22_000)]
    assert steps(composite(profiles, external_w=4_200)) == [(0, 4_200)]
    put(profiles, profile(1, (0, 3_000), (60, 9_000), **MAXIMUM))
    assert steps(composite(profiles, external_w=4_200)) == [(0, 3_000), (60, 4_200)]
    assert composite(profiles, evseId=3)["statusInfo"]["reasonCode"] == "UnknownEvse"
    assert composite(profiles, duration=0)["status"] == "Rejected"
    watts_only = engine(Abilities(maximum_w=22_000, rate_units=("W",)))
    assert composite(watts_only, chargingRateUnit="A")["statusInfo"]["reasonCode"] == "UnsupportedRateUnit"


def test_a_composite_schedule_that_changes_too_often_is_cut_short_and_says_so() -> None:
    profiles = engine()
    often = [(60 * n, 1_000 + n) for n in range(96)]
    put(profiles, profile(1, *often, kind="Recurring", recurrencyKind="Daily", **MAXIMUM))
    schedule = composite(profiles, duration=10**9)["schedule"]
    assert len(schedule["chargingSchedulePeriod"]) <= 500
    assert 5 * 86_400 <= schedule["duration"] < 6 * 86_400


def test_charging_profiles_and_transactions_survive_a_restart() -> None:
    shelf = FakeShelf()
    before = engine(shelf=shelf)
    before.transaction_started("tx", 1, T0)
    put(before, profile(1, (0, 9_000), (60, 5_000), kind="Relative", **OWN, transactionId="tx"), 1)
    after = engine(shelf=shelf)
    assert [after.wish_w(T0 + s * 1_000) for s in (0, 60)] == [9_000, 5_000]
    after.transaction_ended("tx")
    assert len(engine(shelf=shelf)) == 0


@pytest.mark.parametrize("kept", ["", "[]", "{}", '{"installed": [[0, {}]], "transactions": {}}'])
def test_a_damaged_shelf_is_begun_anew_and_never_a_crash(kept: str) -> None:
    shelf = FakeShelf()
    shelf.put(ROOM, "S4-1", kept)
    assert len(engine(shelf=shelf)) == 0


def test_a_full_store_refuses_until_something_has_expired() -> None:
    profiles = engine(Abilities(maximum_w=22_000, entries=2))
    put(profiles, profile(1, **MAXIMUM, validTo=rfc3339(T0 + 1)))
    put(profiles, profile(2))
    third = profile(3, stack_level=1)
    assert reason(put(profiles, third)) == "OutOfStorage"
    assert put(profiles, profile(2, (0, 1)), at=T0) == ACCEPTED
    assert put(profiles, third, at=T0 + 1) == ACCEPTED
    assert 1 not in profiles


LIMITS = st.one_of(st.integers(0, 30_000).map(float), st.integers(0, 300_000).map(lambda tenths: tenths / 10))


@st.composite
def charging_profiles(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    purpose = draw(st.sampled_from(["ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile"]))
    evse_id = 0 if purpose == "ChargingStationMaxProfile" else draw(st.integers(0, 2))
    kinds = ["Absolute", "Recurring"] + (["Relative"] if purpose != "ChargingStationMaxProfile" else [])
    kind = draw(st.sampled_from(kinds))
    gaps = draw(st.lists(st.integers(1, 4_000), max_size=4))
    starts = [0, *itertools.accumulate(gaps)]
    unit = draw(st.sampled_from(["W", "A"]))
    limits = LIMITS if unit == "W" else st.integers(0, 400).map(lambda tenths: tenths / 10)
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more["validFrom"] = rfc3339(T0 + draw(st.integers(-5_000, 5_000)) * 500)
    if draw(st.booleans()):
        more["validTo"] = rfc3339(T0 + draw(st.integers(0, 10_000)) * 500)
    if purpose == "TxProfile":
        more["transactionId"] = f"tx{evse_id}"
    return evse_id, profile(
        draw(st.integers(1, 6)),
        *[(start, draw(limits)) for start in starts],
        purpose=purpose,
        kind=kind,
        stack_level=draw(st.integers(0, 2)),
        unit=unit,
        start=T0 + draw(st.integers(-8_000, 4_000)) * 750,
        duration=draw(st.none() | st.integers(1, 10_000)),
        recurrencyKind=draw(st.sampled_from(["Daily", "Weekly"])),
        **more,
    )


@st.composite
def populated(draw: st.DrawFn) -> ChargingProfiles:
    profiles = engine()
    for number in draw(st.sets(st.integers(1, 2))):
        profiles.transaction_started(f"tx{number}", number, T0 - draw(st.integers(0, 5_000)) * 1_000)
    for evse_id, charging_profile in draw(st.lists(charging_profiles(), max_size=8)):
        put(profiles, charging_profile, evse_id)
    return profiles


def limit_at(response: dict[str, Any], second: int) -> float:
    return [limit for start, limit in steps(response) if start <= second][-1]


def test_a_relative_limit_of_all_evses_falls_at_an_idle_one_beside_a_busy_one_too() -> None:
    profiles = engine()
    profiles.transaction_started("tx1", 1, T0 - 100_000)
    put(profiles, profile(1, (0, 10_000), (10, 5_000), kind="Relative", start=None))
    assert steps(composite(profiles, evseId=2)) == [(0, 10_000), (10, 5_000)]


@settings(max_examples=150, deadline=None)
@given(populated(), st.integers(0, 6_000), st.integers(0, 999), st.none() | st.integers(0, 30_000))
def test_the_composite_is_never_above_any_of_its_parts_at_any_moment(
    profiles: ChargingProfiles, second: int, rest_ms: int, external_w: int | None
) -> None:
    at_ms = T0 + second * 1_000 + rest_ms
    highest_w = 22_000 if external_w is None else min(22_000, external_w)
    parts_dw = [highest_w * 10, profiles._leading_dw("ChargingStationMaxProfile", 0, at_ms, T0)]
    whole_w = limit_at(composite(profiles, duration=7_000, external_w=external_w), second)
    in_amperes = composite(profiles, duration=7_000, external_w=external_w, chargingRateUnit="A")
    assert limit_at(in_amperes, second) * 690 <= whole_w + 1e-6
    evses_dw = [profiles._evse_dw(evse_id, at_ms, T0) for evse_id in (1, 2)]
    for evse_id, evse_dw in zip((1, 2), evses_dw, strict=True):
        one_w = limit_at(composite(profiles, duration=7_000, external_w=external_w, evseId=evse_id), second)
        assert all(round(one_w * 10) <= part_dw for part_dw in [*parts_dw, evse_dw] if part_dw is not None)
    parts_dw.append(None if None in evses_dw else sum(filter(None, evses_dw)))
    assert all(round(whole_w * 10) <= part_dw for part_dw in parts_dw if part_dw is not None)


@settings(max_examples=150, deadline=None)
@given(populated(), st.integers(0, 6_000_000))
def test_the_wish_is_never_above_the_composite(profiles: ChargingProfiles, later_ms: int) -> None:
    wish_w = profiles.wish_w(T0 + later_ms)
    composite_dw = profiles._composite_dw(0, T0 + later_ms, T0 + later_ms, 220_000)
    assert wish_w is None or min(wish_w, 22_000) * 10 <= composite_dw


@settings(max_examples=150, deadline=None)
@given(populated(), st.integers(0, 6_000_000))
def test_nothing_changes_before_the_next_change(profiles: ChargingProfiles, later_ms: int) -> None:
    profiles.transaction_started("tx1", 1, T0)
    profiles.transaction_started("tx2", 2, T0)
    coming_ms = profiles.next_change_ms(T0)
    assert coming_ms is None or coming_ms > T0
    if coming_ms is None or T0 + later_ms < coming_ms:
        assert profiles.wish_w(T0 + later_ms) == profiles.wish_w(T0)


@settings(max_examples=100, deadline=None)
@given(populated(), charging_profiles())
def test_setting_twice_is_setting_once_and_setting_then_clearing_leaves_the_others(
    profiles: ChargingProfiles, placed: tuple[int, dict[str, Any]]
) -> None:
    evse_id, charging_profile = placed
    identity = charging_profile["id"]
    others = {each for each in range(1, 7) if each in profiles and each != identity}
    answer = put(profiles, charging_profile, evse_id)
    if answer == ACCEPTED:
        wish_w = profiles.wish_w(T0)
        assert put(profiles, charging_profile, evse_id) == ACCEPTED
        assert profiles.wish_w(T0) == wish_w
        assert clear(profiles, {"chargingProfileId": identity}) == "Accepted"
        assert {each for each in range(1, 7) if each in profiles} == others


@settings(max_examples=50, deadline=None)
@given(populated())
def test_what_was_kept_comes_back_the_same(profiles: ChargingProfiles) -> None:
    shelf = FakeShelf()
    profiles._shelf = shelf
    profiles._keep()
    back = engine(shelf=shelf)
    assert [back.wish_w(T0 + s) for s in range(0, 9_000_000, 900_001)] == [
        profiles.wish_w(T0 + s) for s in range(0, 9_000_000, 900_001)
    ]
    assert json.loads(shelf.values[ROOM, "S4-1"])


@settings(max_examples=50, deadline=None)
@given(populated(), st.sampled_from(["ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile"]))
def test_clearing_a_purpose_leaves_none_of_it(profiles: ChargingProfiles, purpose: str) -> None:
    request = {"chargingProfileCriteria": {"chargingProfilePurpose": purpose}}
    had_some = get(profiles, {"chargingProfilePurpose": purpose})[0] == "Accepted"
    assert clear(profiles, request) == ("Accepted" if had_some else "Unknown")
    assert get(profiles, {"chargingProfilePurpose": purpose}) == ("NoProfiles", [])
