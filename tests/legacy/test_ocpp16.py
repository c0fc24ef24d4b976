"""OCPP 1.6 through the same unit: its deltas, checked against its official schemas."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest

from bridge.core.messages import Answer, LimitAnswered, MeterSampled, SetLimit
from bridge.legacy import down
from bridge.legacy.dialects import OCPP15, DialectSchemas
from bridge.legacy.ocpp16 import OCPP16
from bridge.ocpp201.rpc import Payload
from bridge.settings import ChargerEntry, charger_profile
from tests.legacy.fake_unit import Bench, FakeUnit, running, until

SERIAL = "CP16-1"
NOW = "2026-09-01T10:00:00Z"
SCHEMAS = files("ocpp").joinpath("v16", "schemas")
BOOT: Payload = {"chargePointVendor": "Any", "chargePointModel": "Sixteen"}
START: Payload = {"connectorId": 1, "idTag": "04A1B2C3", "timestamp": NOW, "meterStart": 1000}
CARD = {"idToken": "04A1B2C3", "type": "ISO14443"}


def entry(**changes: Any) -> ChargerEntry:
    profile = charger_profile("ocpp16").model_copy(update=changes)
    said: Payload = {"serial": SERIAL, "charger_profile": "ocpp16", "profile": profile, "index": 0}
    return ChargerEntry.model_validate(said)


def schema(name: str) -> jsonschema_rs.Draft4Validator:
    return jsonschema_rs.Draft4Validator(json.loads(SCHEMAS.joinpath(f"{name}.json").read_text("utf-8-sig")))


async def started(unit: FakeUnit) -> int:
    unit.obey()
    schema("BootNotificationResponse").validate(await unit.call("BootNotification", BOOT))
    await unit.call("StatusNotification", {"connectorId": 1, "status": "Preparing", "errorCode": "NoError"})
    answer = await unit.call("StartTransaction", START)
    schema("StartTransactionResponse").validate(answer)
    return int(answer["transactionId"])


def events(bench: Bench) -> list[Payload]:
    return bench.central_system.of("TransactionEvent")


def test_1_6_has_the_operations_of_1_5_and_four_of_its_own() -> None:
    assert set(OCPP16.from_unit) == set(OCPP15.from_unit)
    assert set(OCPP16.to_unit) - set(OCPP15.to_unit) == {
        *("ClearChargingProfile", "GetCompositeSchedule", "SetChargingProfile", "TriggerMessage"),
    }


async def test_a_session_of_1_6_tells_its_charging_states_and_why_it_stopped() -> None:
    sample = {"timestamp": NOW, "sampledValue": [{"value": "7.2", "unit": "kW", "measurand": "Power.Active.Import"}]}
    async with running(entry(), dialect=OCPP16) as bench, bench.unit() as unit:
        number = await started(unit)
        for status in ("Charging", "SuspendedEV"):
            await unit.call("StatusNotification", {"connectorId": 1, "status": status, "errorCode": "NoError"})
        answer = await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "meterValue": [sample]})
        assert answer == {}
        stop = {"transactionId": number, "timestamp": NOW, "meterStop": 2000, "reason": "EVDisconnected"}
        await unit.call("StopTransaction", stop)
        said = [(each["eventType"], each["triggerReason"], each["seqNo"]) for each in events(bench)]
        assert said == [
            ("Started", "Authorized", 0),
            ("Updated", "ChargingStateChanged", 1),
            ("Updated", "ChargingStateChanged", 2),
            ("Updated", "MeterValuePeriodic", 3),
            ("Ended", "EVDeparted", 4),
        ]
        states = [each["transactionInfo"].get("chargingState") for each in events(bench)]
        assert states == ["Charging", "Charging", "SuspendedEV", None, "Idle"]
        assert [sample.power_w for sample in bench.of(MeterSampled)] == [None, 7200, None]
        statuses = {each["connectorStatus"] for each in bench.central_system.of("StatusNotification")}
        assert statuses == {"Occupied"}


@pytest.mark.parametrize("reason", sorted(OCPP16.stopped_reasons))
async def test_every_reason_of_1_6_has_its_words_in_2_0_1(reason: str) -> None:
    async with running(entry(), dialect=OCPP16) as bench, bench.unit() as unit:
        number = await started(unit)
        stop = {"transactionId": number, "timestamp": NOW, "meterStop": 2000, "reason": reason}
        await unit.call("StopTransaction", stop)
        ended = events(bench)[-1]
        assert (ended["transactionInfo"]["stoppedReason"], ended["triggerReason"]) == OCPP16.stopped_reasons[reason]


async def test_a_limit_of_1_6_is_a_charging_profile_and_is_read_back() -> None:
    held: Payload = {}

    def set_profile(payload: Payload) -> Payload:
        schema("SetChargingProfile").validate(payload)
        held.update(payload["csChargingProfiles"]["chargingSchedule"])
        return {"status": "Accepted"}

    def composite(payload: Payload) -> Payload:
        schema("GetCompositeSchedule").validate(payload)
        return {"status": "Accepted", "connectorId": 0, "scheduleStart": NOW, "chargingSchedule": held}

    async with running(entry(), dialect=OCPP16) as bench, bench.unit() as unit:
        unit.answers.update({"SetChargingProfile": set_profile, "GetCompositeSchedule": composite})
        await unit.call("BootNotification", BOOT)
        bench.server.set_limit(SetLimit(SERIAL, 1, 11_000))
        await until(lambda: bench.of(LimitAnswered))
        assert bench.of(LimitAnswered) == [LimitAnswered(SERIAL, 1, Answer.ACCEPTED, 10_350)]
        unit.answers["GetCompositeSchedule"] = lambda _: {"status": "Accepted"}
        bench.server.set_limit(SetLimit(SERIAL, 2, 6_000))
        await until(lambda: len(bench.of(LimitAnswered)) == 2)
        assert bench.of(LimitAnswered)[1].answer is Answer.REFUSED


@pytest.mark.parametrize(
    ("asked", "becomes"),
    [
        ({"requestedMessage": "MeterValues", "evse": {"id": 1}}, {"requestedMessage": "MeterValues", "connectorId": 1}),
        (
            {"requestedMessage": "StatusNotification", "evse": {"id": 1, "connectorId": 1}},
            {"requestedMessage": "StatusNotification", "connectorId": 1},
        ),
    ],
)
async def test_a_message_that_1_6_can_be_asked_for_is_asked_of_the_unit(asked: Payload, becomes: Payload) -> None:
    async with running(entry(), dialect=OCPP16) as bench, bench.unit() as unit:
        unit.answers["TriggerMessage"] = lambda _: {"status": "Accepted"}
        await unit.call("BootNotification", BOOT)
        assert await bench.ask("TriggerMessage", asked) == {"status": "Accepted"}
        assert unit.asked == [("TriggerMessage", becomes)]
        schema("TriggerMessage").validate(becomes)


@pytest.mark.parametrize(
    ("said", "answer"), [("Unlocked", "Unlocked"), ("UnlockFailed", "UnlockFailed"), ("NotSupported", "UnlockFailed")]
)
async def test_the_three_answers_to_unlock_of_1_6_are_understood(said: str, answer: str) -> None:
    async with running(entry(), dialect=OCPP16) as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        unit.answers["UnlockConnector"] = lambda _: {"status": said}
        assert (await bench.ask("UnlockConnector", {"evseId": 1, "connectorId": 1}))["status"] == answer


async def test_a_list_of_1_6_is_spelled_its_way_and_every_request_fits_its_schemas() -> None:
    known = {
        "versionNumber": 3,
        "updateType": "Full",
        "localAuthorizationList": [{"idToken": CARD, "idTokenInfo": {"status": "Accepted"}}],
    }
    reserve = {"id": 3, "expiryDateTime": "2026-09-01T11:00:00Z", "idToken": CARD, "evseId": 1}
    log = {"logType": "DiagnosticsLog", "requestId": 4, "log": {"remoteLocation": "https://files.example/"}}
    firmware = {"requestId": 6, "firmware": {"location": "https://files.example/fw", "retrieveDateTime": NOW}}
    async with running(entry(), dialect=OCPP16) as bench, bench.unit() as unit:
        unit.obey()
        await unit.call("BootNotification", BOOT)
        for action, payload in (
            ("SendLocalList", known),
            ("GetLocalListVersion", {}),
            ("ReserveNow", reserve),
            ("CancelReservation", {"reservationId": 3}),
            ("RequestStartTransaction", {"idToken": CARD, "remoteStartId": 9, "evseId": 1}),
            ("ChangeAvailability", {"operationalStatus": "Operative"}),
            ("ClearCache", {}),
            ("GetLog", log),
            ("UpdateFirmware", firmware),
            ("DataTransfer", {"vendorId": "Any"}),
            ("Reset", {"type": "Immediate"}),
        ):
            answer = await bench.ask(action, payload)
            assert answer.get("status", "Accepted") == "Accepted", action
        for action, payload in unit.asked:
            schema(action).validate(payload)
        assert len(unit.asked) == 11


async def test_a_unit_of_1_5_is_never_sent_an_action_of_1_6() -> None:
    schemas = DialectSchemas(OCPP15)
    for action in set(OCPP16.to_unit) - set(OCPP15.to_unit):
        problem = schemas.problem_in_request(action, {})
        assert problem is not None
        assert problem.code == "NotImplemented"


async def test_a_boot_that_is_pending_is_pending_in_1_6_and_rejected_in_1_5() -> None:
    pending = {"status": "Pending", "currentTime": NOW, "interval": 30}
    assert down.boot_answer(OCPP16, pending) == {"status": "Pending", "currentTime": NOW, "interval": 30}
    assert down.boot_answer(OCPP15, pending) == {"status": "Rejected", "currentTime": NOW, "heartbeatInterval": 30}
