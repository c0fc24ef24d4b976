"""What a legacy unit says into OCPP 2.0.1 requests: pure, one function a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from bridge.core.quantities import Millis
from bridge.legacy.dialects import Dialect, Instant, instant
from bridge.legacy.down import Call
from bridge.legacy.readings import TEMPERATURE, MeterReading, ReadingSet
from bridge.legacy.transactions import Transaction
from bridge.ocpp201.rpc import Payload
from bridge.ocpp201.timestamps import rfc3339
from bridge.settings import ChargerProfile

CUSTOM_DATA_VENDOR: Final = "grid-limit-bridge"
NO_ERROR: Final = "NoError"
VIRTUAL_REGISTER: Final = "virtual-register"
REGISTER: Final = "Energy.Active.Import.Register"
WHOLE_UNIT: Final = 0  # the connector number of OCPP 1.5 that means all of it
_ISO14443_DIGITS: Final = (8, 14, 20)  # UIDs of 4, 7 and 10 bytes
_TRIGGER_OF_CAUSE: Final = {
    "Remote": "RemoteStop",
    "DeAuthorized": "Deauthorized",
    "ImmediateReset": "ResetCommand",
    "Reboot": "ResetCommand",
}
_HEX: Final = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class Untranslatable:
    """A message that was read but cannot become OCPP 2.0.1; it is quarantined whole."""

    why: str


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """What a unit last said of a connector: its status in the words of OCPP 2.0.1 and its error code."""

    status: str
    error_code: str

    @property
    def has_problem(self) -> bool:
        """Whether the variable Problem of the connector is true."""
        return self.status == "Faulted" or self.error_code != NO_ERROR


def boot_notification(
    message: Payload, serial: str, profile: ChargerProfile, reason: str = "PowerUp"
) -> Call | Untranslatable:
    """BootNotification → BootNotification (B01); the identity is `serial`, whatever else the unit says.

    Untranslatable where the serial numbers it gives are all others. Vendor and model are those of the charger profile
    where it does not say them.
    """
    said = [message[name] for name in ("chargePointSerialNumber", "chargeBoxSerialNumber") if message.get(name)]
    if said and serial.casefold() not in (name.casefold() for name in said):
        return Untranslatable(f"its BootNotification says serial number {' and '.join(said)!r:.80}")
    station: Payload = {
        "model": (message.get("chargePointModel") or profile.model)[:20],
        "vendorName": (message.get("chargePointVendor") or profile.vendor)[:50],
        "serialNumber": serial,
    }
    if message.get("firmwareVersion"):
        station["firmwareVersion"] = message["firmwareVersion"][:50]
    modem = {name: message[name][:20] for name in ("iccid", "imsi") if message.get(name)}
    if modem:
        station["modem"] = modem
    return Call("BootNotification", {"reason": reason, "chargingStation": station})


def heartbeat() -> Call:
    """Heartbeat → Heartbeat (G02)."""
    return Call("Heartbeat", {})


def authorize(token: Payload) -> Call:
    """Authorize → Authorize (C01); `token` is the idToken its idTag stands for."""
    return Call("Authorize", {"idToken": token})


def id_token(id_tag: str) -> Payload:
    """The identifier of a driver: ISO14443 for the hexadecimal UID of a card, NoAuthorization for none, else Central.

    Identifiers know no case; UIDs are written in upper case.
    """
    if not id_tag:
        return {"idToken": "", "type": "NoAuthorization"}
    if len(id_tag) in _ISO14443_DIGITS and _HEX.issuperset(id_tag):
        return {"idToken": id_tag.upper(), "type": "ISO14443"}
    return {"idToken": id_tag, "type": "Central"}


def status_notification(
    dialect: Dialect,
    message: Payload,
    received_ms: Millis,
    known: Mapping[int, ConnectorState],
    mint_event_id: Callable[[], int],
) -> list[Call]:
    """StatusNotification → StatusNotification and, where something is or was wrong, NotifyEvent.

    `known` is what the unit said before, by connector. Connector 0 has no StatusNotification in OCPP 2.0.1 (F06.FR.13):
    its Unavailable and Faulted, and their end, reach every connector, and its state is an event of the station.
    """
    connector = message["connectorId"]
    now = connector_state(dialect, message)
    before = known.get(connector)
    when = instant(message.get("timestamp"), received_ms)
    calls = []
    if connector == WHOLE_UNIT:
        down = ("Unavailable", "Faulted")
        others = {number: state.status for number, state in known.items() if number != WHOLE_UNIT} or {1: now.status}
        if now.status in down:
            calls += [_status(number, now.status, when) for number in others]
        elif before is not None and before.status in down:
            calls += [_status(number, status, when) for number, status in others.items()]
        event = _event(WHOLE_UNIT, "AvailabilityState", now.status, when, mint_event_id(), "Delta")
        calls.append(_notify(event, received_ms))
    elif now.status == "Faulted" or now.error_code == NO_ERROR or before is None or before.status != now.status:
        calls.append(_status(connector, now.status, when))
    if now.has_problem or (before is not None and before.has_problem):
        event = _event(connector, "Problem", str(now.has_problem).lower(), when, mint_event_id(), "Alerting")
        event["techCode"] = now.error_code[:50]
        info = " ".join(message[name] for name in ("info", "vendorId", "vendorErrorCode") if message.get(name))
        if info:
            event["techInfo"] = info[:500]
        if not now.has_problem:
            event["cleared"] = True
        calls.append(_notify(event, received_ms))
    return calls


def connector_state(dialect: Dialect, message: Payload) -> ConnectorState:
    """What a StatusNotification says of its connector."""
    return ConnectorState(dialect.connector_status[message["status"]], message["errorCode"] or NO_ERROR)


def transaction_started(
    message: Payload, transaction: Transaction, token: Payload, seq_no: int, received_ms: Millis
) -> Call:
    """StartTransaction → TransactionEvent Started: the power path is closed, and who closed it is known (E01, E02).

    `token` is the idToken its idTag stands for.
    """
    when = instant(message.get("timestamp"), received_ms)
    remote_start_id = transaction.remote_start_id
    trigger = "Authorized" if remote_start_id is None else "RemoteStart"
    payload = _transaction_event("Started", trigger, transaction, seq_no, when)
    payload["transactionInfo"]["chargingState"] = "Charging"
    if remote_start_id is not None:
        payload["transactionInfo"]["remoteStartId"] = remote_start_id
    payload["evse"] = {"id": transaction.connector, "connectorId": 1}
    payload["idToken"] = token
    if "reservationId" in message:
        payload["reservationId"] = message["reservationId"]
    if transaction.base_wh is not None:
        payload["meterValue"] = [_register(transaction.base_wh, "Transaction.Begin", when)]
        _flag(payload, source=VIRTUAL_REGISTER)
    elif "meterStart" in message:
        payload["meterValue"] = [_register(message["meterStart"], "Transaction.Begin", when)]
    return Call("TransactionEvent", payload)


def transaction_recovered(transaction: Transaction, seq_no: int, received_ms: Millis) -> Call:
    """TransactionEvent Started for a transaction whose start never came here (E06.FR.16)."""
    payload = _transaction_event("Started", "AbnormalCondition", transaction, seq_no, Instant(received_ms))
    payload["offline"] = True
    if transaction.connector:
        payload["evse"] = {"id": transaction.connector, "connectorId": 1}
    return Call("TransactionEvent", payload)


def transaction_updated(
    sets: Iterable[ReadingSet], transaction: Transaction, take_seq_no: Callable[[], int], received_ms: Millis
) -> list[Call]:
    """MeterValues of a transaction → one TransactionEvent Updated for each time in it (J02.FR.10)."""
    calls = []
    for each in sets:
        meter_value = _meter_value(each, received_ms)
        if meter_value is not None:
            contexts = {reading.context for reading in each.readings}
            trigger = "MeterValueClock" if "Sample.Clock" in contexts else "MeterValuePeriodic"
            when = instant(each.timestamp, received_ms)
            payload = _transaction_event("Updated", trigger, transaction, take_seq_no(), when)
            payload["meterValue"] = [meter_value]
            if transaction.base_wh is not None:
                _flag(payload, source=VIRTUAL_REGISTER)
            calls.append(Call("TransactionEvent", payload))
    return calls


def charging_rate_changed(transaction: Transaction, seq_no: int, now_ms: Millis) -> Call:
    """Another limit of the grid's → TransactionEvent Updated (K11.FR.04, K13.FR.03)."""
    payload = _transaction_event("Updated", "ChargingRateChanged", transaction, seq_no, Instant(now_ms))
    return Call("TransactionEvent", payload)


