"""Figures for Prometheus: counted as things happen, and told as text in small parts."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from bridge import __version__
from bridge.core.charger import Charger, Measurand
from bridge.core.fallback import LinkState
from bridge.core.limit import Source
from bridge.core.messages import Confirm, Effect, Event, LimitAnswered, SetpointReceived, SwitchReceived, Terminate
from bridge.core.quantities import Now
from bridge.core.site import Site

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
CHARGERS_AT_ONCE: Final = 250  # about a millisecond, then whoever waits for the loop has a turn
CONFIRMED_WITHIN_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5)
REACHED_WITHIN_S: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0)
SYNCED_WITHIN_S: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)

Labels: TypeAlias = tuple[tuple[str, str], ...]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


class Histogram:
    """How often a duration was at most so long, for each of some durations in seconds."""

    def __init__(self, within_s: Sequence[float]) -> None:
        self._within_s = within_s
        self._counts = [0] * len(within_s)
        self._count, self._sum_s = 0, 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._count, self._sum_s = self._count + 1, self._sum_s + seconds
        for place, within_s in enumerate(self._within_s):
            if seconds <= within_s:
                self._counts[place] += 1
                break

    def lines(self, name: str, about: str) -> list[str]:
        """The family as text."""
        said, below = _head(name, "histogram", about), 0
        for within_s, count in zip(self._within_s, self._counts, strict=True):
            below += count
            said.append(f'{name}_bucket{{le="{within_s}"}} {below}')
        said.append(f'{name}_bucket{{le="+Inf"}} {self._count}')
        return [*said, f"{name}_sum {self._sum_s!r}", f"{name}_count {self._count}"]


@dataclass(slots=True)
class Figures:
    """What has been counted since the start. `clock` is asked when a confirmation has left."""

    clock: Callable[[], Now]
    commands: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    events: int = 0
    confirmed: Histogram = field(default_factory=lambda: Histogram(CONFIRMED_WITHIN_S))
    reached: Histogram = field(default_factory=lambda: Histogram(REACHED_WITHIN_S))
    synced: Histogram = field(default_factory=lambda: Histogram(SYNCED_WITHIN_S))
    started_s: float = field(default_factory=time.time)

    def observe(self, event: Event, now: Now, effects: Sequence[Effect], site: Site) -> None:
        """Count an event, taken at `now`, and the effects it had, which have left."""
        self.events += 1
        if isinstance(event, LimitAnswered):
            self.answers[event.answer.value] += 1
        for effect in effects:
            if isinstance(effect, Confirm) and isinstance(event, SetpointReceived | SwitchReceived):
                self.confirmed.observe((self.clock().monotonic_ms - now.monotonic_ms) / 1000)
                kind = "setpoint" if isinstance(event, SetpointReceived) else event.switch.value
                self.commands[kind, "accepted" if effect.reason is None else effect.reason.name.lower()] += 1
            elif isinstance(effect, Terminate):
                self.reached.observe((now.monotonic_ms - site.accepted_ms) / 1000)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is asked anew for every page: the site, and what others say as name, help, value (`_total`: a counter)."""

    site: Callable[[], Site]
    ready: Callable[[], bool]
    others: Callable[[], Iterable[tuple[str, str, float]]]


def exposition(figures: Figures, gauges: Gauges) -> Iterator[str]:
    """The page in parts: text exposition format 0.0.4, every part some whole lines."""
    yield _text(_of_service(figures, gauges))
    site = gauges.site()
    yield _text(_of_site(site))
    chargers = list(site.chargers.values())
    for name, about, value in _PER_CHARGER:
        yield _text(_head(name, "gauge", about))
        for start in range(0, len(chargers), CHARGERS_AT_ONCE):
            slice_ = chargers[start : start + CHARGERS_AT_ONCE]
            yield _text(
                f'{name}{{charger="{_escaped(charger.serial)}"}} {said}'
                for charger in slice_
                if (said := value(charger)) is not None
            )


def metrics_routes(figures: Figures, gauges: Gauges) -> APIRouter:
    """The route of /metrics."""
    routes = APIRouter()

    async def parts() -> AsyncIterator[str]:
        for part in exposition(figures, gauges):
            yield part
            await asyncio.sleep(0)

    @routes.get("/metrics", response_class=StreamingResponse)
    async def metrics() -> StreamingResponse:
        """Figures for Prometheus."""
        return StreamingResponse(parts(), media_type=CONTENT_TYPE)

    return routes


