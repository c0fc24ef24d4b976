"""The connection of one serial up to its CSMS: dialled, booted, kept alive, and fed from the outbox."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from enum import Enum, unique
from functools import partial
from typing import Final

import msgspec
import structlog

from bridge.core.quantities import Now
from bridge.ocpp201.above import OFFLINE_THRESHOLD_S, SLOW, Below, OnAnswer
from bridge.ocpp201.authorization_cache import AuthorizationCache
from bridge.ocpp201.client_certificate import TAKE_OVER_S, Renewal
from bridge.ocpp201.client_password import is_password, results_of
from bridge.ocpp201.dial import NOT_CONNECTED, BackOff, dial, security_event, why_not_connected
from bridge.ocpp201.interception import join_variables
from bridge.ocpp201.letters import NO_CAUSE, TRANSACTION_EVENT, Cause, Delivery, Letter, Outbox
from bridge.ocpp201.rpc import (
    NOT_SENT,
    UNANSWERED,
    BadAnswer,
    CallError,
    Deferred,
    NoAnswer,
    Outcome,
    Payload,
    Rpc,
    Verbatim,
)
from bridge.ocpp201.schemas import SCHEMAS_201
from bridge.ocpp201.timestamps import rfc3339
from bridge.ocpp201.trace import CSMS, Trace
from bridge.settings import ChargerEntry, Csms

HEARTBEAT_S: Final = 300.0  # where the CSMS leaves it to the station
BOOT_RETRY_S: Final = 60.0  # likewise, before the next BootNotification (B02.FR.07)
BOOT_EXPECTED_S: Final = 10.0  # how long a charger that has connected is given to say its BootNotification
HEARTBEAT_INTERVAL: Final = ("ocppcommctrlr", "heartbeatinterval")  # component and variable
LONGEST_S: Final = 86_400.0  # an interval nobody can mean is looked at again every day
LINGER_S: Final = 5.0  # a charger that comes back at once finds its connection again
ANSWER_BELOW_S: Final = 60.0
SLOW_ANSWER_S: Final = 60.0
MAX_LOSSES: Final = 20
CROWDED_S: Final = 1.0  # until a letter that found no place on the connection is tried again
SOON: Final = 4  # letters ahead of one that may still be answered soon

# A letter refused for its own sake will be refused again (OCPP 2.0.1 Part 4 §4.3).
NEVER_HEALS: Final = frozenset(
    {
        "FormatViolation",
        "FormationViolation",
        "NotImplemented",
        "NotSupported",
        "OccurrenceConstraintViolation",
        "OccurenceConstraintViolation",
        "PropertyConstraintViolation",
        "ProtocolError",
        "TypeConstraintViolation",
    }
)
_TRIGGERED: Final = {
    "SignChargingStationCertificate": "SignCertificate",
    "SignCombinedCertificate": "SignCertificate",
    "SignV2GCertificate": "SignCertificate",
}

log = structlog.get_logger(__name__)


@unique
class Registration(Enum):
    """What the CSMS last said to a BootNotification (B01–B03); NONE before it said anything."""

    NONE = "None"
    ACCEPTED = "Accepted"
    PENDING = "Pending"
    REJECTED = "Rejected"


class Link:
    """The connection of one serial: dialled, booted, kept alive and fed from the outbox, one call in flight.

    A connection counts once the CSMS has answered on it; one that is accepted and dropped at once was none.
    """

    def __init__(
        self,
        serial: str,
        entry: ChargerEntry | None,
        csms: Csms,
        outbox: Outbox,
        clock: Callable[[], Now],
        trace: Trace | None = None,
        dialling: asyncio.Semaphore | None = None,
        cache: AuthorizationCache | None = None,
    ) -> None:
        self.serial = serial
        self._dialling = dialling or asyncio.Semaphore()
        self.registration = Registration.NONE
        self._entry = entry
        self._csms = csms
        self._outbox = outbox
        self._clock = clock
        self._trace = trace
        self._cache = cache
        self._loop = asyncio.get_running_loop()
        self._session: Below | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closed = False
        self._rpc: Rpc | None = None
        self._proven = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._boot: Payload | None = None
        self._boot_answer: Payload | None = None
        self._boot_due_s = 0.0
        self._boot_expected_s = 0.0
        self._booting = False
        self._boot_waiters: list[OnAnswer] = []
        self._was_told_accepted = True
        self._left_at_s: float | None = None
        self._lost_at_s: float | None = None
        self._heartbeat_s = HEARTBEAT_S
        self._renewal: Renewal | None = None
        if csms.certificates_dir is not None:
            self._renewal = Renewal(
                *(serial, csms.certificates_dir, clock, self.send, self._reconnect, self._tell_security_event)
            )
        self._in_flight: Letter | None = None
        self._answers: dict[int, OnAnswer] = {}
        self._statuses: dict[str, tuple[Payload, Cause]] = {}
        self._triggered: set[str] = set()
        self._complained = ""

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection on which the CSMS has answered."""
        return self._rpc is not None and self._proven

    @property
    def is_accepted(self) -> bool:
        """Whether the CSMS would take a request now."""
        return self.is_connected and self.registration is Registration.ACCEPTED

    @property
    def may_boot(self) -> bool:
        """Whether a BootNotification may be answered soon: connected, or dialling and no attempt has failed."""
        return self.is_connected or (self._task is not None and not self._complained)

    def attach(self, session: Below) -> None:
        """Note the charger's session and see to it that there is a connection."""
        now_s = self._loop.time()
        if self._left_at_s is not None and now_s - self._left_at_s > OFFLINE_THRESHOLD_S:
            self.registration = Registration.NONE
        self._session, self._left_at_s = session, None
        self._boot_expected_s = now_s + BOOT_EXPECTED_S
        self._cancel("linger")
        self.wanted()

    def detach(self, session: Below) -> None:
        """Forget the charger's session, if it is this one."""
        if self._session is session:
            self._session, self._left_at_s = None, self._loop.time()
            self._at("linger", LINGER_S, self._close_if_done)

    def wanted(self) -> None:
        """Dial if nobody does, or go on sending."""
        if self._task is None and not self._closed:
            self._task = self._loop.create_task(self._keep_connected())
        self._pump()

    async def close(self) -> None:
        """End the connection and dial no more."""
        self._closed = True
        for name in list(self._timers):
            self._cancel(name)
        if self._renewal is not None:
            self._renewal.close()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def keep(
        self,
        action: str,
        payload: Payload,
        on_answer: OnAnswer,
        on_kept: Callable[[bool], None] | None = None,
        cause: Cause | None = None,
    ) -> None:
        """Put a letter into the outbox; it is offline if the connection is not there (E04.FR.03).

        Its `cause` is what the charger said just now, unless it is given.
        """
        slot = _slot(action, payload)
        if cause is None:
            cause = NO_CAUSE if self._trace is None else self._trace.cause(self.serial, CSMS)
        if action == "StatusNotification":
            self._statuses[slot] = payload, cause
        offline = not self.is_connected
        thinnable = action == TRANSACTION_EVENT and payload["eventType"] == "Updated"

        def kept(letter: Letter) -> None:
            letter.offline |= offline
            if not slot:
                self._answers[letter.number] = on_answer
            soon = self.is_accepted and self._outbox.waiting(self.serial) <= SOON
            self.wanted()
            if on_kept is not None:
                on_kept(soon)
            if slot:
                on_answer({})  # a newer one may take its place, and the answer is always this

        self._outbox.enqueue(self.serial, action, _text(payload), kept, slot=slot, thinnable=thinnable, cause=cause)

    def send(self, action: str, payload: Payload, on_answer: OnAnswer) -> None:
        """Send what is worth something now only, if the CSMS would take it."""
        if self._rpc is None or not self._may_send(action, payload):
            on_answer(NOT_SENT)
            return
        timeout_s = max(SLOW_ANSWER_S, self._csms.message_timeout_s) if action in SLOW else None
        self._rpc.post(action, payload, on_answer, timeout_s=timeout_s)

    def boot(self, payload: Payload, on_answer: OnAnswer) -> None:
        """Take up a BootNotification of the charger: passed on where it says something new, else answered from here.

        A translated unit says it at every connection, a native station when it booted or was told to try again.
        """
        is_new = self._boot is None or self._boot["chargingStation"] != payload["chargingStation"]
        is_unit = self._entry is not None and self._entry.profile.protocol != "ocpp2.0.1"
        is_repeated = not is_new and (
            not self._was_told_accepted or (is_unit and payload["reason"] in ("PowerUp", "Unknown"))
        )
        self._boot = dict(payload)
        if self.registration is Registration.ACCEPTED and is_repeated:
            self._answer_boot(on_answer, self._boot_again("Accepted", self._heartbeat_s))
            return
        wait_s = self._boot_due_s - self._loop.time()
        if self.registration in (Registration.PENDING, Registration.REJECTED) and wait_s > 0:
            self._answer_boot(on_answer, self._boot_again(self.registration.value, wait_s))
            return
        self.registration = Registration.NONE
        if self.may_boot:
            self._boot_waiters.append(partial(self._answer_boot, on_answer))
            self._boot_if_due()
        else:
            self._was_told_accepted = True
            on_answer(NOT_SENT)
            self._boot_if_due()

    def _answer_boot(self, on_answer: OnAnswer, outcome: Outcome) -> None:
        self._was_told_accepted = not isinstance(outcome, dict) or outcome["status"] == "Accepted"
        on_answer(outcome)

    def _boot_again(self, status: str, interval_s: float) -> Payload:
        """Form the answer the CSMS has given before."""
        now = rfc3339(self._clock().utc_ms)
        return {"currentTime": now, "interval": max(1, round(interval_s)), "status": status}

    async def _keep_connected(self) -> None:
        back_off = BackOff(
            self._csms.retry_wait_minimum_s, self._csms.retry_random_range_s, self._csms.retry_repeat_times
        )
        try:
            while self._is_wanted():
                if await self._connect():
                    back_off.reset()
                if self._is_wanted():
                    await asyncio.sleep(back_off.next_s(random.random()))  # noqa: S311  jitter, no secret
        finally:
            self._task = None

    def _is_wanted(self) -> bool:
        return self._session is not None or self._outbox.waiting(self.serial) > 0

    async def _connect(self) -> bool:
        """Dial, serve the connection to its end, and say whether the CSMS has answered on it."""
        try:
            async with self._dialling:
                websocket = await dial(self._csms, self.serial)
        except NOT_CONNECTED as error:
            why, event = why_not_connected(error), security_event(error)
            if event is not None and why != self._complained:
                self._tell_security_event(event)
            self._complain(why)
            return False
        self._proven = False
        self._rpc = Rpc(
            websocket,
            self._from_csms,
            SCHEMAS_201,
            name=f"csms/{self.serial}",
            call_timeout_s=self._csms.message_timeout_s,
            max_waiting=64,
            max_deferred=32,
            verbatim=True,
            observe=None if self._trace is None else self._trace.observer(self.serial, CSMS),
        )
        opening = self._loop.call_soon(self._opened)
        try:
            await self._rpc.run()
        finally:
            opening.cancel()
            proven, self._proven, self._rpc = self._proven, False, None
            self._booting, self._triggered = False, set()
            for name in ("boot", "heartbeat", "pump"):
                self._cancel(name)
            self._lost_at_s = self._loop.time()
            for letter in self._outbox.letters(self.serial):
                letter.offline = True
            await websocket.close()
        if proven:
            log.warning("csms: connection lost", charger=self.serial, code=websocket.close_code)
        else:
            self._complain(f"connection closed before an answer, code {websocket.close_code}")
        return proven

    def _complain(self, why: str) -> None:
        """Log why there is no connection: once, not with every attempt."""
        if why != self._complained:
            self._complained = why
            log.warning("csms: no connection", charger=self.serial, why=why)
        waiters, self._boot_waiters = self._boot_waiters, []
        for on_answer in waiters:
            on_answer(NOT_SENT)

    def _tell_security_event(self, event: str) -> None:
        told = {"type": event, "timestamp": rfc3339(self._clock().utc_ms)}
        self.keep("SecurityEventNotification", told, _forget, cause=NO_CAUSE)

    def _reconnect(self) -> None:
        if self._rpc is not None:
            self._closing = self._loop.create_task(self._rpc.close(1000, "other credentials"))

    def _opened(self) -> None:
        """Begin on a new connection: boot, or prove that the CSMS is there before anything is entrusted to it."""
        if self.registration is Registration.ACCEPTED:
            self._heartbeat()
        else:
            self._boot_if_due()

    def _answered(self) -> None:
        """Note that the CSMS has answered on this connection."""
        if not self._proven:
            self._proven, self._complained = True, ""
            log.info("csms: connected", charger=self.serial, waiting=self._outbox.waiting(self.serial))

    def _drop(self) -> None:
        """Give up a connection on which the CSMS does not answer any more."""
        if self._rpc is not None:
            self._rpc.abort()

    def _boot_if_due(self) -> None:
        if self._rpc is None or self._booting or self.registration is Registration.ACCEPTED:
            return
        wait_s = self._boot_due_s - self._loop.time()
        if self._boot is None and self._session is not None:
            wait_s = max(wait_s, self._boot_expected_s - self._loop.time())
        if wait_s > 0:
            self._at("boot", wait_s, self._boot_if_due)
            return
        self._booting = True
        self._rpc.post("BootNotification", self._boot or self._own_boot(), self._boot_answered)

    def _own_boot(self) -> Payload:
        """The BootNotification of a charger that has not said its own to this service."""
        profile = None if self._entry is None else self._entry.profile
        station = {
            "model": (profile.model if profile else "unknown")[:20],
            "vendorName": (profile.vendor if profile else "unknown")[:50],
            "serialNumber": self.serial[:25],
        }
        return {"reason": "Unknown", "chargingStation": station}

    def _boot_answered(self, outcome: Outcome) -> None:
        self._booting = False
        waiters, self._boot_waiters = self._boot_waiters, []
        if isinstance(outcome, NoAnswer):
            for on_answer in waiters:
                on_answer(NOT_SENT)
            self._drop()
            return
        self._answered()
        if isinstance(outcome, CallError):
            log.warning("csms: boot refused", charger=self.serial, code=outcome.code, why=outcome.description)
            outcome = self._boot_again("Rejected", BOOT_RETRY_S)
        interval_s = float(outcome["interval"])
        before, self.registration = self.registration, Registration(outcome["status"])
        if self.registration is Registration.ACCEPTED:
            self._heartbeat_s = interval_s if interval_s > 0 else HEARTBEAT_S
            self._at("heartbeat", self._heartbeat_s, self._heartbeat)
            self._triggered = set()
            self._report_statuses()
        else:
            wait_s = interval_s if interval_s > 0 else BOOT_RETRY_S
            self._boot_due_s = self._loop.time() + wait_s
            self._at("boot", wait_s, self._boot_if_due)
        if before is not self.registration:
            log.info("csms: boot answered", charger=self.serial, status=outcome["status"], interval_s=interval_s)
        self._look_at_certificate()
        for on_answer in waiters:
            on_answer(outcome)
        self._pump()

    def _report_statuses(self) -> None:
        """Let the newest status of every connector wait again, with its own time (B01.FR.05, B04.FR.01)."""
        waiting = {letter.slot for letter in self._outbox.letters(self.serial)}
        for slot, (payload, cause) in list(self._statuses.items()):
            if slot not in waiting:
                self.keep("StatusNotification", payload, _forget, cause=cause)

    def _heartbeat(self) -> None:
        if self._rpc is not None:
            self._rpc.post("Heartbeat", {}, self._heartbeat_answered)

    def _heartbeat_answered(self, outcome: Outcome) -> None:
        if isinstance(outcome, NoAnswer):
            self._drop()
            return
        was_proven = self._proven
        self._answered()
        if isinstance(outcome, CallError) and outcome.code == "SecurityError":
            self._boot_anew()
            return
        self._at("heartbeat", self._heartbeat_s, self._heartbeat)
        if not was_proven:
            self._look_at_certificate()
            if self._lost_at_s is not None and self._loop.time() - self._lost_at_s > OFFLINE_THRESHOLD_S:
                self._report_statuses()
        self._pump()

    def _look_at_certificate(self) -> None:
        if self._renewal is not None and self.is_accepted:
            self._renewal.look()

    def _boot_anew(self) -> None:
        """Boot again: the CSMS no longer knows that it accepted this station (B01.FR.10)."""
        self.registration = Registration.NONE
        self._cancel("heartbeat")
        self._boot_due_s = self._boot_expected_s = 0.0
        self._boot_if_due()

    def _may_send(self, action: str, payload: Payload) -> bool:
        """Whether the CSMS takes this now: while Pending only what it has asked for itself (B02.FR.01, .02)."""
        if not self.is_connected:
            return False
        if self.registration is Registration.PENDING and action in self._triggered:
            if not payload.get("tbc", False):
                self._triggered.discard(action)
            return True
        return self.registration is Registration.ACCEPTED

    def _pump(self) -> None:
        """Send the next letter that is due, if none is in flight."""
        if self._rpc is None or self._in_flight is not None or not self.is_connected:
            return
        now_ms = self._clock().monotonic_ms
        heads = self._outbox.heads(self.serial)
        if self.registration is Registration.PENDING:
            heads = [letter for letter in heads if letter.action in self._triggered]
        elif self.registration is not Registration.ACCEPTED:
            return
        due = next((letter for letter in heads if letter.due_ms <= now_ms), None)
        if due is not None:
            self._deliver(self._rpc, due)
        elif heads:
            self._at("pump", (min(letter.due_ms for letter in heads) - now_ms) / 1000 + 0.001, self._pump)
        elif self._session is None and "linger" not in self._timers:
            self._close_if_done()

    def _deliver(self, rpc: Rpc, letter: Letter) -> None:
        kept = self._outbox.text(letter)
        payload = Verbatim({}, b"") if kept is None else self._payload(letter, kept.encode())
        problem = SCHEMAS_201.problem_in_request(letter.action, payload)
        if problem is not None:
            self._bury(letter, problem if kept is not None else CallError("InternalError", "damaged on disk"), problem)
            self._loop.call_soon(self._pump)
            return
        self._triggered.discard(letter.action)
        self._in_flight, letter.in_flight = letter, True
        rpc.post(letter.action, payload, partial(self._letter_answered, letter))

    @staticmethod
    def _payload(letter: Letter, text: bytes) -> Delivery:
        if letter.offline and letter.action == TRANSACTION_EVENT:
            text = with_offline(text)
        return Delivery(msgspec.json.decode(text), text, letter.cause)

    def _letter_answered(self, letter: Letter, outcome: Outcome) -> None:
        """Settle one transmission (E13): delivered, tried again later, or a dead letter."""
        self._in_flight, letter.in_flight = None, False
        if outcome is NOT_SENT:
            self._at("pump", CROWDED_S, self._pump)
            return
        if outcome is UNANSWERED:
            self._unanswered(letter)
            return
        if isinstance(outcome, BadAnswer):
            log.warning("csms: answer ill-formed", charger=self.serial, action=letter.action, why=outcome.description)
            self._delivered(letter, {})
        elif isinstance(outcome, CallError):
            self._letter_refused(letter, outcome)
        elif not isinstance(outcome, NoAnswer):
            self._delivered(letter, outcome)
        self._loop.call_soon(self._pump)

    def _unanswered(self, letter: Letter) -> None:
        """Count a transmission that was not answered, or the connection that ended under it."""
        if self._rpc is None or self._rpc.ended:
            letter.losses += 1
            if letter.losses >= MAX_LOSSES:
                self._bury(letter, CallError("GenericError", "the connection ended every time it was sent"), UNANSWERED)
        else:
            self._retry(letter, CallError("GenericError", "not answered in time"))
            self._drop()

    def _letter_refused(self, letter: Letter, error: CallError) -> None:
        if error.code == "SecurityError":
            letter.losses += 1
            if letter.losses < MAX_LOSSES:
                if self.registration is Registration.ACCEPTED:
                    self._boot_anew()
                return
        if error.code in NEVER_HEALS or error.code == "SecurityError":
            self._bury(letter, error, error)
        else:
            self._retry(letter, error)

    def _retry(self, letter: Letter, error: CallError) -> None:
        """Plan the next attempt: MessageAttemptInterval × number of preceding transmissions (E13.FR.02, .03)."""
        letter.attempts += 1
        if letter.attempts >= self._csms.message_attempts:
            self._bury(letter, error, error)
            return
        self._outbox.attempted(letter)
        wait_ms = round(self._csms.message_attempt_interval_s * 1000) * letter.attempts
        letter.due_ms = self._clock().monotonic_ms + wait_ms

    def _bury(self, letter: Letter, error: CallError, outcome: Outcome) -> None:
        """Set a letter aside for a person to look at; E13.FR.04 would have it discarded."""
        log.error(
            "dead letter: the CSMS does not take it",
            charger=self.serial,
            number=letter.number,
            action=letter.action,
            code=error.code,
            why=error.description,
            what="gridlimit outbox list, gridlimit outbox resend",
        )
        self._outbox.bury(letter, f"{error.code}: {error.description}".rstrip(": "))
        self._answers.pop(letter.number, _forget)(outcome)

    def _delivered(self, letter: Letter, outcome: Payload) -> None:
        on_answer = self._answers.pop(letter.number, None)
        if on_answer is None and self._csms.stop_tx_on_invalid_id and _is_refused(outcome):
            self._stop_refused(letter)
        self._outbox.delivered(letter)
        if on_answer is not None:
            on_answer(outcome)

    def _stop_refused(self, letter: Letter) -> None:
        """Stop a transaction whose idToken was refused after whoever asked had ended (E05)."""
        event = msgspec.json.decode(self._outbox.text(letter) or "{}")
        if letter.action == TRANSACTION_EVENT and event["eventType"] != "Ended" and self._session is not None:
            stop = {"transactionId": event["transactionInfo"]["transactionId"]}
            self._session.from_above("RequestStopTransaction", stop, _forget)

    def _close_if_done(self) -> None:
        """End the connection of a charger that is gone once nothing of it waits."""
        self._cancel("linger")
        if not self._is_wanted() and self._rpc is not None:
            self._closing = self._loop.create_task(self._rpc.close(1000, "the charging station is gone"))

    def _from_csms(self, action: str, payload: Payload) -> Payload | CallError | Deferred:
        """Answer a request of the CSMS as the registration allows, else let the charger's session answer."""
        if self.registration in (Registration.NONE, Registration.REJECTED):
            return CallError("SecurityError", "the boot of this station is not accepted")  # B03.FR.08
        if self.registration is Registration.PENDING:
            if action in ("RequestStartTransaction", "RequestStopTransaction"):
                return {"status": "Rejected"}  # B02.FR.05
            self._note_triggered(action, payload)
        answer = self._answer_of_link(action, payload)
        if answer is not None:
            return answer
        if action == "SetVariables" and any(map(is_password, payload["setVariableData"])):
            return self._set_password(payload)
        return self._ask_below(action, payload)

    def _ask_below(
        self, action: str, payload: Payload, results: list[Payload | None] | None = None
    ) -> CallError | Deferred:
        """Have the charger's session answer; `results` of a SetVariables are those given here, in their places."""
        if self._session is None:
            return CallError("GenericError", "the charging station is not connected")
        deferred = Deferred(ANSWER_BELOW_S)

        def answered(answer: Payload | CallError) -> None:
            if self._cache is not None:
                self._cache.asked(self.serial, action, payload, answer)
            if action == "SetVariables" and isinstance(answer, dict):
                self._follow_heartbeat(payload, answer)
                answer = join_variables(results, answer) if results else answer
            deferred.settle(answer)

        self._session.from_above(action, payload, answered)
        return deferred

    def _set_password(self, payload: Payload) -> Payload | CallError | Deferred:
        """Change the password of this connection and use it at once; all else in the request is the charger's (A01)."""
        folder = self._csms.passwords_dir
        if folder is None:
            return self._ask_below("SetVariables", payload)
        results = results_of(payload, folder, self.serial)
        if any(result is not None and result["attributeStatus"] == "Accepted" for result in results):
            self._at("password", TAKE_OVER_S, self._reconnect)
        rest = [item for item, result in zip(payload["setVariableData"], results, strict=True) if result is None]
        if not rest:
            return join_variables(results, None)
        return self._ask_below("SetVariables", payload | {"setVariableData": rest}, results)

    def _follow_heartbeat(self, request: Payload, answer: Payload) -> None:
        """Keep the heartbeat interval that the charger was set to: heartbeats to the CSMS are the link's own (G02)."""
        for wanted, result in zip(request["setVariableData"], answer["setVariableResult"], strict=False):
            named = (wanted["component"]["name"].casefold(), wanted["variable"]["name"].casefold())
            if named == HEARTBEAT_INTERVAL and result["attributeStatus"] == "Accepted":
                with contextlib.suppress(ValueError):
                    self._heartbeat_s = min(max(1.0, float(wanted["attributeValue"])), LONGEST_S)
                    self._at("heartbeat", self._heartbeat_s, self._heartbeat)

    def _answer_of_link(self, action: str, payload: Payload) -> Payload | None:
        """Answer what concerns this connection and no charger below, None for all else."""
        wanted = payload["requestedMessage"] if action == "TriggerMessage" else ""
        if wanted == "Heartbeat":
            self._loop.call_soon(self._heartbeat)
            return {"status": "Accepted"}
        if wanted == "BootNotification" and self.registration is Registration.PENDING:
            self._boot_due_s = 0.0
            self._loop.call_soon(self._boot_if_due)
            return {"status": "Accepted"}
        return None if self._renewal is None else self._renewal.answer(action, payload)

    def _note_triggered(self, action: str, payload: Payload) -> None:
        if action == "TriggerMessage":
            wanted = payload["requestedMessage"]
            self._triggered.add(_TRIGGERED.get(str(wanted), str(wanted)))
        elif action in ("GetBaseReport", "GetReport"):
            self._triggered.add("NotifyReport")

    def _at(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Have something called later, in place of what was to be called under that name."""
        self._cancel(name)

        def due() -> None:
            self._timers.pop(name, None)
            call()

        self._timers[name] = self._loop.call_later(min(delay_s, LONGEST_S), due)

    def _cancel(self, name: str) -> None:
        handle = self._timers.pop(name, None)
        if handle is not None:
            handle.cancel()


def with_offline(text: bytes) -> bytes:
    """Set `offline` in a TransactionEvent and leave every other octet of its values as it is (E04.FR.03)."""
    values = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    values["offline"] = msgspec.Raw(b"true")
    return msgspec.json.encode(values)


def _text(payload: Payload) -> str:
    return (payload.text if isinstance(payload, Verbatim) else msgspec.json.encode(payload)).decode()


def _slot(action: str, payload: Payload) -> str:
    """Name what only the newest is kept of: the status of a connector (B04.FR.02), the limit of the grid."""
    if action == "StatusNotification":
        return f"status {payload['evseId']}/{payload['connectorId']}"
    if action == "NotifyChargingLimit":
        return f"charging limit {payload['chargingLimit']['chargingLimitSource']}"
    return f"charging limit {payload['chargingLimitSource']}" if action == "ClearedChargingLimit" else ""


def _is_refused(response: Payload) -> bool:
    return "idTokenInfo" in response and response["idTokenInfo"]["status"] != "Accepted"


def _forget(_outcome: object) -> None:
    """Take an answer nobody waits for."""
