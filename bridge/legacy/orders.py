"""What a CSMS orders a legacy unit to do: start, stop, reserve, unlock, reset, and what comes of it later."""

from __future__ import annotations

from functools import partial
from typing import Final

from bridge.core.plan import Way
from bridge.legacy import down
from bridge.legacy.down import refusal, status_answer
from bridge.legacy.record import DEFAULT_CONNECTION_TIME_OUT_S, MAX_PENDING, UnitRecord
from bridge.legacy.transactions import Transaction
from bridge.ocpp201.above import Reply
from bridge.ocpp201.rpc import NoAnswer, Outcome, Payload
from bridge.ocpp201.timestamps import read_utc_ms

ACCEPTED: Final = {"Accepted": "Accepted"}
RESERVED: Final = {name: name for name in ("Accepted", "Faulted", "Occupied", "Rejected", "Unavailable")}
DOWN: Final = ("Unavailable", "Faulted")


def request_start(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """RequestStartTransaction (F01): asked of the unit only where it can be (F01.FR.07, FR.23, FR.24)."""
    tag = unit.tag_of(request["idToken"])
    group = str(request.get("groupIdToken", {}).get("idToken", "")).casefold()
    free = [number for number in unit.connector_numbers() if _can_start(unit, number, tag, group) is None]
    connector = request.get("evseId") or (free[0] if len(free) == 1 else 0)
    if tag is None:
        reply(refusal("Rejected", "InvalidIdToken", "no idTag can stand for this idToken"))
    elif "evseId" in request and connector not in unit.connector_numbers():
        reply(refusal("Rejected", "UnknownEvse", f"the unit has connectors {unit.connector_numbers()}"))
    elif not connector:
        reply(refusal("Rejected", "MissingParam", f"which EVSE? free are {free}"))
    elif problem := _can_start(unit, connector, tag, group) or _unusable(unit, connector, request):
        reply(problem)
    else:
        starts = unit.pending.remote_starts
        until_ms = unit.clock().utc_ms + 1000 * DEFAULT_CONNECTION_TIME_OUT_S
        kept = {"tag": tag.casefold(), "connector": connector, "until_ms": until_ms}
        kept["charging_profile"] = request.get("chargingProfile")
        starts[str(request["remoteStartId"])] = kept
        while len(starts) > MAX_PENDING:
            del starts[next(iter(starts))]
        unit.save()

        def answered(outcome: Outcome) -> None:
            answer = status_answer(outcome, ACCEPTED, "Rejected")
            if answer["status"] != "Accepted" and not isinstance(outcome, NoAnswer):
                starts.pop(str(request["remoteStartId"]), None)
                unit.save()
            reply(answer)

        unit.ask(down.remote_start_transaction(tag, connector), answered)


def _can_start(unit: UnitRecord, connector: int, tag: str | None, group: str | None) -> Payload | None:
    """Why no transaction can begin at a connector, None where one can (F01.FR.21–FR.24)."""
    if unit.transactions.open_on(unit.serial, connector) is not None:
        return refusal("Rejected", "TxInProgress", f"connector {connector} has a transaction")
    if unit.status_of(connector) in DOWN:
        return refusal("Rejected", "NotEnabled", f"connector {connector} is {unit.status_of(connector)}")
    if any(
        each["connector"] == connector and each["tag"] != (tag or "").casefold() and each.get("group") != (group or "")
        for each in unit.pending.reservations.values()
    ):
        return refusal("Rejected", "NotEnabled", f"connector {connector} is reserved for another idToken")
    return None


def _unusable(unit: UnitRecord, connector: int, request: Payload) -> Payload | None:
    """Why the charging profile of a request to start cannot be used, None where it can or there is none (K05)."""
    charging_profile = request.get("chargingProfile")
    if charging_profile is None:
        return None
    why = unit.smart_charging.profiles.refusal_at_start(connector, charging_profile)
    return None if why is None else why.answer()


def take_remote_start(unit: UnitRecord, transaction: Transaction, connector: int, id_tag: str) -> None:
    """Give a new transaction the RequestStartTransaction it answers, once, while not too late (F01.FR.19, K05)."""
    now_ms = unit.clock().utc_ms
    for number, start in list(unit.pending.remote_starts.items()):
        if start["until_ms"] < now_ms:
            del unit.pending.remote_starts[number]
        elif start["connector"] == connector and start["tag"] == id_tag.casefold():
            del unit.pending.remote_starts[number]
            unit.save()
            transaction.remote_start_id = int(number)
            charging_profile = start.get("charging_profile")
            if charging_profile is not None:
                unit.smart_charging.transaction_started(transaction.transaction_id, connector, charging_profile)
            return


def request_stop(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """RequestStopTransaction (F03): with the integer the unit knows; an unknown or ended one is refused (F03.FR.08)."""
    transaction = unit.transactions.find_id(unit.serial, request["transactionId"])
    if transaction is None or transaction.ended:
        reply(refusal("Rejected", "UnknownTxId", "no running transaction of this id"))
        return
    before = transaction.stop_cause
    _order_stop(unit, transaction, "Remote")

    def answered(outcome: Outcome) -> None:
        answer = status_answer(outcome, ACCEPTED, "Rejected")
        if answer["status"] != "Accepted" and not isinstance(outcome, NoAnswer):
            _order_stop(unit, transaction, before)
        reply(answer)

    unit.ask(down.remote_stop_transaction(transaction.number), answered)


def _order_stop(unit: UnitRecord, transaction: Transaction, cause: str) -> None:
    if not transaction.ended and transaction.stop_cause != cause:
        transaction.stop_cause = cause
        unit.transactions.save(transaction)


def reserve_now(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """ReserveNow (H01): one connector, until its expiry; the same id again replaces the reservation."""
    tag = unit.tag_of(request["idToken"])
    parent = unit.tag_of(request["groupIdToken"]) if "groupIdToken" in request else None
    until_ms = read_utc_ms(request["expiryDateTime"])
    if tag is None or (parent is None and "groupIdToken" in request):
        reply(refusal("Rejected", "InvalidIdToken", "no idTag can stand for this idToken"))
    elif request.get("connectorType", unit.profile.connector_type) != unit.profile.connector_type:
        reply(refusal("Rejected", "UnknownConnectorType", f"the unit has {unit.profile.connector_type}"))
    elif "evseId" not in request:
        reply(refusal("Rejected", "UnsupportedParam", "ReservationCtrlr.NonEvseSpecific is false: name an EVSE"))
    elif request["evseId"] not in unit.connector_numbers():
        reply(refusal("Rejected", "UnknownEvse", f"the unit has connectors {unit.connector_numbers()}"))
    elif until_ms is None or until_ms <= unit.clock().utc_ms:
        reply(refusal("Rejected", "InvalidValue", "expiryDateTime has passed"))
    else:

        def answered(outcome: Outcome) -> None:
            answer = status_answer(outcome, RESERVED, "Rejected")
            if answer["status"] == "Accepted":
                kept = {"connector": request["evseId"], "tag": tag.casefold(), "until_ms": until_ms}
                kept["group"] = str(request.get("groupIdToken", {}).get("idToken", "-")).casefold()
                unit.pending.reservations[str(request["id"])] = kept
                unit.save()
                watch_reservations(unit)
            reply(answer)

        unit.ask(down.reserve_now(request, tag, parent), answered)


def cancel_reservation(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """CancelReservation (H02)."""

    def answered(outcome: Outcome) -> None:
        answer = status_answer(outcome, ACCEPTED, "Rejected")
        if answer["status"] == "Accepted":
            _forget_reservation(unit, str(request["reservationId"]))
        reply(answer)

    unit.ask(down.cancel_reservation(request), answered)


def watch_reservations(unit: UnitRecord) -> None:
    """Tell the CSMS when a reservation ends by itself, which 1.x has no message for (H01, H04)."""
    now_ms = unit.clock().utc_ms
    for number, reservation in unit.pending.reservations.items():
        delay_s = (reservation["until_ms"] - now_ms) / 1000
        unit.after(f"reservation {number}", delay_s, partial(_end_reservation, unit, number, "Expired"))


def remove_reservations(unit: UnitRecord, connector: int) -> None:
    """Tell the CSMS that a connector that went down is no longer reserved (H01)."""
    for number, reservation in list(unit.pending.reservations.items()):
        if connector in (0, reservation["connector"]):
            _end_reservation(unit, number, "Removed")


def use_reservation(unit: UnitRecord, connector: int, id_tag: str, reservation_id: int | None) -> None:
    """Forget the reservation a new transaction makes use of; the CSMS learns it from the transaction (E03.FR.03)."""
    for number, reservation in list(unit.pending.reservations.items()):
        meant = reservation["connector"] == connector and reservation["tag"] == id_tag.casefold()
        if meant or number == str(reservation_id):
            _forget_reservation(unit, number)


def _end_reservation(unit: UnitRecord, number: str, status: str) -> None:
    if _forget_reservation(unit, number):
        unit.send_up("ReservationStatusUpdate", {"reservationId": int(number), "reservationUpdateStatus": status})


def _forget_reservation(unit: UnitRecord, number: str) -> bool:
    unit.cancel(f"reservation {number}")
    known = unit.pending.reservations.pop(number, None) is not None
    if known:
        unit.save()
    return known


def change_availability(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """ChangeAvailability (G03, G04): of one connector or of the whole unit; it outlives a reboot (G03.FR.08)."""
    evse = request.get("evse", {"id": 0})
    connector, wanted = evse["id"], request["operationalStatus"]
    concerned = unit.connector_numbers() if "evse" not in request else [connector]
    if not set(concerned) <= set(unit.connector_numbers()):
        reply(refusal("Rejected", "UnknownEvse", f"the unit has connectors {unit.connector_numbers()}"))
        return
    if evse.get("connectorId", 1) != 1:
        reply(refusal("Rejected", "UnknownConnectorId", "every EVSE has one connector, 1"))
        return
    if wanted == "Operative" and unit.smart_charging.way is Way.STOP:
        reply(refusal("Rejected", "NotEnabled", "the grid limits this unit by its availability"))
        return
    busy = any(transaction.connector in (None, *concerned) for transaction in unit.open_transactions)

    def answered(outcome: Outcome) -> None:
        answer = status_answer(outcome, {**ACCEPTED, "Scheduled": "Scheduled"}, "Rejected")
        if answer["status"] == "Rejected" and all(_is(unit, each, wanted) for each in concerned):
            answer = {"status": "Accepted"}
        if answer["status"] == "Accepted" and wanted == "Inoperative" and busy:
            answer = {"status": "Scheduled"}
        if answer["status"] != "Rejected":
            others = set(unit.pending.inoperative) - {connector, *concerned}
            unit.pending.inoperative = sorted(others | ({connector} if wanted == "Inoperative" else set()))
            unit.save()
        reply(answer)

    unit.ask(down.change_availability(connector, wanted), answered)


def _is(unit: UnitRecord, connector: int, operational_status: str) -> bool:
    status = unit.status_of(connector)
    return status != "" and (status == "Unavailable") == (operational_status == "Inoperative")


def unlock_connector(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """UnlockConnector (F05): never during a transaction, which firmware of 1.x would stop (F05.FR.02)."""
    connector = request["evseId"]
    if connector not in unit.connector_numbers() or request["connectorId"] != 1:
        reply({"status": "UnknownConnector"})
    elif unit.transactions.open_on(unit.serial, connector) is not None:
        reply({"status": "OngoingAuthorizedTransaction"})
    else:
        words = {"Accepted": "Unlocked", "Unlocked": "Unlocked"}
        unit.ask(down.unlock_connector(connector), lambda outcome: reply(status_answer(outcome, words, "UnlockFailed")))


def reset(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """Reset (B11, B12): OnIdle waits here for the end of the last transaction, since a Soft reset of 1.x ends it."""
    if "evseId" in request:
        reply(refusal("Rejected", "UnsupportedParam", "AllowReset is false for every EVSE: reset the whole station"))
    elif request["type"] == "OnIdle" and unit.open_transactions:
        unit.pending.reset_when_idle = True
        unit.save()
        reply({"status": "Scheduled"})
    else:
        immediate = request["type"] == "Immediate"
        _reset_now(unit, unit.profile.quirks.immediate_reset if immediate else "Soft", "RemoteReset", reply)


def reset_if_idle(unit: UnitRecord) -> None:
    """Carry out a reset that was held back, once no transaction runs (B12.FR.01, FR.03)."""
    if unit.pending.reset_when_idle and not unit.open_transactions:
        unit.pending.reset_when_idle = False
        _reset_now(unit, "Soft", "ScheduledReset", lambda _: None)


def _reset_now(unit: UnitRecord, kind: str, boot_reason: str, reply: Reply) -> None:
    pending = unit.pending
    before = pending.boot_reason
    pending.boot_reason, unit.reset_ordered = boot_reason, True
    unit.save()
    stopped = unit.open_transactions
    causes = [transaction.stop_cause for transaction in stopped]
    for transaction in stopped:
        _order_stop(unit, transaction, "ImmediateReset")

    def answered(outcome: Outcome) -> None:
        answer = status_answer(outcome, ACCEPTED, "Rejected")
        if answer["status"] != "Accepted" and not isinstance(outcome, NoAnswer):
            pending.boot_reason, unit.reset_ordered = before, False
            unit.save()
            for transaction, cause in zip(stopped, causes, strict=True):
                _order_stop(unit, transaction, cause)
        reply(answer)

    unit.ask(down.reset(kind), answered)


def boot_reason(unit: UnitRecord, default: str) -> str:
    """Why the unit boots: what the CSMS ordered, else `default` (B01)."""
    reason = unit.pending.boot_reason
    if not reason and unit.pending.firmware_status == "Installed":
        reason = "FirmwareUpdate"
    return reason or default


def booted(unit: UnitRecord) -> None:
    """Take up after an accepted boot what is still in force: reservations and connectors out of service (G03.FR.08).

    What was ordered before that boot is over now; a reset ordered since is yet to come.
    """
    pending = unit.pending
    if not unit.reset_ordered and (pending.boot_reason or pending.firmware_status == "Installed"):
        pending.boot_reason = ""
        if pending.firmware_status == "Installed":
            pending.firmware_status, pending.firmware_request = "Idle", None
        unit.save()
    watch_reservations(unit)
    for connector in pending.inoperative:
        if unit.status_of(connector) != "Unavailable":
            unit.ask(down.change_availability(connector, "Inoperative"), lambda _: None)


def set_charging_profile(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """SetChargingProfile (K01–K04): the bridge is the profile engine of the unit."""
    unit.smart_charging.answer("SetChargingProfile", request, reply)


def clear_charging_profile(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """ClearChargingProfile (K10): never the grid limit (K10.FR.08)."""
    unit.smart_charging.answer("ClearChargingProfile", request, reply)


def get_charging_profiles(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetChargingProfiles (K09): the reports follow the answer."""
    unit.smart_charging.answer("GetChargingProfiles", request, reply)


def get_composite_schedule(unit: UnitRecord, request: Payload, reply: Reply) -> None:
    """GetCompositeSchedule (K08): the grid limit included."""
    unit.smart_charging.answer("GetCompositeSchedule", request, reply)
