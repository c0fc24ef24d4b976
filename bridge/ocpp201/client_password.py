"""The password a charger shows to its CSMS: changed at its request (OCPP 2.0.1 A01)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from bridge.ocpp201.client_certificate import write_secret
from bridge.ocpp201.rpc import Payload

VARIABLE: Final = ("securityctrlr", "basicauthpassword")  # component and variable
LENGTHS: Final = range(16, 41)  # A00.FR.205

log = structlog.get_logger(__name__)


def results_of(request: Payload, folder: Path, serial: str) -> list[Payload | None]:
    """Carry out what a SetVariables asks of the password, kept in the file of the serial; the one before is beside it.

    A result for each item, None where it is about something else.
    """
    return [_set(item, folder, serial) if is_password(item) else None for item in request["setVariableData"]]


def is_password(item: Payload) -> bool:
    """Whether an item of a SetVariables is the password."""
    return (item["component"]["name"].casefold(), item["variable"]["name"].casefold()) == VARIABLE


def _set(item: Payload, folder: Path, serial: str) -> Payload:
    named = {name: item[name] for name in ("attributeType", "component", "variable") if name in item}
    password, file = item["attributeValue"], folder / serial
    if item.get("attributeType", "Actual") != "Actual":
        return {"attributeStatus": "NotSupportedAttributeType"} | named
    if len(password) not in LENGTHS or not password.isprintable() or password != password.strip():
        return _rejected("InvalidValue", f"{LENGTHS[0]} to {LENGTHS[-1]} characters (A00.FR.205)") | named
    try:
        if file.is_file():
            write_secret(folder / f"{serial}.before", file.read_bytes())
        write_secret(file, f"{password}\n".encode())
    except OSError as error:
        log.error("csms: password not changed", serial=serial, why=str(error))  # noqa: TRY400
        return _rejected("InternalError", "it cannot be written") | named
    log.info("csms: password changed", serial=serial)
    return {"attributeStatus": "Accepted"} | named


def _rejected(reason_code: str, why: str) -> Payload:
    return {"attributeStatus": "Rejected", "attributeStatusInfo": {"reasonCode": reason_code, "additionalInfo": why}}
