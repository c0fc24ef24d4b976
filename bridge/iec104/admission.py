"""Who may connect and how much is borne of each source address; time is monotonic and handed in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from bridge.core.quantities import Millis

MINUTE_MS: Final = 60_000
MAX_SOURCES: Final = 1_000  # remembered; the oldest go first


@unique
class Act(Enum):
    """What is counted of a source address, within a minute each."""

    START_STOP = "STARTDT and STOPDT"
    COMMAND = "commands"
    UNKNOWN_ADDRESS = "requests to addresses nobody has"


@dataclass(frozen=True, slots=True)
class Caps:
    """How much is borne: connections in all and of one source address, acts of it in a minute, and for how long it is
    shut out when it asks for more unknown addresses."""  # noqa: D205, D209  one sentence

    connections: int = 8
    connections_per_address: int = 8
    start_stop_per_minute: int = 1_000_000
    commands_per_minute: int = 1_000_000
    unknown_addresses_per_minute: int = 1_000_000
    back_off_s: float = 60.0


class Admission:
    """Counts connections and acts by source address."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._most = {
            Act.START_STOP: caps.start_stop_per_minute,
            Act.COMMAND: caps.commands_per_minute,
            Act.UNKNOWN_ADDRESS: caps.unknown_addresses_per_minute,
        }
        self._open: Counter[str] = Counter()
        self._acts: dict[tuple[str, Act], tuple[Millis, int]] = {}  # since when, how many
        self._shut_out: dict[str, Millis] = {}  # until when

    def refusal(self, host: str, now_ms: Millis) -> str | None:
        """Why a new connection of this address is refused, None if it may come."""
        if self._shut_out.get(host, now_ms) > now_ms:
            return "shut out for a while"
        if self._open.total() >= self._caps.connections:
            return "too many connections"
        if self._open[host] >= self._caps.connections_per_address:
            return "too many connections from this address"
        return None

    def opened(self, host: str) -> None:
        """A connection of this address was admitted."""
        self._open[host] += 1

    def closed(self, host: str) -> None:
        """It ended."""
        self._open[host] -= 1
        if not self._open[host]:
            del self._open[host]

    def too_many(self, host: str, act: Act, now_ms: Millis) -> str | None:
        """Count one more act; what is too much of it, None while it is borne."""
        since_ms, number = self._acts.pop((host, act), (now_ms, 0))
        if now_ms - since_ms >= MINUTE_MS:
            since_ms, number = now_ms, 0
        self._acts[host, act] = since_ms, number + 1
        if len(self._acts) > MAX_SOURCES:
            del self._acts[next(iter(self._acts))]
        if number < self._most[act]:
            return None
        return f"more than {self._most[act]} {act.value} in a minute"

    def shuts_out(self, now_ms: Millis) -> bool:
        """Whether anybody is shut out now."""
        return any(until_ms > now_ms for until_ms in self._shut_out.values())

    def shut_out(self, host: str, now_ms: Millis) -> None:
        """Let nobody in from this address for a while."""
        self._shut_out = {other: until_ms for other, until_ms in self._shut_out.items() if until_ms > now_ms}
        if len(self._shut_out) >= MAX_SOURCES:
            del self._shut_out[next(iter(self._shut_out))]
        self._shut_out[host] = now_ms + round(self._caps.back_off_s * 1000)
