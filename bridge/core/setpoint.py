"""What control centres command: the decision on each command, and which limits follow from those accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bridge.core.limit import Limit, Source
from bridge.core.messages import Reason, SetpointReceived, Switch, SwitchReceived
from bridge.core.plan import Plan
from bridge.core.quantities import Millis, Now, Watts

IMPLAUSIBLE_FACTOR = 10


@dataclass(frozen=True, slots=True)
class Setpoint:
    """An accepted setpoint: as received, in watts, with its time tag if it had one, and when it ends by itself."""

    value: float
    limit_w: Watts
    tag_utc_ms: Millis | None
    ends_ms: Millis | None = None


@dataclass(frozen=True, slots=True)
class Commanded:
    """What holds of all that was commanded. `newest` is the setpoint accepted last, `by_group` that of each group.

    `heard` are the groups that ever set one, ended since or not.
    """

    newest: Setpoint | None = None
    by_group: tuple[tuple[str, Setpoint], ...] = ()
    heard: tuple[str, ...] = ()
    newest_tag_ms: Millis | None = None
    step_percent: int | None = None
    enabled: bool = True
    emergency_stop: bool = False

    def with_setpoint(self, received: SetpointReceived, limit_w: Watts, now: Now) -> Commanded:
        """This, after an accepted setpoint."""
        ends_ms = None if received.duration_ms is None else now.monotonic_ms + received.duration_ms
        setpoint = Setpoint(received.value, limit_w, received.tag_utc_ms, ends_ms)
        others = tuple((group, other) for group, other in self.by_group if group != received.group)
        tag_ms = received.tag_utc_ms if received.tag_utc_ms is not None else self.newest_tag_ms
        by_group, heard = (*others, (received.group, setpoint)), tuple(sorted({*self.heard, received.group}))
        return replace(self, newest=setpoint, by_group=by_group, heard=heard, newest_tag_ms=tag_ms)

    def with_switch(self, received: SwitchReceived) -> Commanded:
        """This, after an accepted switch; a step switched off leaves no step, whichever was on."""
        tag_ms = received.tag_utc_ms if received.tag_utc_ms is not None else self.newest_tag_ms
        match received.switch:
            case Switch.LIMIT_ENABLED:
                return replace(self, enabled=received.on, newest_tag_ms=tag_ms)
            case Switch.EMERGENCY_STOP:
                return replace(self, emergency_stop=received.on, newest_tag_ms=tag_ms)
            case Switch.STEP:
                return replace(self, step_percent=received.percent if received.on else None, newest_tag_ms=tag_ms)

    def without_ended(self, now_ms: Millis) -> Commanded:
        """This, without the setpoints whose end has come."""
        end_ms = self.next_end_ms()
        if end_ms is None or end_ms > now_ms:
            return self
        alive = tuple((group, setpoint) for group, setpoint in self.by_group if not _ended(setpoint, now_ms))
        return replace(self, by_group=alive)

    def shifted(self, offset_ms: Millis) -> Commanded:
        """This, on a monotonic clock that began anew."""
        moved = tuple(
            (group, replace(setpoint, ends_ms=None if setpoint.ends_ms is None else setpoint.ends_ms + offset_ms))
            for group, setpoint in self.by_group
        )
        return replace(self, by_group=moved)

    def next_end_ms(self) -> Millis | None:
        """When the next setpoint ends by itself."""
        next_ms = None
        for _, setpoint in self.by_group:
            if setpoint.ends_ms is not None and (next_ms is None or setpoint.ends_ms < next_ms):
                next_ms = setpoint.ends_ms
        return next_ms

    def limits(self, plan: Plan) -> list[Limit]:
        """The limits that follow, without emergency stop, while the link supervision trusts them."""
        limits = []
        if self.step_percent is not None:
            limits.append(Limit(plan.capacity_w * self.step_percent // 100, Source.STEP))
        if self.enabled:
            limits += [
                Limit(setpoint.limit_w, Source.SETPOINT) for group, setpoint in self.by_group if decides(group, plan)
            ]
        if self.step_percent is None and not any(decides(group, plan) for group in self.heard):
            limits.append(Limit(plan.at_start_w, Source.AT_START))
        return limits


def decides(group: str, plan: Plan) -> bool:
    """Whether the setpoints of this redundancy group hold."""
    return plan.deciding_group in (None, group)


def switched_w(received: SwitchReceived, plan: Plan) -> Watts:
    """What must be proven before the switch is in force: the limit it sets, the capacity where it sets none."""
    if not received.on:
        return plan.capacity_w
    percent = {Switch.EMERGENCY_STOP: 0, Switch.STEP: received.percent}.get(received.switch, 100)
    return plan.capacity_w * percent // 100


def _ended(setpoint: Setpoint, now_ms: Millis) -> bool:
    return setpoint.ends_ms is not None and setpoint.ends_ms <= now_ms


def decide(received: SetpointReceived, plan: Plan, now: Now, commanded: Commanded) -> Reason | None:
    """None if the setpoint is accepted, else why not.

    0 W is a limit: refused like any value below the minimum profile, unless the plan allows exactly zero. The very
    command that was accepted last, tag and value alike, is accepted again: a control centre repeats what it saw no
    answer to.
    """
    limit_w = received.limit_w
    if limit_w is None:
        return Reason.NOT_A_NUMBER
    newest = commanded.newest
    repeated = newest is not None and (newest.tag_utc_ms, newest.limit_w) == (received.tag_utc_ms, limit_w)
    if stale := tag_problem(received, plan, now, None if repeated else commanded.newest_tag_ms):
        return stale
    if received.value < 0:
        return Reason.NEGATIVE
    if limit_w < plan.min_limit_w and not (received.value == 0 and plan.allow_zero):
        return Reason.BELOW_MINIMUM
    if limit_w > IMPLAUSIBLE_FACTOR * plan.capacity_w:
        return Reason.IMPLAUSIBLE
    return None


def tag_problem(
    received: SetpointReceived | SwitchReceived, plan: Plan, now: Now, newer_than_ms: Millis | None
) -> Reason | None:
    """What is wrong with the time tag of a command: invalid, outside the window, or not newer than the last one."""
    if not received.tag_valid:
        return Reason.INVALID_TIME_TAG
    tag_ms = received.tag_utc_ms
    if tag_ms is None:
        return None
    if abs(now.utc_ms - tag_ms) > plan.time_tag_window_ms:
        return Reason.STALE_TIME_TAG
    # One that lies beyond the window by now was accepted before the clocks were set back.
    ahead = newer_than_ms is not None and newer_than_ms > now.utc_ms + plan.time_tag_window_ms
    if newer_than_ms is not None and tag_ms <= newer_than_ms and not ahead:
        return Reason.REPLAYED_TIME_TAG
    return None
