"""A seeded world on virtual time: the real engine and core against chargers that lose, delay, refuse, lie and reboot.

Everything that can go wrong is drawn from one seed. After every step the promises of the limit are checked against the
truth, which only the world knows: what each charger really draws and really holds.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from bridge.core.messages import (
    Alive,
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Confirm,
    Effect,
    LimitAnswered,
    LinkChanged,
    MeterSampled,
    PointChanged,
    SessionChanged,
    SetLimit,
    SetpointReceived,
    Terminate,
)
from bridge.core.plan import ChargerPlan, Offline, OnReturn, Plan
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Signal
from bridge.core.quantities import Millis, Now, Watts
from bridge.engine import Engine

HOUR_MS = 3_600_000
SETPOINTS = [0.0, 5_999.9, 6_000.0, 12_000.5, 20_000.0, 50_000.0, 1e12, -1.0, math.nan, math.inf]
SAMPLES_TO_CATCH_A_LIAR = 2


class Violation(Exception):  # noqa: N818  a broken promise is what it is, not an error of the simulator
    """A promise was broken; the text says which, when and by how much."""


class MemoryJournal:
    """A journal that survives a kill of the engine, because the world keeps it."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.state: tuple[int, str] | None = None
        self.aside: set[int] = set()

    @property
    def last_sequence(self) -> int:
        """The number of the newest record."""
        return len(self.records)

    def append(self, records: Sequence[str]) -> None:
        """Keep the records."""
        self.records += records

    def snapshot(self, state: str, sequence: int) -> None:
        """Keep the state after record `sequence`."""
        self.state = (sequence, state)

    def newest_snapshot(self) -> tuple[int, str] | None:
        """The newest kept state."""
        return self.state

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        """The records after number `after`."""
        for sequence in range(after + 1, len(self.records) + 1):
            if sequence not in self.aside:
                yield sequence, self.records[sequence - 1]

    def set_aside(self, sequence: int, why: str) -> None:  # noqa: ARG002  the reason is for people
        """Skip this record from now on."""
        self.aside.add(sequence)


@dataclass(slots=True)
class Unit:
    """A charger as it really is."""

    plan: ChargerPlan
    demand_w: Watts
    holds_w: Watts
    connected: bool = False
    draws_from_ms: list[tuple[Millis, Watts]] = field(default_factory=list)
    lies: bool = False
    lied_samples: int = 0
    generation: int = 0
    busy_until_ms: Millis = 0

    def may_draw_w(self, now_ms: Millis) -> Watts:
        """The highest it can draw at this moment: what it holds, or held within its reaction time."""
        if not self.connected and self.plan.offline is Offline.STOPS:
            return 0
        recent = [limit_w for until_ms, limit_w in self.draws_from_ms if until_ms > now_ms]
        return max([self.holds_w, *recent])

    def obeys(self, limit_w: Watts, now_ms: Millis) -> None:
        """Hold a new limit, and still draw the old one for the reaction time that its plan states."""
        if limit_w < self.holds_w:
            self.draws_from_ms.append((now_ms + self.plan.reaction_ms, self.holds_w))
        self.draws_from_ms = [old for old in self.draws_from_ms if old[0] > now_ms]
        self.holds_w = limit_w

    def power_w(self, now_ms: Millis) -> Watts:
        """What its meter shows."""
        return min(self.demand_w, self.plan.maximum_w if self.lies else self.may_draw_w(now_ms))


@dataclass(slots=True)
class Faults:
    """How bad this world is, drawn once per seed: each a probability per occasion."""

    loss: float
    refusal: float
    late: float
    drop: float
    reboot: float
    liar: float
    flap: float
    kill: float


@dataclass(slots=True)
class Tally:
    """What a run saw."""

    seed: int
    hours: float = 0.0
    steps: int = 0
    orders: int = 0
    faults: int = 0
    setpoints: int = 0
    terminations: int = 0