def transaction_ended(
    dialect: Dialect,
    message: Payload,
    sets: Iterable[ReadingSet],
    transaction: Transaction,
    token: Payload | None,
    seq_no: int,
    received_ms: Millis,
) -> Call:
    """StopTransaction → TransactionEvent Ended with all its meter values.

    Why it ended: what was ordered, else the reason the unit gives, else the driver whose `token` stopped it (E07), else
    AbnormalCondition and Other. A meter that stops below its start is kept and flagged (J02.FR.16).
    """
    when = instant(message.get("timestamp"), received_ms)
    stopped_reason, trigger = _why_stopped(dialect, message, transaction, token)
    payload = _transaction_event("Ended", trigger, transaction, seq_no, when)
    payload["transactionInfo"]["stoppedReason"] = stopped_reason
    payload["transactionInfo"]["chargingState"] = "Idle" if stopped_reason == "EVDisconnected" else "EVConnected"
    if token is not None:
        payload["idToken"] = token
    meter_values = [value for each in sets if (value := _meter_value(each, received_ms)) is not None]
    if "meterStop" in message:
        meter_values.append(_register((transaction.base_wh or 0) + message["meterStop"], "Transaction.End", when))
        if transaction.meter_start_wh is not None and message["meterStop"] < transaction.meter_start_wh:
            _flag(payload, meterStart=transaction.meter_start_wh)
    if meter_values:
        payload["meterValue"] = meter_values
        if transaction.base_wh is not None:
            _flag(payload, source=VIRTUAL_REGISTER)
    return Call("TransactionEvent", payload)


