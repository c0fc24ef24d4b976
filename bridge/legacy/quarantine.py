"""Where messages go that could not be read: whole, with the reason, so that an engineer can."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from bridge.core.quantities import Now
from bridge.legacy.transactions import Shelf

ROOM: Final = "quarantine"
KEPT_EACH: Final = 100
SHELVED_A_MINUTE: Final = 10
_MINUTE_MS: Final = 60_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One message as it came, who sent it, when, and why it could not be read."""

    serial: str
    utc_ms: int
    why: str
    frame: str


class Quarantine:
    """The last 100 unreadable messages of each unit, and how many there were.

    At most 10 a minute of one unit are written to the shelf, so that a flood of them costs the others nothing; the rest
    are counted. `newest` are the last 100 of all units, in memory.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.newest: deque[Quarantined] = deque(maxlen=KEPT_EACH)
        self.counts: Counter[str] = Counter()
        self._written: dict[str, deque[int]] = {}
        self._keys: dict[str, deque[str]] = {}
        for key in sorted(key for key, _ in shelf.items(ROOM)):
            self._keys.setdefault(key.rpartition("/")[0], deque()).append(key)

    def keep(self, serial: str, why: str, frame: str, now: Now) -> None:
        """Take in one message."""
        self.counts[serial] += 1
        quarantined = Quarantined(serial, now.utc_ms, why, frame)
        self.newest.append(quarantined)
        written = self._written.setdefault(serial, deque(maxlen=SHELVED_A_MINUTE))
        if len(written) == SHELVED_A_MINUTE and now.monotonic_ms - written[0] < _MINUTE_MS:
            return
        written.append(now.monotonic_ms)
        log.warning("message quarantined", charger=serial, why=why, bytes=len(frame), count=self.counts[serial])
        keys = self._keys.setdefault(serial, deque())
        number = int(keys[-1].rpartition("/")[2]) + 1 if keys else 1
        keys.append(f"{serial}/{number:012}")
        self._shelf.put(ROOM, keys[-1], msgspec.json.encode(quarantined).decode())
        if len(keys) > KEPT_EACH:
            self._shelf.delete(ROOM, keys.popleft())

    def of(self, serial: str) -> Iterator[Quarantined]:
        """Go through what is kept of one unit, oldest first."""
        for key in self._keys.get(serial, ()):
            value = self._shelf.get(ROOM, key)
            if value is not None:
                yield msgspec.json.decode(value, type=Quarantined)
