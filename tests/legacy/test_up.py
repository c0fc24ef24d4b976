"""Each message of a unit becomes what reference §2.1 says, valid against the schemas of OCPP 2.0.1."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from bridge.legacy import up
from bridge.legacy.dialects import OCPP15, Reading, read
from bridge.legacy.down import Call
from bridge.legacy.readings import meter_readings
from bridge.legacy.transactions import Transaction
from tests.legacy.fake_unit import RECEIVED_MS, SERIAL, assert_valid, s4_profile

NOW = "2026-09-01T10:00:00.000Z"
TRANSACTION_ID = "6a1f8a52-3d1e-4c52-8b0b-6f2a7b1e9c11"


def transaction(**changes: Any) -> Transaction:
    said: dict[str, Any] = {"meter_start_wh": 1000, "connector": 1, **changes}
    return Transaction(SERIAL, 7, TRANSACTION_ID, start_key="", id_tag="04A1B2C3", **said)


def message(action: str, **fields: Any) -> dict[str, Any]:
    result = read(OCPP15.from_unit[action].request, fields)
    assert isinstance(result, Reading)
    return result.message


def started(said: dict[str, Any], remote_start_id: int | None = None) -> Call:
    begun = transaction(remote_start_id=remote_start_id)
    return up.transaction_started(said, begun, up.id_token(said["idTag"]), 0, RECEIVED_MS)


def ended_by(said: dict[str, Any], seq_no: int, sets: Any = (), **changes: Any) -> Call:
    token = up.id_token(said["idTag"]) if said.get("idTag") else None
    return up.transaction_ended(OCPP15, said, sets, transaction(**changes), token, seq_no, RECEIVED_MS)


def status(known: dict[int, up.ConnectorState] | None = None, **fields: Any) -> list[Call]:
    minted = count(1)
    said = message("StatusNotification", **{"timestamp": NOW, "errorCode": "NoError", **fields})
    calls = up.status_notification(OCPP15, said, RECEIVED_MS, known or {}, lambda: next(minted))
    return [assert_valid(call) for call in calls]


def boot(**fields: Any) -> Call:
    call = up.boot_notification(message("BootNotification", **fields), SERIAL, s4_profile())
    assert isinstance(call, Call)
    return assert_valid(call)


def test_the_translated_boot_notification_is_the_one_the_central_system_wants() -> None:
    assert boot().payload == {
        "reason": "PowerUp",
        "chargingStation": {"model": "S4-ULTRA", "vendorName": "Voltex", "serialNumber": "S4-0001"},
    }


def test_what_the_unit_says_of_itself_is_added_and_fits() -> None:
    station = boot(
        chargePointVendor="Voltex GmbH",
        chargePointModel="S4-ULTRA with a very long name",
        chargeBoxSerialNumber="S4-0001",
        firmwareVersion="2016.1",
        iccid="8949" * 6,
        imsi="26201",
        meterType="S4M",
    ).payload["chargingStation"]
    assert station == {
        "model": "S4-ULTRA with a very",
        "vendorName": "Voltex GmbH",
        "serialNumber": "S4-0001",
        "firmwareVersion": "2016.1",
        "modem": {"iccid": "8949" * 5, "imsi": "26201"},
    }


@pytest.mark.parametrize("field", ["chargePointSerialNumber", "chargeBoxSerialNumber"])
def test_a_boot_serial_that_disagrees_is_refused(field: str) -> None:
    said = message("BootNotification", **{field: "S4-9999"})
    refused = up.boot_notification(said, SERIAL, s4_profile())
    assert isinstance(refused, up.Untranslatable)
    assert "S4-9999" in refused.why


def test_a_box_inside_may_have_a_serial_of_its_own_beside_the_unit_s() -> None:
    assert (
        boot(chargePointSerialNumber="s4-0001", chargeBoxSerialNumber="BOX-7").payload["chargingStation"][
            "serialNumber"
        ]
        == SERIAL
    )


@pytest.mark.parametrize(
    ("id_tag", "token", "kind"),
    [
        ("04a1b2c3", "04A1B2C3", "ISO14443"),
        ("04A1B2C3D4E5F6", "04A1B2C3D4E5F6", "ISO14443"),
        ("04A1B2", "04A1B2", "Central"),
        ("Driver-7", "Driver-7", "Central"),
        ("", "", "NoAuthorization"),
    ],
)
def test_the_type_of_a_token_follows_from_the_tag(id_tag: str, token: str, kind: str) -> None:
    assert assert_valid(up.authorize(up.id_token(id_tag))).payload == {"idToken": {"idToken": token, "type": kind}}


@pytest.mark.parametrize(
    ("word", "becomes"),
    [("Available", "Available"), ("Occupied", "Occupied"), ("Reserved", "Reserved"), ("Unavailable", "Unavailable"),
     ("Charging", "Occupied")],
)  # fmt: skip
def test_a_status_of_a_connector_is_one_status_notification(word: str, becomes: str) -> None:
    (call,) = status(connectorId=2, status=word)
    assert call == Call(
        "StatusNotification", {"timestamp": NOW, "connectorStatus": becomes, "evseId": 2, "connectorId": 1}
    )


def test_a_fault_is_a_status_and_an_event_with_the_error_code_and_all_that_was_said() -> None:
    calls = status(
        connectorId=1, status="Faulted", errorCode="GroundFailure", info="RCD", vendorId="Voltex", vendorErrorCode="E7"
    )
    assert [call.action for call in calls] == ["StatusNotification", "NotifyEvent"]
    (event,) = calls[1].payload["eventData"]
    assert event["component"] == {"name": "Connector", "evse": {"id": 1, "connectorId": 1}}
    assert (event["variable"]["name"], event["actualValue"], event["trigger"]) == ("Problem", "true", "Alerting")
    assert (event["techCode"], event["techInfo"]) == ("GroundFailure", "RCD Voltex E7")
    assert "cleared" not in event


def test_the_end_of_a_fault_is_an_event_that_says_cleared() -> None:
    known = {1: up.ConnectorState("Faulted", "GroundFailure")}
    event = status(known, connectorId=1, status="Available")[1].payload["eventData"][0]
    assert (event["actualValue"], event["cleared"]) == ("false", True)


def test_a_warning_without_a_new_status_is_an_event_alone() -> None:
    known = {1: up.ConnectorState("Occupied", "NoError")}
    assert [call.action for call in status(known, connectorId=1, status="Occupied", errorCode="WeakSignal")] == [
        "NotifyEvent"
    ]
    assert [call.action for call in status(connectorId=1, status="Occupied", errorCode="WeakSignal")] == [
        "StatusNotification",
        "NotifyEvent",
    ]


def test_connector_0_reaches_every_connector_and_is_never_sent_itself() -> None:
    known = {1: up.ConnectorState("Occupied", "NoError"), 2: up.ConnectorState("Available", "NoError")}
    calls = status(known, connectorId=0, status="Unavailable")
    sent = [(call.payload["evseId"], call.payload["connectorStatus"]) for call in calls[:-1]]
    assert sent == [(1, "Unavailable"), (2, "Unavailable")]
    assert calls[-1].payload["eventData"][0]["component"] == {"name": "ChargingStation"}
    assert calls[-1].payload["eventData"][0]["actualValue"] == "Unavailable"
    calls = status({0: up.ConnectorState("Unavailable", "NoError"), **known}, connectorId=0, status="Available")
    sent = [(call.payload["evseId"], call.payload["connectorStatus"]) for call in calls[:-1]]
    assert sent == [(1, "Occupied"), (2, "Available")]


def test_a_clock_that_was_never_set_is_replaced_and_kept_beside_it() -> None:
    (call,) = status(connectorId=1, status="Available", timestamp="1970-01-01T00:00:07Z")
    assert call.payload["timestamp"] == NOW
    assert call.payload["customData"] == {"vendorId": "grid-limit-bridge", "unitTimestamp": "1970-01-01T00:00:07Z"}


def test_a_start_becomes_started_with_everything_once() -> None:
    said = message(
        "StartTransaction", connectorId=1, idTag="04A1B2C3", timestamp=NOW, meterStart=123456, reservationId=5
    )
    assert assert_valid(started(said)).payload == {
        "eventType": "Started",
        "timestamp": NOW,
        "triggerReason": "Authorized",
        "seqNo": 0,
        "evse": {"id": 1, "connectorId": 1},
        "idToken": {"idToken": "04A1B2C3", "type": "ISO14443"},
        "reservationId": 5,
        "transactionInfo": {"transactionId": TRANSACTION_ID, "chargingState": "Charging"},
        "meterValue": [
            {
                "timestamp": NOW,
                "sampledValue": [
                    {
                        "value": 123456,
                        "context": "Transaction.Begin",
                        "measurand": "Energy.Active.Import.Register",
                        "location": "Outlet",
                        "unitOfMeasure": {"unit": "Wh"},
                    }
                ],
            }
        ],
    }


def test_a_start_that_was_asked_for_says_so() -> None:
    said = message("StartTransaction", connectorId=1, idTag="04A1B2C3", timestamp=NOW)
    payload = assert_valid(started(said, 44)).payload
    assert (payload["triggerReason"], payload["transactionInfo"]["remoteStartId"]) == ("RemoteStart", 44)
    assert "meterValue" not in payload


def test_meter_values_of_a_transaction_become_one_updated_for_each_time() -> None:
    values = [
        {"timestamp": f"2026-09-01T10:0{minute}:00Z", "value": [{"value": "7,2", "unit": "kW",
         "measurand": "Power.Active.Import", "context": context}]}
        for minute, context in ((1, "Sample.Periodic"), (2, "Sample.Clock"))
    ]  # fmt: skip
    numbers = count(3)
    sets = meter_readings(values).sets
    calls = up.transaction_updated(sets, transaction(), lambda: next(numbers), RECEIVED_MS)
    payloads = [assert_valid(call).payload for call in calls]
    assert [payload["seqNo"] for payload in payloads] == [3, 4]
    assert [payload["triggerReason"] for payload in payloads] == ["MeterValuePeriodic", "MeterValueClock"]
    assert [payload["timestamp"][14:16] for payload in payloads] == ["01", "02"]
    assert payloads[0]["meterValue"][0]["sampledValue"] == [
        {
            "value": 7200,
            "context": "Sample.Periodic",
            "measurand": "Power.Active.Import",
            "location": "Outlet",
            "unitOfMeasure": {"unit": "W"},
        }
    ]
    assert "evse" not in payloads[0]


def test_meter_values_outside_a_transaction_are_those_of_the_evse() -> None:
    sets = meter_readings([{"value": "230.4", "measurand": "Voltage", "phase": "L1-N"}]).sets
    (call,) = up.meter_values(sets, 0, RECEIVED_MS)
    assert assert_valid(call).payload["evseId"] == 0
    assert call.payload["meterValue"][0]["sampledValue"][0] == {
        "value": 230.4,
        "context": "Sample.Periodic",
        "measurand": "Voltage",
        "location": "Outlet",
        "phase": "L1-N",
        "unitOfMeasure": {"unit": "V"},
    }
    assert up.meter_values([], 1, RECEIVED_MS) == []


def test_temperature_is_no_measurand_of_2_0_1_and_becomes_an_event() -> None:
    sets = meter_readings([{"value": "41,5", "measurand": "Temperature", "unit": "Celsius"}]).sets
    assert up.meter_values(sets, 1, RECEIVED_MS) == []
    (call,) = up.temperatures(sets, 1, RECEIVED_MS, lambda: 9)
    (event,) = assert_valid(call).payload["eventData"]
    assert (event["variable"]["name"], event["actualValue"], event["eventId"]) == ("Temperature", "41.5", 9)


def test_a_stop_by_the_driver_becomes_ended_with_all_its_meter_values() -> None:
    data = [{"values": [{"timestamp": NOW, "values": [{"value": "1500"}]}]}]
    said = message("StopTransaction", transactionId=7, idTag="04A1B2C3", timestamp=NOW, meterStop=2000)
    payload = assert_valid(ended_by(said, 5, meter_readings(data).sets)).payload
    assert (payload["eventType"], payload["triggerReason"], payload["seqNo"]) == ("Ended", "StopAuthorized", 5)
    assert payload["transactionInfo"]["stoppedReason"] == "Local"
    assert payload["idToken"]["idToken"] == "04A1B2C3"
    values = [value["sampledValue"][0] for value in payload["meterValue"]]
    assert [(value["value"], value["context"]) for value in values] == [
        (1500, "Sample.Periodic"),
        (2000, "Transaction.End"),
    ]
    assert "customData" not in payload


def test_a_stop_without_a_tag_has_no_reason_and_a_meter_that_ran_backwards_is_flagged() -> None:
    said = message("StopTransaction", transactionId=7, timestamp=NOW, meterStop=10)
    payload = assert_valid(ended_by(said, 5)).payload
    assert (payload["triggerReason"], payload["transactionInfo"]["stoppedReason"]) == ("AbnormalCondition", "Other")
    assert payload["customData"]["meterStart"] == 1000
    assert payload["meterValue"][0]["sampledValue"][0]["value"] == 10


def test_recovered_and_abandoned_transactions_say_what_they_are() -> None:
    started = assert_valid(up.transaction_recovered(transaction(connector=None), 0, RECEIVED_MS)).payload
    assert (started["triggerReason"], started["offline"]) == ("AbnormalCondition", True)
    assert "evse" not in started
    said = message("StopTransaction", transactionId=-1, idTag="04A1B2C3", meterStop=10)
    ended = assert_valid(up.recovered_ended(ended_by(said, 1))).payload
    assert (ended["triggerReason"], ended["offline"]) == ("AbnormalCondition", True)
    abandoned = assert_valid(up.transaction_abandoned(transaction(), 4, RECEIVED_MS)).payload
    assert (abandoned["eventType"], abandoned["transactionInfo"]["stoppedReason"]) == ("Ended", "Other")


def test_uploads_firmware_heartbeat_and_data_transfer_keep_their_meaning() -> None:
    failed = message("DiagnosticsStatusNotification", status="UploadFailed")
    call = assert_valid(up.log_status_notification(OCPP15, failed, 3))
    assert call == Call("LogStatusNotification", {"status": "UploadFailure", "requestId": 3})
    installed = message("FirmwareStatusNotification", status="Installed")
    call = assert_valid(up.firmware_status_notification(OCPP15, installed))
    assert call == Call("FirmwareStatusNotification", {"status": "Installed"})
    assert assert_valid(up.heartbeat()).payload == {}
    said = message("DataTransfer", vendorId="Voltex", messageId="m", data={"a": [1]})
    transferred = up.data_transfer(said)
    assert isinstance(transferred, Call)
    assert assert_valid(transferred).payload == {"vendorId": "Voltex", "messageId": "m", "data": {"a": [1]}}
    assert isinstance(up.data_transfer({"vendorId": "V" * 256}), up.Untranslatable)
