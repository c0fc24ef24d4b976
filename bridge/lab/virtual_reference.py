"""What ought to hold, worked out a second time: decisions, link supervision and limit from the recorded events alone.

Written from the words of the design and without the core's table, so that a mistake would have to be made twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from bridge.core.messages import (
    Event,
    InvariantBroken,
    LinkChanged,
    ManualLimitLifted,
    ManualLimitSet,
    SetpointReceived,
    SetpointRevoked,
    Started,
    Switch,
    SwitchReceived,
)
from bridge.core.plan import OnReturn, Plan
from bridge.core.quantities import Millis, Now, Watts

NEVER_MS = 1 << 60
TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000


@dataclass(slots=True)
class Orders:
    """What control centres ordered and still want: watts and end by group, a step, the two switches."""

    setpoints: dict[str, tuple[Watts, Millis]] = field(default_factory=dict)
    heard: frozenset[str] = frozenset()
    last: tuple[float, Watts, Millis | None] | None = None
    last_tag_ms: Millis | None = None
    step_percent: int | None = None
    enabled: bool = True
    stopped: bool = False

    def copy(self) -> Orders:
        """The same, to be kept."""
        return replace(self, setpoints=dict(self.setpoints))


@dataclass(slots=True)
class Link:
    """Since when nobody is connected (None: somebody is), since when the fallback holds, since when it is released."""

    lost_ms: Millis | None
    fallen_ms: Millis | None = None
    back_ms: Millis | None = None
    released: bool = False

    def copy(self) -> Link:
        """The same, to be kept."""
        return Link(self.lost_ms, self.fallen_ms, self.back_ms, self.released)

    def deadline_ms(self, plan: Plan) -> Millis:
        """When time alone changes what holds."""
        if self.released:
            return NEVER_MS
        if self.fallen_ms is None:
            return NEVER_MS if self.lost_ms is None or plan.hold_ms is None else self.lost_ms + plan.hold_ms
        if self.back_ms is not None:
            return self.back_ms + plan.restore_after_ms if plan.on_return is OnReturn.RESTORE_LAST else NEVER_MS
        return NEVER_MS if plan.release_after_ms is None else self.fallen_ms + plan.release_after_ms

    def pass_time(self, plan: Plan, now_ms: Millis) -> None:
        """Do what is due."""
        if now_ms < self.deadline_ms(plan):
            return
        if self.fallen_ms is None:
            self.fallen_ms = now_ms
        elif self.back_ms is not None:
            self.fallen_ms = self.back_ms = None
        else:
            self.released = True

    def change(self, up: bool, now_ms: Millis) -> None:
        """Somebody connected, or the last one went."""
        if up == (self.lost_ms is None):
            return
        self.lost_ms = None if up else now_ms
        if self.fallen_ms is not None and up:
            self.back_ms, self.released = now_ms, False
        elif self.fallen_ms is not None:
            self.back_ms, self.fallen_ms = None, now_ms

    def fresh(self) -> None:
        """An order was accepted."""
        self.lost_ms = self.fallen_ms = self.back_ms = None
        self.released = False

    def restart(self, died_ms: Millis) -> None:
        """Nobody is connected any more, since the service died."""
        if self.lost_ms is None:
            self.change(up=False, now_ms=died_ms)

    def shift(self, offset_ms: Millis) -> None:
        """The clock began anew."""
        for name in ("lost_ms", "fallen_ms", "back_ms"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name) + offset_ms)


_RELEVANT = frozenset(
    {
        InvariantBroken,
        LinkChanged,
        ManualLimitLifted,
        ManualLimitSet,
        SetpointReceived,
        SetpointRevoked,
        Started,
        SwitchReceived,
    }
)


class Reference:
    """Takes every recorded event in order; `limit_w`, `falls_back` and `accepted` are what ought to be.

    `due_ms` is when something changes by itself, on the clock of the events.
    """

    def __init__(self, plan: Plan, boot_id: str, now: Now) -> None:
        self.plan = plan
        self.boot_id = boot_id
        self.last = now
        self.link = Link(now.monotonic_ms, now.monotonic_ms if plan.start_in_fallback else None)
        self.orders = Orders()
        self.manual: tuple[Watts, Millis] | None = None
        self.journal_lost = False
        self.limit_w: Watts = plan.capacity_w
        self.due_ms: Millis = 0
        self.awaiting: tuple[int, Watts] | None = None
        self.accepted: dict[int, bool] = {}
        self._undo: tuple[int, Orders, Link] | None = None

    def copy(self) -> Reference:
        """The same, to be kept."""
        kept = Reference(self.plan, self.boot_id, self.last)
        kept.link, kept.orders, kept.manual = self.link.copy(), self.orders.copy(), self.manual
        kept.journal_lost, kept.limit_w, kept.due_ms = self.journal_lost, self.limit_w, self.due_ms
        kept.awaiting, kept.accepted = self.awaiting, dict(self.accepted)
        if self._undo is not None:
            command, orders, link = self._undo
            kept._undo = command, orders.copy(), link.copy()
        return kept

    @property
    def falls_back(self) -> bool:
        """Whether the fallback limit ought to hold."""
        return self.link.fallen_ms is not None and not self.link.released

    def _deadline_ms(self) -> Millis:
        ends_ms = min((ends_ms for _, ends_ms in self.orders.setpoints.values()), default=NEVER_MS)
        return min(self.link.deadline_ms(self.plan), ends_ms, NEVER_MS if self.manual is None else self.manual[1])

    def take(self, event: Event | None, now: Now) -> None:
        """One event as it was recorded, None for the passing of time alone."""
        now_ms, fell_back = now.monotonic_ms, self.falls_back
        if now_ms < self.due_ms and type(event) not in _RELEVANT:
            self.last = now
            return
        if isinstance(event, Started):
            self._start(event, now)
        self.link.pass_time(self.plan, now_ms)
        if self._undo is not None:
            self._undo[2].pass_time(self.plan, now_ms)
        if self.orders.setpoints:
            self.orders.setpoints = {group: held for group, held in self.orders.setpoints.items() if held[1] > now_ms}
        if self.manual is not None and self.manual[1] <= now_ms:
            self.manual = None
        if event is not None:
            self._happen(event, now)
        if self.falls_back and not fell_back:
            self.awaiting = None
        self.last = now
        self._take_limit()
        self.due_ms = self._deadline_ms()

    def lose_journal(self, now: Now) -> None:
        """From now on nothing is accepted and the limit only falls, even where time would have raised it just now."""
        before_w = self.limit_w
        self.take(None, now)
        self.journal_lost, self.limit_w = True, min(before_w, self.limit_w)
        self._take_limit()

    def _happen(self, event: Event, now: Now) -> None:
        match event:
            case LinkChanged(started):
                self.link.change(started > 0, now.monotonic_ms)
                if self._undo is not None:
                    self._undo[2].change(started > 0, now.monotonic_ms)
            case SetpointReceived() | SwitchReceived():
                self._ordered(event, now)
            case SetpointRevoked(command):
                if self._undo is not None and self._undo[0] == command:
                    _, self.orders, self.link = self._undo
                    self._undo, self.awaiting = None, None
            case ManualLimitSet(limit_w, _, _, duration_ms):
                self.manual = (limit_w, NEVER_MS if duration_ms is None else now.monotonic_ms + duration_ms)
            case ManualLimitLifted():
                self.manual = None
            case InvariantBroken():
                self.link = Link(self.link.lost_ms, now.monotonic_ms)
            case _:
                pass

    def _ordered(self, event: SetpointReceived | SwitchReceived, now: Now) -> None:
        good = not self.journal_lost and self._in_time(event, now)
        if good and isinstance(event, SetpointReceived):
            good = self._sensible(event)
        self.accepted[event.command] = good
        if not good:
            return
        before, plan = self.orders, self.plan
        self._undo = (event.command, before.copy(), self.link.copy())
        if event.tag_utc_ms is not None:
            before.last_tag_ms = event.tag_utc_ms
        wanted_w = plan.capacity_w
        if isinstance(event, SetpointReceived):
            wanted_w = math.floor(event.value)
            ends_ms = NEVER_MS if event.duration_ms is None else now.monotonic_ms + event.duration_ms
            before.setpoints[event.group] = (wanted_w, ends_ms)
            before.last = (event.value, wanted_w, event.tag_utc_ms)
            before.heard |= {event.group}
            if plan.deciding_group in (None, event.group):
                self.link.fresh()
        elif event.switch is Switch.STEP:
            before.step_percent = event.percent if event.on else None
            wanted_w = plan.capacity_w * event.percent // 100 if event.on else wanted_w
            self.link.fresh()
        elif event.switch is Switch.EMERGENCY_STOP:
            before.stopped = event.on
            wanted_w = 0 if event.on else wanted_w
        else:
            before.enabled = event.on
        self.awaiting = (event.command, wanted_w)

    def _in_time(self, event: SetpointReceived | SwitchReceived, now: Now) -> bool:
        tag_ms, last = event.tag_utc_ms, self.orders.last
        if tag_ms is None or not event.tag_valid:
            return event.tag_valid
        if not now.utc_ms - self.plan.time_tag_window_ms <= tag_ms <= now.utc_ms + self.plan.time_tag_window_ms:
            return False
        again = isinstance(event, SetpointReceived) and last is not None and last[1:] == (event.limit_w, tag_ms)
        newest_ms = self.orders.last_tag_ms
        return again or newest_ms is None or tag_ms > newest_ms or newest_ms > now.utc_ms + self.plan.time_tag_window_ms

    def _sensible(self, event: SetpointReceived) -> bool:
        value, plan = event.value, self.plan
        if not math.isfinite(value) or value < 0 or math.floor(value) > 10 * plan.capacity_w:
            return False
        return math.floor(value) >= plan.min_limit_w or (value == 0 and plan.allow_zero)

    def _start(self, event: Started, now: Now) -> None:
        slept = True
        if event.boot_id == self.boot_id and now.monotonic_ms >= self.last.monotonic_ms:
            died_ms = self.last.monotonic_ms
        else:
            elapsed_ms = now.utc_ms - self.last.utc_ms
            slept = 0 <= elapsed_ms <= TEN_YEARS_MS
            died_ms = now.monotonic_ms - (elapsed_ms if slept else 0)
            offset_ms = died_ms - self.last.monotonic_ms
            self.link.shift(offset_ms)
            setpoints = self.orders.setpoints.items()
            self.orders.setpoints = {group: (limit_w, ends_ms + offset_ms) for group, (limit_w, ends_ms) in setpoints}
            if self.manual is not None:
                self.manual = (self.manual[0], self.manual[1] + offset_ms)
        self.plan, self.boot_id = event.plan, event.boot_id
        self.journal_lost, self.awaiting, self._undo = False, None, None
        self.link.restart(died_ms)
        if not slept and self.link.fallen_ms is None and event.plan.hold_ms is not None:
            self.link.lost_ms = now.monotonic_ms - event.plan.hold_ms

    def _take_limit(self) -> None:
        plan, orders = self.plan, self.orders
        limit_w = plan.capacity_w
        if self.falls_back:
            limit_w = min(limit_w, plan.fallback_w)
        elif not self.link.released:
            if orders.step_percent is not None:
                limit_w = min(limit_w, plan.capacity_w * orders.step_percent // 100)
            elif not orders.heard or (plan.deciding_group is not None and plan.deciding_group not in orders.heard):
                limit_w = min(limit_w, plan.at_start_w)
            if orders.enabled:
                for group, (setpoint_w, _) in orders.setpoints.items():
                    if plan.deciding_group in (None, group):
                        limit_w = min(limit_w, setpoint_w)
        if orders.stopped:
            limit_w = 0
        if self.manual is not None:
            limit_w = min(limit_w, self.manual[0])
        if self.journal_lost:
            limit_w = min(limit_w, plan.fallback_w, self.limit_w)
        self.limit_w = limit_w
