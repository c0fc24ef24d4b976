"""Each row of the table of operations, driven over a real WebSocket: what the unit is asked, what the CSMS is told."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.legacy import operations
from bridge.legacy.dialects import OCPP15
from bridge.legacy.operations import FROM_CSMS, OPERATIONS, How, Operation, Way
from bridge.ocpp201.rpc import CallError
from bridge.ocpp201.schemas import ACTIONS
from tests.legacy.fake_unit import SERIAL, Bench, FakeUnit, running, until

NOW = "2026-09-01T10:00:00Z"
LATER = "2026-09-01T11:00:00Z"
BOOT = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA", "chargeBoxSerialNumber": SERIAL}
START = {"connectorId": 1, "idTag": "04A1B2C3", "timestamp": NOW, "meterStart": 1000}
POWER = [{"timestamp": NOW, "values": [{"value": "7200", "unit": "W", "measurand": "Power.Active.Import"}]}]
CARD = {"idToken": "04A1B2C3", "type": "ISO14443"}
LONG = {"idToken": "DE*ABC*E1234567*DRIVER*99", "type": "eMAID"}
KEY = {"component": {"name": "VoltexCtrlr"}, "variable": {"name": "LightIntensity"}}
LIMIT_KEY = {"component": {"name": "VoltexCtrlr"}, "variable": {"name": "MaxChargingPowerW"}}
INTERVAL = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}
MEASURANDS = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedMeasurands"}}
START_POINT = {"component": {"name": "TxCtrlr"}, "variable": {"name": "TxStartPoint"}}
FIRMWARE = {"location": "ftp://files.example/fw.bin", "retrieveDateTime": NOW}
LOG = {"remoteLocation": "ftp://files.example/", "oldestTimestamp": NOW, "latestTimestamp": LATER}
HASH = {"hashAlgorithm": "SHA256", "issuerNameHash": "a", "issuerKeyHash": "b", "serialNumber": "1"}
SCHEDULE = {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 9000.0}]}
MAXIMUM = {
    "id": 5,
    "stackLevel": 0,
    "chargingProfilePurpose": "ChargingStationMaxProfile",
    "chargingProfileKind": "Absolute",
    "chargingSchedule": [{**SCHEDULE, "startSchedule": NOW}],
}
OF_TRANSACTION = {**MAXIMUM, "chargingProfilePurpose": "TxProfile"}
EXTERNAL = {**MAXIMUM, "chargingProfilePurpose": "ChargingStationExternalConstraints"}


@dataclass(frozen=True)
class Case:
    """One request of the CSMS, what the unit is then asked, what is answered, and what the CSMS is told afterwards.

    `answer` is a status, a CALLERROR code after an exclamation mark, or part of the response. `says` are the unit's
    answers by action, `running` begins a transaction before, `{tx}` in the payload stands for its id.
    """

    payload: dict[str, Any]
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: Any = "Accepted"
    told: list[str] = field(default_factory=list)
    says: dict[str, Any] = field(default_factory=dict)
    running: bool = False
    status: str = "Available"


def start(**more: Any) -> dict[str, Any]:
    return {"idToken": CARD, "remoteStartId": 9, "evseId": 1, **more}


def reserve(**more: Any) -> dict[str, Any]:
    return {"id": 3, "expiryDateTime": LATER, "idToken": CARD, "evseId": 1, **more}


def get(*items: dict[str, Any]) -> dict[str, Any]:
    return {"getVariableData": list(items)}


def put(value: str, item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"setVariableData": [{"attributeValue": value, **item, **more}]}


def known(*tokens: dict[str, Any], version: int = 8, kind: str = "Full") -> dict[str, Any]:
    entries = [{"idToken": token, "idTokenInfo": {"status": "Accepted"}} for token in tokens]
    return {"versionNumber": version, "updateType": kind} | ({"localAuthorizationList": entries} if entries else {})


def refused(action: str, status: str = "Rejected") -> dict[str, Any]:
    return {action: lambda _: {"status": status}}


SILENT: dict[str, Any] = {"ClearCache": lambda _: ["NotSupported", "", {}]}
REMOTE_START = ("RemoteStartTransaction", {"idTag": "04A1B2C3", "connectorId": 1})
RESERVE = ("ReserveNow", {"connectorId": 1, "expiryDate": LATER, "idTag": "04A1B2C3", "reservationId": 3})
AVAILABILITY = ("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"})

CASES: dict[str, list[Case]] = {
    "CancelReservation": [
        Case({"reservationId": 3}, [("CancelReservation", {"reservationId": 3})]),
        Case(
            {"reservationId": 3},
            [("CancelReservation", {"reservationId": 3})],
            "Rejected",
            says=refused("CancelReservation"),
        ),
    ],
    "ChangeAvailability": [
        Case({"operationalStatus": "Inoperative"}, [AVAILABILITY]),
        Case({"operationalStatus": "Inoperative"}, [AVAILABILITY], "Scheduled", running=True),
        Case(
            {"operationalStatus": "Operative", "evse": {"id": 1}},
            [("ChangeAvailability", {"connectorId": 1, "type": "Operative"})],
            says=refused("ChangeAvailability"),  # it is in that state already: G03.FR.03
        ),
        Case({"operationalStatus": "Operative", "evse": {"id": 2}}, answer={"reasonCode": "UnknownEvse"}),
        Case({"operationalStatus": "Operative", "evse": {"id": 1, "connectorId": 2}}, answer="Rejected"),
    ],
    "ClearCache": [
        Case({}, [("ClearCache", {})]),
        Case({}, [("ClearCache", {})], {"status": "Rejected", "reasonCode": "UnsupportedRequest"}, says=SILENT),
    ],
    "DataTransfer": [
        Case(
            {"vendorId": "Voltex", "messageId": "Lamp", "data": {"on": True}},
            [("DataTransfer", {"vendorId": "Voltex", "messageId": "Lamp", "data": '{"on":true}'})],
            {"status": "Accepted", "data": "done"},
            says={"DataTransfer": lambda _: {"status": "Accepted", "data": "done"}},
        ),
        Case(
            {"vendorId": "Other"},
            [("DataTransfer", {"vendorId": "Other"})],
            {"status": "UnknownVendorId"},
            says=refused("DataTransfer", "UnknownVendorId"),
        ),
    ],
    "GetLocalListVersion": [
        Case({}, [("GetLocalListVersion", {})], {"versionNumber": 7}),
        Case(
            {},
            [("GetLocalListVersion", {})],
            {"versionNumber": 0},
            says={"GetLocalListVersion": lambda _: {"listVersion": -1}},
        ),
        Case(
            {},
            [("GetLocalListVersion", {})],
            {"versionNumber": 0},
            says={"GetLocalListVersion": lambda _: ["NotSupported"]},
        ),
    ],
    "GetLog": [
        Case(
            {"logType": "DiagnosticsLog", "requestId": 4, "log": LOG, "retries": 2},
            [
                (
                    "GetDiagnostics",
                    {"location": "ftp://files.example/", "startTime": NOW, "stopTime": LATER, "retries": 2},
                )
            ],
            {"status": "Accepted", "filename": "S4-0001.log"},
            ["LogStatusNotification"],
        ),
        Case(
            {"logType": "DiagnosticsLog", "requestId": 4, "log": {"remoteLocation": "ftp://files.example/"}},
            [("GetDiagnostics", {"location": "ftp://files.example/"})],
            "Rejected",
            says={"GetDiagnostics": lambda _: {}},
        ),
        Case(
            {"logType": "DiagnosticsLog", "requestId": 4, "log": {**LOG, "remoteLocation": "https://files.example/"}},
            answer={"status": "Rejected", "reasonCode": "InvalidURL"},
        ),
        Case({"logType": "SecurityLog", "requestId": 4, "log": LOG}, answer={"reasonCode": "UnsupportedParam"}),
    ],
    "GetVariables": [
        Case(
            get(KEY, INTERVAL, START_POINT, {**KEY, "variable": {"name": "Nonsense"}}),
            [("GetConfiguration", {"key": ["LightIntensity", "MeterValueSampleInterval", "Nonsense"]})],
            {
                "attributeStatus": ["Accepted", "Accepted", "Accepted", "UnknownVariable"],
                "attributeValue": ["80", "900"],
            },
        ),
        Case(
            get(
                {"component": {"name": "Ghost"}, "variable": {"name": "X"}}, {**START_POINT, "attributeType": "Target"}
            ),
            answer={"attributeStatus": ["UnknownComponent", "NotSupportedAttributeType"]},
        ),
        Case(get(*[START_POINT] * 51), answer="!OccurrenceConstraintViolation"),
    ],
    "SetVariables": [
        Case(
            put("40", KEY),
            [("ChangeConfiguration", {"key": "LightIntensity", "value": "40"})],
            {"attributeStatus": ["Accepted"]},
        ),
        Case(put("40", LIMIT_KEY), answer={"attributeStatus": ["Rejected"], "reasonCode": "ReadOnly"}),
        Case(put("900", INTERVAL), answer={"attributeStatus": ["Rejected"], "reasonCode": "ValueOutOfRange"}),
        Case(put("Voltage", MEASURANDS), answer={"attributeStatus": ["Rejected"], "reasonCode": "InvalidValue"}),
        Case(
            put("30", INTERVAL),
            [("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "30"})],
            {"attributeStatus": ["Accepted"]},
        ),
        Case(put("x", START_POINT), answer={"attributeStatus": ["Rejected"], "reasonCode": "ReadOnly"}),
        Case(
            put("1", KEY),
            [("ChangeConfiguration", {"key": "LightIntensity", "value": "1"})],
            {"attributeStatus": ["UnknownVariable"]},
            says=refused("ChangeConfiguration", "NotSupported"),
        ),
        Case(
            put("1", KEY),
            [("ChangeConfiguration", {"key": "LightIntensity", "value": "1"})],
            {"attributeStatus": ["RebootRequired"]},
            says=refused("ChangeConfiguration", "RebootRequired"),
        ),
        Case(put("1", KEY, attributeType="MaxSet"), answer={"attributeStatus": ["NotSupportedAttributeType"]}),
    ],
    "GetBaseReport": [
        Case({"requestId": 1, "reportBase": "FullInventory"}, [("GetConfiguration", {})], told=["NotifyReport"] * 4),
        Case(
            {"requestId": 1, "reportBase": "ConfigurationInventory"}, [("GetConfiguration", {})], told=["NotifyReport"]
        ),
        Case({"requestId": 1, "reportBase": "SummaryInventory"}, answer="NotSupported"),
    ],
    "GetReport": [
        Case(
            {"requestId": 1, "componentVariable": [{"component": {"name": "TxCtrlr"}}]},
            [("GetConfiguration", {})],
            told=["NotifyReport"],
        ),
        Case({"requestId": 1, "componentCriteria": ["Problem"]}, [("GetConfiguration", {})], "EmptyResultSet"),
        Case(
            {"requestId": 1, "componentCriteria": ["Problem"]},
            [("GetConfiguration", {})],
            told=["NotifyReport"],
            status="Faulted",
        ),
        Case(
            {"requestId": 1, "componentVariable": [{"component": {"name": "X"}}] * 51},
            answer="!OccurrenceConstraintViolation",
        ),
    ],
    "RequestStartTransaction": [
        Case(start(), [REMOTE_START]),
        Case({"idToken": CARD, "remoteStartId": 9}, [REMOTE_START]),
        Case(start(), [REMOTE_START], "Rejected", says=refused("RemoteStartTransaction")),
        Case(start(evseId=2), answer={"reasonCode": "UnknownEvse"}),
        Case(start(), answer={"reasonCode": "TxInProgress"}, running=True),
        Case({"idToken": CARD, "remoteStartId": 9}, answer={"reasonCode": "MissingParam"}, running=True),
        Case(start(), answer={"reasonCode": "NotEnabled"}, status="Faulted"),
        Case(start(idToken={"idToken": "", "type": "NoAuthorization"}), answer={"reasonCode": "InvalidIdToken"}),
        Case(start(chargingProfile=MAXIMUM), answer={"reasonCode": "InvalidProfile"}),
        Case(start(chargingProfile=OF_TRANSACTION), [REMOTE_START]),
    ],
    "RequestStopTransaction": [
        Case({"transactionId": "{tx}"}, [("RemoteStopTransaction", {"transactionId": 1})], running=True),
        Case({"transactionId": "nobody's"}, answer={"status": "Rejected", "reasonCode": "UnknownTxId"}, running=True),
    ],
    "ReserveNow": [
        Case(reserve(), [RESERVE]),
        Case(
            reserve(groupIdToken={"idToken": "FLEET", "type": "Central"}),
            [("ReserveNow", {**RESERVE[1], "parentIdTag": "FLEET"})],
        ),
        *(
            Case(reserve(), [RESERVE], status, says=refused("ReserveNow", status))
            for status in ("Faulted", "Occupied", "Rejected", "Unavailable")
        ),
        Case(reserve(connectorType="cType1"), answer={"reasonCode": "UnknownConnectorType"}),
        Case({"id": 3, "expiryDateTime": LATER, "idToken": CARD}, answer={"reasonCode": "UnsupportedParam"}),
        Case(reserve(expiryDateTime="2026-09-01T09:00:00Z"), answer={"reasonCode": "InvalidValue"}),
    ],
    "Reset": [
        Case({"type": "Immediate"}, [("Reset", {"type": "Hard"})]),
        Case({"type": "Immediate"}, [("Reset", {"type": "Hard"})], running=True),
        Case({"type": "OnIdle"}, [("Reset", {"type": "Soft"})]),
        Case({"type": "OnIdle"}, answer="Scheduled", running=True),
        Case({"type": "Immediate", "evseId": 1}, answer={"status": "Rejected", "reasonCode": "UnsupportedParam"}),
    ],
    "SendLocalList": [
        Case(
            known(CARD),
            [
                (
                    "SendLocalList",
                    {
                        "updateType": "Full",
                        "listVersion": 8,
                        "localAuthorisationList": [{"idTag": "04A1B2C3", "idTagInfo": {"status": "Accepted"}}],
                    },
                )
            ],
        ),
        Case(
            known(kind="Differential"),
            [("SendLocalList", {"updateType": "Differential", "listVersion": 8})],
            "VersionMismatch",
            says=refused("SendLocalList", "VersionMismatch"),
        ),
        *(
            Case(
                known(),
                [("SendLocalList", {"updateType": "Full", "listVersion": 8})],
                "Failed",
                says=refused("SendLocalList", status),
            )
            for status in ("Failed", "HashError", "NotSupported")
        ),
        Case(known(CARD, version=0), answer={"reasonCode": "ValueZeroNotAllowed"}),
        Case(known(CARD, {"idToken": "", "type": "NoAuthorization"}), answer={"reasonCode": "InvalidIdToken"}),
        Case(known(CARD, {**CARD, "idToken": "04a1b2c3"}), answer={"status": "Failed", "reasonCode": "InvalidValue"}),
        Case(known(*[CARD] * 101), answer={"reasonCode": "TooManyElements"}),
    ],
    "UnlockConnector": [
        Case({"evseId": 1, "connectorId": 1}, [("UnlockConnector", {"connectorId": 1})], "Unlocked"),
        Case(
            {"evseId": 1, "connectorId": 1},
            [("UnlockConnector", {"connectorId": 1})],
            "UnlockFailed",
            says=refused("UnlockConnector"),
        ),
        Case({"evseId": 1, "connectorId": 1}, answer="OngoingAuthorizedTransaction", running=True),
        Case({"evseId": 7, "connectorId": 1}, answer="UnknownConnector"),
    ],
    "UpdateFirmware": [
        Case(
            {"requestId": 6, "firmware": FIRMWARE, "retryInterval": 60},
            [("UpdateFirmware", {"location": FIRMWARE["location"], "retrieveDate": NOW, "retryInterval": 60})],
        ),
        Case({"requestId": 6, "firmware": {**FIRMWARE, "signature": "x"}}, answer={"reasonCode": "UnsupportedParam"}),
        Case({"requestId": 6, "firmware": {**FIRMWARE, "installDateTime": LATER}}, answer="Rejected"),
        Case({"requestId": 6, "firmware": {**FIRMWARE, "location": "https://x/"}}, answer={"reasonCode": "InvalidURL"}),
    ],
    "CustomerInformation": [
        Case({"requestId": 2, "report": True, "clear": True, "idToken": CARD}, told=["NotifyCustomerInformation"]),
        Case({"requestId": 2, "report": True, "clear": False}, answer="Invalid"),
        Case(
            {"requestId": 2, "report": True, "clear": False, "customerIdentifier": "me"},
            told=["NotifyCustomerInformation"],
        ),
        Case(
            {"requestId": 2, "report": True, "clear": False, "customerIdentifier": "me", "idToken": CARD},
            answer="Invalid",
        ),
        Case({"requestId": 2, "report": False, "clear": False, "idToken": CARD}, answer="Rejected"),
    ],
    "GetTransactionStatus": [
        Case({"transactionId": "{tx}"}, answer={"ongoingIndicator": True, "messagesInQueue": False}, running=True),
        Case({"transactionId": "nobody's"}, answer={"ongoingIndicator": False, "messagesInQueue": False}),
        Case({}, answer={"messagesInQueue": False}),
    ],
    "TriggerMessage": [
        Case({"requestedMessage": "Heartbeat"}, told=["Heartbeat"]),
        Case({"requestedMessage": "LogStatusNotification"}, told=["LogStatusNotification"]),
        Case({"requestedMessage": "FirmwareStatusNotification"}, told=["FirmwareStatusNotification"]),
        Case(
            {"requestedMessage": "StatusNotification", "evse": {"id": 1, "connectorId": 1}}, told=["StatusNotification"]
        ),
        Case({"requestedMessage": "StatusNotification", "evse": {"id": 1}}, answer={"reasonCode": "MissingParam"}),
        Case({"requestedMessage": "StatusNotification", "evse": {"id": 3}}, answer={"reasonCode": "UnknownEvse"}),
        Case({"requestedMessage": "MeterValues"}, told=["MeterValues"], running=True),
        Case({"requestedMessage": "MeterValues"}, answer={"status": "Rejected", "reasonCode": "NotFound"}),
        Case({"requestedMessage": "TransactionEvent"}, told=["TransactionEvent"], running=True),
        Case({"requestedMessage": "TransactionEvent"}, answer="Rejected"),
        Case({"requestedMessage": "BootNotification"}, answer="Rejected"),
        *(
            Case({"requestedMessage": name}, answer="NotImplemented")
            for name in (
                *("SignChargingStationCertificate", "SignV2GCertificate", "SignCombinedCertificate"),
                "PublishFirmwareStatusNotification",
            )
        ),
    ],
    "SetChargingProfile": [
        Case({"evseId": 0, "chargingProfile": MAXIMUM}),
        Case({"evseId": 0, "chargingProfile": EXTERNAL}, answer={"status": "Rejected", "reasonCode": "InvalidValue"}),
    ],
    "ClearChargingProfile": [Case({"chargingProfileId": 5}, answer="Unknown")],
    "GetChargingProfiles": [Case({"requestId": 8, "chargingProfile": {}}, answer="NoProfiles")],
    "GetCompositeSchedule": [Case({"evseId": 0, "duration": 300}, answer={"status": "Accepted"})],
    "CertificateSigned": [Case({"certificateChain": "x"}, answer="Rejected")],
    "ClearDisplayMessage": [Case({"id": 1}, answer="!NotSupported")],
    "ClearVariableMonitoring": [Case({"id": [1]}, answer="!NotSupported")],
    "CostUpdated": [Case({"totalCost": 1.0, "transactionId": "x"}, answer="!NotSupported")],
    "DeleteCertificate": [Case({"certificateHashData": HASH}, answer="NotFound")],
    "GetDisplayMessages": [Case({"requestId": 1}, answer="!NotSupported")],
    "GetInstalledCertificateIds": [Case({}, answer="NotFound")],
    "GetMonitoringReport": [Case({"requestId": 1}, answer="NotSupported")],
    "InstallCertificate": [Case({"certificateType": "CSMSRootCertificate", "certificate": "x"}, answer="Rejected")],
    "PublishFirmware": [Case({"location": "x", "checksum": "c", "requestId": 1}, answer="!NotSupported")],
    "SetDisplayMessage": [
        Case(
            {"message": {"id": 1, "priority": "AlwaysFront", "message": {"format": "UTF8", "content": "x"}}},
            answer="!NotSupported",
        )
    ],
    "SetMonitoringBase": [Case({"monitoringBase": "All"}, answer="NotSupported")],
    "SetMonitoringLevel": [Case({"severity": 5}, answer="Rejected")],
    "SetNetworkProfile": [
        Case(
            {
                "configurationSlot": 1,
                "connectionData": {
                    "ocppVersion": "OCPP20",
                    "ocppTransport": "JSON",
                    "ocppCsmsUrl": "wss://x",
                    "messageTimeout": 30,
                    "securityProfile": 1,
                    "ocppInterface": "Wired0",
                },
            },
            answer="Rejected",
        )
    ],
    "SetVariableMonitoring": [
        Case(
            {
                "setMonitoringData": [
                    {"value": 1.0, "type": "UpperThreshold", "severity": 5, **START_POINT},
                ]
            },
            answer="!NotSupported",
        )
    ],
    "UnpublishFirmware": [Case({"checksum": "c"}, answer="!NotSupported")],
}

SAID: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Authorize": ({"idTag": "04A1B2C3"}, ["Authorize"]),
    "BootNotification": (BOOT, ["BootNotification"]),
    "DataTransfer": ({"vendorId": "Voltex", "data": "x"}, ["DataTransfer"]),
    "DiagnosticsStatusNotification": ({"status": "UploadFailed"}, ["LogStatusNotification"]),
    "FirmwareStatusNotification": (
        {"status": "Installed"},
        ["FirmwareStatusNotification", "SecurityEventNotification"],
    ),
    "Heartbeat": ({}, ["Heartbeat"]),
    "MeterValues": (
        {"connectorId": 1, "values": [*POWER, {"timestamp": NOW, "value": "31", "measurand": "Temperature"}]},
        ["MeterValues", "NotifyEvent"],
    ),
    "StartTransaction": (START, ["TransactionEvent"]),
    "StatusNotification": (
        {"connectorId": 1, "status": "Faulted", "errorCode": "GroundFailure"},
        ["StatusNotification", "NotifyEvent"],
    ),
    "StopTransaction": ({"transactionId": 1, "timestamp": NOW, "meterStop": 2000}, ["TransactionEvent"] * 2),
}


async def drive(case: Case, action: str) -> None:
    """Play one case with a unit of its own."""
    async with running() as bench, bench.unit() as unit:
        unit.obey()
        unit.configuration["LightIntensity"] = "80"
        unit.answers.update(case.says)
        transaction_id = await prepared(bench, unit, case)
        payload = {name: transaction_id if value == "{tx}" else value for name, value in case.payload.items()}
        answer = await bench.ask(action, payload)
        expect(answer, case.answer)
        with contextlib.suppress(TimeoutError):
            await until(lambda: len(bench.central_system.received) >= len(case.told))
        told = [call.action for call in bench.central_system.received]
        assert unit.asked == case.asked
        assert {asked for asked, _ in unit.asked} <= set(OCPP15.to_unit)
        assert told == case.told


async def prepared(bench: Bench, unit: FakeUnit, case: Case) -> str:
    """Boot the unit, tell of its connector and, where the case wants it, begin a transaction; return its id."""
    await unit.call("BootNotification", BOOT)
    await unit.call("StatusNotification", {"connectorId": 1, "status": case.status, "errorCode": "NoError"})
    transaction_id = ""
    if case.running:
        number = (await unit.call("StartTransaction", START))["transactionId"]
        await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": POWER})
        (transaction,) = bench.transactions.open_of(SERIAL)
        transaction_id = transaction.transaction_id
    bench.central_system.received.clear()
    return transaction_id


def expect(answer: Any, expected: Any) -> None:
    """Hold an answer against what a case says of it."""
    if isinstance(expected, str):
        expected = {"status": expected} if not expected.startswith("!") else {"code": expected[1:]}
    if isinstance(answer, CallError):
        assert answer.code == expected["code"]
        return
    results = [*answer.get("getVariableResult", ()), *answer.get("setVariableResult", ())]
    for name, value in expected.items():
        if name == "reasonCode":
            infos = [answer.get("statusInfo"), *(result.get("attributeStatusInfo") for result in results)]
            assert value in [info["reasonCode"] for info in infos if info]
        elif isinstance(value, list):
            said = [result.get(name) for result in results]
            assert said[: len(value)] == value
        else:
            assert answer[name] == value


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: f"{row.way.value} {row.action}")
async def test_each_row_of_the_table_is_driven(row: Operation) -> None:
    if row.way is Way.UP:
        payload, told = SAID[row.action]
        async with running() as bench, bench.unit() as unit:
            assert isinstance(await unit.call(row.action, payload), dict)
            await until(lambda: [call.action for call in bench.central_system.received] == told)
        assert set(told) <= {*row.becomes, "TransactionEvent"}
    elif row.way is Way.DOWN:
        causing = [(action, case) for action in row.becomes for case in CASES[action] if row.action in dict(case.asked)]
        assert causing, "no case asks this of a unit"
        await drive(causing[0][1], causing[0][0])
    else:
        assert CASES[row.action]
        for case in CASES[row.action]:
            await drive(case, row.action)
        asked = {name for case in CASES[row.action] for name, _ in case.asked}
        assert asked == set(row.becomes)


def test_the_table_has_every_operation_of_ocpp_1_5_and_every_request_of_a_csms() -> None:
    assert set(operations.rows_of(Way.UP)) == set(OCPP15.from_unit)
    assert set(operations.rows_of(Way.DOWN)) == set(OCPP15.to_unit)
    assert len(OPERATIONS) == 10 + 15 + 40
    from_csms = set(operations.rows_of(Way.CSMS))
    assert len(from_csms) == 40
    assert from_csms < ACTIONS
    assert len(ACTIONS - from_csms) == 24


def test_a_refused_row_has_its_refusal_and_no_other_has_one() -> None:
    for row in FROM_CSMS:
        assert (row.refusal is not None) == (row.how is How.REFUSED) == (row.by is None), row.action


async def test_what_a_station_sends_is_not_supported_from_above() -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        answer = await bench.ask("Heartbeat", {})
        assert isinstance(answer, CallError)
        assert answer.code == "NotSupported"


@pytest.mark.parametrize(
    ("action", "payload", "answer"),
    [
        ("RequestStartTransaction", start(), "Rejected"),
        ("ReserveNow", reserve(), "Rejected"),
        ("Reset", {"type": "Immediate"}, "Rejected"),
        ("UnlockConnector", {"evseId": 1, "connectorId": 1}, "UnlockFailed"),
        ("SendLocalList", known(CARD), "Failed"),
        ("GetLog", {"logType": "DiagnosticsLog", "requestId": 4, "log": LOG}, "Rejected"),
        ("UpdateFirmware", {"requestId": 6, "firmware": FIRMWARE}, "Rejected"),
        ("DataTransfer", {"vendorId": "Voltex"}, "Rejected"),
        ("GetReport", {"requestId": 1, "componentVariable": [{"component": {"name": "Ghost"}}]}, "Rejected"),
        ("GetBaseReport", {"requestId": 1, "reportBase": "FullInventory"}, "Rejected"),
        ("GetLocalListVersion", {}, "!GenericError"),
        ("GetVariables", get(KEY, START_POINT), {"attributeStatus": ["Rejected", "Accepted"]}),
        ("SetVariables", put("1", KEY), {"attributeStatus": ["Rejected"]}),
    ],
)
async def test_a_unit_that_does_not_answer_refuses(action: str, payload: dict[str, Any], answer: Any) -> None:
    async with running(call_timeout_s=0.05) as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        unit.answers = dict.fromkeys(OCPP15.to_unit, lambda _: None)
        expect(await bench.ask(action, payload), answer)
