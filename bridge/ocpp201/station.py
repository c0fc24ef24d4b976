"""One native OCPP 2.0.1 station: what it says becomes events, and a limit becomes its charging profile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

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
from bridge.core.quantities import Now, Watts
from bridge.ocpp201 import charging_profile
from bridge.ocpp201.above import SLOW, Above, Reply
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.deadlines import Deadlines
from bridge.ocpp201.evse_sum import EvseSum
from bridge.ocpp201.floor import Floor
from bridge.ocpp201.interception import answered_here, asked_here, join_variables, split_variables
from bridge.ocpp201.native_profiles import NativeProfiles
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
from bridge.ocpp201.schemas import SCHEMAS_201
from bridge.ocpp201.smart_charging import ACTIONS, SmartCharging
from bridge.ocpp201.timestamps import rfc3339
from bridge.ocpp201.trace import Observer
from bridge.settings import ChargerEntry

MAX_EVSE: Final = 64
MAX_SERIAL_NUMBER: Final = 25  # of chargingStation.serialNumber; identities may be longer
MAX_OPEN_TRANSACTIONS: Final = 64
CONFIGURE_AFTER_S: Final = 1.0  # the first limit after a boot goes before the sampling
ANSWER_WITHIN_S: Final = 5.0  # then the bridge answers in the place of the central system
SLOW_ANSWER_WITHIN_S: Final = 75.0  # contracts and certificates come from further away
STATION_ANSWER_S: Final = 30.0  # for what the central system asks
_CLOSE_POLICY_VIOLATION: Final = 1008
_SCHEDULE_IDS: Final = 2**31 - 1

log = structlog.get_logger(__name__)


class Station:
    """A connected station; a `Session` of `bridge.ocpp201.server`.

    Submits ChargerBooted, MeterSampled, SessionChanged and, for every `set_limit`, exactly one LimitAnswered. What it
    asks goes to what stands `above` it; what that does not answer in time, the embedded central system does.
    """

    def __init__(
        self,
        websocket: WebSocket,
        entry: ChargerEntry,
        central_system: CentralSystem,
        submit: Callable[[Event], None],
        clock: Callable[[], Now],
        *,
        above: Above | None = None,
        smart_charging: SmartCharging | None = None,
        call_timeout_s: float = 10.0,
        answer_within_s: float = ANSWER_WITHIN_S,
        stop_refused: bool = True,
        observe: Observer | None = None,
        deadlines: Deadlines | None = None,
        grants: charging_profile.Grants | None = None,
    ) -> None:
        self.serial = entry.serial
        self._entry = entry
        self._grants = grants or charging_profile.Grants()
        self._unit: charging_profile.RateUnit = "A" if entry.profile.limit.unit == "A" else "W"
        self._central_system = central_system
        self._above: Above = above or central_system
        self._submit = submit
        self._clock = clock
        self._answer_within_s = answer_within_s
        self._stop_refused = stop_refused
        self._rpc = Rpc(
            websocket,
            self._answer,
            SCHEMAS_201,
            name=entry.serial,
            call_timeout_s=call_timeout_s,
            verbatim=True,
            observe=observe,
            deadlines=deadlines,
        )
        self._closing: asyncio.Task[None] | None = None
        self.smart_charging = smart_charging or SmartCharging(entry, submit, clock)
        self._charging_profiles = NativeProfiles(self.smart_charging, self._rpc.post)
        self._floor = Floor(entry.serial, self._rpc.post, submit, clock, self._unit, entry.profile.phases)
        self._order: Call | None = None
        self._out_of_operation = False
        self._transactions: dict[str, int] = {}
        self.meter = EvseSum(entry.serial, entry.sample_interval_s, submit)

    async def serve(self) -> None:
        """Receive until the connection ends; every open order is answered then."""
        self.smart_charging.open(self, self._above)
        self._above.attach(self)
        try:
            await self._rpc.run()
        finally:
            self._above.detach(self)
            self.smart_charging.close(self)

    async def is_alive(self, within_s: float) -> bool:
        """Say whether the station answers a ping in time."""
        return await self._rpc.is_alive(within_s)

    async def close(self, code: int, reason: str) -> None:
        """End the connection, after the call in flight was given a moment."""
        await self._rpc.close(code, reason)

    def from_above(self, action: str, payload: Payload, reply: Reply) -> None:
        """Hand a request of the central system to the station, and its answer back."""
        here = answered_here(action, payload) or self._charging_profiles.refused(action, payload)
        if here is not None:
            reply(here)
            return
        if action in ACTIONS:
            self._charging_profiles.from_above(action, payload, reply)
            return
        results: list[Payload | None] = []
        if action == "SetVariables":
            passed, results = split_variables(payload)
            if passed is None:
                reply(join_variables(results, None))
                return
            payload = passed

        def answered(outcome: Outcome) -> None:
            if isinstance(outcome, NoAnswer):
                reply(CallError("GenericError", "the station does not answer"))
            elif results and not isinstance(outcome, CallError):
                reply(join_variables(results, outcome))
            else:
                reply(outcome)

        self._rpc.post(action, payload, answered, timeout_s=STATION_ANSWER_S)

    def set_floor(self, effect: SetFloor) -> None:
        """Install the floor under all grants and find it installed; answered by one LimitAnswered."""
        self._floor.set(effect)

    def set_limit(self, effect: SetLimit) -> None:
        """Tell the station its limit; an older order that still waits is superseded and answered NOT_SENT."""
        if self._order is not None:
            self._rpc.withdraw(self._order)
        self.smart_charging.ordered(effect)
        if effect.way is Way.STOP:
            request = {"operationalStatus": "Inoperative"}  # the whole station (G03, G04)
            stopped = partial(self._stopped, effect)
            self._order = self._rpc.post("ChangeAvailability", request, stopped, urgent=True)
            return
        per_transaction = effect.way is Way.PER_TRANSACTION
        answered = partial(self._default_answered, effect) if per_transaction else partial(self._limit_answered, effect)
        self._order = self._rpc.post("SetChargingProfile", self._grant(effect), answered, urgent=True)

    def _grant(self, effect: SetLimit, transaction_id: str | None = None) -> Payload:
        """The charging profile that tells this limit in the way the order asks for."""
        now, unit = self._clock(), self._unit
        if effect.way is Way.OTHER_UNIT:
            unit = "W" if unit == "A" else "A"
        request = self._grants.form(
            effect.limit_w,
            now.utc_ms,
            effect.order % _SCHEDULE_IDS + 1,
            unit,
            self._entry.profile.limit.step if unit == self._unit else 1,
            self._entry.profile.phases,
            effect.valid_ms,
        )
        if effect.way is not Way.PER_TRANSACTION:
            return request
        evse_id = 0 if transaction_id is None else self._transactions[transaction_id]
        return charging_profile.per_transaction(request, evse_id, transaction_id)

    def _default_answered(self, effect: SetLimit, outcome: Outcome) -> None:
        """Follow an accepted TxDefaultProfile by a TxProfile for every running transaction: it would overrule it."""
        if _as_answer(outcome) is not Answer.ACCEPTED:
            self._limit_answered(effect, outcome)
            return
        left = list(self._transactions)

        def next_one(outcome: Outcome) -> None:
            while left and left[0] not in self._transactions:
                left.pop(0)
            if _as_answer(outcome) is not Answer.ACCEPTED or not left:
                self._limit_answered(effect, outcome)
                return
            request = self._grant(effect, left.pop(0))
            self._order = self._rpc.post("SetChargingProfile", request, next_one, urgent=True)

        next_one(outcome)

    def _stopped(self, effect: SetLimit, outcome: Outcome) -> None:
        """Out of operation once no transaction runs: those that do are asked to stop, and Scheduled is no proof."""
        for transaction_id in self._transactions:
            self._rpc.post("RequestStopTransaction", {"transactionId": transaction_id}, lambda _: None, urgent=True)
        answer = _as_answer(outcome)
        self._out_of_operation = self._out_of_operation or answer is Answer.ACCEPTED
        log.warning("station stopped to keep the limit", charger=self.serial, answer=answer.value)
        self._settled(effect, answer)

    def _limit_answered(self, effect: SetLimit, outcome: Outcome) -> None:
        answer = _as_answer(outcome)
        if answer is Answer.REFUSED:
            log.warning("limit refused", charger=self.serial, limit_w=effect.limit_w, answer=outcome)
        if answer is Answer.ACCEPTED and self._entry.profile.limit.read_back:
            request = charging_profile.composite_request(self._unit)
            read_back = partial(self._read_back, effect)
            self._order = self._rpc.post("GetCompositeSchedule", request, read_back, urgent=True)
        else:
            self._settled(effect, answer)

    def _read_back(self, effect: SetLimit, outcome: Outcome) -> None:
        """Settle an accepted limit by what the station says it obeys; if it does not say, it is not proven."""
        read_back_w = None
        if isinstance(outcome, dict):
            read_back_w = charging_profile.composite_limit_w(outcome, self._entry.profile.phases)
        if read_back_w is None:
            log.warning("limit accepted but not read back", charger=self.serial, limit_w=effect.limit_w, answer=outcome)
        answer = Answer.UNANSWERED if read_back_w is None else Answer.ACCEPTED
        self._settled(effect, answer, read_back_w)

    def _settled(self, effect: SetLimit, answer: Answer, read_back_w: Watts | None = None) -> None:
        if answer is Answer.ACCEPTED and (read_back_w is None or read_back_w <= effect.limit_w):
            self._charging_profiles.granted(effect)
            if self._out_of_operation and effect.way is not Way.STOP:
                self._out_of_operation = False
                self._rpc.post("ChangeAvailability", {"operationalStatus": "Operative"}, lambda _: None)
        self._submit(LimitAnswered(self.serial, effect.order, answer, read_back_w))

    def _answer(self, action: str, payload: Payload) -> Payload | CallError | Deferred:
        problem = _implausible_evse(action, payload)
        if problem is not None:
            return problem
        if action == "ReportChargingProfiles":
            if self._floor.reported(payload):
                return {}
            visible = self._charging_profiles.reported(payload)
            if visible is None:
                return {}
            payload = visible
        here = self._identity_problem(action, payload) or asked_here(action, payload)
        if here is not None:
            return here
        deferred = self._ask(action, payload)
        if action == "MeterValues":
            self._sampled(payload["evseId"], payload["meterValue"])
        elif action == "TransactionEvent":
            self._transaction(payload)
        return deferred

    def _ask(self, action: str, payload: Payload) -> Deferred:
        """Have a request answered by the central system in time, else by the embedded one in its place."""
        within_s = SLOW_ANSWER_WITHIN_S if action in SLOW else self._answer_within_s
        deferred, timers = Deferred(2 * within_s + STATION_ANSWER_S), list[asyncio.TimerHandle]()

        def answered(outcome: Outcome) -> None:
            for timer in timers:
                timer.cancel()
            if deferred.settled:
                self._said_late(action, payload, outcome)
                return
            if isinstance(outcome, NoAnswer):
                outcome = self._central_system.answer(self.serial, action, payload)
            if action == "BootNotification" and not isinstance(outcome, CallError):
                self._booted(payload["chargingStation"])
            deferred.settle(outcome)

        def kept(soon: bool) -> None:
            if soon:
                timers.append(asyncio.get_running_loop().call_later(within_s, answered, UNANSWERED))
            else:
                answered(UNANSWERED)

        self._above.request(self.serial, action, payload, answered, kept)
        return deferred

    def _said_late(self, action: str, payload: Payload, outcome: Outcome) -> None:
        """Stop a transaction whose idToken was let through here and is refused by the CSMS (E05, StopTxOnInvalidId)."""
        if action != "TransactionEvent" or not self._stop_refused or not isinstance(outcome, dict):
            return
        transaction_id = payload["transactionInfo"]["transactionId"]
        status = outcome.get("idTokenInfo", {"status": "Accepted"})["status"]
        if status != "Accepted" and transaction_id in self._transactions:
            log.warning("idToken refused too late: stopping", charger=self.serial, status=status)
            self._rpc.post("RequestStopTransaction", {"transactionId": transaction_id}, lambda _: None)

    def _identity_problem(self, action: str, payload: Payload) -> CallError | None:
        """Refuse a station whose BootNotification says another serial number than it connected with."""
        if self._closing is not None:
            return CallError("SecurityError", "its identity was refused")
        if action != "BootNotification":
            return None
        said = payload["chargingStation"].get("serialNumber", self.serial)
        if said.casefold() == self.serial[:MAX_SERIAL_NUMBER].casefold():
            return None
        why = f"connected as {self.serial}, its BootNotification says serial number {said!r:.80}"
        log.warning("station refused", charger=self.serial, why=why)
        event = {"type": "IdentityMismatch", "timestamp": rfc3339(self._clock().utc_ms), "techInfo": why[:255]}
        self._above.request(self.serial, "SecurityEventNotification", event, lambda _: None)
        self._closing = asyncio.get_running_loop().create_task(self.close(_CLOSE_POLICY_VIOLATION, "identity"))
        return CallError("SecurityError", "serialNumber is not the identity of the connection")

    def _booted(self, charging_station: dict[str, Any]) -> None:
        self._transactions.clear()
        self.meter.clear()
        firmware = charging_station.get("firmwareVersion", "")
        self._submit(ChargerBooted(self.serial, charging_station["model"], firmware))
        asyncio.get_running_loop().call_later(CONFIGURE_AFTER_S, self._configure_sampling)

    def _configure_sampling(self) -> None:
        """Ask for samples during transactions and without one (J01, J02), as the charger profile wants them."""
        interval = str(self._entry.sample_interval_s)
        measurands = ",".join(self._entry.profile.sampling.measurands)
        wanted = [
            ("SampledDataCtrlr", "TxUpdatedInterval", interval),
            ("SampledDataCtrlr", "TxUpdatedMeasurands", measurands),
            ("AlignedDataCtrlr", "Interval", interval),
            ("AlignedDataCtrlr", "Measurands", measurands),
        ]
        data = [
            {"component": {"name": component}, "variable": {"name": variable}, "attributeValue": value}
            for component, variable, value in wanted
            if value
        ]
        self._rpc.post("SetVariables", {"setVariableData": data}, self._sampling_configured)

    def _sampling_configured(self, outcome: Outcome) -> None:
        if outcome is NOT_SENT:
            return  # it left before; it is asked again when it boots again
        results = outcome["setVariableResult"] if isinstance(outcome, dict) else []
        refused = [
            f"{result['component']['name']}.{result['variable']['name']}: {result['attributeStatus']}"
            for result in results
            if result["attributeStatus"] != "Accepted"
        ]
        if refused or not results:
            log.warning("sampling not set", charger=self.serial, refused=refused or outcome)

    def _transaction(self, event: Payload) -> None:
        """Follow one TransactionEvent (E01–E06): which EVSE it is about, whether any is open, and what was metered."""
        transaction_id = event["transactionInfo"]["transactionId"]
        evse_id = event["evse"]["id"] if "evse" in event else self._transactions.get(transaction_id, 1)
        if "meterValue" in event:
            self._sampled(evse_id, event["meterValue"], offline=event.get("offline", False))
        before = bool(self._transactions)
        if event["eventType"] == "Ended":
            self._transactions.pop(transaction_id, None)
            self.meter.forget(evse_id)
        else:
            self._transactions[transaction_id] = evse_id
            if len(self._transactions) > MAX_OPEN_TRANSACTIONS:
                del self._transactions[next(iter(self._transactions))]
        active = bool(self._transactions)
        if active != before:
            self._submit(SessionChanged(self.serial, active))

    def _sampled(self, evse_id: int, meter_value: list[dict[str, Any]], *, offline: bool = False) -> None:
        """Submit what was metered at one EVSE, added to what its neighbours last said; EVSE 0 is the main meter."""
        self.meter.take(evse_id, meter_value, self._clock(), offline=offline)


def _as_answer(outcome: Outcome) -> Answer:
    if isinstance(outcome, NoAnswer):
        return Answer.NOT_SENT if outcome is NOT_SENT else Answer.UNANSWERED
    if isinstance(outcome, CallError) or outcome.get("status") != "Accepted":
        return Answer.REFUSED
    return Answer.ACCEPTED


def _implausible_evse(action: str, payload: Payload) -> CallError | None:
    """Refuse EVSE and connector numbers the schema lets through (O28): statuses are of connectors (F06.FR.13)."""
    if action == "StatusNotification":
        valid = 1 <= payload["evseId"] <= MAX_EVSE and 1 <= payload["connectorId"] <= MAX_EVSE
    elif action == "MeterValues":
        valid = 0 <= payload["evseId"] <= MAX_EVSE
    elif action == "TransactionEvent" and "evse" in payload:
        valid = 1 <= payload["evse"]["id"] <= MAX_EVSE
    else:
        return None
    return None if valid else CallError("PropertyConstraintViolation", "no such EVSE or connector")
