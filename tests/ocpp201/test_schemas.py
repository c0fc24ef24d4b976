"""The shipped schemas, their codes, and what the embedded central system answers, held against them."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.core.quantities import Now
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.rpc import CallError
from bridge.ocpp201.schemas import ACTIONS, Schemas201, _validator

NOW = Now(5_000, 1_788_256_800_123)
SCHEMAS = Schemas201()
FROM_STATIONS = {
    "Authorize",
    "BootNotification",
    "ClearedChargingLimit",
    "DataTransfer",
    "FirmwareStatusNotification",
    "Get15118EVCertificate",
    "GetCertificateStatus",
    "Heartbeat",
    "LogStatusNotification",
    "MeterValues",
    "NotifyChargingLimit",
    "NotifyCustomerInformation",
    "NotifyDisplayMessages",
    "NotifyEVChargingNeeds",
    "NotifyEVChargingSchedule",
    "NotifyEvent",
    "NotifyMonitoringReport",
    "NotifyReport",
    "PublishFirmwareStatusNotification",
    "ReportChargingProfiles",
    "ReservationStatusUpdate",
    "SecurityEventNotification",
    "SignCertificate",
    "StatusNotification",
    "TransactionEvent",
}
TOKEN: dict[str, Any] = {"idToken": {"idToken": "04A1B2C3", "type": "ISO14443"}}
BOOT: dict[str, Any] = {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}}


def central_system(*id_tags: str) -> CentralSystem:
    return CentralSystem(frozenset(id_tags), lambda: NOW, heartbeat_s=120)


def test_all_64_actions_have_a_request_and_a_response_that_compile() -> None:
    assert len(ACTIONS) == 64
    for action in ACTIONS:
        assert _validator(action + "Request")
        assert _validator(action + "Response")


def test_an_action_outside_the_64_is_not_implemented() -> None:
    problem = SCHEMAS.problem_in_request("StartTransaction", {})
    assert problem is not None
    assert problem.code == "NotImplemented"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "OccurrenceConstraintViolation"),
        (BOOT | {"reason": 7}, "TypeConstraintViolation"),
        (BOOT | {"reason": "Boredom"}, "PropertyConstraintViolation"),
        (BOOT | {"bogus": 1}, "FormatViolation"),
        (
            {"reason": "PowerUp", "chargingStation": {"model": "M" * 21, "vendorName": "V"}},
            "PropertyConstraintViolation",
        ),
        (BOOT | {"chargingStation": {"model": "M"}}, "OccurrenceConstraintViolation"),
    ],
)
def test_o32_a_partial_or_wrong_boot_notification_is_refused_in_the_words_of_the_specification(
    payload: dict[str, Any], code: str
) -> None:
    problem = SCHEMAS.problem_in_request("BootNotification", payload)
    assert problem is not None
    assert problem.code == code
    assert problem.description
    assert len(problem.description) <= 255


def test_a_right_payload_has_no_problem_however_its_time_is_written() -> None:
    assert SCHEMAS.problem_in_request("BootNotification", BOOT) is None
    for time in ("2026-09-01T10:00:00Z", "2026-09-01T10:00:00.123456+00:00", "2026-09-01 10:00:00"):
        event = {"timestamp": time, "connectorStatus": "Available", "evseId": 1, "connectorId": 1}
        assert SCHEMAS.problem_in_request("StatusNotification", event) is None


@pytest.mark.parametrize("action", sorted(FROM_STATIONS))
def test_every_request_of_a_station_gets_a_valid_response_or_not_supported(action: str) -> None:
    payload = {"BootNotification": BOOT, "Authorize": TOKEN, "TransactionEvent": TOKEN}.get(action, {})
    response = central_system().answer("CS-0001", action, payload)
    if isinstance(response, CallError):
        assert (action, response.code) == ("Get15118EVCertificate", "NotSupported")
    else:
        assert SCHEMAS.problem_in_response(action, response) is None


@pytest.mark.parametrize("action", sorted(ACTIONS - FROM_STATIONS))
def test_a_request_meant_for_stations_is_not_supported(action: str) -> None:
    response = central_system().answer("CS-0001", action, {})
    assert isinstance(response, CallError)
    assert response.code == "NotSupported"


def test_a_boot_is_accepted_with_the_time_and_the_heartbeat_interval() -> None:
    assert central_system().answer("CS-0001", "BootNotification", BOOT) == {
        "currentTime": "2026-09-01T10:00:00.123Z",
        "interval": 120,
        "status": "Accepted",
    }


def test_a_data_transfer_of_any_vendor_is_of_an_unknown_vendor() -> None:
    assert central_system().answer("CS-0001", "DataTransfer", {"vendorId": "x"}) == {"status": "UnknownVendorId"}


@pytest.mark.parametrize("action", ["Authorize", "TransactionEvent"])
@pytest.mark.parametrize(
    ("id_tags", "status"),
    [((), "Accepted"), (("04a1b2c3",), "Accepted"), (("04A1B2C3", "X"), "Accepted"), (("X",), "Unknown")],
)
def test_id_tags_are_all_accepted_unless_some_are_listed(action: str, id_tags: tuple[str, ...], status: str) -> None:
    response = central_system(*id_tags).answer("CS-0001", action, TOKEN)
    assert response == {"idTokenInfo": {"status": status}}


def test_a_contract_certificate_nobody_here_can_check_is_not_accepted_for_a_listed_identifier() -> None:
    hashes = dict.fromkeys(("issuerNameHash", "issuerKeyHash", "serialNumber", "responderURL"), "x")
    for shown in ({"certificate": "PEM"}, {"iso15118CertificateHashData": [{"hashAlgorithm": "SHA256"} | hashes]}):
        assert SCHEMAS.problem_in_request("Authorize", TOKEN | shown) is None
        answer = central_system("04a1b2c3").answer("CS-0001", "Authorize", TOKEN | shown)
        assert isinstance(answer, dict)
        assert SCHEMAS.problem_in_response("Authorize", answer) is None
        assert answer["idTokenInfo"]["status"] == "Invalid"


def test_a_transaction_event_without_a_token_is_acknowledged_without_one() -> None:
    assert central_system("X").answer("CS-0001", "TransactionEvent", {}) == {}
