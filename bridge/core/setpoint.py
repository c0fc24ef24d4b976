"""The decision on a setpoint: accepted, or refused for one named reason."""

from __future__ import annotations

from bridge.core.messages import Reason, SetpointReceived
from bridge.core.plan import Plan
from bridge.core.quantities import Millis, Now, Watts

IMPLAUSIBLE_FACTOR = 10


def decide(
    received: SetpointReceived, plan: Plan, now: Now, accepted_w: Watts | None, accepted_tag_ms: Millis | None
) -> Reason | None:
    """None if the setpoint is accepted, else why not. `accepted_*` are those of the last accepted setpoint.

    0 W is a limit: refused like any value below the minimum profile, unless the plan allows exactly zero. The very
    command that was accepted last, tag and value alike, is accepted again: a control centre repeats what it saw no
    answer to.
    """
    limit_w = received.limit_w
    if limit_w is None:
        return Reason.NOT_A_NUMBER
    if stale := _tag_problem(received, plan, now, accepted_w, accepted_tag_ms):
        return stale
    if received.value < 0:
        return Reason.NEGATIVE
    if limit_w < plan.min_limit_w and not (received.value == 0 and plan.allow_zero):
        return Reason.BELOW_MINIMUM
    if limit_w > IMPLAUSIBLE_FACTOR * plan.capacity_w:
        return Reason.IMPLAUSIBLE
    return None


def _tag_problem(
    received: SetpointReceived, plan: Plan, now: Now, accepted_w: Watts | None, accepted_tag_ms: Millis | None
) -> Reason | None:
    if not received.tag_valid:
        return Reason.INVALID_TIME_TAG
    tag_ms = received.tag_utc_ms
    if tag_ms is None:
        return None
    if abs(now.utc_ms - tag_ms) > plan.time_tag_window_ms:
        return Reason.STALE_TIME_TAG
    repeated = tag_ms == accepted_tag_ms and received.limit_w == accepted_w
    if accepted_tag_ms is not None and tag_ms <= accepted_tag_ms and not repeated:
        return Reason.REPLAYED_TIME_TAG
    return None
