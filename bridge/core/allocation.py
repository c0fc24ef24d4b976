"""Who gets how much of a budget: fair shares between each charger's minimum and maximum, or a pause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from bridge.core.quantities import Watts


class Request(NamedTuple):
    """What a charger can be given: 0, or anything from `minimum_w` to `maximum_w`; it can use `demand_w` of it now.

    Lower `rank` is served first when not all minimums fit. A higher `priority` is filled to its demand first.
    """

    minimum_w: Watts
    maximum_w: Watts
    demand_w: Watts
    rank: tuple[int, ...] = ()
    priority: int = 0


def allocate(budget_w: Watts, requests: Sequence[Request]) -> list[Watts]:
    """The grant of each request, in their order; the sum never exceeds the budget and every grant is whole watts.

    Those whose minimum still fits are served in order of rank, the others are paused. The served are filled to their
    demand, the higher priority first and equally within one; what nobody demands is then shared the same way up to
    each maximum, so that a charger whose demand grows need not wait. No watt that somebody served can take is left.
    """
    grants = [0] * len(requests)
    served: list[int] = []
    left_w = budget_w
    if sum(request.minimum_w for request in requests) <= budget_w:
        served = list(range(len(requests)))
    else:
        for place in sorted(range(len(requests)), key=lambda place: (requests[place].rank, place)):
            if requests[place].minimum_w <= left_w:
                served.append(place)
                left_w -= requests[place].minimum_w
    for place in served:
        grants[place] = requests[place].minimum_w
    left_w = budget_w - sum(grants)
    by_priority = sorted(served, key=lambda place: -requests[place].priority)
    for ceiling in (_demand, _maximum):
        for _, group in groupby(by_priority, key=lambda place: requests[place].priority):
            left_w = _fill(left_w, list(group), grants, requests, ceiling)
    assert sum(grants) <= max(budget_w, 0), "shares exceed the budget"
    return grants


def _demand(request: Request) -> Watts:
    return max(request.minimum_w, min(request.demand_w, request.maximum_w))


def _maximum(request: Request) -> Watts:
    return request.maximum_w


def _fill(
    left_w: Watts,
    places: list[int],
    grants: list[Watts],
    requests: Sequence[Request],
    ceiling: Callable[[Request], Watts],
) -> Watts:
    """Raise the lowest of these grants together, each to its ceiling at most, and say what is left."""
    ceilings = {place: ceiling(requests[place]) for place in places}
    room_w = sum(ceilings[place] - grants[place] for place in places)
    if room_w <= left_w:
        for place in places:
            grants[place] = ceilings[place]
        return left_w - room_w
    level_w = _level(left_w, [(grants[place], ceilings[place]) for place in places])
    hungry = []
    for place in places:
        raised_w = max(grants[place], min(level_w, ceilings[place]))
        left_w -= raised_w - grants[place]
        grants[place] = raised_w
        if raised_w == level_w < ceilings[place]:
            hungry.append(place)
    # Fewer watts are left than there are hungry: one each, as far as they go.
    for place in hungry[:left_w]:
        grants[place] += 1
    return max(0, left_w - len(hungry))


def _level(left_w: Watts, bounds: list[tuple[Watts, Watts]]) -> Watts:
    """The highest whole level to which all can be raised, each from its floor and to its ceiling at most."""
    # Between two neighbouring bounds the sum grows by one watt for every charger and watt of level.
    steps = sorted([(floor_w, 1) for floor_w, _ in bounds] + [(ceiling_w, -1) for _, ceiling_w in bounds])
    growing, level_w = 0, 0
    for bound_w, change in steps:
        if growing:
            rise_w = growing * (bound_w - level_w)
            if rise_w > left_w:
                return level_w + left_w // growing
            left_w -= rise_w
        level_w = bound_w
        growing += change
    return level_w
