"""The connections up to a CSMS: one for each serial, on which the charger looks like a station of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from bridge.core.quantities import Now
from bridge.ocpp201.above import Below, OnAnswer
from bridge.ocpp201.authorization_cache import AuthorizationCache
from bridge.ocpp201.letters import TRANSACTION_EVENT, Outbox
from bridge.ocpp201.link import Link, Registration
from bridge.ocpp201.rpc import NOT_SENT, Outcome, Payload
from bridge.ocpp201.trace import Trace
from bridge.settings import ChargerEntry, Csms

MAX_DIALLING: Final = 50  # handshakes at once, so that a park that comes back does not run its CSMS down

# What waits for the CSMS; all else is worth nothing once its moment is over.
KEPT: Final = frozenset(
    {
        TRANSACTION_EVENT,
        "ClearedChargingLimit",
        "FirmwareStatusNotification",
        "LogStatusNotification",
        "MeterValues",
        "NotifyChargingLimit",
        "NotifyEvent",
        "ReservationStatusUpdate",
        "SecurityEventNotification",
        "StatusNotification",
    }
)


class Upstream:
    """What stands above the chargers where there is a CSMS (`bridge.ocpp201.above.Above`).

    The connection of a serial is open while its charger is connected or letters of it wait. Heartbeats are its own.
    `cache` is shown what the CSMS says of idTokens.
    """

    def __init__(
        self,
        csms: Csms,
        chargers: Mapping[str, ChargerEntry],
        outbox: Outbox,
        clock: Callable[[], Now],
        trace: Trace | None = None,
        cache: AuthorizationCache | None = None,
    ) -> None:
        self._csms = csms
        self._chargers = chargers
        self._outbox = outbox
        self._clock = clock
        self._trace = trace
        self._cache = cache
        self._links: dict[str, Link] = {}
        self._dialling = asyncio.Semaphore(MAX_DIALLING)

    def open(self) -> None:
        """Dial for every serial whose letters were left by the service before this one."""
        for serial in self._outbox.serials():
            self.link(serial).wanted()

    async def close(self) -> None:
        """End every connection; what is not delivered is delivered by the next service."""
        await asyncio.gather(*(link.close() for link in self._links.values()))

    def link(self, serial: str) -> Link:
        """The link of a serial, made when it is first needed."""
        if serial not in self._links:
            entry = self._chargers.get(serial)
            self._links[serial] = Link(
                serial, entry, self._csms, self._outbox, self._clock, self._trace, self._dialling, self._cache
            )
        return self._links[serial]

    def attach(self, session: Below) -> None:
        """Open the connection of a charger that has connected."""
        self.link(session.serial).attach(session)

    def detach(self, session: Below) -> None:
        """Let the connection end once all letters are delivered: the CSMS sees that the charger is gone."""
        self.link(session.serial).detach(session)

    def request(
        self,
        serial: str,
        action: str,
        payload: Payload,
        on_answer: OnAnswer,
        on_kept: Callable[[bool], None] | None = None,
    ) -> None:
        """Hand a request on: letters into the outbox, boots into their procedure, all else at once or not at all."""
        link = self.link(serial)
        if self._cache is not None and "idToken" in payload:
            on_answer = partial(self._learn, self._cache, serial, action, payload, on_answer)
        if action in KEPT:
            link.keep(action, payload, on_answer, on_kept)
            return
        if on_kept is not None:
            on_kept(link.may_boot if action == "BootNotification" else link.is_accepted)
        if action == "Heartbeat":
            on_answer(NOT_SENT)
        elif action == "BootNotification":
            link.boot(payload, on_answer)
        else:
            link.send(action, payload, on_answer)

    @staticmethod
    def _learn(
        cache: AuthorizationCache, serial: str, action: str, payload: Payload, then: OnAnswer, outcome: Outcome
    ) -> None:
        cache.answered(serial, action, payload, outcome)
        then(outcome)

    def known(self, serial: str, id_token: Payload) -> Payload | None:
        """What the CSMS last said of an idToken (idTokenInfo), None if nothing."""
        return None if self._cache is None else self._cache.id_token_info(serial, id_token)

    def resent(self, serial: str) -> None:
        """Note that dead letters of a serial wait again."""
        self.link(serial).wanted()

    def has_queued(self, serial: str, transaction_id: str | None) -> bool:
        """Say whether messages of a transaction, or of any, still wait for the CSMS (E14)."""
        events = [letter for letter in self._outbox.letters(serial) if letter.action == TRANSACTION_EVENT]
        if transaction_id is None:
            return bool(events)
        name = f'"{transaction_id}"'
        return any(name in (self._outbox.text(letter) or "") for letter in events)

    def describe(self, serial: str) -> dict[str, Any]:
        """Say how the connection of a serial stands, for the status page."""
        link = self._links.get(serial)
        return {
            "connected": link is not None and link.is_connected,
            "registration": (link.registration if link else Registration.NONE).value,
            "waiting": self._outbox.waiting(serial),
        }
