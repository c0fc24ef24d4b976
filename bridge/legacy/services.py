"""What a CSMS asks of a legacy unit beside charging: known drivers, files, vendor messages, what is kept of whom."""

from __future__ import annotations

import json
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from bridge.legacy import down
from bridge.legacy.down import refusal, status_answer
from bridge.legacy.record import UnitRecord
from bridge.ocpp201.above import Reply
from bridge.ocpp201.rpc import CallError, NoAnswer, Outcome, Payload
from bridge.ocpp201.timestamps import read_utc_ms, rfc3339

LIST_ANSWERS: Final = {"Accepted": "Accepted", "VersionMismatch": "VersionMismatch"}
TRANSFER_ANSWERS: Final = {name: name for name in ("Accepted", "Rejected", "UnknownMessageId", "UnknownVendorId")}
OVER: Final = ("Idle", "Uploaded", "UploadFailure", "DownloadFailed", "InstallationFailed", "Installed")
NO_DATA: Final = "no data found"
MAX_FILE_NAME: Final = 255


def clear_cache(unit: UnitRecord, _request: Payload, reply: Reply) -> None:
    """ClearCache (C11)."""
    words = {"Accepted": "Accepted"}
    unit.ask(down.clear_cache(), lambda outcome: reply(status_answer(outcome, words, "Rejected")))


def get_local_list_version(unit: UnitRecord, _request: Payload, reply: Reply) -> None:
    """GetLocalListVersion (D02): 0 where the unit has no list, or says -1 as some do (D02.FR.03)."""

    def answered(outcome: Outcome) -> None:
        if isinstance(outcome, NoAnswer):
            reply(CallError("GenericError", "the unit does not answer"))
        else:
            version = None if isinstance(outcome, CallError) else outcome.get("listVersion")
            reply({"versionNumber": max(version, 0) if isinstance(version, int) else 0})

    unit.ask(down.get_local_list_version(), answered)


