"""Orders leave in slices and in order."""

from __future__ import annotations

from collections.abc import Callable

from bridge.core.messages import SetFloor, SetLimit
from bridge.dispatch import AT_ONCE, Dispatch, Order


class Loop:
    """Turns of a loop, taken by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.turns = 0

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)

    def turn(self) -> None:
        self.turns += 1
        now, self.soon = self.soon, []
        for function in now:
            function()


def limits(first: int, number: int) -> list[Order]:
    return [SetLimit(f"S4-{place:04d}", place, 6_000) for place in range(first, first + number)]


def test_a_few_orders_leave_at_once() -> None:
    told: list[Order] = []
    loop = Loop()
    orders: list[Order] = [*limits(0, 2), SetFloor("CS-0001", 3, 0)]
    Dispatch(told.append, loop.call_soon).put(orders)
    assert told == orders


def test_many_leave_a_slice_a_turn_and_in_order() -> None:
    told: list[Order] = []
    loop = Loop()
    dispatch = Dispatch(told.append, loop.call_soon)
    orders = limits(0, 3 * AT_ONCE + 1)
    dispatch.put(orders[:-1])
    dispatch.put(orders[-1:])
    assert told == orders[:AT_ONCE]
    loop.turn()
    assert told == orders[: 2 * AT_ONCE]
    while loop.soon:
        loop.turn()
    assert told == orders


def test_once_all_have_left_nothing_turns_any_more() -> None:
    loop = Loop()
    dispatch = Dispatch(lambda _: None, loop.call_soon)
    dispatch.put(limits(0, 5))
    loop.turn()
    assert loop.soon == []
    dispatch.put([])
    assert loop.soon == []
