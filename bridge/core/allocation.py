"""Who gets how much of a budget: fair shares between each charger's minimum and maximum, or a pause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.core.quantities import Watts


@dataclass(frozen=True, slots=True)
class Request:
    """What a charger can be given: 0, or anything from `minimum_w` to `maximum_w`. Lower `rank` is served first."""

    minimum_w: Watts
    maximum_w: Watts
    rank: tuple[int, ...]


def allocate(budget_w: Watts, requests: Sequence[Request]) -> list[Watts]:
    """The grant of each request, in their order; the sum never exceeds the budget and every grant is whole watts.

    Those whose minimum still fits are served in order of rank, the others are paused. The served share equally, none
    below its minimum nor above its maximum: the smallest grant is as large as it can be, then the next.
    """
    served: list[int] = []
    left_w = budget_w
    for place in sorted(range(len(requests)), key=lambda place: (requests[place].rank, place)):
        if requests[place].minimum_w <= left_w:
            served.append(place)
            left_w -= requests[place].minimum_w
    level_w = _level(budget_w, [requests[place] for place in served])
    grants = [0] * len(requests)
    for place in served:
        grants[place] = max(requests[place].minimum_w, min(level_w, requests[place].maximum_w))
    assert sum(grants) <= max(budget_w, 0), "shares exceed the budget"
    return grants


def _level(budget_w: Watts, served: Sequence[Request]) -> Watts:
    """The highest level to which every served grant can be filled, minimums and maximums kept."""
    # Between two neighbouring bounds the sum grows by one watt a charger and watt of level.
    steps = sorted(
        [(request.minimum_w, 1) for request in served] + [(request.maximum_w, -1) for request in served],
    )
    sum_w = sum(request.minimum_w for request in served)
    growing, level_w = 0, 0
    for bound_w, change in steps:
        if growing:
            room_w = budget_w - sum_w
            if growing * (bound_w - level_w) > room_w:
                return level_w + room_w // growing
            sum_w += growing * (bound_w - level_w)
        level_w = bound_w
        growing += change
    return level_w
