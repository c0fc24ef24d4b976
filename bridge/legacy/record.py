"""What the layer keeps of one legacy unit between a question of the CSMS and what the unit does about it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeAlias

import structlog

from bridge.core.quantities import Millis, Now
from bridge.legacy.dialects import OCPP15, Dialect
from bridge.legacy.down import Call
from bridge.legacy.transactions import Shelf, Transaction, Transactions
from bridge.legacy.up import ConnectorState, id_token
from bridge.ocpp201.rpc import CallError, Outcome, Payload
from bridge.ocpp201.smart_charging import SmartCharging
from bridge.settings import ChargerEntry, ChargerProfile, Csms

ROOM: Final = "units"
TOKENS: Final = "id_tokens"
MAX_ID_TAG: Final = 20
MAX_TOKENS: Final = 10_000
MAX_PENDING: Final = 64
DEFAULT_CONNECTION_TIME_OUT_S: Final = 120
TIMER_MAX_S: Final = 86_400.0

OnOutcome: TypeAlias = Callable[[Outcome], None]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Pending:
    """What was ordered and is not over; on the shelf, so that a restart forgets none of it.

    `remote_starts` and `reservations` are by id of the CSMS; `inoperative` are the connectors it took out of service;
    `boot_reason` is why the next boot will be; `log_request` and `firmware_request` are the ids their statuses belong
    to. `registers_wh` are the registers the bridge keeps for meters that begin at 0 with every session, by connector.
    """

    remote_starts: dict[str, dict[str, Any]] = field(default_factory=dict)
    reservations: dict[str, dict[str, Any]] = field(default_factory=dict)
    inoperative: list[int] = field(default_factory=list)
    boot_reason: str = ""
    reset_when_idle: bool = False
    log_request: int | None = None
    log_status: str = "Idle"
    firmware_request: int | None = None
    firmware_status: str = "Idle"
    registers_wh: dict[str, int] = field(default_factory=dict)


class UnitRecord:
    """One unit as its CSMS has to do with it: what is known, what is pending, and the ways down and up.

    `post` sends a request of the dialect to the unit, `forward` one of OCPP 2.0.1 to the CSMS. `connectors` is what the
    unit last said of each; `meter_values` are the last samples by connector with the monotonic time they came at.
    `reset_ordered` says whether it was since its last boot. `meter` is what it says of its meter when it boots, `csms`
    how the bridge is linked to the CSMS. `has_queued` says whether messages of a transaction (None: any) still wait for
    the CSMS.
    """

    def __init__(
        self,
        entry: ChargerEntry,
        transactions: Transactions,
        smart_charging: SmartCharging,
        clock: Callable[[], Now],
        post: Callable[[Call, OnOutcome], None],
        forward: Callable[[Call], object],
        dialect: Dialect = OCPP15,
    ) -> None:
        self.entry = entry
        self.serial = entry.serial
        self.dialect = dialect
        self.transactions = transactions
        self.smart_charging = smart_charging
        self.clock = clock
        self.forward = forward
        self._post = post
        self.connectors: dict[int, ConnectorState] = {}
        self.meter_values: dict[int, tuple[list[Payload], Millis]] = {}
        self.boot: Call | None = None
        self.boot_accepted = False
        self.reset_ordered = False
        self.sampling_problem: str | None = None
        self.meter: dict[str, str] = {}
        self.csms = Csms()
        self.has_queued: Callable[[str | None], bool] = lambda _transaction_id: False
        self._shelf: Shelf = transactions.shelf
        self._tokens = _Tokens(self._shelf, self.serial)
        self.pending = self._load()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def profile(self) -> ChargerProfile:
        """The charger profile of its make."""
        return self.entry.profile

    @property
    def open_transactions(self) -> list[Transaction]:
        """Its running transactions, oldest first."""
        return self.transactions.open_of(self.serial)

    def connector_numbers(self) -> list[int]:
        """The connectors its charger profile promises and those it has spoken of."""
        return sorted({*range(1, self.profile.connectors + 1), *(number for number in self.connectors if number)})

    def status_of(self, connector: int) -> str:
        """What the unit last said of a connector in the words of OCPP 2.0.1, empty if nothing."""
        state = self.connectors.get(connector)
        return "" if state is None else state.status

    def ask(self, call: Call, on_outcome: OnOutcome) -> None:
        """Send a request to the unit; one its dialect does not have is answered NotImplemented and never sent."""
        if call.action in self.dialect.to_unit:
            self._post(call, on_outcome)
        else:
            on_outcome(CallError("NotImplemented", f"{call.action} is no action of {self.dialect.subprotocol}"))

    def send_up(self, action: str, payload: Payload) -> None:
        """Send a request of the station to the CSMS that nothing waits for."""
        self.forward(Call(action, payload))

    def save(self) -> None:
        """Write down what is pending."""
        self._shelf.put(ROOM, self.serial, json.dumps(asdict(self.pending)))

    def after(self, name: str, delay_s: float, act: Callable[[], None]) -> None:
        """Do something once `delay_s` has passed, in place of what was to be done under this name."""
        self.cancel(name)
        loop = asyncio.get_running_loop()
        if delay_s > TIMER_MAX_S:
            self._timers[name] = loop.call_later(TIMER_MAX_S, self.after, name, delay_s - TIMER_MAX_S, act)
        else:
            self._timers[name] = loop.call_later(max(delay_s, 0.0), act)

    def cancel(self, name: str) -> None:
        """Do it no more."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Stop all timers: the connection has ended. What is pending stays on the shelf."""
        for name in list(self._timers):
            self.cancel(name)

    def tag_of(self, token: Payload) -> str | None:
        """The idTag that stands for an idToken of the CSMS, an alias where it does not fit; None where none can."""
        return self._tokens.tag_of(token)

    def token_of(self, id_tag: str) -> Payload:
        """The idToken an idTag of the unit stands for."""
        return self._tokens.token_of(id_tag)

    def forget_token(self, token: Payload) -> bool:
        """Forget an idToken; False if nothing was kept of it (N10)."""
        return self._tokens.forget(token)

    def _load(self) -> Pending:
        kept = self._shelf.get(ROOM, self.serial)
        try:
            return Pending() if kept is None else Pending(**json.loads(kept))
        except (ValueError, TypeError) as why:
            log.warning("what was pending is unreadable: forgotten", unit=self.serial, why=str(why))
            return Pending()


