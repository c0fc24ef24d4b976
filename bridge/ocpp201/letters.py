"""Letters: OCPP 2.0.1 requests of stations that are kept until the CSMS has them, and the outbox they wait in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from bridge.core.quantities import Millis
from bridge.ocpp201.rpc import Payload, Verbatim

TRANSACTION_EVENT = "TransactionEvent"


class Cause(NamedTuple):
    """The request for which another one is made, such as `Rx unit StartTransaction`, and its exchange in the trace."""

    exchange: int = 0
    request: str = ""


NO_CAUSE: Final = Cause()


class Delivery(Verbatim):
    """A letter's payload as it leaves, with what once caused it."""

    __slots__ = ("cause",)

    def __init__(self, payload: Payload, text: bytes, cause: Cause) -> None:
        super().__init__(payload, text)
        self.cause = cause


@dataclass(slots=True, eq=False)
class Letter:
    """One request that waits. `number` is its place in the order of all; `attempts` how often it was sent in vain.

    `slot` names what only the newest is kept of, empty for all others; `thinnable` may be dropped if room is short
    (E04.FR.08). `cause` is what it is told for. `due_ms` is the monotonic time of the next attempt. `offline`: it was
    still here when the connection was not (E11.FR.07). `losses` counts the connections that ended while it was in
    flight.
    """

    number: int
    serial: str
    action: str
    slot: str
    thinnable: bool
    size: int
    utc_ms: Millis
    attempts: int = 0
    cause: Cause = field(default=NO_CAUSE, kw_only=True)
    due_ms: Millis = 0
    offline: bool = False
    losses: int = 0
    in_flight: bool = False


class Outbox(Protocol):
    """Letters by serial, in the order they came; on disk before `on_kept` is called."""

    def enqueue(
        self,
        serial: str,
        action: str,
        text: str,
        on_kept: Callable[[Letter], None],
        *,
        slot: str = "",
        thinnable: bool = False,
        cause: Cause = NO_CAUSE,
    ) -> None:
        """Keep a request with the JSON text `text`; a waiting one with the same slot is forgotten."""
        ...

    def heads(self, serial: str) -> list[Letter]:
        """Return what may be sent next: the oldest TransactionEvent, then the oldest of all others."""
        ...

    def letters(self, serial: str) -> Iterable[Letter]:
        """Go through all that wait for one serial."""
        ...

    def waiting(self, serial: str) -> int:
        """Return how many letters of a serial wait."""
        ...

    def serials(self) -> set[str]:
        """Return whose letters wait."""
        ...

    def text(self, letter: Letter) -> str | None:
        """Return the JSON text of a letter's payload, None if it cannot be trusted."""
        ...

    def delivered(self, letter: Letter) -> None:
        """Forget a letter."""
        ...

    def attempted(self, letter: Letter) -> None:
        """Keep how often it was sent in vain."""
        ...

    def bury(self, letter: Letter, why: str) -> None:
        """Make a letter a dead one: kept with its reason, not sent again unless a person wants it."""
        ...
