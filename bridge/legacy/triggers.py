"""TriggerMessage to a legacy unit: told from what it last said where its dialect cannot be asked (F06)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bridge.legacy import down, up
from bridge.legacy.down import refusal, status_answer
from bridge.legacy.record import UnitRecord
from bridge.legacy.transactions import Transaction
from bridge.ocpp201.above import Reply
from bridge.ocpp201.rpc import Payload
from bridge.ocpp201.timestamps import rfc3339

FRESH_INTERVALS: Final = 2  # samples older than so many intervals are no current information (F06.FR.09)
TRIGGERED: Final = {"Accepted": "Accepted", "NotImplemented": "NotImplemented"}


def trigger_message(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """TriggerMessage (F06): the response goes first, then the message (F06.FR.04)."""
    name, evse = request["requestedMessage"], request.get("evse", {})
    if evse and (evse["id"] not in unit.connector_numbers() or evse.get("connectorId", 1) != 1):
        reply(refusal("Rejected", "UnknownEvse", f"the unit has connectors {unit.connector_numbers()}"))
        return
    if name == "BootNotification" and unit.boot_accepted:
        reply(refusal("Rejected", "NotEnabled", "the last BootNotification was accepted (F06.FR.17)"))
        return
    if name == "StatusNotification" and "connectorId" not in evse:
        reply(refusal("Rejected", "MissingParam", "of which EVSE and connector? (F06.FR.12)"))
        return
    native = unit.dialect.triggers.get(name)
    if native is not None and name not in ("Heartbeat", "LogStatusNotification", "FirmwareStatusNotification"):
        unit.ask(down.trigger_message(request, native), lambda told: reply(status_answer(told, TRIGGERED, "Rejected")))
        return
    tell = _TELLING.get(name)
    if tell is None:
        reply(refusal("NotImplemented", "UnsupportedRequest", f"a legacy unit has no {name} (F06.FR.08)"))
        return
    messages = tell(unit, evse.get("id", 0))
    if not messages:
        reply(refusal("Rejected", "NotFound", "nothing current is known of it (F06.FR.09)"))
        return
    reply({"status": "Accepted"})
    for message in messages:
        unit.forward(message() if callable(message) else message)


_Message = down.Call | Callable[[], down.Call]


def _boot(unit: UnitRecord, _evse: int) -> list[_Message]:
    if unit.boot is None:
        return []
    return [down.Call("BootNotification", {**unit.boot.payload, "reason": "Triggered"})]


def _heartbeat(_unit: UnitRecord, _evse: int) -> list[_Message]:
    return [up.heartbeat()]


def _log_status(unit: UnitRecord, _evse: int) -> list[_Message]:
    return [_file_status("LogStatusNotification", unit.pending.log_status, unit.pending.log_request)]


def _firmware_status(unit: UnitRecord, _evse: int) -> list[_Message]:
    """The last status; an installed update is over (L01.FR.25, FR.26)."""
    status = unit.pending.firmware_status
    over = status in ("Idle", "Installed")
    request_id = None if over else unit.pending.firmware_request
    return [_file_status("FirmwareStatusNotification", "Idle" if over else status, request_id)]


def _file_status(action: str, status: str, request_id: int | None) -> down.Call:
    return down.Call(action, {"status": status} | ({} if request_id is None else {"requestId": request_id}))


def _status(unit: UnitRecord, evse: int) -> list[_Message]:
    status = unit.status_of(evse)
    if not status:
        return []
    named = {"timestamp": rfc3339(unit.clock().utc_ms), "evseId": evse, "connectorId": 1}
    return [down.Call("StatusNotification", {**named, "connectorStatus": status})]


def _meter_values(unit: UnitRecord, evse: int) -> list[_Message]:
    wanted = [evse] if evse else [0, *unit.connector_numbers()]
    return [
        down.Call("MeterValues", {"evseId": number, "meterValue": values})
        for number in wanted
        if (values := _fresh(unit, number))
    ]


def _fresh(unit: UnitRecord, connector: int) -> list[Payload]:
    values, received_ms = unit.meter_values.get(connector, ([], 0))
    age_ms = unit.clock().monotonic_ms - received_ms
    return values if age_ms <= 1000 * FRESH_INTERVALS * unit.entry.sample_interval_s else []


def _transaction_events(unit: UnitRecord, evse: int) -> list[_Message]:
    return [
        _event_of(unit, transaction)
        for transaction in unit.open_transactions
        if not evse or transaction.connector == evse
    ]


def _event_of(unit: UnitRecord, transaction: Transaction) -> Callable[[], down.Call]:
    """A TransactionEvent whose seqNo is taken when it is sent (F06.FR.07)."""

    def formed() -> down.Call:
        values = _fresh(unit, transaction.connector or 1)
        seq_no = unit.transactions.take_seq_no(transaction)
        return up.transaction_triggered(transaction, seq_no, unit.clock().utc_ms, values)

    return formed


_TELLING: Final[dict[str, Callable[[UnitRecord, int], list[_Message]]]] = {
    "BootNotification": _boot,
    "FirmwareStatusNotification": _firmware_status,
    "Heartbeat": _heartbeat,
    "LogStatusNotification": _log_status,
    "MeterValues": _meter_values,
    "StatusNotification": _status,
    "TransactionEvent": _transaction_events,
}
