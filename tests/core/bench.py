"""A small site to try the core on, and a clock that is turned by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    Effect,
    Event,
    LimitAnswered,
    LinkChanged,
    PointChanged,
    SetLimit,
    SetpointReceived,
    Started,
    Woke,
)
from bridge.core.plan import ChargerPlan, Offline, OnReturn, Plan
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Signal
from bridge.core.quantities import Now
from bridge.core.site import Site, new_site, next_deadline, step

UTC_MS = 1_700_000_000_000
T = TypeVar("T")


def charger_plan(index: int, **changes: Any) -> ChargerPlan:
    plan = ChargerPlan(
        serial=f"S4-{index:04d}",
        index=index,
        minimum_w=6_000,
        maximum_w=50_000,
        answer_ms=10_000,
        offline=Offline.KEEPS_LIMIT,
    )
    return replace(plan, **changes)


def points(chargers: int) -> PointTable:
    site = [
        (100, PointKind.SETPOINT, Signal.LIMIT_SETPOINT, 0.0),
        (200, PointKind.MEASURED, Signal.SITE_POWER_W, 10.0),
        (201, PointKind.MEASURED, Signal.SETPOINT_MIRROR, 0.0),
        (202, PointKind.MEASURED, Signal.LIMIT_IN_FORCE_W, 0.0),
        (203, PointKind.MEASURED, Signal.WORST_CASE_W, 0.0),
        (300, PointKind.SINGLE, Signal.LIMIT_ACTIVE, 0.0),
        (301, PointKind.SINGLE, Signal.LIMIT_REACHED, 0.0),
        (302, PointKind.SINGLE, Signal.FALLBACK_ACTIVE, 0.0),
        (303, PointKind.SINGLE, Signal.COMMON_ALARM, 0.0),
    ]
    table = [Point(PointAddress(1, ioa), kind, signal, None, deadband) for ioa, kind, signal, deadband in site]
    for index in range(chargers):
        address = 1000 + 10 * index
        table += [
            Point(PointAddress(1, address), PointKind.MEASURED, Signal.CHARGER_POWER_W, index, 10.0),
            Point(PointAddress(1, address + 3), PointKind.MEASURED, Signal.CHARGER_GRANT_W, index),
            Point(PointAddress(1, address + 5), PointKind.SINGLE, Signal.CHARGER_CONNECTED, index),
        ]
    return PointTable(tuple(table))


def site_plan(*chargers: ChargerPlan, **changes: Any) -> Plan:
    plan = Plan(
        name="Depot Nord",
        capacity_w=100_000,
        min_limit_w=6_000,
        allow_zero=False,
        at_start_w=100_000,
        hold_ms=300_000,
        fallback_w=10_000,
        on_return=OnReturn.KEEP_FALLBACK,
        restore_after_ms=0,
        time_tag_window_ms=10_000,
        chargers=chargers,
        points=points(len(chargers)),
    )
    return replace(plan, **changes)


@dataclass
class Bench:
    """A site under test; `tell` steps it as the engine does and keeps every effect."""

    plan: Plan
    now_ms: int = 1_000_000
    utc_ms: int = UTC_MS
    boot: str = "boot-1"
    effects: list[Effect] = field(default_factory=list)
    command: int = 0
    site: Site = field(init=False)

    def __post_init__(self) -> None:
        self.site = new_site(self.plan, self.boot, self.now)
        self.tell(Started(self.boot, self.plan))

    @property
    def now(self) -> Now:
        return Now(self.now_ms, self.utc_ms)

    def tell(self, *events: Event) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            effects += step(self.site, event, self.now)
        while (due := next_deadline(self.site)) is not None and due <= self.now_ms:
            effects += step(self.site, Woke(), self.now)
        self.effects += effects
        return effects

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass, waking at every deadline in between."""
        end_ms = self.now_ms + round(seconds * 1000)
        effects: list[Effect] = []
        while (due := next_deadline(self.site)) is not None and due <= end_ms:
            self._turn_to(max(due, self.now_ms))
            effects += self.tell(Woke())
        self._turn_to(end_ms)
        return effects

    def _turn_to(self, now_ms: int) -> None:
        self.utc_ms += now_ms - self.now_ms
        self.now_ms = now_ms

    def setpoint(self, value: float, **changes: Any) -> list[Effect]:
        self.command += 1
        limit_w = int(value // 1) if abs(value) < 1e30 else None
        return self.tell(SetpointReceived(self.command, "10.0.0.1:40000", value, limit_w, **changes))

    def link_up(self) -> list[Effect]:
        return self.tell(LinkChanged(1))

    def answer(self, effects: Sequence[Effect], answer: Answer = Answer.ACCEPTED) -> list[Effect]:
        """Answer every order among these effects."""
        return self.tell(*(LimitAnswered(order.serial, order.order, answer) for order in of(SetLimit, effects)))

    def connect(self, *serials: str) -> list[Effect]:
        """Chargers come, are told their limit, accept it, and have reacted when this returns."""
        effects = self.tell(*(ChargerConnected(serial) for serial in serials))
        effects += self.tell(*(ChargerBooted(serial, "S4-ULTRA", "1.0") for serial in serials))
        while orders := of(SetLimit, effects):
            effects = self.answer(list(orders))
            effects += self.wait(3)
        return effects

    def point(self, signal: Signal, charger: int | None = None) -> PointChanged:
        """The newest value that was published of a point."""
        found = [e for e in of(PointChanged, self.effects) if e.point.signal is signal and e.point.charger == charger]
        return found[-1]


def of(kind: type[T], effects: Sequence[Effect]) -> list[T]:
    return [effect for effect in effects if isinstance(effect, kind)]
