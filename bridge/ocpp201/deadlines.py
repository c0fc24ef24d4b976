"""One timer for the deadlines of all calls in flight: a call that is answered in time sets and cancels none."""

from __future__ import annotations

import asyncio
import math
from typing import Final, Protocol

GRAIN_S: Final = 0.02  # deadlines that lie so close together are met together, the earlier ones late


class Waiting(Protocol):
    """Whose call is in flight. Its deadline is on the loop's clock."""

    deadline_s: float

    def time_out(self) -> None:
        """Act on a deadline that has passed; `stop` has been called."""
        ...


class Deadlines:
    """The deadlines of one loop's calls; each waiting one has one at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Waiting, None] = {}
        self._due_s = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def start(self, waiting: Waiting) -> None:
        """Call its `time_out` once its deadline has passed."""
        self._waiting[waiting] = None
        if waiting.deadline_s < self._due_s:
            self._wake_at(waiting.deadline_s)

    def stop(self, waiting: Waiting) -> None:
        """Forget it; the timer comes in vain then."""
        self._waiting.pop(waiting, None)

    def _wake_at(self, due_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due_s = due_s
        self._timer = self._loop.call_at(due_s, self._wake)

    def _wake(self) -> None:
        now_s = self._loop.time()
        self._due_s, self._timer = math.inf, None
        for waiting in [each for each in self._waiting if each.deadline_s <= now_s]:
            del self._waiting[waiting]
            waiting.time_out()
        if self._waiting:
            next_s = min(each.deadline_s for each in self._waiting)
            if next_s < self._due_s:
                self._wake_at(max(next_s, now_s + GRAIN_S))