def send_local_list(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """SendLocalList (D01): all of it or nothing; an idToken too long for an idTag goes by its alias."""
    entries = request.get("localAuthorizationList", [])
    tags = [unit.tag_of(entry["idToken"]) for entry in entries]
    known = [tag for tag in tags if tag is not None]
    nameless = request["updateType"] == "Full" and any("idTokenInfo" not in entry for entry in entries)
    if request["versionNumber"] <= 0:
        reply(refusal("Failed", "ValueZeroNotAllowed", "versionNumber must be above 0 (D01.FR.18)"))
    elif not unit.profile.local_list_entries:
        reply(refusal("Failed", "NotEnabled", "the unit has no list of known drivers"))
    elif len(entries) > unit.profile.local_list_entries:
        why = f"LocalAuthListCtrlr.ItemsPerMessage is {unit.profile.local_list_entries}"
        reply(refusal("Failed", "TooManyElements", why))
    elif len(known) < len(tags):
        reply(refusal("Failed", "InvalidIdToken", "no idTag can stand for some of these idTokens: nothing was changed"))
    elif nameless or len({tag.casefold() for tag in known}) < len(known):
        reply(refusal("Failed", "InvalidValue", "an idToken is there twice or without its idTokenInfo"))
    else:
        call = down.send_local_list(unit.dialect, request, known)
        unit.ask(call, lambda outcome: reply(status_answer(outcome, LIST_ANSWERS, "Failed")))


def data_transfer(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """DataTransfer (P01); the message that sets the limit is the bridge's alone."""
    limit = unit.profile.limit
    if (
        limit.method == "data_transfer"
        and _same(request["vendorId"], limit.vendor_id)
        and (limit.message_id is None or _same(request.get("messageId"), limit.message_id))
    ):
        reply(refusal("Rejected", "NotEnabled", "this message sets the limit of the unit: only the bridge may send it"))
        return

    def answered(outcome: Outcome) -> None:
        answer = status_answer(outcome, TRANSFER_ANSWERS, "Rejected")
        if isinstance(outcome, dict) and outcome.get("data") is not None:
            answer["data"] = outcome["data"]
        reply(answer)

    unit.ask(down.data_transfer(request), answered)


def _same(said: object, expected: str | None) -> bool:
    return str(said or "").strip().casefold() == (expected or "").casefold()


def get_log(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetLog (N01): the diagnostics log alone, to where the unit can send it; Uploading follows at once (N01.FR.08)."""
    pending, log = unit.pending, request["log"]
    if request["logType"] != "DiagnosticsLog":
        reply(refusal("Rejected", "UnsupportedParam", "the unit keeps a diagnostics log only"))
        return
    if problem := _unreachable(unit, log["remoteLocation"]):
        reply(problem)
        return
    replaced = pending.log_request

    def answered(outcome: Outcome) -> None:
        if not isinstance(outcome, dict):
            reply(status_answer(outcome, {}, "Rejected"))
            return
        name = str(outcome.get("fileName") or "").strip()[:MAX_FILE_NAME]
        if not name:
            reply(refusal("Rejected", "NotFound", "the unit has no such log (N01.FR.05)"))
            return
        pending.log_request, pending.log_status = request["requestId"], "Uploading"
        unit.save()
        reply({"status": "Accepted" if replaced is None else "AcceptedCanceled", "filename": name})
        if replaced is not None:
            unit.send_up("LogStatusNotification", {"status": "AcceptedCanceled", "requestId": replaced})
        unit.send_up("LogStatusNotification", {"status": "Uploading", "requestId": request["requestId"]})

    unit.ask(down.get_diagnostics(request), answered)


def update_firmware(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """UpdateFirmware (L02); what a unit of 1.x cannot do is refused: check a signature, install at a given time."""
    firmware, pending = request["firmware"], unit.pending
    install_ms = read_utc_ms(firmware.get("installDateTime", ""))
    if "signature" in firmware or "signingCertificate" in firmware:
        reply(refusal("Rejected", "UnsupportedParam", "the unit cannot verify a signature"))
    elif "installDateTime" in firmware and (install_ms is None or install_ms > unit.clock().utc_ms):
        reply(refusal("Rejected", "UnsupportedParam", "the unit installs when it has downloaded: no installDateTime"))
    elif problem := _unreachable(unit, firmware["location"]):
        reply(problem)
    else:
        replaces = pending.firmware_status not in OVER

        def answered(outcome: Outcome) -> None:
            if not isinstance(outcome, dict):
                reply(status_answer(outcome, {}, "Rejected"))
                return
            pending.firmware_request, pending.firmware_status = request["requestId"], "DownloadScheduled"
            unit.save()
            reply({"status": "AcceptedCanceled" if replaces else "Accepted"})

        unit.ask(down.update_firmware(request), answered)


def _unreachable(unit: UnitRecord, location: str) -> Payload | None:
    scheme = urlsplit(location).scheme.casefold()
    if scheme in unit.profile.file_transfer:
        return None
    schemes = ", ".join(unit.profile.file_transfer)
    return refusal("Rejected", "InvalidURL", f"the unit reaches {schemes or 'no'} addresses only, not {scheme!r:.20}")


def log_status(unit: UnitRecord, status: str) -> int | None:
    """Note how an upload goes and return the request it belongs to (N01.FR.13)."""
    pending = unit.pending
    request_id, pending.log_status = pending.log_request, status
    if status in OVER:
        pending.log_request, pending.log_status = None, "Idle"
    unit.save()
    return None if status == "Idle" else request_id


def firmware_status(unit: UnitRecord, status: str) -> int | None:
    """Note how an update goes and return the request it belongs to (L01.FR.20); Installed is a security event."""
    pending = unit.pending
    request_id, pending.firmware_status = pending.firmware_request, status
    unit.save()
    if status == "Installed":
        now = rfc3339(unit.clock().utc_ms)
        unit.after("security event", 0, partial(unit.send_up, "SecurityEventNotification", _firmware_updated(now)))
    return None if status == "Idle" else request_id


def _firmware_updated(now: str) -> Payload:
    return {"type": "FirmwareUpdated", "timestamp": now}


def get_transaction_status(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetTransactionStatus (E14), answered from what is kept here; without an id nothing is ongoing (E14.FR.06)."""
    transaction_id = request.get("transactionId")
    answer: Payload = {"messagesInQueue": unit.has_queued(transaction_id)}
    if transaction_id is not None:
        transaction = unit.transactions.find_id(unit.serial, transaction_id)
        answer["ongoingIndicator"] = transaction is not None and not transaction.ended
    reply(answer)


def customer_information(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """CustomerInformation (N09, N10): what the bridge keeps of an idToken, told and forgotten."""
    token = request.get("idToken")
    if not (request["report"] or request["clear"]):
        reply(refusal("Rejected", "MissingParam", "neither report nor clear (N09.FR.07)"))
        return
    if sum(name in request for name in ("idToken", "customerIdentifier", "customerCertificate")) != 1:
        reply(refusal("Invalid", "InvalidValue", "exactly one customer must be named (N09.FR.09)"))
        return
    data = NO_DATA  # of customers named otherwise than by idToken nothing is kept
    if token is not None:
        tag = unit.tag_of(token) or ""
        ids = [transaction.transaction_id for transaction in unit.transactions.of_driver(unit.serial, tag)]
        data = json.dumps({"idToken": token["idToken"], "transactions": ids}) if ids else NO_DATA
        if request["clear"]:
            unit.transactions.forget_driver(unit.serial, tag)
            unit.forget_token(token)
    reply({"status": "Accepted"})
    answer = {
        "requestId": request["requestId"],
        "seqNo": 0,
        "generatedAt": rfc3339(unit.clock().utc_ms),
        "data": data[:512] if request["report"] else "cleared",
    }
    unit.send_up("NotifyCustomerInformation", answer)
