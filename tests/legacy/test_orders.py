"""What a CSMS orders of a unit now, and what comes of it later: causes, reservations, resets, files, tokens, meters."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from bridge.core.plan import Way
from bridge.legacy import orders
from bridge.legacy import unit as unit_module
from bridge.legacy.record import MAX_ID_TAG, alias
from bridge.ocpp201.rpc import Payload
from bridge.settings import ChargerEntry, charger_profile
from tests.legacy.fake_unit import SERIAL, Bench, FakeUnit, running, s4_entry, until

NOW = "2026-09-01T10:00:00Z"
LATER = "2026-09-01T11:00:00Z"
BOOT: Payload = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA"}
START: Payload = {"connectorId": 1, "idTag": "04a1b2c3", "timestamp": NOW, "meterStart": 1000}
CARD = {"idToken": "04A1B2C3", "type": "ISO14443"}
CONTRACT = {"idToken": "DE*ABC*E1234567*DRIVER*99", "type": "eMAID"}
REMOTE_START: Payload = {"idToken": CARD, "remoteStartId": 9, "evseId": 1}
RESERVATION: Payload = {"id": 3, "expiryDateTime": LATER, "idToken": CARD, "evseId": 1}
FREE: Payload = {"connectorId": 1, "status": "Available", "errorCode": "NoError"}


def made(name: str, **changes: Any) -> ChargerEntry:
    """A unit of one of the makes shipped."""
    profile = charger_profile(name)
    said: Payload = {"serial": "UNIT-7", "charger_profile": name, "profile": profile, "index": 0, **changes}
    return ChargerEntry.model_validate(said)


async def booted(unit: FakeUnit) -> None:
    unit.obey()
    await unit.call("BootNotification", BOOT)
    await unit.call("StatusNotification", FREE)


async def start(unit: FakeUnit, **changes: Any) -> int:
    return int((await unit.call("StartTransaction", {**START, **changes}))["transactionId"])


def answering(status: str, _payload: Payload) -> Payload:
    return {"status": status}


def events(bench: Bench) -> list[Payload]:
    return bench.central_system.of("TransactionEvent")


async def test_a_remote_start_is_the_cause_of_the_transaction_it_starts_and_of_no_other() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        assert (await bench.ask("RequestStartTransaction", REMOTE_START))["status"] == "Accepted"
        number = await start(unit)
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 1500})
        await start(unit, meterStart=1500)
        first, _, second = events(bench)
        assert (first["triggerReason"], first["transactionInfo"]["remoteStartId"]) == ("RemoteStart", 9)
        assert (second["triggerReason"], "remoteStartId" in second["transactionInfo"]) == ("Authorized", False)


async def test_a_remote_start_that_nobody_answered_in_time_causes_nothing() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        await bench.ask("RequestStartTransaction", REMOTE_START)
        bench.moved_ms += 121_000
        await start(unit)
        assert events(bench)[0]["triggerReason"] == "Authorized"


async def test_a_remote_start_is_remembered_over_a_new_connection() -> None:
    async with running() as bench:
        async with bench.unit() as unit:
            await booted(unit)
            await bench.ask("RequestStartTransaction", REMOTE_START)
        async with bench.unit() as unit:
            await booted(unit)
            await start(unit)
        assert events(bench)[0]["transactionInfo"]["remoteStartId"] == 9


async def test_a_remote_stop_is_the_reason_of_the_end_unless_the_unit_refused_it() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        reasons = {"Accepted": ("RemoteStop", "Remote"), "Rejected": ("StopAuthorized", "Local")}
        for meter_wh, (status, reason) in enumerate(reasons.items()):
            unit.answers["RemoteStopTransaction"] = partial(answering, status)
            number = await start(unit, meterStart=meter_wh)
            transaction_id = events(bench)[-1]["transactionInfo"]["transactionId"]
            assert (await bench.ask("RequestStopTransaction", {"transactionId": transaction_id}))["status"] == status
            stop = {"transactionId": number, "idTag": "04A1B2C3", "timestamp": NOW, "meterStop": 2000}
            await unit.call("StopTransaction", stop)
            ended = events(bench)[-1]
            assert (ended["triggerReason"], ended["transactionInfo"]["stoppedReason"]) == reason


async def test_an_immediate_reset_ends_the_transaction_and_is_the_reason_of_the_boot() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        number = await start(unit)
        assert (await bench.ask("Reset", {"type": "Immediate"}))["status"] == "Accepted"
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        ended = events(bench)[-1]
        assert (ended["triggerReason"], ended["transactionInfo"]["stoppedReason"]) == ("ResetCommand", "ImmediateReset")
        for reason in ("RemoteReset", "RemoteReset"):
            await unit.call("BootNotification", BOOT)
            assert bench.central_system.of("BootNotification")[-1]["reason"] == reason


async def test_a_refused_reset_leaves_no_cause_behind() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        number = await start(unit)
        unit.answers["Reset"] = lambda _: {"status": "Rejected"}
        assert (await bench.ask("Reset", {"type": "Immediate"}))["status"] == "Rejected"
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        await unit.call("BootNotification", BOOT)
        assert events(bench)[-1]["transactionInfo"]["stoppedReason"] == "Other"
        assert bench.central_system.of("BootNotification")[-1]["reason"] == "Unknown"


async def test_a_reset_on_idle_waits_for_the_last_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0.01)
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        number = await start(unit)
        assert (await bench.ask("Reset", {"type": "OnIdle"}))["status"] == "Scheduled"
        assert "Reset" not in dict(unit.asked)
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        await until(lambda: ("Reset", {"type": "Soft"}) in unit.asked)
        await unit.call("BootNotification", BOOT)
        assert bench.central_system.of("BootNotification")[-1]["reason"] == "ScheduledReset"
        await until(lambda: bench.units[-1].record.pending.boot_reason == "")


async def test_a_reset_ordered_right_after_a_boot_is_the_reason_of_the_next_one() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        assert (await bench.ask("Reset", {"type": "Immediate"}))["status"] == "Accepted"
        orders.booted(bench.units[-1].record)  # what comes a second after the boot
        await unit.call("BootNotification", BOOT)
        assert bench.central_system.of("BootNotification")[-1]["reason"] == "RemoteReset"


async def test_a_reservation_that_expires_or_is_lost_is_told_to_the_csms_once() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        bench.moved_ms += 3_599_950
        assert (await bench.ask("ReserveNow", RESERVATION))["status"] == "Accepted"
        await until(lambda: bench.central_system.of("ReservationStatusUpdate"))
        later = {**RESERVATION, "id": 4, "expiryDateTime": "2026-09-01T12:00:00Z"}
        await bench.ask("ReserveNow", later)
        await unit.call("StatusNotification", {**FREE, "status": "Faulted"})
        await unit.call("StatusNotification", {**FREE, "status": "Faulted"})
        assert bench.central_system.of("ReservationStatusUpdate") == [
            {"reservationId": 3, "reservationUpdateStatus": "Expired"},
            {"reservationId": 4, "reservationUpdateStatus": "Removed"},
        ]


async def test_a_reservation_keeps_others_away_and_ends_with_its_transaction() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        await bench.ask("ReserveNow", {**RESERVATION, "groupIdToken": {"idToken": "FLEET", "type": "Central"}})
        stranger = {**REMOTE_START, "idToken": {"idToken": "OTHER", "type": "Central"}}
        refused = await bench.ask("RequestStartTransaction", stranger)
        assert (refused["status"], refused["statusInfo"]["reasonCode"]) == ("Rejected", "NotEnabled")
        friend = {**stranger, "groupIdToken": {"idToken": "fleet", "type": "Central"}}
        assert (await bench.ask("RequestStartTransaction", friend))["status"] == "Accepted"
        assert (await bench.ask("RequestStartTransaction", REMOTE_START))["status"] == "Accepted"
        await start(unit, reservationId=3)
        assert events(bench)[-1]["reservationId"] == 3
        assert bench.units[-1].record.pending.reservations == {}
        assert bench.central_system.of("ReservationStatusUpdate") == []


async def test_a_cancelled_reservation_does_not_expire() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        await bench.ask("ReserveNow", RESERVATION)
        assert (await bench.ask("CancelReservation", {"reservationId": 3}))["status"] == "Accepted"
        assert bench.units[-1].record.pending.reservations == {}


async def test_a_connector_out_of_service_is_so_again_after_a_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0.01)
    order = ("ChangeAvailability", {"connectorId": 1, "type": "Inoperative"})
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        await bench.ask("ChangeAvailability", {"operationalStatus": "Inoperative", "evse": {"id": 1}})
        await unit.call("BootNotification", BOOT)
        await until(lambda: unit.asked.count(order) == 2)
        await bench.ask("ChangeAvailability", {"operationalStatus": "Operative", "evse": {"id": 1}})
        assert bench.units[-1].record.pending.inoperative == []


async def test_a_unit_out_of_service_for_the_limit_is_not_put_back_from_above() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        bench.units[-1].smart_charging.way = Way.STOP
        assert (await bench.ask("ChangeAvailability", {"operationalStatus": "Operative"}))["status"] == "Rejected"
        assert not [asked for asked, _ in unit.asked if asked == "ChangeAvailability"]
        assert (await bench.ask("ChangeAvailability", {"operationalStatus": "Inoperative"}))["status"] != "Rejected"


async def test_statuses_of_an_upload_and_of_an_update_carry_the_request_they_belong_to() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        log = {"logType": "DiagnosticsLog", "requestId": 4, "log": {"remoteLocation": "ftp://files.example/"}}
        assert (await bench.ask("GetLog", log))["status"] == "Accepted"
        assert (await bench.ask("GetLog", {**log, "requestId": 5}))["status"] == "AcceptedCanceled"
        await unit.call("DiagnosticsStatusNotification", {"status": "Uploaded"})
        assert bench.central_system.of("LogStatusNotification") == [
            {"status": "Uploading", "requestId": 4},
            {"status": "AcceptedCanceled", "requestId": 4},
            {"status": "Uploading", "requestId": 5},
            {"status": "Uploaded", "requestId": 5},
        ]
        firmware = {"location": "ftp://files.example/fw", "retrieveDateTime": NOW}
        assert (await bench.ask("UpdateFirmware", {"requestId": 6, "firmware": firmware}))["status"] == "Accepted"
        for status in ("Downloaded", "Installed"):
            await unit.call("FirmwareStatusNotification", {"status": status})
        await until(lambda: bench.central_system.of("SecurityEventNotification"))
        await unit.call("BootNotification", BOOT)
        statuses = bench.central_system.of("FirmwareStatusNotification")
        assert statuses == [{"status": status, "requestId": 6} for status in ("Downloaded", "Installed")]
        assert bench.central_system.of("SecurityEventNotification")[0]["type"] == "FirmwareUpdated"
        assert bench.central_system.of("BootNotification")[-1]["reason"] == "FirmwareUpdate"


async def test_an_id_token_too_long_for_a_tag_goes_by_an_alias_and_comes_back_as_itself() -> None:
    tag = alias(CONTRACT)
    assert len(tag) == MAX_ID_TAG
    async with running() as bench:
        async with bench.unit() as unit:
            await booted(unit)
            assert (await bench.ask("RequestStartTransaction", {**REMOTE_START, "idToken": CONTRACT}))[
                "status"
            ] == "Accepted"
            assert dict(unit.asked)["RemoteStartTransaction"]["idTag"] == tag
        async with bench.unit() as unit:
            await booted(unit)
            await unit.call("Authorize", {"idTag": tag})
            await start(unit, idTag=tag)
        assert bench.central_system.of("Authorize") == [{"idToken": CONTRACT}]
        assert events(bench)[0]["idToken"] == CONTRACT


async def test_the_type_of_a_token_is_what_the_csms_called_it() -> None:
    local = {"idToken": "CAFE", "type": "Local"}
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        await bench.ask("RequestStartTransaction", {**REMOTE_START, "idToken": local})
        await unit.call("Authorize", {"idTag": "cafe"})
        await unit.call("Authorize", {"idTag": "beef"})
        kinds = [each["idToken"]["type"] for each in bench.central_system.of("Authorize")]
        assert kinds == ["Local", "Central"]


async def test_customer_information_is_told_and_then_forgotten() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        number = await start(unit)
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        asked = {"requestId": 1, "report": True, "clear": True, "idToken": CARD}
        for _ in range(2):
            assert (await bench.ask("CustomerInformation", asked))["status"] == "Accepted"
        told, empty = bench.central_system.of("NotifyCustomerInformation")
        assert events(bench)[0]["transactionInfo"]["transactionId"] in told["data"]
        assert empty["data"] == "no data found"
        assert bench.transactions.of_driver(SERIAL, "04A1B2C3") == []


async def test_a_report_comes_in_parts_numbered_from_0_and_says_which_is_the_last() -> None:
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        unit.configuration |= {f"Key{number:03}": "x" * 90 for number in range(60)}
        await bench.ask("GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"})
        await until(lambda: any(not each["tbc"] for each in bench.central_system.of("NotifyReport")))
        parts = bench.central_system.of("NotifyReport")
        assert [part["seqNo"] for part in parts] == list(range(len(parts)))
        assert [part["tbc"] for part in parts] == [True] * (len(parts) - 1) + [False]
        places = [(str(row["component"]), str(row["variable"])) for part in parts for row in part["reportData"]]
        assert len(set(places)) == len(places) > 90
        limit = next(
            row for part in parts for row in part["reportData"] if row["variable"]["name"] == "MaxChargingPowerW"
        )
        assert limit["variableAttribute"][0]["mutability"] == "ReadOnly"


async def test_a_unit_that_takes_one_key_at_a_time_is_asked_for_one_key_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0.01)
    async with running(made("novac-duo")) as bench, bench.unit() as unit:
        unit.configuration = {"MeterInterval": "60", "MeterMeasurands": "Voltage", "LedColour": "red"}
        await booted(unit)
        await until(lambda: len(unit.asked) >= 4)
        item = {"component": {"name": "NovacCtrlr"}, "variable": {"name": "LedColour"}}
        heartbeat = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}
        await bench.ask("GetVariables", {"getVariableData": [item, heartbeat]})
        await bench.ask("GetReport", {"requestId": 1, "componentVariable": [{"component": {"name": "NovacCtrlr"}}]})
        asked = [payload["key"] for action, payload in unit.asked if action == "GetConfiguration"]
        assert all(len(keys) == 1 for keys in asked)
        assert ["HeartbeatPeriod"] in asked
        assert {keys[0] for keys in asked} == set(made("novac-duo").profile.quirks.configuration_keys)


async def test_no_csms_message_reaches_the_limit_of_a_unit_limited_by_data_transfer() -> None:
    async with running(made("novac-duo")) as bench, bench.unit() as unit:
        await booted(unit)
        for spelling in ("SetStationLimit", "setstationlimit "):
            answer = await bench.ask("DataTransfer", {"vendorId": "NOVAC", "messageId": spelling, "data": "{}"})
            assert answer["status"] == "Rejected"
        await bench.ask("DataTransfer", {"vendorId": "Novac", "messageId": "Lamp"})
        assert [payload["messageId"] for action, payload in unit.asked if action == "DataTransfer"] == ["Lamp"]


async def test_a_meter_that_begins_anew_each_time_is_carried_on_as_a_register_and_marked() -> None:
    sample = {"timestamp": NOW, "values": [{"value": "300", "unit": "Wh"}]}
    async with running(made("novac-duo")) as bench, bench.unit() as unit:
        await booted(unit)
        for _ in range(2):
            number = await start(unit, meterStart=0, timestamp=f"2026-09-01T10:00:0{_}Z")
            await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": [sample]})
            await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 500})
        await unit.call("MeterValues", {"connectorId": 1, "values": [sample]})
        said = [event["meterValue"][-1]["sampledValue"][0]["value"] for event in events(bench)]
        assert said == [0, 300, 500, 500, 800, 1000]
        assert {event["customData"]["source"] for event in events(bench)} == {"virtual-register"}
        assert bench.central_system.of("MeterValues") == []


async def test_a_unit_that_cannot_sample_says_so_and_is_asked_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0)
    async with running(made("brenta-wall")) as bench, bench.unit() as unit:
        await booted(unit)
        await until(lambda: bench.units[-1].record.sampling_problem)
        assert unit.asked == []
        available = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "Available"}}
        interval = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}
        answer = await bench.ask("GetVariables", {"getVariableData": [available, interval]})
        results = answer["getVariableResult"]
        assert results[0]["attributeValue"] == "false"
        assert results[1]["attributeStatus"] == "UnknownVariable"
        number = await start(unit)
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        measurands = {
            value["measurand"]
            for event in events(bench)
            for each in event["meterValue"]
            for value in each["sampledValue"]
        }
        assert measurands == {"Energy.Active.Import.Register"}


async def test_a_unit_that_does_not_sample_as_ordered_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0)
    async with running(s4_entry()) as bench, bench.unit() as unit:
        unit.answers["ChangeConfiguration"] = lambda _: {"status": "Rejected"}
        await unit.call("BootNotification", BOOT)
        await until(lambda: bench.units[-1].record.sampling_problem)
        assert "MeterValueSampleInterval" in str(bench.units[-1].record.sampling_problem)


async def test_a_charging_profile_that_comes_with_a_remote_start_holds_for_its_transaction() -> None:
    charging_profile = {
        "id": 7,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": [
            {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9000.0}]}
        ],
    }
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        await bench.ask("RequestStartTransaction", {**REMOTE_START, "chargingProfile": charging_profile})
        profiles = bench.units[-1].smart_charging.profiles
        assert profiles.wish_w(bench.clock().utc_ms) is None
        number = await start(unit)
        assert profiles.wish_w(bench.clock().utc_ms) == 9_000
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        assert profiles.wish_w(bench.clock().utc_ms) is None


async def test_samples_too_old_are_no_current_information() -> None:
    power = [{"timestamp": NOW, "values": [{"value": "7200", "unit": "W", "measurand": "Power.Active.Import"}]}]
    async with running() as bench, bench.unit() as unit:
        await booted(unit)
        number = await start(unit)
        await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": power})
        assert (await bench.ask("TriggerMessage", {"requestedMessage": "MeterValues"}))["status"] == "Accepted"
        bench.moved_ms += 121_000
        assert (await bench.ask("TriggerMessage", {"requestedMessage": "MeterValues"}))["status"] == "Rejected"
        assert (await bench.ask("TriggerMessage", {"requestedMessage": "TransactionEvent"}))["status"] == "Accepted"
        assert events(bench)[-1]["triggerReason"] == "Trigger"
        assert "meterValue" not in events(bench)[-1]
        assert events(bench)[-1]["transactionInfo"]["chargingState"] == "Charging"
        assert [event["seqNo"] for event in events(bench)] == [0, 1, 2]


async def test_a_register_of_the_bridge_never_runs_backwards_though_a_session_is_never_stopped() -> None:
    said = {"timestamp": NOW, "values": [{"value": "700", "unit": "Wh"}]}
    async with running(made("novac-duo")) as bench:
        async with bench.unit() as unit:
            await booted(unit)
            number = await start(unit, meterStart=0)
            await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": [said]})
        async with bench.unit() as unit:
            await booted(unit)
            await start(unit, meterStart=0, timestamp="2026-09-01T10:05:00Z")
        begun = events(bench)[-1]
        assert begun["eventType"] == "Started"
        assert begun["meterValue"][0]["sampledValue"][0]["value"] == 700


async def test_the_device_model_tells_of_the_link_and_of_the_meter() -> None:
    def asked(component: str, variable: str, **instance: str) -> Payload:
        return {"component": {"name": component}, "variable": {"name": variable, **instance}}

    async with running() as bench, bench.unit() as unit:
        unit.obey()
        await unit.call("BootNotification", {**BOOT, "meterSerialNumber": "M-77"})
        items = [
            asked("FiscalMetering", "MeterSerialNumber"),
            asked("OCPPCommCtrlr", "MessageAttempts", instance="TransactionEvent"),
            asked("OCPPCommCtrlr", "OfflineThreshold"),
            asked("AuthCacheCtrlr", "LifeTime"),
            asked("securityctrlr", "securityprofile"),
            asked("TxCtrlr", "TxStartPoint"),
        ]
        answer = await bench.ask("GetVariables", {"getVariableData": items})
        values = [each["attributeValue"] for each in answer["getVariableResult"]]
        assert values == ["M-77", "3", "300", "2592000", "1", "PowerPathClosed"]
        assert {each["attributeType"] for each in answer["getVariableResult"]} == {"Actual"}
        assert unit.asked == []
