"""OCPP 2.0.1 and the site's orders into the words of a legacy unit: pure, one function a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Final, NamedTuple

from bridge.core.quantities import Watts
from bridge.legacy.dialects import Dialect, parse_number
from bridge.ocpp201.rpc import Payload
from bridge.settings import LimitCommand, Sampling

NOMINAL_VOLTAGE_V: Final = 230
LEAST_CURRENT_A: Final = 6
MAX_PARENT_ID_TAG: Final = 20
RETRY_BOOT_S: Final = 300


class Call(NamedTuple):
    """One request: its action and payload."""

    action: str
    payload: Payload


@dataclass(frozen=True, slots=True)
class LimitOrder:
    """What to write to a unit so that it draws `limit_w` at most; `limit_w` is what the written value amounts to."""

    key: str
    value: str
    limit_w: Watts

    @property
    def write(self) -> Call:
        """The request that sets the limit (OCPP 1.5 ChangeConfiguration)."""
        return change_configuration(self.key, self.value)

    @property
    def read_back(self) -> Call:
        """The request that asks which limit the unit holds (OCPP 1.5 GetConfiguration)."""
        return get_configuration([self.key])


def limit_order(command: LimitCommand, phases: int, limit_w: Watts) -> LimitOrder:
    """Put a limit into the limit command of the unit's make, rounded down to its step and never above `limit_w`.

    In amperes it is `limit_w` over phases × 230 V (OCPP 2.0.1 K01.FR.50), and 0 below 6 A, where the duty cycle of
    IEC 61851-1 has no meaning. Raises ValueError for a make whose command is not a configuration key.
    """
    if command.method != "change_configuration" or command.key is None:
        raise ValueError(f"limit method {command.method}: a legacy unit is limited by change_configuration and a key")
    unit_w, step = Decimal(_unit_w(command, phases)), Decimal(str(command.step))
    steps = (Decimal(max(limit_w, 0)) / (unit_w * step)).to_integral_value(ROUND_FLOOR)
    value = steps * step
    if command.unit == "A" and value < LEAST_CURRENT_A:
        value = Decimal(0)
    return LimitOrder(command.key, f"{value.normalize():f}", int(value * unit_w))


def limit_read_back(command: LimitCommand, phases: int, answer: Payload) -> Watts | None:
    """The limit a unit says it holds, in whole watts rounded up; None where its GetConfiguration.conf does not say."""
    said = parse_number(configuration(answer).get((command.key or "").casefold()))
    if said is None or said < 0:
        return None
    return -int((-said * _unit_w(command, phases)).to_integral_value(ROUND_FLOOR))


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


def differences(wanted: Mapping[str, str], answer: Payload) -> dict[str, str | None]:
    """What GetConfiguration.conf says otherwise than `wanted`, by key; None where it does not say."""
    held = configuration(answer)
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
    accepted = response["status"] == "Accepted"
    return {
        "status": "Accepted" if accepted else "Rejected",
        "currentTime": response["currentTime"],
        dialect.heartbeat_key: interval_s if accepted or interval_s > 0 else RETRY_BOOT_S,
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
    if isinstance(response.get("data"), str):
        answer["data"] = response["data"]
    return answer


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
