"""A site, real but without wires, behind the real API on a free port: what the tests of the API ask."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from bridge.core.messages import (
    AlarmChanged,
    Answer,
    ChargerConnected,
    Confirm,
    Effect,
    Event,
    LimitAnswered,
    LimitChanged,
    LinkStateChanged,
    MeterSampled,
    SetLimit,
    SetpointReceived,
    Started,
    Terminate,
    Woke,
)
from bridge.core.plan import ChargerPlan, OnReturn, Plan
from bridge.core.quantities import Now
from bridge.core.site import new_site, step
from bridge.core.status import describe, describe_charger, describe_site
from bridge.dso_profile import point_table
from bridge.settings import dso_profile
from bridge.web import v1
from bridge.web.api import create_app
from bridge.web.guard import viewing
from bridge.web.people import Person, Role, Tokens, digest_of, new_token, write_tokens
from bridge.web.recent import Recent
from bridge.web.server import WebServer
from bridge.web.stream import Stream, stream_routes

UTC_MS = 1_800_000_000_000


def plan(chargers: int) -> Plan:
    return Plan(
        name="Depot Nord",
        capacity_w=50_000 * max(1, chargers),
        min_limit_w=6_000,
        allow_zero=False,
        at_start_w=50_000 * max(1, chargers),
        hold_ms=300_000,
        fallback_w=10_000,
        on_return=OnReturn.KEEP_FALLBACK,
        restore_after_ms=0,
        time_tag_window_ms=10_000,
        chargers=tuple(ChargerPlan(f"S4-{index:04}", index, 6_000, 50_000) for index in range(chargers)),
        points=point_table(dso_profile("default"), 1, list(range(chargers)), 50_000),
    )


class SiteAtHand:
    """`app` is the whole API of it. Time moves with events; `events` is what would have been journalled."""

    def __init__(self, folder: Path, chargers: int = 3, *, anyone_may_view: bool = False, utc_ms: int = UTC_MS) -> None:
        self.now, self.begun_utc_ms = Now(1_000, utc_ms), utc_ms
        self.site = new_site(plan(chargers), "boot", self.now)
        self.recent = Recent(lambda: self.now)
        self.events: list[Event] = []
        self.orders: list[SetLimit] = []
        self.resent: list[Sequence[int] | None] = []
        self.tokens_file = folder / "tokens"
        self.tokens = Tokens(self.tokens_file, anyone_may_view=anyone_may_view)
        self.submit(Started("boot", plan(chargers)))
        self.submit(ChargerConnected("S4-0000"))
        self.submit(MeterSampled("S4-0000", utc_ms, power_w=7_200, current_ma=10_400))
        self.recent.sample(self.site)
        sources = v1.Sources(
            site=lambda: self.site,
            status=lambda: describe_site(self.site, self.now, v1.MOST) | {"csms": None},
            charger=self._charger,
            recent=self.recent,
            submit=self.submit,
            resend=self._resend,
        )
        self.stream = Stream(sources)
        guard = viewing(self.tokens)
        self.app: FastAPI = create_app(lambda: describe(self.site, self.now), lambda: True, guard, 8081)
        self.app.include_router(v1.view_routes(sources, guard))
        self.app.include_router(v1.act_routes(sources, self.tokens))
        self.app.include_router(stream_routes(self.stream, guard))
        self.web = WebServer(self.app, "127.0.0.1", 0)

    def token(self, name: str, role: Role) -> str:
        """Give somebody a token; only its hash is kept."""
        token = new_token()
        before = {secrets.token_hex(32): Person("another", Role.VIEW)}
        write_tokens(self.tokens_file, before | {digest_of(token): Person(name, role)})
        return token

    def submit(self, *events: Event) -> None:
        """What the engine does, but for the journal and the wires."""
        for event in events:
            self.events.append(event)
            if isinstance(event, SetpointReceived):
                self.recent.received(event)
            self._note(step(self.site, event, self.now))
        self.now = Now(self.now.monotonic_ms + 100, self.now.utc_ms + 100)
        self._note(step(self.site, Woke(), self.now))
        self.recent.watch(self.site)

    def obey(self) -> None:
        """Let every charger accept its orders, until nobody is told anything more."""
        while self.orders:
            orders, self.orders = self.orders, []
            self.pass_s(3)
            self.submit(*(LimitAnswered(order.serial, order.order, Answer.ACCEPTED) for order in orders))
            self.pass_s(3)
            self.submit()

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        elapsed_ms = round(1000 * seconds)
        self.now = Now(self.now.monotonic_ms + elapsed_ms, self.now.utc_ms + elapsed_ms)

    def _note(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, SetLimit):
                self.orders.append(effect)
            if isinstance(effect, Confirm):
                self.recent.confirmed(effect.command, effect.reason)
            if isinstance(effect, Terminate):
                self.recent.reached(effect.command)
            if isinstance(effect, LinkStateChanged):
                self.recent.note("link_state", before=effect.before, after=effect.after)
            if isinstance(effect, AlarmChanged):
                self.recent.alarm(effect)
            if isinstance(effect, LimitChanged):
                self.recent.limit_changed(effect.limit_w, effect.source)

    def _charger(self, serial: str) -> dict[str, Any]:
        return describe_charger(self.site.chargers[serial], self.site.plans[serial]) | {
            "make": "series4-ultra",
            "minimum_w": 6_000,
            "maximum_w": 50_000,
            "phase_currents_ma": [10_400, None, None],
            "last_seen_utc_ms": self.begun_utc_ms,
            "waiting": 0,
        }

    def _resend(self, numbers: Sequence[int] | None) -> int:
        self.resent.append(numbers)
        return 2
