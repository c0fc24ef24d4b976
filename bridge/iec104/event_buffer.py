"""Events on their way to control centres: kept in order until all groups have acknowledged them, and bounded."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final, NamedTuple, Protocol, TypeAlias

import structlog

from bridge.iec104.asdu import TypeId

log = structlog.get_logger(__name__)

MEASURED_TYPES: Final = frozenset(
    (
        TypeId.M_ME_NA_1,
        TypeId.M_ME_NB_1,
        TypeId.M_ME_NC_1,
        TypeId.M_ME_TD_1,
        TypeId.M_ME_TE_1,
        TypeId.M_ME_TF_1,
    )
)
"""What goes first where not everything can be kept."""

Row: TypeAlias = tuple[int, int, int, int, bytes]
_sequence = itemgetter(0)


class Event(NamedTuple):
    """One information object on its way to a control centre, encoded; `sequence` (from 1) is the order of recording."""

    sequence: int
    type_id: int
    cause: int
    common_address: int
    octets: bytes


class EventLog(Protocol):
    """Where events wait. Rows are those of `Event`; whatever reads or writes raises OSError if it cannot."""

    @property
    def last_sequence(self) -> int:
        """The number of the newest event ever recorded or acknowledged, 0 before the first."""
        ...

    def serve(self, groups: Sequence[str]) -> None:
        """Keep events for exactly these groups from now on; one that is new begins with the oldest event kept."""
        ...

    def append(self, rows: Sequence[Row], declare_gap: Callable[[Row, int], Row | None]) -> int:
        """Record events, durably where it can; how many older ones, measured values first, were dropped for them.

        Where some are dropped, `declare_gap(first, number)` makes the row that stands in the place of the first.
        """
        ...

    def after(self, sequence: int, number: int) -> list[Row]:
        """The oldest events behind number `sequence`, at most so many."""
        ...

    def acknowledged(self, group: str) -> int:
        """The number of the newest event that this group has acknowledged, with all before it."""
        ...

    def acknowledge(self, group: str, sequence: int) -> None:
        """The group has had all events up to this one; what all groups have had is deleted, sooner or later."""
        ...

    def settle(self) -> None:
        """Write down what was acknowledged since the last `append`."""
        ...


class EventBuffer:
    """An event log in memory, at most `capacity` events long."""

    def __init__(self, capacity: int) -> None:
        self.last_sequence = 0
        self._capacity = capacity
        self._rows: list[Row] = []
        self._acknowledged: dict[str, int] = {}
        self._full = False

    def __len__(self) -> int:
        return len(self._rows)

    def serve(self, groups: Sequence[str]) -> None:
        """Keep events for exactly these groups."""
        self._acknowledged = {group: self._acknowledged.get(group, 0) for group in groups}

    def append(self, rows: Sequence[Row], declare_gap: Callable[[Row, int], Row | None]) -> int:
        """Record events; returns how many were dropped for them."""
        self._rows += rows
        self.last_sequence = rows[-1][0]
        surplus = len(self._rows) - self._capacity
        if surplus <= 0:
            return 0
        if not self._full:
            log.warning("the event buffer is full, the oldest measured values are dropped", capacity=self._capacity)
            self._full = True
        surplus += self._capacity // 20  # so that a full buffer is not gone through for every single event
        measured = [place for place, row in enumerate(self._rows) if row[1] in MEASURED_TYPES][:surplus]
        dropped = set(measured or range(surplus))
        gap = declare_gap(self._rows[min(dropped)], len(dropped))
        first = min(dropped)
        self._rows = [
            gap if gap is not None and place == first else row
            for place, row in enumerate(self._rows)
            if place not in dropped or (gap is not None and place == first)
        ]
        return len(dropped)

    def after(self, sequence: int, number: int) -> list[Row]:
        """The oldest events behind number `sequence`."""
        place = bisect_right(self._rows, sequence, key=_sequence)
        return self._rows[place : place + number]

    def acknowledged(self, group: str) -> int:
        """The newest event that this group has acknowledged."""
        return self._acknowledged[group]

    def acknowledge(self, group: str, sequence: int) -> None:
        """The group has had all events up to this one."""
        self._acknowledged[group] = sequence
        del self._rows[: bisect_right(self._rows, min(self._acknowledged.values()), key=_sequence)]
        if self._full and len(self._rows) <= self._capacity // 2:
            log.warning("the event buffer was full")
            self._full = False

    def settle(self) -> None:
        """Nothing: memory forgets at once."""
