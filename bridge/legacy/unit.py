"""One connected legacy unit: to it we are its central system, to all others it is an OCPP 2.0.1 charging station."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeAlias

import structlog

from bridge.core.messages import (
    Answer,
    ChargerBooted,
    Event,
    LimitAnswered,
    SessionChanged,
    SetFloor,
    SetLimit,
)
from bridge.core.plan import Way
from bridge.core.quantities import Now
from bridge.legacy import down, inventory, operations, orders, services, up
from bridge.legacy.dialects import OCPP15, Dialect, Unreadable, instant, read, schemas_of
from bridge.legacy.quarantine import Quarantine
from bridge.legacy.readings import MeterReading, ReadingSet, meter_readings
from bridge.legacy.record import UnitRecord
from bridge.legacy.transactions import Transaction, Transactions
from bridge.legacy.up import Untranslatable
from bridge.ocpp201.above import Above, OnAnswer, Reply
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.deadlines import Deadlines
from bridge.ocpp201.evse_sum import EvseSum
from bridge.ocpp201.rpc import (
    NOT_SENT,
    UNANSWERED,
    Call,
    CallError,
    Deferred,
    NoAnswer,
    Outcome,
    Payload,
    Rpc,
    WebSocket,
)
from bridge.ocpp201.smart_charging import SmartCharging
from bridge.ocpp201.timestamps import rfc3339
from bridge.ocpp201.trace import Observer
from bridge.settings import ChargerEntry

CONFIGURE_AFTER_S: Final = 1.0  # the first limit after a boot goes before the sampling
STOP_MAY_FOLLOW_S: Final = 30.0  # a unit may say Available before it says StopTransaction
MAX_NOTES: Final = 64
ANSWER_WITHIN_S: Final = 5.0  # then the bridge answers in the place of the central system
INVALID: Final[Payload] = {"idTokenInfo": {"status": "Invalid"}}  # where the central system does not say
_CLOSE_POLICY_VIOLATION: Final = 1008

Handler: TypeAlias = Callable[[Payload], Payload | Untranslatable | Deferred]

log = structlog.get_logger(__name__)


class Unit:
    """A connected unit; a `Session` of `bridge.ocpp201.server`.

    Every request of the unit is read tolerantly, translated (`up`), handed to what stands `above` and answered back in
    the unit's dialect (`down`): once it cannot be lost any more, and where the answer matters by what the central
    system says in time or the embedded one in its place. What cannot be translated is quarantined whole and answered
    all the same. With `stop_refused` a transaction whose idTag is refused later is stopped (E05). Submits
    ChargerBooted, MeterSampled, SessionChanged and, for every `set_limit`, exactly one LimitAnswered. Only actions of
    its dialect are ever sent to it.
    """

    def __init__(
        self,
        websocket: WebSocket,
        entry: ChargerEntry,
        central_system: CentralSystem,
        transactions: Transactions,
        quarantine: Quarantine,
        submit: Callable[[Event], None],
        clock: Callable[[], Now],
        *,
        above: Above | None = None,
        smart_charging: SmartCharging | None = None,
        dialect: Dialect = OCPP15,
        call_timeout_s: float = 10.0,
        answer_within_s: float = ANSWER_WITHIN_S,
        stop_refused: bool = True,
        observe: Observer | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.serial = entry.serial
        self._entry = entry
        self._limit_words = down.limit_words(entry.profile.limit, entry.profile.phases)
        self._hello_version: str = getattr(websocket, "hello_version", None) or ""
        self._central_system = central_system
        self._above: Above = above or central_system
        self.smart_charging = smart_charging or SmartCharging(entry, submit, clock)
        self._answer_within_s = answer_within_s
        self._stop_refused = stop_refused
        self._transactions = transactions
        self._quarantine = quarantine
        self._submit = submit
        self._clock = clock
        self._dialect = dialect
        self._rpc = Rpc(
            websocket,
            self._answer,
            schemas_of(dialect),
            name=entry.serial,
            call_timeout_s=call_timeout_s,
            codes=dict(dialect.error_codes),
            on_refused=self._frame_refused,
            observe=observe,
            deadlines=deadlines,
        )
        self._handlers: Mapping[str, Handler] = {
            "Authorize": self._authorize,
            "BootNotification": self._boot_notification,
            "DataTransfer": self._data_transfer,
            "DiagnosticsStatusNotification": self._diagnostics_status,
            "FirmwareStatusNotification": self._firmware_status,
            "Heartbeat": self._heartbeat,
            "MeterValues": self._meter_values,
            "StartTransaction": self._start_transaction,
            "StatusNotification": self._status_notification,
            "StopTransaction": self._stop_transaction,
        }
        self._request: tuple[str, Payload] = ("", {})
        self._order: Call | None = None
        self._out_of_operation = False
        self._booted = False
        self._active = False
        self.record = UnitRecord(entry, transactions, self.smart_charging, clock, self._post, self._forward, dialect)
        self.meter = EvseSum(entry.serial, entry.sample_interval_s, submit)
        self._noted: set[tuple[str, ...]] = set()
        self._configuring: asyncio.TimerHandle | None = None
        self._missing_stops: dict[int, asyncio.TimerHandle] = {}
        self._closing: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Receive until the connection ends; every open order is answered then."""
        self.smart_charging.open(self, self._above, self._charging_rate_changed)
        self._follow_session()
        self._above.attach(self)
        try:
            await self._rpc.run()
        finally:
            self._above.detach(self)
            self.smart_charging.close(self)
            self.record.close()
            for timer in (self._configuring, *self._missing_stops.values()):
                if timer is not None:
                    timer.cancel()

    async def is_alive(self, within_s: float) -> bool:
        """Say whether the unit answers a ping in time."""
        return await self._rpc.is_alive(within_s)

    async def close(self, code: int, reason: str) -> None:
        """End the connection, after the call in flight was given a moment."""
        await self._rpc.close(code, reason)

    def from_above(self, action: str, payload: Payload, reply: Reply) -> None:
        """Act on a request of the central system as the table of operations says."""
        operations.from_above(self.record, action, payload, reply)

    def _post(self, call: down.Call, on_outcome: Callable[[Outcome], None]) -> None:
        self._rpc.post(*call, on_outcome)

    def set_floor(self, effect: SetFloor) -> None:
        """A legacy unit has no leases: its limit holds until another comes."""
        self._submit(LimitAnswered(self.serial, effect.order, Answer.REFUSED))

    def set_limit(self, effect: SetLimit) -> None:
        """Write the limit and read it back; an older order that still waits is superseded and answered NOT_SENT."""
        if self._order is not None:
            self._rpc.withdraw(self._order)
        self.smart_charging.ordered(effect)
        if effect.way is Way.STOP:
            call = down.Call("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"})
            self._order = self._rpc.post(*call, partial(self._stopped, effect), urgent=True)
            return
        order = self._limit_words.order(effect.limit_w)
        self._order = self._rpc.post(*order.write, partial(self._limit_written, effect, order), urgent=True)

    def _stopped(self, effect: SetLimit, outcome: Outcome) -> None:
        """Out of operation at once or not proven: Scheduled waits for the end of a transaction that we ask to end."""
        for transaction in self._transactions.open_of(self.serial):
            call = down.Call("RemoteStopTransaction", {"transactionId": transaction.number})
            self._rpc.post(*call, lambda _: None, urgent=True)
        if isinstance(outcome, NoAnswer):
            answer = Answer.NOT_SENT if outcome is NOT_SENT else Answer.UNANSWERED
        else:
            accepted = not isinstance(outcome, CallError) and down.is_accepted(outcome)
            answer = Answer.ACCEPTED if accepted else Answer.REFUSED
            self._out_of_operation = self._out_of_operation or accepted
        self._limit_answered(effect, answer, outcome)

    def _limit_written(self, effect: SetLimit, order: down.LimitOrder, outcome: Outcome) -> None:
        if isinstance(outcome, NoAnswer):
            self._limit_answered(effect, Answer.NOT_SENT if outcome is NOT_SENT else Answer.UNANSWERED, outcome)
        elif isinstance(outcome, CallError) or not down.is_accepted(outcome):
            self._limit_answered(effect, Answer.REFUSED, outcome)
        elif self._entry.profile.limit.read_back and order.read_back is not None:
            self._rpc.post(*order.read_back, partial(self._limit_read_back, effect, order), urgent=True)
        else:
            self._limit_answered(effect, Answer.ACCEPTED, outcome)

    def _limit_read_back(self, effect: SetLimit, order: down.LimitOrder, outcome: Outcome) -> None:
        """Settle a written limit by what the unit says it holds; the write has left, so silence is UNANSWERED."""
        if isinstance(outcome, NoAnswer):
            self._limit_answered(effect, Answer.UNANSWERED, outcome)
            return
        held_w = None
        if not isinstance(outcome, CallError):
            held_w = self._limit_words.read_back(outcome)
        answer = Answer.ACCEPTED if held_w == order.limit_w else Answer.REFUSED
        self._limit_answered(effect, answer, outcome, held_w)

    def _limit_answered(
        self, effect: SetLimit, answer: Answer, outcome: Outcome, read_back_w: int | None = None
    ) -> None:
        if self._out_of_operation and answer is Answer.ACCEPTED and effect.way is not Way.STOP:
            self._out_of_operation = False
            call = down.Call("ChangeAvailability", {"connectorId": 0, "type": "Operative"})
            self._rpc.post(*call, lambda _: None)
        if answer is not Answer.ACCEPTED:
            log.warning("limit not set", unit=self.serial, limit_w=effect.limit_w, why=answer.value, answer=outcome)
        else:
            self.smart_charging.granted(effect)
        self._submit(LimitAnswered(self.serial, effect.order, answer, read_back_w))

    def _charging_rate_changed(self) -> None:
        """Tell of another limit of the grid's in each running transaction (K11.FR.04, K13.FR.03)."""
        for transaction in self._transactions.open_of(self.serial):
            seq_no = self._transactions.take_seq_no(transaction)
            self._forward(up.charging_rate_changed(transaction, seq_no, self._clock().utc_ms))

    def _answer(self, action: str, payload: Payload) -> Payload | CallError | Deferred:
        """Answer one request of the unit, now or later."""
        message = self._dialect.from_unit.get(action)
        if message is None:
            return CallError("NotSupported", f"{action} is for the central system to send")
        if self._closing is not None:
            return CallError("SecurityError", "its identity was refused")
        reading = read(message.request, payload)
        self._request = (action, payload)
        if isinstance(reading, Unreadable):
            return self._set_aside(reading.why)
        if reading.notes and (action, *reading.notes) not in self._noted and len(self._noted) < MAX_NOTES:
            self._noted.add((action, *reading.notes))
            log.info("request repaired", unit=self.serial, action=action, notes=reading.notes[:8])
        answer = self._handlers[action](reading.message)
        if isinstance(answer, Untranslatable):
            return self._set_aside(answer.why)
        return answer

    def _set_aside(self, why: str) -> Payload:
        """Quarantine the request at hand whole; the answer is one that keeps the unit from sending it for ever."""
        action, now = self._request[0], self._clock()
        self._quarantine.keep(self.serial, f"{action}: {why}", json.dumps(self._request), now)
        return down.unreadable_answer(self._dialect, action, rfc3339(now.utc_ms))

    def _frame_refused(self, frame: bytes, error: CallError) -> None:
        text = frame.decode(errors="backslashreplace")
        self._quarantine.keep(self.serial, f"{error.code}: {error.description}", text, self._clock())

    def _forward(
        self,
        call: down.Call,
        connector: int = 1,
        on_answer: OnAnswer | None = None,
        on_kept: Callable[[bool], None] | None = None,
    ) -> None:
        """Hand a translated request on. Its meter values are telemetry like any station's."""

        def answered(outcome: Outcome) -> None:
            if isinstance(outcome, CallError):
                why = f"{call.action} refused by the central system: {outcome.code} {outcome.description}"
                self._quarantine.keep(self.serial, why, json.dumps(call), self._clock())
            if on_answer is not None:
                on_answer(outcome)

        self._above.request(self.serial, *call, answered, on_kept)
        if "meterValue" in call.payload:
            self._sampled(connector, call.payload["meterValue"], offline=call.payload.get("offline", False))

    def _said_at_once(self, call: down.Call) -> Payload | None:
        """Hand a request on and return what is answered without waiting, None if nothing is."""
        said: list[Outcome] = []
        self._forward(call, on_answer=said.append)
        return said[0] if said and isinstance(said[0], dict) else None

    def _tell(self, calls: list[down.Call], connector: int = 1, response: Payload | None = None) -> Payload | Deferred:
        """Hand requests on and answer the unit once the last of them, and with it all, cannot be lost any more."""
        if not calls:
            return response or {}
        for call in calls[:-1]:
            self._forward(call, connector)
        deferred = Deferred()
        self._forward(calls[-1], connector, on_kept=lambda _: deferred.settle(response or {}))
        return deferred

    def _ask(
        self,
        call: down.Call,
        respond: Callable[[Payload | None], Payload],
        connector: int = 1,
        late: Callable[[Payload], None] | None = None,
    ) -> Deferred:
        """Answer the unit by what the central system says in time, else by what the embedded one says in its place.

        `respond` forms the answer, from None where the request is refused; `late` is shown what comes too late.
        """
        deferred, timers = Deferred(), list[asyncio.TimerHandle]()

        def answered(outcome: Outcome) -> None:
            for timer in timers:
                timer.cancel()
            if deferred.settled:
                if late is not None and isinstance(outcome, dict):
                    late(outcome)
                return
            if isinstance(outcome, NoAnswer):
                outcome = self._central_system.answer(self.serial, *call)
            deferred.settle(respond(None if isinstance(outcome, CallError) else outcome))

        def kept(soon: bool) -> None:
            if soon:
                later = asyncio.get_running_loop().call_later
                timers.append(later(self._answer_within_s, answered, UNANSWERED))
            else:
                answered(UNANSWERED)

        self._forward(call, connector, answered, kept)
        return deferred

    def _sampled(self, connector: int, meter_value: list[dict[str, Any]], *, offline: bool) -> None:
        """Submit what was metered at one connector, added to what its neighbours last said; 0 is the main meter."""
        self.meter.take(connector, meter_value, self._clock(), offline=offline)

    def _boot_notification(self, message: Payload) -> Payload | Untranslatable:
        reason = orders.boot_reason(self.record, "Unknown" if self._booted else "PowerUp")
        call = up.boot_notification(message, self.serial, self._entry.profile, reason)
        if isinstance(call, Untranslatable):
            log.warning("unit refused", unit=self.serial, why=call.why)
            event = {"type": "IdentityMismatch", "timestamp": rfc3339(self._clock().utc_ms), "techInfo": call.why[:255]}
            self._forward(down.Call("SecurityEventNotification", event))
            self._closing = asyncio.get_running_loop().create_task(self.close(_CLOSE_POLICY_VIOLATION, "identity"))
            return call
        response = self._said_at_once(call)
        if self._above is not self._central_system:
            # Whatever a CSMS says, the unit goes on: all it says is kept until the CSMS accepts its boot (B02.FR.03).
            locally = self._central_system.answer(self.serial, *call)
            response = None if isinstance(locally, CallError) else locally
        if response is None:
            return down.boot_refusal(self._dialect, rfc3339(self._clock().utc_ms))
        if response["status"] == "Accepted":
            self._booted, self._active = True, False
            self.record.boot, self.record.boot_accepted, self.record.reset_ordered = call, True, False
            self.record.meter = {
                name: message[name] for name in ("meterType", "meterSerialNumber") if message.get(name)
            }
            self.meter.clear()
            station = call.payload["chargingStation"]
            firmware = station.get("firmwareVersion", self._hello_version)
            self._submit(ChargerBooted(self.serial, station["model"], firmware))
            if self._configuring is not None:
                self._configuring.cancel()
            later = asyncio.get_running_loop().call_later
            self._configuring = later(CONFIGURE_AFTER_S, self._configure_sampling)
        return down.boot_answer(self._dialect, response)

    def _configure_sampling(self) -> None:
        """Take up what is pending and ask the unit what it samples; the answer decides what is written."""
        orders.booted(self.record)
        self.record.sampling_problem = None
        if self._entry.profile.sampling.interval_key is None:
            self.record.sampling_problem = "this make cannot sample: energy comes at the end of a session"
        self._ask_sampling(self._sampling_asked)

    def _ask_sampling(self, then: Callable[[dict[str, str | None]], None]) -> None:
        """Ask what the unit samples and hand on what is not as its charger profile says, with what it says instead."""
        wanted = down.wanted_sampling(self._entry.profile.sampling, self._entry.sample_interval_s)

        def answered(settings: inventory.Settings | None) -> None:
            if settings is None:
                self.record.sampling_problem = "the unit does not say what it samples"
            else:
                then(down.differences(wanted, {each.key.casefold(): each.value or "" for each in settings}))

        if wanted:
            inventory.read_settings(self.record, list(wanted), answered)

    def _sampling_asked(self, different: dict[str, str | None]) -> None:
        """Write only what is different, since units keep it in flash, and read it back."""
        wanted = down.wanted_sampling(self._entry.profile.sampling, self._entry.sample_interval_s)
        for key in different:
            self._rpc.post(*down.change_configuration(key, wanted[key]), lambda _: None)
        if different:
            self._ask_sampling(self._sampling_read_back)

    def _sampling_read_back(self, different: dict[str, str | None]) -> None:
        self.record.sampling_problem = f"the unit holds {different}" if different else None
        if different:
            log.warning("unit does not sample as ordered", unit=self.serial, holds=different)

    def _heartbeat(self, _message: Payload) -> Payload:
        now = {"currentTime": rfc3339(self._clock().utc_ms)}
        return down.heartbeat_answer(self._said_at_once(up.heartbeat()) or now)

    def _authorize(self, message: Payload) -> Deferred:
        call = up.authorize(self.record.token_of(message["idTag"]))
        return self._ask(call, lambda said: down.authorize_answer(self._dialect, said or INVALID))

    def _status_notification(self, message: Payload) -> Payload | Deferred:
        received_ms = self._clock().utc_ms
        mint = self._transactions.mint_event_id
        connectors, connector = self.record.connectors, message["connectorId"]
        calls = up.status_notification(self._dialect, message, received_ms, connectors, mint)
        connectors[connector] = up.connector_state(self._dialect, message)
        if connectors[connector].status in orders.DOWN:
            orders.remove_reservations(self.record, connector)
        transaction = self._transactions.open_on(self.serial, connector)
        state = self._dialect.charging_states.get(message["status"])
        if transaction is not None and state is not None:
            transaction.charging_state = state
            seq_no = self._transactions.take_seq_no(transaction)
            calls.append(up.charging_state_changed(message, state, transaction, seq_no, received_ms))
        self._expect_stop(connector, connectors[connector].status)
        return self._tell(calls)

    def _expect_stop(self, connector: int, status: str) -> None:
        """Give up a transaction whose connector is Available and whose stop does not come."""
        timer = self._missing_stops.pop(connector, None)
        if timer is not None:
            timer.cancel()
        transaction = self._transactions.open_on(self.serial, connector)
        if status == "Available" and transaction is not None:
            later = asyncio.get_running_loop().call_later
            self._missing_stops[connector] = later(STOP_MAY_FOLLOW_S, self._abandon, transaction)

    def _abandon(self, transaction: Transaction) -> None:
        if not transaction.ended:
            log.warning("transaction never stopped: ended", unit=self.serial, number=transaction.number)
            seq_no = self._transactions.end(transaction, "")
            self._forward(up.transaction_abandoned(transaction, seq_no, self._clock().utc_ms))
            self._follow_session()

    def _start_transaction(self, message: Payload) -> Payload | Untranslatable | Deferred:
        received_ms = self._clock().utc_ms
        connector = message["connectorId"] or 1
        raw = message.get("timestamp")
        believable = raw if instant(raw, received_ms).raw is None else None
        start = self._transactions.start(
            self.serial, connector, message["idTag"], message.get("meterStart"), believable
        )
        if start is None:
            return Untranslatable("too many open transactions")
        if not start.is_new:
            call = up.authorize(self.record.token_of(message["idTag"]))
            return self._ask(call, partial(self._started, start.transaction))
        if start.left_open is not None:
            self._abandon(start.left_open)
        self._attribute(start.transaction, message)
        seq_no = self._transactions.take_seq_no(start.transaction)
        token = self.record.token_of(message["idTag"])
        call = up.transaction_started(message, start.transaction, token, seq_no, received_ms)
        answer = self._ask(
            call, partial(self._started, start.transaction), connector, partial(self._said_late, start.transaction)
        )
        self._follow_session()
        return answer

    def _started(self, transaction: Transaction, said: Payload | None) -> Payload:
        return down.start_answer(self._dialect, transaction.number, said or INVALID)

    def _said_late(self, transaction: Transaction, response: Payload) -> None:
        """Stop a transaction whose idTag was let through here and is refused by the CSMS (E05, StopTxOnInvalidId)."""
        status = response.get("idTokenInfo", {"status": "Accepted"})["status"]
        if status != "Accepted" and self._stop_refused and not transaction.ended:
            log.warning("idTag refused too late: stopping", unit=self.serial, number=transaction.number, status=status)
            transaction.stop_cause = "DeAuthorized"
            self._transactions.save(transaction)
            self._rpc.post(*down.remote_stop_transaction(transaction.number), lambda _: None)

    def _attribute(self, transaction: Transaction, message: Payload) -> None:
        """Note what a new transaction goes back to: the remote start or reservation it answers, and its register."""
        connector, id_tag = transaction.connector or 1, message["idTag"]
        orders.take_remote_start(self.record, transaction, connector, id_tag)
        orders.use_reservation(self.record, connector, id_tag, message.get("reservationId"))
        transaction.charging_state = "Charging"
        self._begin_register(transaction)

    def _begin_register(self, transaction: Transaction) -> None:
        """Where the meter begins at 0 with every session, begin at what the sessions before it came to."""
        if self._entry.profile.sampling.meter == "session":
            transaction.base_wh = self.record.pending.registers_wh.get(str(transaction.connector or 1), 0)

    def _follow_register(self, transaction: Transaction, sets: list[ReadingSet]) -> None:
        """Keep how far the register has come, so that it never runs backwards, whatever becomes of the session."""
        registers_wh, connector = self.record.pending.registers_wh, str(transaction.connector or 1)
        energies = [int(each.value) for found in sets for each in found.readings if each.measurand == up.REGISTER]
        reached_wh = max([registers_wh.get(connector, 0), *energies])
        if reached_wh != registers_wh.get(connector):
            registers_wh[connector] = reached_wh
            self.record.save()

    def _meter_values(self, message: Payload) -> Payload | Deferred:
        received_ms = self._clock().utc_ms
        readings = meter_readings(message["values"])
        if readings.unreadable:
            self._set_aside("; ".join(readings.unreadable[:4]))
        connector = message["connectorId"]
        transaction = self._transaction_of(connector, message.get("transactionId"))
        sets = readings.sets
        if self._entry.profile.sampling.meter == "session":
            sets = up.with_register(sets, None if transaction is None else transaction.base_wh)
            if transaction is not None:
                self._follow_register(transaction, sets)
        if transaction is None:
            calls = up.meter_values(sets, connector, received_ms)
        else:
            take_seq_no = partial(self._transactions.take_seq_no, transaction)
            calls = up.transaction_updated(sets, transaction, take_seq_no, received_ms)
        calls += up.temperatures(readings.sets, connector, received_ms, self._transactions.mint_event_id)
        for call in calls:
            if "meterValue" in call.payload:
                self.record.meter_values[connector] = (call.payload["meterValue"], self._clock().monotonic_ms)
        answer = self._tell(calls, connector)
        if transaction is not None:
            self._follow_session()
        return answer

    def _transaction_of(self, connector: int, number: int | None) -> Transaction | None:
        """The transaction a sample belongs to: the one it names, else the open one of its connector.

        A number that was never handed out here begins a recovered transaction; -1 and 0 mean that there is none.
        """
        named = None if number is None else self._transactions.find(self.serial, number)
        if named is not None:
            return None if named.ended else named
        running = self._transactions.open_on(self.serial, connector)
        if running is not None or number is None or number <= 0:
            return running
        start = self._transactions.recover(self.serial, number, connector or None, f"number {number}")
        if start is None or start.transaction.ended:
            return None
        self._recovered(start.transaction)
        return start.transaction

    def _recovered(self, transaction: Transaction) -> None:
        log.warning("transaction unknown: recovered", unit=self.serial, number=transaction.number)
        self._begin_register(transaction)
        seq_no = self._transactions.take_seq_no(transaction)
        self._forward(up.transaction_recovered(transaction, seq_no, self._clock().utc_ms))

    def _stop_transaction(self, message: Payload) -> Payload | Untranslatable | Deferred:
        received_ms = self._clock().utc_ms
        readings = meter_readings(message.get("transactionData", []))
        if readings.unreadable:
            self._set_aside("; ".join(readings.unreadable[:4]))
        stop_key = json.dumps([message["transactionId"], message.get("meterStop"), message.get("timestamp")])
        transaction = self._transactions.find(self.serial, message["transactionId"]) or self._only_open(message)
        is_known = transaction is not None
        if transaction is None:
            start = self._transactions.recover(self.serial, message["transactionId"], None, f"stop {stop_key}")
            if start is None:
                return Untranslatable("unknown transaction, and too many open ones")
            transaction = start.transaction
            if start.is_new:
                self._recovered(transaction)
        if transaction.ended:
            return {} if transaction.stop_key == stop_key else Untranslatable("the transaction has already ended")
        seq_no = self._transactions.end(transaction, stop_key)
        token = self.record.token_of(message["idTag"]) if message.get("idTag") else None
        sets = readings.sets
        if transaction.base_wh is not None:
            sets = up.with_register(sets, transaction.base_wh)
            stop_wh = Decimal(transaction.base_wh + max(message.get("meterStop", 0), 0))
            self._follow_register(transaction, [*sets, ReadingSet(None, (MeterReading(stop_wh),))])
        call = up.transaction_ended(self._dialect, message, sets, transaction, token, seq_no, received_ms)
        answer = self._ask(
            call if is_known else up.recovered_ended(call),
            lambda said: down.stop_answer(self._dialect, said or {}),
            transaction.connector or 1,
        )
        self.meter.forget(transaction.connector or 1)
        self.record.meter_values.pop(transaction.connector or 1, None)
        self._follow_session()
        return answer

    def _only_open(self, message: Payload) -> Transaction | None:
        """The one open transaction, if an unknown stop can be meant for it: same idTag, meter not below its start."""
        running = self._transactions.open_of(self.serial)
        if len(running) != 1:
            return None
        same_tag = message.get("idTag", running[0].id_tag).casefold() == running[0].id_tag.casefold()
        below = message.get("meterStop", running[0].meter_start_wh or 0) < (running[0].meter_start_wh or 0)
        return running[0] if same_tag and not below else None

    def _follow_session(self) -> None:
        """Submit whether a vehicle is served, where that has changed."""
        running = self._transactions.open_of(self.serial)
        self.smart_charging.running({each.transaction_id: each.connector or 1 for each in running})
        active = bool(running)
        if active != self._active:
            self._active = active
            self._submit(SessionChanged(self.serial, active))
        if not active:
            orders.reset_if_idle(self.record)

    def _data_transfer(self, message: Payload) -> Untranslatable | Deferred:
        call = up.data_transfer(message)
        if isinstance(call, Untranslatable):
            return call
        return self._ask(call, lambda said: down.data_transfer_answer(said or {"status": "Rejected"}))

    def _diagnostics_status(self, message: Payload) -> Payload | Deferred:
        request_id = services.log_status(self.record, self._dialect.upload_status[message["status"]])
        return self._tell([up.log_status_notification(self._dialect, message, request_id)])

    def _firmware_status(self, message: Payload) -> Payload | Deferred:
        request_id = services.firmware_status(self.record, self._dialect.firmware_status[message["status"]])
        return self._tell([up.firmware_status_notification(self._dialect, message, request_id)])
