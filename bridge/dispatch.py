"""Orders leave in slices, in order: however many a setpoint causes, what arrives meanwhile is read and answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import structlog

from bridge.core.messages import SetFloor, SetLimit

Order: TypeAlias = SetLimit | SetFloor

AT_ONCE: Final = 64  # with its answers some 10 ms of work: what a setpoint waits at most before it is read
MOST_LINES: Final = 10

log = structlog.get_logger()


class Dispatch:
    """Hands orders to `tell`, `AT_ONCE` in each turn of the loop; `call_soon` runs a function in the next turn.

    At most one order of a charger is on its way, so that there are never more here than chargers.
    """

    def __init__(self, tell: Callable[[Order], None], call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._tell = tell
        self._call_soon = call_soon
        self._waiting: deque[Order] = deque()
        self._told = 0
        self._scheduled = False

    def put(self, orders: Sequence[Order]) -> None:
        """Tell as many as this turn still has room for, and the rest in the next ones."""
        _log(orders)
        self._waiting.extend(orders)
        self._drain()

    def _next_turn(self) -> None:
        self._scheduled, self._told = False, 0
        self._drain()

    def _drain(self) -> None:
        while self._waiting and self._told < AT_ONCE:
            if not self._scheduled:
                self._scheduled = True
                self._call_soon(self._next_turn)
            self._told += 1
            self._tell(self._waiting.popleft())


def _log(orders: Sequence[Order]) -> None:
    """One line for each order, or for all where they are many: the journal has every one."""
    if len(orders) > MOST_LINES:
        limits_w = [order.limit_w for order in orders]
        numbers = f"{orders[0].order}-{orders[-1].order}"
        log.info("orders", chargers=len(orders), lowest_w=min(limits_w), highest_w=max(limits_w), orders=numbers)
        return
    for order in orders:
        kind = "order" if isinstance(order, SetLimit) else "floor"
        log.info(kind, charger=order.serial, limit_w=order.limit_w, order=order.order)
