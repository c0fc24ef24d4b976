"""A native station whose maximum the bridge holds: what passes, what is kept, and what is never touched from above."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.core.messages import SetLimit
from bridge.core.plan import Way
from bridge.lab.charging_profiles import ChargingProfiles as Installed
from bridge.ocpp201 import native_profiles
from bridge.ocpp201.charging_profile import floor_profile, grant_profile
from bridge.ocpp201.native_profiles import NativeProfiles
from bridge.ocpp201.rpc import NOT_SENT, CallError, Outcome, Payload
from bridge.ocpp201.schemas import Schemas201
from bridge.ocpp201.smart_charging import SmartCharging
from tests.ocpp201.listening import charger_entry
from tests.ocpp201.test_smart_charging import Listener, clock, maximum

SCHEMAS = Schemas201()
ACCEPTED = {"status": "Accepted"}
UNKNOWN = {"status": "Unknown"}


class Bench:
    """A station that keeps charging profiles as the simulated one does, without a socket; `mute` answers nothing."""

    def __init__(self) -> None:
        self.above = Listener()
        self.smart = SmartCharging(charger_entry(), lambda _: None, clock)
        self.smart.open(self, self.above)
        self.profiles = NativeProfiles(self.smart, self.post)
        self.station = Installed()
        self.asked: list[str] = []
        self.mute = False
        self.withholds_reports = False
        for request in (floor_profile(4_200, 0, schedule_id=1), grant_profile(9_000, 0, schedule_id=2)):
            assert self.station.install(0, request["chargingProfile"], "tx") is None

    def post(self, action: str, payload: Payload, on_answer: Any) -> None:
        assert SCHEMAS.problem_in_request(action, payload) is None
        self.asked.append(action)
        if self.mute:
            on_answer(NOT_SENT)
        elif action == "SetChargingProfile":
            refusal = self.station.install(payload["evseId"], payload["chargingProfile"], "tx")
            on_answer(ACCEPTED if refusal is None else {"status": "Rejected", "statusInfo": {"reasonCode": refusal}})
        elif action == "ClearChargingProfile":
            criteria = payload.get("chargingProfileCriteria", {})
            on_answer(ACCEPTED if self.station.clear(payload.get("chargingProfileId"), criteria) else UNKNOWN)
        elif action == "GetChargingProfiles":
            found = self.station.matching(payload.get("evseId"), payload["chargingProfile"])
            on_answer(ACCEPTED if found else {"status": "NoProfiles"})
            for number, (evse_id, one) in enumerate(found):
                report = {"requestId": payload["requestId"], "chargingLimitSource": "CSO", "evseId": evse_id}
                if not self.withholds_reports:
                    more = {"chargingProfile": [one], "tbc": number < len(found) - 1}
                    assert self.profiles.reported(report | more) is None
        else:
            at = datetime.now(UTC)
            periods = self.station.composite(at, None, payload["duration"], "W", 22_000)
            schedule = {"evseId": payload["evseId"], "duration": payload["duration"], "chargingRateUnit": "W"}
            more = {"scheduleStart": at.isoformat(), "chargingSchedulePeriod": periods}
            on_answer({"status": "Accepted", "schedule": schedule | more})

    async def ask(self, action: str, payload: Payload) -> Any:
        assert SCHEMAS.problem_in_request(action, payload) is None
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.profiles.from_above(action, payload, answered.set_result)
        async with asyncio.timeout(20):
            outcome = await answered
        assert isinstance(outcome, CallError) or SCHEMAS.problem_in_response(action, outcome) is None  # type: ignore[arg-type]
        return outcome

    def order(self, limit_w: int, way: Way = Way.LIMIT) -> None:
        order = SetLimit("CS-0001", 1, limit_w, way)
        self.smart.ordered(order)
        if way is Way.PER_TRANSACTION:
            ours = grant_profile(limit_w, 0, schedule_id=3)["chargingProfile"]
            assert (
                self.station.install(0, ours | {"id": 104_002, "chargingProfilePurpose": "TxDefaultProfile"}, "tx")
                is None
            )
        self.profiles.granted(order)


def default(identity: int = 7, stack_level: int = 0, limit_w: float = 8_000) -> Payload:
    request = maximum((0, limit_w), start_ms=0)
    changes = {"id": identity, "stackLevel": stack_level, "chargingProfilePurpose": "TxDefaultProfile"}
    return {"evseId": 0, "chargingProfile": request["chargingProfile"] | changes}


async def test_a_maximum_is_kept_here_and_never_reaches_the_station() -> None:
    bench = Bench()
    assert await bench.ask("SetChargingProfile", maximum((0, 5_000))) == ACCEPTED
    assert bench.asked == ["ClearChargingProfile"]
    assert set(bench.station.installed) == {104_000, 104_001}
    assert bench.smart.profiles.wish_w(clock().utc_ms) == 5_000


async def test_what_passes_is_answered_by_the_station_itself() -> None:
    bench = Bench()
    assert await bench.ask("SetChargingProfile", default()) == ACCEPTED
    assert 7 in bench.station.installed
    bench.mute = True
    for action, payload in (
        ("SetChargingProfile", default()),
        ("ClearChargingProfile", {"chargingProfileId": 7}),
        ("ClearChargingProfile", {"chargingProfileCriteria": {"stackLevel": 0}}),
        ("GetCompositeSchedule", {"evseId": 0, "duration": 60}),
    ):
        outcome = await bench.ask(action, payload)
        assert isinstance(outcome, CallError)
        assert outcome.code == "GenericError"


async def test_reports_come_together_less_the_bridges_own() -> None:
    bench = Bench()
    await bench.ask("SetChargingProfile", default())
    await bench.ask("SetChargingProfile", maximum((0, 5_000)))
    asked = {"requestId": 3, "chargingProfile": {"chargingLimitSource": ["CSO", "SO"]}}
    assert await bench.ask("GetChargingProfiles", asked) == ACCEPTED
    ids = [one["id"] for action, each in bench.above.heard if "Report" in action for one in each["chargingProfile"]]
    assert sorted(ids) == [1, 7]
    only_ours = {"requestId": 4, "chargingProfile": {"chargingProfileId": [104_000, 104_001]}}
    assert await bench.ask("GetChargingProfiles", only_ours) == {"status": "NoProfiles"}


async def test_reports_that_never_come_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_profiles, "COLLECT_S", 0.05)
    bench = Bench()
    bench.withholds_reports = True
    await bench.ask("SetChargingProfile", maximum((0, 5_000)))
    assert await bench.ask("GetChargingProfiles", {"requestId": 3, "chargingProfile": {"stackLevel": 0}}) == ACCEPTED


async def test_a_report_nobody_asked_for_goes_on_without_the_bridges_own() -> None:
    bench = Bench()
    (ours,), foreign = [grant_profile(1, 0, schedule_id=1)["chargingProfile"]], default()["chargingProfile"]
    report = {"requestId": 9, "chargingLimitSource": "CSO", "evseId": 0, "chargingProfile": [ours, foreign]}
    assert bench.profiles.reported(report) == report | {"chargingProfile": [foreign]}
    assert bench.profiles.reported(report | {"chargingProfile": [ours]}) is None
    untouched = report | {"chargingProfile": [foreign]}
    assert bench.profiles.reported(untouched) is untouched


async def test_the_composite_schedule_knows_what_is_yet_to_come_of_the_maximum() -> None:
    bench = Bench()
    await bench.ask("SetChargingProfile", maximum((0, 9_500), (60, 3_000)))
    schedule = (await bench.ask("GetCompositeSchedule", {"evseId": 0, "duration": 600}))["schedule"]
    assert [each["limit"] for each in schedule["chargingSchedulePeriod"]] == [9_000, 3_000]


async def test_a_station_limited_per_transaction_takes_those_from_the_bridge_alone() -> None:
    bench = Bench()
    await bench.ask("SetChargingProfile", default(7, stack_level=5, limit_w=20_000))
    bench.order(6_000, Way.PER_TRANSACTION)
    assert set(bench.station.installed) == {104_000, 104_001, 104_002}
    refused = await bench.ask("SetChargingProfile", default(8, stack_level=6, limit_w=20_000))
    assert refused["statusInfo"]["reasonCode"] == "UnsupportedParam"
    for criteria in ({"stackLevel": 1}, {"evseId": 0}, {"chargingProfilePurpose": "TxDefaultProfile"}):
        assert await bench.ask("ClearChargingProfile", {"chargingProfileCriteria": criteria}) == UNKNOWN
    assert 104_002 in bench.station.installed
    bench.order(6_000)
    assert await bench.ask("SetChargingProfile", default(8)) == ACCEPTED


START = {"remoteStartId": 1, "evseId": 1, "idToken": {"idToken": "04A1B2C3", "type": "ISO14443"}}


def starting(identity: int, purpose: str) -> Payload:
    charging_profile = default(identity)["chargingProfile"] | {"chargingProfilePurpose": purpose}
    return START | {"chargingProfile": charging_profile}


async def test_a_start_that_brings_a_charging_profile_of_the_bridges_is_refused() -> None:
    bench = Bench()
    for request in (starting(104_001, "TxProfile"), starting(7, "ChargingStationMaxProfile")):
        assert SCHEMAS.problem_in_request("RequestStartTransaction", request) is None
        refusal = bench.profiles.refused("RequestStartTransaction", request)
        assert refusal is not None
        assert SCHEMAS.problem_in_response("RequestStartTransaction", refusal) is None
        assert refusal["statusInfo"]["reasonCode"] == "InvalidProfile"
    assert bench.profiles.refused("RequestStartTransaction", START) is None
    assert bench.profiles.refused("RequestStartTransaction", starting(7, "TxProfile")) is None
    bench.order(6_000, Way.PER_TRANSACTION)
    assert bench.profiles.refused("RequestStartTransaction", starting(7, "TxProfile")) is not None


async def test_a_station_out_of_operation_for_the_limit_is_not_put_back_by_the_csms() -> None:
    bench = Bench()
    operative = {"operationalStatus": "Operative"}
    assert bench.profiles.refused("ChangeAvailability", operative) is None
    bench.order(0, Way.STOP)
    refusal = bench.profiles.refused("ChangeAvailability", operative)
    assert refusal is not None
    assert SCHEMAS.problem_in_response("ChangeAvailability", refusal) is None
    assert bench.profiles.refused("ChangeAvailability", {"operationalStatus": "Inoperative"}) is None