class _Tokens:
    """The idTokens of one unit whose idTag alone would not say what they are."""

    def __init__(self, shelf: Shelf, serial: str) -> None:
        self._shelf = shelf
        self._prefix = f"{serial}/"
        self._by_tag: dict[str, Payload] | None = None

    def tag_of(self, token: Payload) -> str | None:
        text = str(token["idToken"])
        if not text or token["type"] == "NoAuthorization":
            return None
        tag = text if len(text) <= MAX_ID_TAG else alias(token)
        if id_token(tag) != {"idToken": token["idToken"], "type": token["type"]}:
            known = self._known()
            if tag.casefold() not in known and len(known) >= MAX_TOKENS:
                return None
            kept = {"idToken": text, "type": token["type"]}
            if known.get(tag.casefold()) != kept:
                known[tag.casefold()] = kept
                self._shelf.put(TOKENS, self._prefix + tag.casefold(), json.dumps(kept))
        return tag

    def token_of(self, id_tag: str) -> Payload:
        return dict(self._known().get(id_tag.casefold()) or id_token(id_tag))

    def forget(self, token: Payload) -> bool:
        text = str(token["idToken"])
        tag = (text if len(text) <= MAX_ID_TAG else alias(token)).casefold()
        known = self._known().pop(tag, None) is not None
        if known:
            self._shelf.delete(TOKENS, self._prefix + tag)
        return known

    def _known(self) -> dict[str, Payload]:
        if self._by_tag is None:
            self._by_tag = {
                key.removeprefix(self._prefix): json.loads(value)
                for key, value in self._shelf.items(TOKENS)
                if key.startswith(self._prefix)
            }
        return self._by_tag


def alias(token: Mapping[str, Any]) -> str:
    """Twenty characters that stand for an idToken too long for an idTag: the same ones every time."""
    digest = hashlib.sha256(f"{token['type']}:{str(token['idToken']).casefold()}".encode()).digest()
    return "A-" + base64.b32encode(digest).decode()[: MAX_ID_TAG - 2]