def _why_stopped(
    dialect: Dialect, message: Payload, transaction: Transaction, token: Payload | None
) -> tuple[str, str]:
    """The stoppedReason and the triggerReason of a transaction that ends."""
    if transaction.stop_cause:
        return transaction.stop_cause, _TRIGGER_OF_CAUSE.get(transaction.stop_cause, "AbnormalCondition")
    if message.get("reason") in dialect.stopped_reasons:
        return dialect.stopped_reasons[message["reason"]]
    return ("Other", "AbnormalCondition") if token is None else ("Local", "StopAuthorized")


def recovered_ended(call: Call) -> Call:
    """The Ended of a transaction that is known from its stop alone: it happened without us (E06.FR.16)."""
    return Call(call.action, {**call.payload, "offline": True, "triggerReason": "AbnormalCondition"})


def transaction_abandoned(transaction: Transaction, seq_no: int, received_ms: Millis) -> Call:
    """TransactionEvent Ended for a transaction the unit never stopped though it is over."""
    cause = transaction.stop_cause
    trigger = _TRIGGER_OF_CAUSE.get(cause, "AbnormalCondition")
    payload = _transaction_event("Ended", trigger, transaction, seq_no, Instant(received_ms))
    payload["transactionInfo"]["stoppedReason"] = cause or "Other"
    payload["transactionInfo"]["chargingState"] = "Idle"
    return Call("TransactionEvent", payload)


def transaction_triggered(
    transaction: Transaction, seq_no: int, received_ms: Millis, meter_value: list[Payload]
) -> Call:
    """TransactionEvent Updated because the CSMS asked for it, with the last samples if they are current (F06.FR.07)."""
    payload = _transaction_event("Updated", "Trigger", transaction, seq_no, Instant(received_ms))
    if transaction.charging_state:
        payload["transactionInfo"]["chargingState"] = transaction.charging_state
    return Call("TransactionEvent", payload | ({"meterValue": meter_value} if meter_value else {}))


def charging_state_changed(
    message: Payload, state: str, transaction: Transaction, seq_no: int, received_ms: Millis
) -> Call:
    """StatusNotification that tells a charging state, as those of 1.6 do → TransactionEvent Updated (E02)."""
    when = instant(message.get("timestamp"), received_ms)
    payload = _transaction_event("Updated", "ChargingStateChanged", transaction, seq_no, when)
    payload["transactionInfo"]["chargingState"] = state
    return Call("TransactionEvent", payload)


def meter_values(sets: Iterable[ReadingSet], connector: int, received_ms: Millis) -> list[Call]:
    """MeterValues outside any transaction → MeterValues of that EVSE, 0 the main meter (J01.FR.03)."""
    values = [value for each in sets if (value := _meter_value(each, received_ms)) is not None]
    return [Call("MeterValues", {"evseId": connector, "meterValue": values})] if values else []


def with_register(sets: Iterable[ReadingSet], base_wh: int | None) -> list[ReadingSet]:
    """Samples of a meter that begins at 0 with every session, as a register: above `base_wh`, left out without one."""
    return [
        ReadingSet(
            each.timestamp, tuple(_above(reading, base_wh) for reading in each.readings if _kept(reading, base_wh))
        )
        for each in sets
    ]


def _kept(reading: MeterReading, base_wh: int | None) -> bool:
    return base_wh is not None or reading.measurand != REGISTER


def _above(reading: MeterReading, base_wh: int | None) -> MeterReading:
    if reading.measurand != REGISTER or base_wh is None:
        return reading
    return replace(reading, value=reading.value + base_wh)


