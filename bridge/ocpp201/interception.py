"""What a CSMS asks of a native station that would take it out of the bridge's hands: answered here; pure.

The station's network, credentials and certificates towards the bridge are the bridge's business; its link to the CSMS
is the bridge's own (OCPP 2.0.1 Part 1 §8.4, Part 4 §6.5). So is smart charging: switched off, no limit holds.
"""

from __future__ import annotations

from typing import Any, Final

from bridge.ocpp201.rpc import CallError, Payload

# Variables of the connection to the bridge, by component and variable in lower case.
_OF_THE_LINK: Final = frozenset(
    {
        ("ocppcommctrlr", "activenetworkprofile"),
        ("ocppcommctrlr", "networkconfigurationpriority"),
        ("securityctrlr", "basicauthpassword"),
        ("securityctrlr", "identity"),
        ("securityctrlr", "securityprofile"),
    }
)
_OF_THE_LIMIT: Final = "smartchargingctrlr"
_READ_ONLY: Final = {"reasonCode": "ReadOnly", "additionalInfo": "held by the local controller"}
_REJECTED: Final[Payload] = {
    "status": "Rejected",
    "statusInfo": {"reasonCode": "NotEnabled", "additionalInfo": "held by the local controller"},
}


def answered_here(action: str, payload: Payload) -> Payload | None:
    """The answer to a request that is not passed on; None for one that is."""
    is_refused = (
        action == "SetNetworkProfile"
        or (action == "InstallCertificate" and payload["certificateType"] == "CSMSRootCertificate")
        or (action == "CertificateSigned" and payload.get("certificateType") != "V2GCertificate")
        or (action == "TriggerMessage" and payload["requestedMessage"] == "SignChargingStationCertificate")
    )
    return dict(_REJECTED) if is_refused else None


def asked_here(action: str, payload: Payload) -> Payload | CallError | None:
    """The answer to a request of the station that is not for the CSMS; None for one that is."""
    if action == "SignCertificate" and payload.get("certificateType") != "V2GCertificate":
        return dict(_REJECTED)
    return None


def split_variables(payload: Payload) -> tuple[Payload | None, list[Payload | None]]:
    """Divide a SetVariables request: what the station is asked, None if nothing, and the results given here.

    The results are in the order of the request, None where the station's own belongs (B05.FR.01).
    """
    results = [_refused(each) if _is_held_here(each) else None for each in payload["setVariableData"]]
    passed = [each for each, result in zip(payload["setVariableData"], results, strict=True) if result is None]
    if len(passed) == len(results):
        return payload, []
    return (payload | {"setVariableData": passed} if passed else None), results


def join_variables(results: list[Payload | None], answer: Payload | None) -> Payload:
    """Put the station's results in between those given here; one it left out is left out."""
    said = iter(answer["setVariableResult"] if answer else ())
    joined: list[Any] = [next(said, None) if result is None else result for result in results]
    return {"setVariableResult": [each for each in joined if each is not None]}


def _is_held_here(data: Payload) -> bool:
    component, variable = data["component"]["name"].casefold(), data["variable"]["name"].casefold()
    return component == _OF_THE_LIMIT or (component, variable) in _OF_THE_LINK


def _refused(data: Payload) -> Payload:
    kept = {name: data[name] for name in ("attributeType", "component", "variable") if name in data}
    return {"attributeStatus": "Rejected", "attributeStatusInfo": dict(_READ_ONLY)} | kept
