"""OCPP 2.0.1 and the site's orders into the words of a legacy unit: pure, one function a message."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from bridge.core.quantities import Watts
from bridge.legacy.dialects import Dialect, parse_number
from bridge.ocpp201.rpc import CallError, NoAnswer, Outcome, Payload, Written
from bridge.settings import LimitCommand, Sampling

NOMINAL_VOLTAGE_V: Final = 230
LEAST_CURRENT_A: Final = 6
MAX_PARENT_ID_TAG: Final = 20
RETRY_BOOT_S: Final = 300
LIMIT_PROFILE_ID: Final = 104_001
EARLIEST: Final = "2020-01-01T00:00:00.000Z"  # a start in the past holds at once, whatever the unit's clock says
MAX_INFO: Final = 512
KNOWN_LIMITS: Final = 1_024


class Call(NamedTuple):
    """One request: its action and payload."""

    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class LimitOrder:
    """What to send to a unit so that it draws `limit_w` at most; `limit_w` is what the written value amounts to.

    `read_back` asks which limit the unit holds, None where it cannot be asked.
    """

    write: Call
    limit_w: Watts
    read_back: Call | None = None


def limit_order(command: LimitCommand, phases: int, limit_w: Watts) -> LimitOrder:
    """Put a limit into the limit command of the unit's make, rounded down to its step and never above `limit_w`.

    In amperes it is `limit_w` over phases × 230 V (OCPP 2.0.1 K01.FR.50), and 0 below 6 A, where the duty cycle of
    IEC 61851-1 has no meaning.
    """
    unit_w, step = _unit_w(command, phases), Decimal(str(command.step))
    value = (Decimal(max(limit_w, 0)) / (unit_w * step)).to_integral_value(ROUND_FLOOR) * step
    if command.unit == "A" and value < LEAST_CURRENT_A:
        value = Decimal(0)
    order_w, text = int(value * unit_w), f"{value.normalize():f}"
    if command.method == "charging_profile":
        return LimitOrder(_max_profile(command, phases, value), order_w, _composite_schedule(command))
    if command.method == "data_transfer":
        vendor: Payload = {"vendorId": command.vendor_id}
        write = vendor | ({"messageId": command.message_id} if command.message_id else {})
        asked = Call("DataTransfer", vendor | {"messageId": command.read_message_id})
        data = command.data.replace("<value>", text)
        read_back = asked if command.read_message_id else None
        return LimitOrder(Call("DataTransfer", write | {"data": data}), order_w, read_back)
    key = str(command.key)
    return LimitOrder(change_configuration(key, text), order_w, get_configuration([key]))


def limit_read_back(command: LimitCommand, phases: int, answer: Payload) -> Watts | None:
    """The limit a unit says it holds, in whole watts rounded up; None where its answer does not say."""
    if command.method == "charging_profile":
        return _composite_limit_w(command, phases, answer)
    if command.method == "data_transfer":
        said = parse_number(_data_field(answer.get("data"), command.read_field))
    else:
        said = parse_number(configuration(answer).get((command.key or "").casefold()))
    return None if said is None or said < 0 else _watts_up(said * _unit_w(command, phases))


class LimitWords:
    """The limit command of one make for all its units: the same limit is put into words, and read back, once."""

    def __init__(self, command: LimitCommand, phases: int) -> None:
        self._command = command
        self._phases = phases
        self.order = lru_cache(maxsize=KNOWN_LIMITS)(self._order)
        self._read_back = lru_cache(maxsize=KNOWN_LIMITS)(self._read_text)

    def read_back(self, answer: Payload) -> Watts | None:
        """`limit_read_back`."""
        if isinstance(answer, Written):
            return self._read_back(answer.text)
        return limit_read_back(self._command, self._phases, answer)

    def _order(self, limit_w: Watts) -> LimitOrder:
        """`limit_order`."""
        order = limit_order(self._command, self._phases, limit_w)
        asked = order.read_back
        return LimitOrder(_written(order.write), order.limit_w, None if asked is None else _written(asked))

    def _read_text(self, text: bytes) -> Watts | None:
        return limit_read_back(self._command, self._phases, json.loads(text))


@cache
def limit_words(command: LimitCommand, phases: int) -> LimitWords:
    """The one object for all units of a make."""
    return LimitWords(command, phases)


def _written(call: Call) -> Call:
    return Call(call.action, Written(call.payload))


def _max_profile(command: LimitCommand, phases: int, value: Decimal) -> Call:
    """SetChargingProfile of OCPP 1.6 for the whole unit; the same id and stack level every time, so it is replaced."""
    period: Payload = {"startPeriod": 0, "limit": int(value * (1_000 if command.unit == "kW" else 1))}
    if command.unit == "A":
        period["numberPhases"] = phases
    schedule = {"chargingRateUnit": _rate_unit(command), "chargingSchedulePeriod": [period]}
    charging_profile = {
        "chargingProfileId": LIMIT_PROFILE_ID,
        "stackLevel": 0,
        "chargingProfilePurpose": "ChargePointMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": {"startSchedule": EARLIEST, **schedule},
    }
    return Call("SetChargingProfile", {"connectorId": 0, "csChargingProfiles": charging_profile})


def _composite_schedule(command: LimitCommand) -> Call:
    return Call("GetCompositeSchedule", {"connectorId": 0, "duration": 300, "chargingRateUnit": _rate_unit(command)})


def _composite_limit_w(command: LimitCommand, phases: int, answer: Payload) -> Watts | None:
    schedule = answer.get("chargingSchedule")
    periods = schedule.get("chargingSchedulePeriod") if isinstance(schedule, dict) else None
    if not is_accepted(answer) or not isinstance(periods, list) or not periods:
        return None
    numbers = [parse_number(period.get("limit")) if isinstance(period, dict) else None for period in periods]
    said = [number for number in numbers if number is not None and number >= 0]
    unit_w = NOMINAL_VOLTAGE_V * phases if _rate_unit(command) == "A" else 1
    return _watts_up(max(said) * unit_w) if len(said) == len(periods) else None


def _rate_unit(command: LimitCommand) -> str:
    return "A" if command.unit == "A" else "W"


def _data_field(data: object, name: str | None) -> object:
    """The value in the data of a DataTransfer: a field of the JSON object it is, or the data itself."""
    if name is None:
        return data
    try:
        document = json.loads(data) if isinstance(data, str) else data
    except ValueError:
        return None
    return document.get(name) if isinstance(document, dict) else None


def _watts_up(power: Decimal) -> Watts:
    return -int((-power).to_integral_value(ROUND_FLOOR))


def wanted_sampling(sampling: Sampling, interval_s: int) -> dict[str, str]:
    """Configuration keys and their values for sampling, measurands first."""
    wanted = {}
    if sampling.measurands_key and sampling.measurands:
        wanted[sampling.measurands_key] = ",".join(sampling.measurands)
    if sampling.interval_key:
        wanted[sampling.interval_key] = str(interval_s)
    return wanted


def change_configuration(key: str, value: str) -> Call:
    """The request that sets one configuration key."""
    return Call("ChangeConfiguration", {"key": key, "value": value})


def get_configuration(keys: Iterable[str]) -> Call:
    """The request that asks for the values of configuration keys."""
    return Call("GetConfiguration", {"key": list(keys)})


def differences(wanted: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str | None]:
    """What a unit holds otherwise than `wanted`, by key; None where it does not say. `held` is by key in lower case."""
    said = {key: held.get(key.casefold()) for key in wanted}
    return {key: value for key, value in said.items() if value is None or _plain(value) != _plain(wanted[key])}


def configuration(answer: Payload) -> dict[str, str]:
    """Read GetConfiguration.conf, tolerantly: values by key in lower case, those without a value left out."""
    rows = answer.get("configurationKey", answer.get("configurationKeys", []))
    found = {}
    for row in [rows] if isinstance(rows, dict) else rows if isinstance(rows, list) else []:
        if (
            isinstance(row, dict)
            and isinstance(row.get("key"), str)
            and isinstance(row.get("value"), str | int | float)
        ):
            found[row["key"].strip().casefold()] = str(row["value"]).strip()
    return found


def is_accepted(answer: Payload) -> bool:
    """Whether a unit says Accepted. RebootRequired is not: what waits for a reboot is not in force."""
    return str(answer.get("status", "")).strip().casefold() == "accepted"


def boot_answer(dialect: Dialect, response: Payload) -> Payload:
    """BootNotificationResponse → BootNotification.conf; 1.5 has no Pending: Rejected and the interval (B02.FR.02)."""
    interval_s = int(response["interval"])
    status = response["status"] if response["status"] in dialect.boot_statuses else "Rejected"
    return {
        "status": status,
        "currentTime": response["currentTime"],
        dialect.heartbeat_key: interval_s if status == "Accepted" or interval_s > 0 else RETRY_BOOT_S,
    }


def boot_refusal(dialect: Dialect, current_time: str) -> Payload:
    """BootNotification.conf for a unit that cannot be believed."""
    return {"status": "Rejected", "currentTime": current_time, dialect.heartbeat_key: RETRY_BOOT_S}


def heartbeat_answer(response: Payload) -> Payload:
    """HeartbeatResponse → Heartbeat.conf."""
    return {"currentTime": response["currentTime"]}


def id_tag_info(dialect: Dialect, response: Payload) -> Payload:
    """The idTokenInfo of AuthorizeResponse or TransactionEventResponse → idTagInfo; without one nothing was refused."""
    info = response.get("idTokenInfo", {"status": "Accepted"})
    answer = {"status": dialect.id_tag_status.get(info["status"], "Invalid")}
    if "cacheExpiryDateTime" in info:
        answer["expiryDate"] = info["cacheExpiryDateTime"]
    parent = info.get("groupIdToken", {}).get("idToken", "")
    if 0 < len(parent) <= MAX_PARENT_ID_TAG:
        answer["parentIdTag"] = parent
    return answer


def authorize_answer(dialect: Dialect, response: Payload) -> Payload:
    """AuthorizeResponse → Authorize.conf."""
    return {"idTagInfo": id_tag_info(dialect, response)}


def start_answer(dialect: Dialect, number: int, response: Payload) -> Payload:
    """TransactionEventResponse to Started → StartTransaction.conf with the integer the unit is to use."""
    return {"transactionId": number, "idTagInfo": id_tag_info(dialect, response)}


def stop_answer(dialect: Dialect, response: Payload) -> Payload:
    """TransactionEventResponse to Ended → StopTransaction.conf."""
    return {"idTagInfo": id_tag_info(dialect, response)} if "idTokenInfo" in response else {}


def data_transfer_answer(response: Payload) -> Payload:
    """DataTransferResponse → DataTransfer.conf; data is text in 1.5."""
    answer: Payload = {"status": response["status"]}
    if response.get("data") is not None:
        answer["data"] = _as_text(response["data"])
    return answer


def refusal(status: str, reason_code: str, why: str) -> Payload:
    """A response that refuses in its own words, with the reason code of OCPP 2.0.1 part 2, appendix 5."""
    return {"status": status, "statusInfo": {"reasonCode": reason_code, "additionalInfo": why[:MAX_INFO]}}


def status_answer(outcome: Outcome, words: Mapping[str, str], otherwise: str) -> Payload:
    """What a unit answered to a request → the response of the CSMS's request, by the words of both.

    `otherwise` is the refusal: for an unknown word, a CALLERROR and silence.
    """
    if isinstance(outcome, NoAnswer):
        return refusal(otherwise, "InternalError", "the unit does not answer")
    if isinstance(outcome, CallError):
        missing = outcome.code in ("NotImplemented", "NotSupported")
        why = f"the unit answers {outcome.code} {outcome.description}"
        return refusal(otherwise, "UnsupportedRequest" if missing else "InternalError", why)
    said = str(outcome.get("status", "")).strip()
    word = next((theirs for ours, theirs in words.items() if ours.casefold() == said.casefold()), None)
    return {"status": word} if word is not None else refusal(otherwise, "InternalError", f"the unit answers {said!r}")


def remote_start_transaction(id_tag: str, connector: int) -> Call:
    """RequestStartTransaction → RemoteStartTransaction (F01, F02)."""
    return Call("RemoteStartTransaction", {"idTag": id_tag, "connectorId": connector})


def remote_stop_transaction(number: int) -> Call:
    """RequestStopTransaction → RemoteStopTransaction with the integer the unit knows (F03)."""
    return Call("RemoteStopTransaction", {"transactionId": number})


def reserve_now(request: Payload, id_tag: str, parent_id_tag: str | None) -> Call:
    """ReserveNow → ReserveNow (H01)."""
    payload = {
        "connectorId": request["evseId"],
        "expiryDate": request["expiryDateTime"],
        "idTag": id_tag,
        "reservationId": request["id"],
    }
    return Call("ReserveNow", payload | ({"parentIdTag": parent_id_tag} if parent_id_tag else {}))


def cancel_reservation(request: Payload) -> Call:
    """CancelReservation → CancelReservation (H02)."""
    return Call("CancelReservation", {"reservationId": request["reservationId"]})


def change_availability(connector: int, operational_status: str) -> Call:
    """ChangeAvailability → ChangeAvailability; connector 0 is the whole unit (G03, G04)."""
    return Call("ChangeAvailability", {"connectorId": connector, "type": operational_status})


def unlock_connector(connector: int) -> Call:
    """UnlockConnector → UnlockConnector (F05)."""
    return Call("UnlockConnector", {"connectorId": connector})


def reset(kind: str) -> Call:
    """Reset → Reset, `kind` Hard or Soft (B11, B12)."""
    return Call("Reset", {"type": kind})


def clear_cache() -> Call:
    """ClearCache → ClearCache (C11)."""
    return Call("ClearCache", {})


def get_local_list_version() -> Call:
    """GetLocalListVersion → GetLocalListVersion (D02)."""
    return Call("GetLocalListVersion", {})


def send_local_list(dialect: Dialect, request: Payload, tags: Iterable[str]) -> Call:
    """SendLocalList → SendLocalList; `tags` are the idTags that stand for the idTokens of the list, in order (D01)."""
    rows = []
    for tag, entry in zip(tags, request.get("localAuthorizationList", ()), strict=True):
        info = {"idTagInfo": id_tag_info(dialect, entry)} if "idTokenInfo" in entry else {}
        rows.append({"idTag": tag, **info})
    payload = {"updateType": request["updateType"], "listVersion": request["versionNumber"]}
    return Call("SendLocalList", payload | ({dialect.local_list_key: rows} if rows else {}))


def get_diagnostics(request: Payload) -> Call:
    """GetLog of the diagnostics log → GetDiagnostics (N01)."""
    log = request["log"]
    payload = {"location": log["remoteLocation"]}
    payload |= {"startTime": log["oldestTimestamp"]} if "oldestTimestamp" in log else {}
    payload |= {"stopTime": log["latestTimestamp"]} if "latestTimestamp" in log else {}
    return Call("GetDiagnostics", payload | _retries(request))


def update_firmware(request: Payload) -> Call:
    """UpdateFirmware → UpdateFirmware (L02)."""
    firmware = request["firmware"]
    payload = {"location": firmware["location"], "retrieveDate": firmware["retrieveDateTime"]}
    return Call("UpdateFirmware", payload | _retries(request))


def data_transfer(request: Payload) -> Call:
    """DataTransfer → DataTransfer; what is no text becomes compact JSON (P01)."""
    payload: Payload = {name: request[name] for name in ("vendorId", "messageId") if name in request}
    data = request.get("data")
    if data is not None:
        payload["data"] = _as_text(data)
    return Call("DataTransfer", payload)


def trigger_message(request: Payload, name: str) -> Call:
    """TriggerMessage → TriggerMessage of dialects that have it, by its `name` there (F06)."""
    connector = request.get("evse", {}).get("id")
    return Call("TriggerMessage", {"requestedMessage": name} | ({"connectorId": connector} if connector else {}))


def _as_text(data: object) -> str:
    return data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def _retries(request: Payload) -> Payload:
    return {name: request[name] for name in ("retries", "retryInterval") if name in request}


def unreadable_answer(dialect: Dialect, action: str, current_time: str) -> Payload:
    """Answer a request that could not be read, so that the unit neither retries it for ever nor takes it for a yes."""
    answers: Mapping[str, Payload] = {
        "Authorize": {"idTagInfo": {"status": "Invalid"}},
        "BootNotification": boot_refusal(dialect, current_time),
        "DataTransfer": {"status": "Rejected"},
        "Heartbeat": {"currentTime": current_time},
        "StartTransaction": {"transactionId": 0, "idTagInfo": {"status": "Invalid"}},
    }
    return answers.get(action, {})


def _unit_w(command: LimitCommand, phases: int) -> int:
    return {"W": 1, "kW": 1_000, "A": phases * NOMINAL_VOLTAGE_V}[command.unit]


def _plain(value: str) -> Any:
    """Values are the same if they are the same number, or the same words in any order and case."""
    number = parse_number(value) if "," not in value else None
    return number if number is not None else frozenset(_words(value.split(",")))


def _words(parts: Iterable[str]) -> Iterable[str]:
    return (part.strip().casefold() for part in parts if part.strip())