class World:
    """One seeded site; `run` plays it and raises `Violation` on the first broken promise."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.tally = Tally(seed)
        self.now_ms: Millis = 1_000_000
        self.utc_offset_ms: Millis = 1_700_000_000_000
        self._queue: list[tuple[Millis, int, Callable[[], None]]] = []
        self._ticket = 0
        self.plan = self._draw_plan()
        self.units = {plan.serial: self._draw_unit(plan) for plan in self.plan.chargers}
        draw = self.random.random
        self.faults = Faults(
            loss=draw() * 0.3,
            refusal=draw() * 0.1,
            late=draw() * 0.2,
            drop=draw() * 0.1,
            reboot=draw() * 0.05,
            liar=draw() * 0.05,
            flap=draw() * 0.2,
            kill=draw() * 0.2,
        )
        self.journal = MemoryJournal()
        self.boot_id = "boot-1"
        self.link_up = False
        self.last_accepted: tuple[int, Watts] | None = None
        self.pending: dict[int, Watts] = {}
        self.commands = 0
        self.engine = self._new_engine()

    def _draw_plan(self) -> Plan:
        draw = self.random
        chargers = tuple(
            ChargerPlan(
                serial=f"S4-{index:04d}",
                index=index,
                minimum_w=draw.choice([1380, 4140, 6000]),
                maximum_w=draw.choice([11_000, 22_000, 50_000]),
                reaction_ms=draw.choice([500, 2_000, 5_000]),
                offline=draw.choice(list(Offline)),
                out_of_service=draw.random() < 0.03,
            )
            for index in range(draw.randint(1, 12))
        )
        points = tuple(
            Point(PointAddress(1, 200 + place), PointKind.MEASURED, signal, deadband=10)
            for place, signal in enumerate([Signal.LIMIT_REACHED, Signal.WORST_CASE_W, Signal.LIMIT_IN_FORCE_W])
        )
        capacity_w = draw.choice([30_000, 100_000, 400_000])
        on_return = draw.choice(list(OnReturn))
        return Plan(
            name="virtual",
            capacity_w=capacity_w,
            min_limit_w=6_000,
            allow_zero=draw.random() < 0.5,
            at_start_w=capacity_w,
            hold_ms=draw.choice([None, 0, 60_000, 300_000]),
            fallback_w=draw.choice([0, 10_000, 25_000]),
            on_return=on_return,
            restore_after_ms=120_000,
            time_tag_window_ms=10_000,
            chargers=chargers,
            points=PointTable(points),
        )

    def _draw_unit(self, plan: ChargerPlan) -> Unit:
        demand_w = self.random.choice([0, 7_200, plan.maximum_w])
        return Unit(plan, demand_w, 0 if plan.out_of_service else plan.maximum_w)

    def _new_engine(self) -> Engine:
        engine = Engine(self.journal, self.clock, self._deliver, self._failed, lambda _: None)
        self.engine = engine
        engine.start(self.plan, self.boot_id)
        return engine

    def clock(self) -> Now:
        """The world's two clocks."""
        return Now(self.now_ms, self.now_ms + self.utc_offset_ms)

    def run(self, hours: float) -> Tally:
        """Play until so many hours of virtual time have passed."""
        for serial in self.units:
            self._later(0, 60_000, partial(self._connect, serial))
        self._later(0, 10_000, self._flap)
        self._later(1_000, 20_000, self._setpoint)
        self._later(5_000, 5_000, self._alive)
        self._later(60_000, HOUR_MS, self._kill)
        end_ms = self.now_ms + int(hours * HOUR_MS)
        while self.now_ms < end_ms:
            self._turn()
        self.tally.hours = hours
        return self.tally

    def _turn(self) -> None:
        deadline = self.engine.next_deadline()
        if deadline is not None and (not self._queue or deadline <= self._queue[0][0]):
            self.now_ms = max(self.now_ms, deadline)
        else:
            due_ms, _, happen = heapq.heappop(self._queue)
            self.now_ms = max(self.now_ms, due_ms)  # what was due while the service was down happens late
            happen()
        self.engine.flush()
        self.tally.steps += 1
        self._check()

    def _later(self, low_ms: Millis, high_ms: Millis, happen: Callable[[], None]) -> None:
        self._ticket += 1
        due_ms = self.now_ms + self.random.randint(low_ms, high_ms)
        heapq.heappush(self._queue, (due_ms, self._ticket, happen))

    def _strikes(self, probability: float) -> bool:
        struck = self.random.random() < probability
        self.tally.faults += struck
        return struck

    def _connect(self, serial: str) -> None:
        unit = self.units[serial]
        if unit.plan.out_of_service or unit.connected:
            return
        unit.connected = True
        unit.generation += 1
        generation = unit.generation
        self.engine.submit(ChargerConnected(serial))
        self._later(0, 500, lambda: self._if_same(serial, generation, self._boot))
        self._later(1_000, 60_000, lambda: self._if_same(serial, generation, self._sample))
        self._later(60_000, HOUR_MS, lambda: self._if_same(serial, generation, self._drop))

    def _if_same(self, serial: str, generation: int, happen: Callable[[str, int], None]) -> None:
        unit = self.units[serial]
        if unit.connected and unit.generation == generation:
            happen(serial, generation)

    def _boot(self, serial: str, generation: int) -> None:
        del generation
        unit = self.units[serial]
        if unit.plan.offline is not Offline.KEEPS_LIMIT:
            unit.holds_w = unit.plan.maximum_w
        self.engine.submit(ChargerBooted(serial, "virtual", "1"))
        unit.demand_w = self.random.choice([0, 7_200, unit.plan.maximum_w])
        self.engine.submit(SessionChanged(serial, unit.demand_w > 0))

    def _drop(self, serial: str, generation: int) -> None:
        self._later(60_000, HOUR_MS, lambda: self._if_same(serial, generation, self._drop))
        if self._strikes(self.faults.reboot):
            self._boot(serial, generation)
        if not self._strikes(self.faults.drop):
            return
        unit = self.units[serial]
        unit.connected = False
        if unit.plan.offline is Offline.NAMEPLATE:
            unit.holds_w = unit.plan.maximum_w
        # The service learns of it when TCP or its ping says so, which takes up to fifteen seconds.
        self._later(0, 15_000, lambda: self.engine.submit(ChargerDisconnected(serial)))
        self._later(15_001, 120_000, lambda: self._connect(serial))

    def _sample(self, serial: str, generation: int) -> None:
        unit = self.units[serial]
        self._later(5_000, 60_000, lambda: self._if_same(serial, generation, self._sample))
        if unit.lies or self._strikes(self.faults.liar):
            unit.lies = not unit.lies or self.random.random() < 0.8
            unit.demand_w = unit.plan.maximum_w
        power_w = unit.power_w(self.now_ms)
        exceeds = power_w > self.engine.site.chargers[serial].worst_w + unit.plan.tolerance_w
        unit.lied_samples = unit.lied_samples + 1 if unit.lies and exceeds else 0
        self.engine.submit(MeterSampled(serial, self.clock().utc_ms, power_w=power_w))

    def _flap(self) -> None:
        self.link_up = not self.link_up if self._strikes(self.faults.flap) else True
        self.engine.submit(LinkChanged(1 if self.link_up else 0))
        self._later(1_000, 600_000, self._flap)

    def _setpoint(self) -> None:
        self._later(100, 300_000, self._setpoint)
        if not self.link_up:
            return
        draw = self.random
        value = draw.choice(
            [0.0, 5_999.9, 6_000.0, 12_000.5, 20_000.0, 50_000.0, 1e12, -1.0, float("nan"), float("inf")]
        )
        limit_w = int(value) if value == value and abs(value) != float("inf") else None  # noqa: PLR0124  NaN
        tag = draw.choice([None, None, self.clock().utc_ms, self.clock().utc_ms - 60_000])
        self.commands += 1
        self.tally.setpoints += 1
        if limit_w is not None:
            self.pending[self.commands] = limit_w
        self.engine.submit(SetpointReceived(self.commands, "virtual", value, limit_w, tag))

    def _alive(self) -> None:
        self.engine.submit(Alive())
        self._later(5_000, 5_000, self._alive)

    def _kill(self) -> None:
        self._later(60_000, HOUR_MS, self._kill)
        if not self._strikes(self.faults.kill):
            return
        limit_w = self.engine.site.limit.power_w
        falls_back = self.engine.site.link.falls_back
        self.now_ms += self.random.randint(0, 30_000)
        if self.random.random() < 0.3:
            self.boot_id = f"boot-{self.tally.steps}"
            shift_ms = self.now_ms - 5_000
            self._queue = [(due_ms - shift_ms, ticket, happen) for due_ms, ticket, happen in self._queue]
            for unit in self.units.values():
                unit.draws_from_ms = [(until_ms - shift_ms, limit) for until_ms, limit in unit.draws_from_ms]
                unit.busy_until_ms -= shift_ms
            self.utc_offset_ms += shift_ms
            self.now_ms -= shift_ms
        for unit in self.units.values():
            if unit.connected:
                unit.connected = False
                if unit.plan.offline is Offline.NAMEPLATE:
                    unit.holds_w = unit.plan.maximum_w
                self._later(0, 20_000, partial(self._connect, unit.plan.serial))
        self.link_up = False
        self._new_engine()
        if not falls_back and not self.engine.site.link.falls_back and self.engine.site.limit.power_w != limit_w:
            raise Violation(f"a restart changed the limit from {limit_w} to {self.engine.site.limit.power_w} W")

    def _deliver(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case SetLimit():
                    self._order(effect)
                case Confirm():
                    if effect.reason is None and effect.command in self.pending:
                        self.last_accepted = (effect.command, self.pending[effect.command])
                case Terminate():
                    self._terminated(effect)
                case PointChanged():
                    self._reported(effect)
                case _:
                    pass

    def _order(self, effect: SetLimit) -> None:
        self.tally.orders += 1
        unit = self.units[effect.serial]
        generation = unit.generation
        if not unit.connected or self._strikes(self.faults.loss / 2):
            self._answer_later(effect, Answer.UNANSWERED, 10_000, 10_000)
            return
        if self._strikes(self.faults.refusal):
            self._answer_later(effect, Answer.REFUSED, 10, 2_000)
            return
        if self._strikes(self.faults.loss / 2):
            self._obey_later(effect, generation, 9_000, answer=False)
            self._answer_later(effect, Answer.UNANSWERED, 10_000, 10_000)
            return
        self._obey_later(effect, generation, 12_000 if self._strikes(self.faults.late) else 300, answer=True)

    def _obey_later(self, effect: SetLimit, generation: int, slowest_ms: Millis, *, answer: bool) -> None:
        """A connection keeps the order of what was sent over it, however late the unit is."""
        unit = self.units[effect.serial]
        unit.busy_until_ms = max(unit.busy_until_ms, self.now_ms + self.random.randint(10, slowest_ms))
        delay_ms = unit.busy_until_ms - self.now_ms
        self._later(delay_ms, delay_ms, lambda: self._obey(effect, generation, answer=answer))

    def _obey(self, effect: SetLimit, generation: int, *, answer: bool) -> None:
        unit = self.units[effect.serial]
        if not unit.connected or unit.generation != generation:
            return
        unit.obeys(effect.limit_w, self.now_ms)
        if answer:
            self.engine.submit(LimitAnswered(effect.serial, effect.order, Answer.ACCEPTED, effect.limit_w))

    def _answer_later(self, effect: SetLimit, answer: Answer, low_ms: Millis, high_ms: Millis) -> None:
        self._later(low_ms, high_ms, lambda: self.engine.submit(LimitAnswered(effect.serial, effect.order, answer)))

    def _terminated(self, effect: Terminate) -> None:
        self.tally.terminations += 1
        if self.last_accepted is None or effect.command != self.last_accepted[0]:
            raise Violation(f"termination of command {effect.command}, but {self.last_accepted} was accepted last")
        self._true_within(self.last_accepted[1], "ACTIVATION_TERMINATION")

    def _reported(self, effect: PointChanged) -> None:
        if effect.point.signal is Signal.LIMIT_REACHED and effect.value:
            self._true_within(self.engine.site.limit.power_w, "point 301")

    def _failed(self, why: str) -> None:
        raise Violation(why)

    def _true_within(self, limit_w: Watts, claim: str) -> None:
        truth_w = sum(
            unit.may_draw_w(self.now_ms)
            for serial, unit in self.units.items()
            if not unit.lies and not self._unaware(serial)
        )
        if truth_w > limit_w:
            raise Violation(f"{claim} at {self.now_ms}: the chargers may draw {truth_w} W, the limit is {limit_w} W")

    def _unaware(self, serial: str) -> bool:
        """Whether the connection has dropped without the service knowing yet: it learns from TCP or from its ping."""
        return not self.units[serial].connected and self.engine.site.chargers[serial].connected

    def _check(self) -> None:
        site = self.engine.site
        for serial, unit in self.units.items():
            truth_w, counted_w = unit.may_draw_w(self.now_ms), site.chargers[serial].worst_w
            if unit.lies:
                if unit.connected and unit.lied_samples >= SAMPLES_TO_CATCH_A_LIAR and counted_w < unit.plan.maximum_w:
                    raise Violation(f"{serial} at {self.now_ms} lies for two samples and is counted at {counted_w} W")
                continue
            if truth_w > counted_w and not self._unaware(serial):
                raise Violation(f"{serial} at {self.now_ms} may draw {truth_w} W and is counted at {counted_w} W")


def prove(seed: int, hours: float = 2.0) -> Tally:
    """Play one seeded world; `Violation` on the first broken promise."""
    return World(seed).run(hours)
