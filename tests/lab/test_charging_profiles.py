"""The charging profiles a simulated station obeys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.lab.charging_profiles import Abilities, ChargingProfiles

NOW = datetime(2026, 9, 1, 10, 0, tzinfo=UTC)


def charging_profile(identity: int = 1, **more: Any) -> dict[str, Any]:
    schedule = {
        "id": identity,
        "chargingRateUnit": more.pop("unit", "W"),
        "chargingSchedulePeriod": more.pop("periods", [{"startPeriod": 0, "limit": more.pop("limit", 10_000)}]),
        "startSchedule": more.pop("start", "2026-09-01T09:00:00Z"),
        **more.pop("schedule", {}),
    }
    return {
        "id": identity,
        "stackLevel": 0,
        "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
        **more,
    }


def installed(*charging_profiles: dict[str, Any]) -> ChargingProfiles:
    memory = ChargingProfiles()
    for each in charging_profiles:
        assert memory.install(0, each, None) is None
    return memory


def test_nothing_installed_is_no_limit() -> None:
    assert ChargingProfiles().limit_w(NOW, None) is None


def test_the_higher_stack_level_overrules_until_it_expires() -> None:
    memory = installed(
        charging_profile(1, limit=4_140),
        charging_profile(2, limit=11_000, stackLevel=1, validTo="2026-09-01T10:01:00Z"),
    )
    assert memory.limit_w(NOW, None) == 11_000
    assert memory.next_change(NOW, None) == NOW + timedelta(minutes=1)
    assert memory.limit_w(NOW + timedelta(minutes=1), None) == 4_140


def test_amperes_count_on_three_phases_unless_it_says_otherwise() -> None:
    assert installed(charging_profile(unit="A", limit=16)).limit_w(NOW, None) == 16 * 690
    one = installed(charging_profile(unit="A", periods=[{"startPeriod": 0, "limit": 16, "numberPhases": 1}]))
    assert one.limit_w(NOW, None) == 16 * 230


def test_the_same_id_replaces() -> None:
    memory = installed(charging_profile(limit=10_000), charging_profile(limit=5_000))
    assert memory.limit_w(NOW, None) == 5_000
    assert len(memory.installed) == 1


def test_periods_follow_each_other_and_a_duration_ends_them() -> None:
    periods = [{"startPeriod": 0, "limit": 9_000}, {"startPeriod": 3_660, "limit": 7_000}]
    memory = installed(charging_profile(periods=periods, schedule={"duration": 3_720}))
    assert [memory.limit_w(NOW + timedelta(seconds=after), None) for after in (0, 59, 60, 119, 120)] == [
        9_000, 9_000, 7_000, 7_000, None,
    ]  # fmt: skip


def test_the_lowest_purpose_counts_and_a_transaction_overrules_the_default() -> None:
    memory = installed(charging_profile(1, limit=12_000))
    memory.install(0, charging_profile(2, limit=8_000, chargingProfilePurpose="TxDefaultProfile"), None)
    assert memory.limit_w(NOW, NOW) == 8_000
    of_transaction = charging_profile(3, limit=11_000, chargingProfilePurpose="TxProfile", transactionId="T")
    assert memory.install(1, of_transaction, "T") is None
    assert memory.limit_w(NOW, NOW) == 11_000
    memory.clear_transaction()
    assert memory.limit_w(NOW, NOW) == 8_000


@pytest.mark.parametrize(
    ("reason", "evse_id", "more"),
    [
        ("InvalidValue", 0, {"chargingProfilePurpose": "ChargingStationExternalConstraints"}),
        ("UnknownEvse", 2, {}),
        ("InvalidProfile", 1, {}),
        ("InvalidProfile", 0, {"chargingProfilePurpose": "TxProfile"}),
        ("TxNotFound", 1, {"chargingProfilePurpose": "TxProfile", "transactionId": "other"}),
        ("TxNotFound", 1, {"chargingProfilePurpose": "TxProfile"}),
        ("InvalidStackLevel", 0, {"stackLevel": 9}),
        ("InvalidProfile", 0, {"chargingProfileKind": "Relative"}),
        ("UnsupportedRateUnit", 0, {"unit": "A"}),
        ("InvalidSchedule", 0, {"periods": [{"startPeriod": 5, "limit": 1}]}),
        ("InvalidSchedule", 0, {"limit": -1}),
        ("InvalidSchedule", 0, {"limit": 6.25}),
        ("InvalidValue", 0, {"validTo": "2026-09-01T10:00:00"}),
        ("InvalidValue", 0, {"start": "soon"}),
        ("DuplicateProfile", 0, {"identity": 9}),
    ],
)
def test_what_the_standard_forbids_is_refused_with_its_reason(reason: str, evse_id: int, more: dict[str, Any]) -> None:
    memory = ChargingProfiles(Abilities(rate_units=("W",)))
    memory.install(0, charging_profile(1), None)
    assert memory.install(evse_id, charging_profile(**({"identity": 1} | more)), "T") == reason
    assert memory.limit_w(NOW, None) == 10_000


def test_the_memory_is_bounded() -> None:
    memory = ChargingProfiles(Abilities(stack_level=100))
    reasons = [memory.install(0, charging_profile(each, stackLevel=each), None) for each in range(20)]
    assert reasons == [None] * 16 + ["OutOfMemory"] * 4


def test_clearing_takes_what_matches_and_says_when_nothing_did() -> None:
    memory = installed(charging_profile(1), charging_profile(2, stackLevel=1))
    assert not memory.clear(7, {})
    assert memory.clear(None, {"stackLevel": 1})
    assert list(memory.installed) == [1]
    assert memory.clear(1, {})
    assert not memory.clear(None, {})


def test_a_composite_schedule_shows_what_is_to_come() -> None:
    memory = installed(
        charging_profile(1, limit=4_140), charging_profile(2, stackLevel=1, validTo="2026-09-01T10:01:00Z")
    )
    assert memory.composite(NOW, None, 300, "W", 22_000) == [
        {"startPeriod": 0, "limit": 10_000.0, "numberPhases": 3},
        {"startPeriod": 60, "limit": 4_140.0, "numberPhases": 3},
    ]
    assert memory.composite(NOW, None, 30, "A", 22_000)[0]["limit"] == 14.4
