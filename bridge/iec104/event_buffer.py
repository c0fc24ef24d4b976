"""Events on their way to a control centre: held in order until acknowledged, bounded, measured values dropped first."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import structlog

from bridge.iec104 import asdu
from bridge.iec104.asdu import TypeId

log = structlog.get_logger(__name__)

_MEASURED = frozenset((TypeId.M_ME_TD_1, TypeId.M_ME_TE_1, TypeId.M_ME_TF_1))


class Event(NamedTuple):
    """One information object on its way to a control centre, encoded; `sequence` is the order of recording."""

    sequence: int
    type_id: int
    cause: int
    common_address: int
    octets: bytes


class EventBuffer:
    """Events waiting to be sent, oldest first; when full, the oldest measured value is dropped before anything else.

    Measured values wait apart from the rest so that either end is reached at once; `sequence` joins them in order.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lost = 0  # since the buffer was last half empty
        self._measured: deque[Event] = deque()
        self._others: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._measured) + len(self._others)

    def __iter__(self) -> Iterator[Event]:
        return iter(sorted((*self._measured, *self._others)))

    def record(self, event: Event) -> int:
        """Put one event behind all others; returns how many had to be dropped for it."""
        self._queue(event).append(event)
        return self._shrink()

    def give_back(self, events: Iterable[Event]) -> int:
        """Put events taken and never acknowledged, in their order, back before all others; returns as `record`."""
        for event in reversed(list(events)):
            self._queue(event).appendleft(event)
        return self._shrink()

    def take(self) -> list[Event]:
        """The oldest events that one ASDU can carry, removed; only while any waits."""
        first = self._oldest().popleft()
        events = [first]
        for _ in range(min(asdu.OBJECTS_SIZE // len(first.octets), asdu.MAXIMUM_OBJECTS) - 1):
            oldest = self._oldest()
            if not oldest or oldest[0][1:4] != first[1:4]:  # another type, cause or common address
                break
            events.append(oldest.popleft())
        if self._lost and len(self) <= self._capacity // 2:
            log.warning("the event buffer was full", lost=self._lost)
            self._lost = 0
        return events

    def _oldest(self) -> deque[Event]:
        measured, others = self._measured, self._others
        if not others or (measured and measured[0].sequence < others[0].sequence):
            return measured
        return others

    def _queue(self, event: Event) -> deque[Event]:
        return self._measured if event.type_id in _MEASURED else self._others

    def _shrink(self) -> int:
        surplus = max(len(self) - self._capacity, 0)
        if surplus and not self._lost:
            log.warning("the event buffer is full, the oldest measured values are dropped", capacity=self._capacity)
        for _ in range(surplus):
            (self._measured or self._others).popleft()
        self._lost += surplus
        return surplus
