"""Claims about what of a CSMS's requests a native station never sees."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.ocpp201.interception import answered_here, asked_here, join_variables, split_variables
from bridge.ocpp201.schemas import Schemas201

PROFILE = {"ocppVersion": "OCPP20", "ocppTransport": "JSON", "ocppCsmsUrl": "wss://x", "messageTimeout": 30}


@pytest.mark.parametrize(
    ("action", "payload", "is_refused"),
    [
        ("SetNetworkProfile", {"configurationSlot": 1, "connectionData": PROFILE}, True),
        ("InstallCertificate", {"certificateType": "CSMSRootCertificate", "certificate": "x"}, True),
        ("InstallCertificate", {"certificateType": "V2GRootCertificate", "certificate": "x"}, False),
        ("CertificateSigned", {"certificateChain": "x"}, True),
        ("CertificateSigned", {"certificateChain": "x", "certificateType": "V2GCertificate"}, False),
        ("TriggerMessage", {"requestedMessage": "SignChargingStationCertificate"}, True),
        ("TriggerMessage", {"requestedMessage": "SignV2GCertificate"}, False),
        ("Reset", {"type": "Immediate"}, False),
    ],
)
def test_what_would_cut_a_station_off_from_the_bridge_is_refused_here(
    action: str, payload: dict[str, Any], is_refused: bool
) -> None:
    answer = answered_here(action, payload)
    assert (answer is not None) == is_refused
    if answer is not None:
        assert Schemas201().problem_in_response(action, answer) is None
        assert answer["status"] == "Rejected"


def test_a_certificate_towards_the_bridge_is_not_for_the_csms_to_sign() -> None:
    answer = asked_here("SignCertificate", {"csr": "x"})
    assert isinstance(answer, dict)
    assert Schemas201().problem_in_response("SignCertificate", answer) is None
    assert asked_here("SignCertificate", {"csr": "x", "certificateType": "V2GCertificate"}) is None


def variable(component: str, name: str) -> dict[str, Any]:
    return {"component": {"name": component}, "variable": {"name": name}, "attributeValue": "1"}


def test_writes_to_the_link_of_a_station_are_refused_in_their_places_and_the_others_passed_on() -> None:
    wanted = [
        variable("SecurityCtrlr", "BasicAuthPassword"),
        variable("TxCtrlr", "EVConnectionTimeOut"),
        variable("OCPPCommCtrlr", "NetworkConfigurationPriority"),
        variable("ClockCtrlr", "TimeZone"),
    ]
    passed, results = split_variables({"setVariableData": wanted})
    assert passed == {"setVariableData": [wanted[1], wanted[3]]}
    said = [
        {"attributeStatus": "Accepted", "component": each["component"], "variable": each["variable"]}
        for each in (wanted[1], wanted[3])
    ]
    joined = join_variables(results, {"setVariableResult": said})
    assert Schemas201().problem_in_response("SetVariables", joined) is None
    assert [row["attributeStatus"] for row in joined["setVariableResult"]] == [
        "Rejected",
        "Accepted",
        "Rejected",
        "Accepted",
    ]
    assert [row["variable"] for row in joined["setVariableResult"]] == [each["variable"] for each in wanted]


def test_a_request_that_is_all_about_the_link_never_reaches_the_station() -> None:
    passed, results = split_variables({"setVariableData": [variable("securityctrlr", "SecurityProfile")]})
    assert passed is None
    assert join_variables(results, None)["setVariableResult"][0]["attributeStatus"] == "Rejected"


def test_smart_charging_of_a_station_cannot_be_switched_off_from_above() -> None:
    passed, results = split_variables({"setVariableData": [variable("SmartChargingCtrlr", "Enabled")]})
    assert passed is None
    assert join_variables(results, None)["setVariableResult"][0]["attributeStatus"] == "Rejected"


def test_a_request_that_is_not_about_the_link_is_passed_on_as_it_is() -> None:
    payload = {"setVariableData": [variable("ClockCtrlr", "TimeZone")]}
    assert split_variables(payload) == (payload, [])
    assert split_variables(payload)[0] is payload
