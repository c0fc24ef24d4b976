"""What of each event and its effects is recorded for an auditor: from journalled events to records, nothing else."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import Any, Final

from bridge.core.charger import Measurand
from bridge.core.messages import (
    AlarmChanged,
    Alive,
    Answer,
    Confirm,
    Effect,
    Event,
    LimitAnswered,
    LimitChanged,
    LinkStateChanged,
    MeterSampled,
    Replanned,
    SessionChanged,
    SetFloor,
    SetLimit,
    SetpointReceived,
    ShellAlarm,
    Started,
    SwitchReceived,
    Terminate,
    WishChanged,
    Woke,
)
from bridge.core.quantities import Millis, Now, Watts
from bridge.core.site import Site

ORDERS_IN_A_RECORD: Final = 500
SHORTLY_MS: Final = 60_000  # after a limit changed its effect is recorded closely, then less so
FOLLOWED_MS: Final = 900_000
CLOSELY_MS, LESS_CLOSELY_MS, WHILE_LIMITED_MS, ELSE_MS = 5_000, 15_000, 60_000, 900_000
BEFORE_EVERY_MS: Final = 15_000
BEFORE_KEPT: Final = 20
# What stands elsewhere: the power in records of its own, alarms in what they open and close, plans in what differs.
_NOT_RECORDED: Final = (Alive, Woke, MeterSampled, SessionChanged, WishChanged, ShellAlarm, Started, Replanned)

Keep = Callable[[str, dict[str, Any], Millis], None]


class Recorder:
    """Tells `keep` (kind, fields as JSON data, UTC time) what happened; events up to number `recorded` it leaves out.

    `limits_ordered` and `limit_answered` leave out what renews a lease that is already held: nothing changes by it.
    """

    def __init__(self, keep: Keep, recorded: int = 0) -> None:
        self._keep = keep
        self.recorded = recorded
        self._first = True
        self._told: dict[str, Watts] = {}
        self._orders: dict[str, int] = {}
        self._before: deque[tuple[Millis, Watts]] = deque(maxlen=BEFORE_KEPT)
        self._limit: tuple[Watts, str] | None = None
        self._limit_ms: Millis | None = None
        self._power_ms: Millis | None = None
        self._before_ms: Millis = 0

    def observe(self, sequence: int | None, event: Event, now: Now, effects: Sequence[Effect], site: Site) -> None:
        """Record an event of the journal with what followed from it; `sequence` is None if it could not be journalled.

        Events that were recorded before are only remembered.
        """
        is_new = sequence is None or sequence > self.recorded
        if sequence is not None and is_new:
            if self._first and sequence > self.recorded + 1:
                missing = {"after_event": self.recorded, "before_event": sequence}
                self._keep("not_recorded", missing, now.utc_ms)
            self._first, self.recorded = False, sequence
        for kind, said in self._records(event, now, effects, site):
            if is_new:
                self._keep(kind, said if sequence is None else said | {"event": sequence}, now.utc_ms)

    def _records(
        self, event: Event, now: Now, effects: Sequence[Effect], site: Site
    ) -> list[tuple[str, dict[str, Any]]]:
        found = []
        if isinstance(event, LimitAnswered):
            known = self._orders.pop(event.serial, None) == event.order
            if known or event.answer is not Answer.ACCEPTED:
                found.append(("limit_answered", _said(event)))
        elif isinstance(event, SetpointReceived | SwitchReceived):
            found.append((_kind(event), _said(event) | _answer(effects) | _figures(site)))
        elif not isinstance(event, _NOT_RECORDED):
            found.append((_kind(event), _said(event)))
        orders = []
        for effect in effects:
            match effect:
                case LimitChanged():
                    found.append(("limit_changed", self._limit_changed(effect, now, site)))
                case Terminate():
                    seconds = (now.monotonic_ms - site.accepted_ms) / 1000
                    found.append(("limit_reached", _said(effect) | {"seconds": seconds} | _figures(site)))
                case SetLimit() | SetFloor():
                    if isinstance(effect, SetFloor) or self._told.get(effect.serial) != effect.limit_w:
                        orders.append(effect)
                        self._orders[effect.serial] = effect.order
                    if isinstance(effect, SetLimit):
                        self._told[effect.serial] = effect.limit_w
                case AlarmChanged() | LinkStateChanged():
                    found.append((_kind(effect), _said(effect)))
        found += [
            ("limits_ordered", {"orders": [_order(order) for order in orders[start : start + ORDERS_IN_A_RECORD]]})
            for start in range(0, len(orders), ORDERS_IN_A_RECORD)
        ]
        self._limit = site.limit.power_w, site.limit.source.value
        return found + self._course(now, site)

    def _limit_changed(self, effect: LimitChanged, now: Now, site: Site) -> dict[str, Any]:
        before = None if self._limit is None else {"limit_w": self._limit[0], "source": self._limit[1]}
        self._limit_ms, self._power_ms = now.monotonic_ms, None
        return _said(effect) | {
            "capacity_w": site.plan.capacity_w,
            "before": before,
            "power_before_w": [[utc_ms, power_w] for utc_ms, power_w in self._before],
            **_figures(site),
        }

    def _course(self, now: Now, site: Site) -> list[tuple[str, dict[str, Any]]]:
        """The power measured, as often as it matters."""
        at_ms, power_w = now.monotonic_ms, _power_w(site)
        if power_w is None:
            return []
        if not 0 <= at_ms - self._before_ms < BEFORE_EVERY_MS:
            self._before_ms = at_ms
            self._before.append((now.utc_ms, power_w))
        if self._power_ms is not None and 0 <= at_ms - self._power_ms < self._every_ms(at_ms, site):
            return []
        self._power_ms = at_ms
        said = {"limit_w": site.limit.power_w, "oldest_sample_utc_ms": _oldest_sample_utc_ms(site)}
        return [("power_measured", _figures(site) | said)]

    def _every_ms(self, at_ms: Millis, site: Site) -> Millis:
        since_ms = None if self._limit_ms is None else at_ms - self._limit_ms
        if since_ms is not None and since_ms < FOLLOWED_MS:
            return CLOSELY_MS if since_ms < SHORTLY_MS else LESS_CLOSELY_MS
        return WHILE_LIMITED_MS if site.limit.power_w < site.plan.capacity_w else ELSE_MS


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> dict[str, list[Any]]:
    """What differs between two configurations: the dotted key of each value with the one before and the one after."""
    found: dict[str, list[Any]] = {}
    for key in sorted(before.keys() | after.keys()):
        was, is_now = before.get(key), after.get(key)
        if isinstance(was, Mapping) and isinstance(is_now, Mapping):
            found |= differences(was, is_now, f"{path}{key}.")
        elif was != is_now:
            found[f"{path}{key}"] = [was, is_now]
    return found


def _power_w(site: Site) -> Watts | None:
    return site.power.total_w if site.power.counted else None


def _figures(site: Site) -> dict[str, Any]:
    return {"power_w": _power_w(site), "worst_case_w": site.ledger.total_w}


def _oldest_sample_utc_ms(site: Site) -> Millis | None:
    """When the oldest sample was taken that the sum of the powers rests on, but for those known to be old."""
    readings = [site.chargers[serial].readings[Measurand.POWER] for serial in site.power.counted]
    return min((reading.utc_ms for reading in readings if not reading.stale), default=None)


def _answer(effects: Sequence[Effect]) -> dict[str, Any]:
    """The decision on a command: the first confirmation among its effects."""
    confirm = next((effect for effect in effects if isinstance(effect, Confirm)), None)
    if confirm is None:
        return {"answer": None, "why": None}
    return {
        "answer": "positive" if confirm.reason is None else "negative",
        "why": None if confirm.reason is None else confirm.reason.value,
    }


def _order(order: SetLimit | SetFloor) -> list[Any]:
    """Serial, order number, limit in W, way (`floor` for the permanent one), how long it is valid in ms."""
    if isinstance(order, SetFloor):
        return [order.serial, order.order, order.limit_w, "floor", None]
    return [order.serial, order.order, order.limit_w, order.way.value, order.valid_ms]


def _kind(message: Event | Effect) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(message).__name__).lower()


def _said(message: Event | Effect) -> dict[str, Any]:
    return {item.name: _plain(getattr(message, item.name)) for item in fields(message)}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