def _of_service(figures: Figures, gauges: Gauges) -> list[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    commands = [((("kind", kind), ("answer", answer)), count) for (kind, answer), count in figures.commands.items()]
    answers = [((("answer", answer),), count) for answer, count in figures.answers.items()]
    said = [
        *_family("gridlimit_info", "gauge", "The release.", [((("version", __version__),), 1)]),
        *_one("gridlimit_ready", "1 while every listener is open.", gauges.ready()),
        *_one("gridlimit_events_total", "Events journalled and stepped since the start.", figures.events),
        *_family("gridlimit_commands_total", "counter", "Commands of control centres by their answer.", commands),
        *_family("gridlimit_order_answers_total", "counter", "What chargers answered to limits.", answers),
        *figures.confirmed.lines("gridlimit_confirmation_seconds", "From a command read to its confirmation."),
        *figures.reached.lines("gridlimit_time_to_reach_seconds", "From acceptance until every charger is proven."),
        *figures.synced.lines("gridlimit_journal_sync_seconds", "What a commit of the journal took."),
        *_one("process_cpu_seconds_total", "CPU time used.", usage.ru_utime + usage.ru_stime),
        *_one("process_resident_memory_bytes", "Memory held.", _resident_bytes()),
        *_one("process_open_fds", "File descriptors open.", len(list(Path("/proc/self/fd").iterdir()))),
        *_one("process_max_fds", "File descriptors allowed.", resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        *_one("process_start_time_seconds", "When the service started, UTC since 1970.", figures.started_s),
    ]
    for name, about, value in gauges.others():
        said += _one(name, about, value)
    return said


def _of_site(site: Site) -> list[str]:
    chargers, limit = site.chargers.values(), site.limit
    alarms = Counter(alarm for alarm, _subject in site.alarms)
    states = Counter(_state(site, charger) for charger in chargers)
    newest = site.commanded.newest
    said = [
        *_one("gridlimit_limit_in_force_watts", "The power that the site may not exceed.", limit.power_w),
        *_states("gridlimit_limit_source", "Whose limit is in force.", "source", Source, limit.source),
        *_one("gridlimit_capacity_watts", "The capacity of the connection.", site.plan.capacity_w),
        *_one("gridlimit_fallback_watts", "The limit agreed for a lost link.", site.plan.fallback_w),
        *_one("gridlimit_worst_case_watts", "What all chargers may draw at worst.", site.ledger.total_w),
        *_one("gridlimit_limit_reached", "1 while the worst case is within it.", site.ledger.total_w <= limit.power_w),
        *_states("gridlimit_link_state", "State of the link supervision.", "state", LinkState, site.link.state),
        *_one("gridlimit_link_connections", "Control centres with data transfer started.", site.connections),
        *_one("gridlimit_chargers_at_worst", "Chargers counted at their worst, unproven.", len(site.at_worst)),
        *_family(
            *("gridlimit_chargers", "gauge", "Chargers by state."),
            [((("state", state),), states[state]) for state in ("connected", "offline", "out_of_service")],
        ),
        *_one("gridlimit_alarms_open", "Open alarms.", len(site.alarms)),
        *_family(
            "gridlimit_alarms", "gauge", "Open alarms by kind.", [((("alarm", a),), n) for a, n in alarms.items()]
        ),
    ]
    if site.power.counted:
        said += _one("gridlimit_site_power_watts", "Power measured, all chargers.", site.power.total_w)
    if newest is not None:
        said += _one("gridlimit_setpoint_watts", "The setpoint accepted last.", newest.limit_w)
    return said


def _state(site: Site, charger: Charger) -> str:
    if site.plans[charger.serial].out_of_service:
        return "out_of_service"
    return "connected" if charger.connected else "offline"


def _power_w(charger: Charger) -> float | None:
    reading = charger.readings.get(Measurand.POWER)
    return None if reading is None or reading.stale or not reading.valid else reading.value


_PER_CHARGER: Final[tuple[tuple[str, str, Callable[[Charger], float | None]], ...]] = (
    ("gridlimit_charger_power_watts", "Power measured, while it is topical.", _power_w),
    ("gridlimit_charger_granted_watts", "The limit acknowledged last.", lambda charger: charger.grant_w),
    ("gridlimit_charger_worst_case_watts", "What it may draw at worst.", lambda charger: charger.worst_w),
    ("gridlimit_charger_connected", "1 while it is connected.", lambda charger: int(charger.connected)),
)


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _one(name: str, about: str, value: float) -> list[str]:
    return _family(name, "counter" if name.endswith("_total") else "gauge", about, [((), value)])


def _states(name: str, about: str, label: str, states: type[Source | LinkState], current: object) -> list[str]:
    """One sample for each state, 1 for the one that holds."""
    samples: Samples = [(((label, state.value),), state is current) for state in states]
    return _family(name, "gauge", about, samples)


def _family(name: str, kind: str, about: str, samples: Samples) -> list[str]:
    said = _head(name, kind, about)
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
        said.append(f"{name}{{{inner}}} {float(value)!r}" if inner else f"{name} {float(value)!r}")
    return said


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