def temperatures(
    sets: Iterable[ReadingSet], connector: int, received_ms: Millis, mint_event_id: Callable[[], int]
) -> list[Call]:
    """Measurand Temperature, which OCPP 2.0.1 does not have → NotifyEvent of the connector's variable Temperature."""
    return [
        _notify(
            _event(
                *(connector, TEMPERATURE, f"{reading.value:f}"),
                *(instant(each.timestamp, received_ms), mint_event_id(), "Periodic"),
            ),
            received_ms,
        )
        for each in sets
        for reading in each.readings
        if reading.measurand == TEMPERATURE
    ]


def data_transfer(message: Payload) -> Call | Untranslatable:
    """DataTransfer → DataTransfer (P02)."""
    if len(message["vendorId"]) > 255 or len(message.get("messageId", "")) > 50:  # noqa: PLR2004  lengths of the schema
        return Untranslatable("vendorId or messageId is longer than OCPP 2.0.1 allows")
    return Call("DataTransfer", {name: message[name] for name in ("vendorId", "messageId", "data") if name in message})


def log_status_notification(dialect: Dialect, message: Payload, request_id: int | None = None) -> Call:
    """DiagnosticsStatusNotification → LogStatusNotification of the GetLog with `request_id` (N01.FR.13)."""
    return _file_status("LogStatusNotification", dialect.upload_status[message["status"]], request_id)


def firmware_status_notification(dialect: Dialect, message: Payload, request_id: int | None = None) -> Call:
    """FirmwareStatusNotification → FirmwareStatusNotification of the UpdateFirmware with `request_id` (L01)."""
    return _file_status("FirmwareStatusNotification", dialect.firmware_status[message["status"]], request_id)


def _file_status(action: str, status: str, request_id: int | None) -> Call:
    return Call(action, {"status": status} | ({} if request_id is None else {"requestId": request_id}))


def _transaction_event(
    event_type: str, trigger_reason: str, transaction: Transaction, seq_no: int, when: Instant
) -> Payload:
    payload: Payload = {
        "eventType": event_type,
        "timestamp": rfc3339(when.utc_ms),
        "triggerReason": trigger_reason,
        "seqNo": seq_no,
        "transactionInfo": {"transactionId": transaction.transaction_id},
    }
    return _dated(payload, when)


def _status(connector: int, status: str, when: Instant) -> Call:
    payload = {
        "timestamp": rfc3339(when.utc_ms),
        "connectorStatus": status,
        "evseId": connector,
        "connectorId": 1,
    }
    return Call("StatusNotification", _dated(payload, when))


def _event(connector: int, variable: str, value: str, when: Instant, event_id: int, trigger: str) -> Payload:
    component: Payload = {"name": "ChargingStation"}
    if connector != WHOLE_UNIT:
        component = {"name": "Connector", "evse": {"id": connector, "connectorId": 1}}
    event = {
        "eventId": event_id,
        "timestamp": rfc3339(when.utc_ms),
        "trigger": trigger,
        "actualValue": value,
        "eventNotificationType": "HardWiredNotification",
        "component": component,
        "variable": {"name": variable},
    }
    return _dated(event, when)


def _notify(event: Payload, received_ms: Millis) -> Call:
    return Call("NotifyEvent", {"generatedAt": rfc3339(received_ms), "tbc": False, "seqNo": 0, "eventData": [event]})


def _register(energy_wh: int, context: str, when: Instant) -> Payload:
    reading = MeterReading(Decimal(energy_wh), context=context)
    return {"timestamp": rfc3339(when.utc_ms), "sampledValue": _sampled_values([reading])}


def _meter_value(readings: ReadingSet, received_ms: Millis) -> Payload | None:
    when = instant(readings.timestamp, received_ms)
    sampled = _sampled_values(readings.readings)
    return _dated({"timestamp": rfc3339(when.utc_ms), "sampledValue": sampled}, when) if sampled else None


def _sampled_values(readings: Sequence[MeterReading]) -> list[dict[str, Any]]:
    return [_sampled_value(reading) for reading in readings if reading.measurand != TEMPERATURE]


def _sampled_value(reading: MeterReading) -> dict[str, Any]:
    whole = reading.value == reading.value.to_integral_value()
    sampled: dict[str, Any] = {
        "value": int(reading.value) if whole else float(reading.value),
        "context": reading.context,
        "measurand": reading.measurand,
        "location": reading.location,
    }
    if reading.phase is not None:
        sampled["phase"] = reading.phase
    if reading.unit:
        sampled["unitOfMeasure"] = {"unit": reading.unit}
    return sampled


def _dated(payload: Payload, when: Instant) -> Payload:
    """Keep beside a time of ours what the unit's unset clock said."""
    if when.raw is not None:
        _flag(payload, unitTimestamp=when.raw)
    return payload


def _flag(payload: Payload, **said: object) -> None:
    payload.setdefault("customData", {"vendorId": CUSTOM_DATA_VENDOR}).update(said)
