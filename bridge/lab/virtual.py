"""A seeded world on virtual time: the real engine and core against chargers that lose, delay, refuse, lie and reboot.

Everything that can go wrong is drawn from one seed. After every step the promises of the limit are checked against the
truth, which only the world knows (`virtual_unit`), and against what ought to hold (`virtual_reference`).
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from bridge.core import codec
from bridge.core.charger import Charger
from bridge.core.fallback import LinkState
from bridge.core.messages import (
    Alive,
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Confirm,
    Effect,
    Event,
    LimitAnswered,
    LinkChanged,
    ManualLimitLifted,
    ManualLimitSet,
    MeterSampled,
    PointChanged,
    SessionChanged,
    SetFloor,
    SetLimit,
    SetpointReceived,
    SetpointRevoked,
    Switch,
    SwitchReceived,
    Terminate,
    WishChanged,
    Woke,
)
from bridge.core.plan import ChargerPlan, Offline, OnReturn, Plan, Way
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Signal
from bridge.core.quantities import Millis, Now, Watts
from bridge.core.site import Site
from bridge.engine import Engine, JournalError
from bridge.lab.virtual_reference import Reference
from bridge.lab.virtual_unit import NEVER_MS, Unit

SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
CALM_MS = 25 * MINUTE_MS  # at the end of a run: no faults, and everybody must be served again before it is over
SETTLE_MS = 15 * MINUTE_MS  # of these, what retries, leases and the first rung of a ladder may take
BIRTH_UTC_MS = 1_700_000_000_000
SHELL_DEADLINE_MS = 10_000
SAMPLES_TO_CATCH_A_LIAR = 2
WOKE = '["Woke",'  # how a record of it begins
STANDSTILL = 1_000  # turns without any time between them
SETPOINTS = (0.0, 5_999.9, 6_000.0, 12_000.5, 20_000.0, 50_000.0, 90_000.0, 1e12, -1.0, math.nan, math.inf)
STEPS = (0, 30, 60, 100)

FAULTS: dict[str, float] = {
    "loss": 0.3,  # an order never arrives
    "silence": 0.3,  # it is obeyed, but its answer never arrives
    "refusal": 0.15,
    "forgetful_refusal": 0.05,  # it is refused, and what was held is gone
    "stubborn": 0.1,  # the unit refuses some ways of being told, always
    "late": 0.3,  # up to a minute
    "twice": 0.5,  # answered again, in other words
    "stray": 0.5,  # an order or an answer of a connection that is gone
    "drop": 0.2,
    "swift": 0.3,  # connected anew before anybody noticed
    "reboot": 0.2,
    "forget": 0.5,  # a reboot forgets limits and floor
    "liar": 0.1,
    "late_sample": 0.3,
    "wild_sample": 0.05,
    "flap": 0.4,
    "replay": 0.3,  # an old setpoint is sent again
    "stale": 0.3,  # its time tag is old or invalid
    "revoke": 0.1,
    "switch": 0.4,
    "manual": 0.3,
    "wish": 0.4,
    "kill": 0.5,
    "reboot_machine": 0.5,
    "reload": 0.5,
    "journal": 0.6,
    "clock_jump": 0.3,
    "late_wake": 0.2,
    "idle_wake": 0.2,
    "batch": 0.3,
}
"""Every kind of fault, and its highest probability per occasion."""


class Violation(Exception):  # noqa: N818  a broken promise is what it is, not an error of the simulator
    """A promise was broken; the text says which, when and by how much."""


class Killed(Exception):  # noqa: N818  as above
    """The process died here; what was not in the journal is gone."""


class MemoryJournal:
    """A journal that survives a kill of the engine. `appending` is asked before and told after each append."""

    def __init__(self, world: World) -> None:
        self.records: list[str] = []
        self.first = 1
        self.state: tuple[int, str] | None = None
        self.failing = False
        self._world = world

    @property
    def last_sequence(self) -> int:
        """The number of the newest record."""
        return self.first + len(self.records) - 1

    def append(self, records: Sequence[str]) -> None:
        """Keep the records."""
        self._world.strike_dead()
        self._may_fail()
        self.records += records
        self._world.recorded(records)
        self._world.strike_dead()

    def snapshot(self, state: str, sequence: int) -> None:
        """Keep the state after record `sequence`, and drop what nobody will replay."""
        self._may_fail()
        self.state = (sequence, state)
        del self.records[: sequence + 1 - self.first]
        self.first = sequence + 1

    def newest_snapshot(self) -> tuple[int, str] | None:
        """The newest kept state."""
        return self.state

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        """The records after number `after`."""
        return enumerate(self.records[after + 1 - self.first :], after + 1)

    def set_aside(self, sequence: int, why: str) -> None:
        """Nothing in these worlds may ever be set aside."""
        raise Violation(f"record {sequence} was set aside: {why}")

    def _may_fail(self) -> None:
        if self.failing:
            self._world.journal_failed()
            raise JournalError("the disk is full")


@dataclass(slots=True)
class Tally:
    """What a run saw."""

    seed: int
    hours: float = 0.0
    steps: int = 0
    orders: int = 0
    setpoints: int = 0
    terminations: int = 0
    faults: Counter[str] = field(default_factory=Counter)


class World:
    """One seeded site; `run` plays it and raises `Violation` on the first broken promise.

    `without` names kinds of faults that are left out; `trace`, if given, takes every event and effect as text.
    """

    kinds: ClassVar = tuple(FAULTS)

    def __init__(
        self,
        seed: int,
        hours: float = 2.0,
        without: frozenset[str] = frozenset(),
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.random = random.Random(seed)
        self.tally = Tally(seed)
        self.now_ms: Millis = 0
        self.calm_ms: Millis = max(0, int(hours * HOUR_MS) - CALM_MS)
        self.end_ms: Millis = int(hours * HOUR_MS)
        self._trace = trace
        self._boot_ms: Millis = -5_000
        self._utc_offset_ms: Millis = BIRTH_UTC_MS
        self._read = Now(5_000, BIRTH_UTC_MS)
        self._queue: list[tuple[Millis, int, Callable[..., None], tuple[Any, ...]]] = []
        self._ticket = 0
        self._boots = 1
        draw = self.random.random
        self.faults = {kind: (draw() * highest if draw() < 0.7 else 0.0) for kind, highest in FAULTS.items()}
        for kind in without:
            self.faults[kind] = 0.0
        self._alive_every_ms = self.random.choice([5_000, 30_000, 60_000, 60_000])
        self._sample_every_ms = self.random.choice([30_000, 60_000, 120_000, 200_000])
        self.plan = self._draw_plan()
        self.units = {plan.serial: self._draw_unit(plan) for plan in self.plan.chargers}
        self.journal = MemoryJournal(self)
        self.link_up = False
        self.commands = 0
        self.sent: list[SetpointReceived] = []
        self.shown: dict[Signal, float] = {}
        self._submitted: deque[tuple[Event, Now]] = deque()
        self._unconfirmed: set[int] = set()
        self._lives = -1
        self._lost_steps = 0
        self._standstill = 0
        self._ending_ms: Millis | None = None
        self._wake_ms: Millis | None = None
        self._settled = False
        self._is_calm = False
        self._stays_away: str | None = None
        self._incarnation = 0
        self._pairs: list[tuple[Unit, Charger]] = []
        self.reference = Reference(self.plan, self._boot_id, self.clock())
        self._durable: Reference | None = None
        self.engine = self._start()

    # What is drawn once

    def _draw_plan(self) -> Plan:
        draw = self.random
        chargers = tuple(self._draw_charger(index) for index in range(draw.randint(1, 12)))
        signals = (
            Signal.LIMIT_REACHED,
            Signal.WORST_CASE_W,
            Signal.LIMIT_IN_FORCE_W,
            Signal.FALLBACK_ACTIVE,
            Signal.SETPOINT_MIRROR,
        )
        points = tuple(
            Point(PointAddress(1, 200 + place), PointKind.MEASURED, signal) for place, signal in enumerate(signals)
        )
        capacity_w = draw.choice([30_000, 100_000, 400_000])
        return Plan(
            name="virtual",
            capacity_w=capacity_w,
            min_limit_w=6_000,
            allow_zero=draw.random() < 0.5,
            at_start_w=draw.choice([capacity_w, 10_000]),
            hold_ms=draw.choice([None, 0, 60_000, 300_000]),
            fallback_w=draw.choice([0, 10_000, 25_000]),
            on_return=draw.choice(list(OnReturn)),
            restore_after_ms=draw.choice([0, 120_000]),
            time_tag_window_ms=10_000,
            chargers=chargers,
            points=PointTable(points),
            release_after_ms=draw.choice([None, None, 1_200_000]),
            start_in_fallback=draw.random() < 0.2,
            deciding_group=draw.choice([None, None, "A"]),
            rotate_ms=draw.choice([120_000, 900_000]),
            ramp_w_per_s=draw.choice([None, None, 2_000]),
        )

    def _draw_charger(self, index: int) -> ChargerPlan:
        draw = self.random
        leased = draw.random() < 0.35
        lease_ms = draw.choice([120_000, 300_000, 900_000]) if leased else None
        maximum_w = draw.choice([11_000, 22_000, 50_000])
        ladders = [(Way.LIMIT,), (Way.LIMIT, Way.OTHER_UNIT, Way.PAUSE), tuple(Way)]
        return ChargerPlan(
            serial=f"S4-{index:04d}",
            index=index,
            minimum_w=draw.choice([1_380, 4_140, 6_000]),
            maximum_w=maximum_w,
            reaction_ms=draw.choice([500, 2_000, 5_000]),
            offline=draw.choice(list(Offline)),
            out_of_service=draw.random() < 0.03,
            lease_ms=lease_ms,
            floor_w=draw.choice([0, 1_380, 6_000, maximum_w]) if leased else 0,
            guard_ms=15_000 if lease_ms is None else draw.choice([15_000, lease_ms // 5]),
            ladder=draw.choice(ladders),
            priority=draw.choice([0, 0, 0, 1]),
        )

    def _draw_unit(self, plan: ChargerPlan) -> Unit:
        # The guard covers a wrong clock and the reaction to a grant that ends.
        skew_ms = min(plan.guard_ms - 5_000, 120_000)
        skew_ms = self.random.choice([-skew_ms, self.random.randint(-skew_ms, skew_ms), skew_ms])
        unit = Unit(plan, self._draw_demand(plan), skew_ms)
        unit.sets_clock(self._utc_offset_ms, self.now_ms)
        if self._strikes("stubborn"):
            unit.refuses = frozenset(way for way in Way if self.random.random() < 0.5)
        unit.refresh(self.now_ms)
        return unit

    def _draw_demand(self, plan: ChargerPlan) -> Watts:
        return self.random.choice([0, min(7_200, plan.maximum_w), plan.maximum_w])

    # Time and the engine

    @property
    def _boot_id(self) -> str:
        return f"boot-{self._boots}"

    def clock(self) -> Now:
        """The two clocks of the service."""
        monotonic_ms, utc_ms, read = self.now_ms - self._boot_ms, self.now_ms + self._utc_offset_ms, self._read
        if read.monotonic_ms != monotonic_ms or read.utc_ms != utc_ms:
            self._read = read = Now(monotonic_ms, utc_ms)
        return read

    def run(self) -> Tally:
        """Play to the end."""
        for serial in self.units:
            self._later(0, MINUTE_MS, self._connect, serial)
            self._later(MINUTE_MS, 20 * MINUTE_MS, self._trouble, serial)
        self._later(0, 10_000, self._flap)
        self._later(SECOND_MS, 20_000, self._setpoint)
        self._later(self._alive_every_ms, self._alive_every_ms, self._alive)
        self._later(0, 30 * MINUTE_MS, self._operate)
        self._later(MINUTE_MS, HOUR_MS, self._strike_service)
        if self.calm_ms:
            heapq.heappush(self._queue, (self.calm_ms, 0, self._calm, ()))
        while self.now_ms < self.end_ms:
            self._turn()
        if self.calm_ms and not self._settled:
            raise Violation(f"no calm: {self._unsettled()}")
        self.tally.hours = self.end_ms / HOUR_MS
        return self.tally

    def _turn(self) -> None:
        wake_ms = None if self._wake_ms is None else self._wake_ms + self._boot_ms
        if self._ending_ms is not None and self.now_ms >= self._ending_ms:
            self._die()
        if wake_ms is not None and self._strikes("late_wake"):
            wake_ms += self.random.randint(0, 2_000)
        before_ms = self.now_ms
        try:
            if wake_ms is not None and wake_ms <= self._queue[0][0]:
                self.now_ms = max(self.now_ms, wake_ms)
            else:
                due_ms, _, happen, arguments = heapq.heappop(self._queue)
                self.now_ms = max(self.now_ms, due_ms)  # what was due while the service was down happens late
                happen(*arguments)
                if self._strikes("batch"):
                    return
            self._flush()
        except Killed:
            self._die()
        self.tally.steps += 1
        self._standstill = self._standstill + 1 if self.now_ms == before_ms else 0
        if self._standstill > STANDSTILL:
            raise Violation(f"the service wants to be woken again and again at {self.now_ms}")
        self._check()

    def _flush(self) -> None:
        """What the loop's next turns do: answers leave first, what follows from them in the turn after."""
        self.engine.flush()
        if self.engine.due(self.clock()):
            self.engine.flush()

    def _later(self, low_ms: Millis, high_ms: Millis, happen: Callable[..., None], *arguments: Any) -> None:
        self._ticket += 1
        due_ms = self.now_ms + low_ms + int(self.random.random() * (high_ms - low_ms + 1))
        heapq.heappush(self._queue, (due_ms, self._ticket, happen, arguments))

    def _strikes(self, kind: str) -> bool:
        probability = self.faults[kind]
        if probability and self.random.random() < probability:
            self.tally.faults[kind] += 1
            return True
        return False

    def submit(self, event: Event) -> None:
        """Hand the engine an event and note it for the reference."""
        if self._trace is not None:
            self._trace(f"{self.now_ms / 1000:10.3f} s  -> {event}")
        self._submitted.append((event, self.clock()))
        self.engine.submit(event)

    def recorded(self, records: Sequence[str]) -> None:
        """Tell the reference what has just been recorded."""
        for text in records:
            if text.startswith(WOKE):
                monotonic_ms, _, utc_ms = text[len(WOKE) : -1].partition(",")
                self.reference.take(None, Now(int(monotonic_ms), int(utc_ms)))
            elif text.startswith('["Started"'):
                event, now = codec.replayed(text)
                self.reference.take(event, now)
            else:
                event, now = self._submitted.popleft()
                self.reference.take(event, now)
                if isinstance(event, ChargerBooted):
                    self.units[event.serial].unannounced = False
                elif isinstance(event, WishChanged) and event.serial in self.units:
                    self.units[event.serial].wish_w = event.limit_w
                elif isinstance(event, LimitAnswered) and event.serial in self.units:
                    self._may_forget(self.units[event.serial], event.order)

    def _may_forget(self, unit: Unit, order: int) -> None:
        if unit.forgets_with == order:
            unit.forgets_with = None
            unit.loses_grant(self.now_ms)

    def journal_failed(self) -> None:
        """Keep what was recorded: that alone holds after the restart."""
        self._durable = self.reference.copy()
        self.reference.lose_journal(self.clock())
        self._lost_steps = -1  # the first step after it is `JournalLost`, which is no event of ours

    def strike_dead(self) -> None:
        """Die here, if this is the moment that was drawn."""
        if self._lives < 0:
            return
        self._lives -= 1
        if self._lives < 0:
            raise Killed

    def _start(self) -> Engine:
        while True:
            self._incarnation += 1
            self.engine = Engine(
                *(self.journal, self.clock, self._deliver, self._failed, lambda _: None, self._wake_at),
                call_later=_flushed_anyway,
            )
            self._submitted.clear()
            self._unconfirmed.clear()
            try:
                self.engine.start(self.plan, self._boot_id)
            except Killed:
                continue
            self._pairs = [(unit, self.engine.site.chargers[serial]) for serial, unit in self.units.items()]
            for unit, charger in self._pairs:
                unit.wish_w = charger.wish_w  # what was not recorded is gone
            return self.engine

    def _wake_at(self, deadline_ms: Millis | None) -> None:
        self._wake_ms = deadline_ms

    def _failed(self, why: str) -> None:
        if not self.journal.failing:
            raise Violation(why)
        self._ending_ms = self.now_ms + self.random.randint(0, 5_000)

    def _die(self, *, clean: bool = False) -> None:
        """The process ends: connections break, time passes, and it starts anew from what was recorded."""
        if self._trace is not None:
            self._trace(f"{self.now_ms / 1000:10.3f} s  the service dies")
        if clean and self._durable is None:
            self._compare_recovery()
        self._lives, self._ending_ms, self.journal.failing = -1, None, False
        if self._durable is not None:
            self.reference, self._durable = self._durable, None
        for unit in self.units.values():
            if unit.connected:
                unit.drops(self.now_ms)
                self._later(0, 20_000, self._connect, unit.plan.serial)
            unit.exceeded, unit.caught, unit.unknown = 0, False, False
        self.link_up = False
        self.now_ms += self.random.choice([0, 2_000, 30_000, 10 * MINUTE_MS])
        if self._strikes("reboot_machine"):
            self._boots += 1
            self._boot_ms = self.now_ms - self.random.randint(1_000, 60_000)
            if self._strikes("clock_jump"):
                self._utc_offset_ms -= 2 * HOUR_MS  # before the last record: nothing it says can be believed
        if self._strikes("reload"):
            self._reload()
        self._start()

    def _compare_recovery(self) -> None:
        """Snapshot and journal lead back to the very site that died."""
        self._flush()
        probe = Engine(self.journal, self.clock, lambda _: None, self._failed, lambda _: None)
        probe._recover()  # noqa: SLF001  the promise of the engine's own recovery
        died, recovered = (json.dumps(codec.pack(engine.site)) for engine in (self.engine, probe))
        if died != recovered:
            raise Violation("the journal does not lead back to the site that died")

    def _reload(self) -> None:
        """Another configuration: chargers come, go, leave service or change; the hold changes."""
        draw, chargers = self.random, list(self.plan.chargers)
        place = draw.randrange(len(chargers))
        chosen = chargers[place]
        change = draw.choice(["out_of_service", "remove", "add", "floor", "lease", "hold"])
        hold_ms = self.plan.hold_ms
        if change == "out_of_service":
            chargers[place] = replace(chosen, out_of_service=not chosen.out_of_service)
        elif change == "remove" and len(chargers) > 1:
            del chargers[place]
        elif change == "add" and len(chargers) < 13:
            chargers.append(self._draw_charger(min(set(range(14)) - {plan.index for plan in chargers})))
        elif change == "floor" and chosen.lease_ms is not None:
            chargers[place] = replace(chosen, floor_w=draw.choice([0, 1_380, 6_000]))
        elif change == "lease":
            lease_ms = 420_000 if chosen.lease_ms is None else None
            chargers[place] = replace(chosen, lease_ms=lease_ms, guard_ms=125_000)
        elif change == "hold":
            hold_ms = draw.choice([None, 0, 60_000, 300_000])
        self.plan = replace(self.plan, chargers=tuple(chargers), hold_ms=hold_ms)
        before, self.units = self.units, {}
        for plan in chargers:
            unit = before.get(plan.serial)
            if unit is None:
                unit = self._draw_unit(plan)
                self._later(0, 20 * MINUTE_MS, self._trouble, plan.serial)
            unit.plan = plan
            unit.refresh(self.now_ms)
            self.units[plan.serial] = unit
            self._later(0, MINUTE_MS, self._connect, plan.serial)

    # What chargers do

    def _connect(self, serial: str) -> None:
        unit = self.units.get(serial)
        if unit is None or unit.plan.out_of_service or unit.connected or serial == self._stays_away:
            return
        unit.connects(self.now_ms)
        self.submit(ChargerConnected(serial))
        if unit.unannounced or self.random.random() < 0.5:
            self._boot(unit)
        self._later(0, 5 * MINUTE_MS, self._heartbeat, serial, unit.generation)
        self._later(SECOND_MS, self._sample_every_ms, self._sample, serial, unit.generation)

    def _boot(self, unit: Unit) -> None:
        """Start anew: the connection of before is the one that says so."""
        if self._strikes("forget") and (unit.plan.lease_ms is not None or unit.plan.offline is not Offline.KEEPS_LIMIT):
            unit.forgets(self.now_ms)
        unit.unannounced = True
        unit.sets_clock(self._utc_offset_ms, self.now_ms)
        self.submit(ChargerBooted(unit.plan.serial, "virtual", "1"))
        self._change_demand(unit)

    def _change_demand(self, unit: Unit) -> None:
        unit.demand_w = self._draw_demand(unit.plan)
        self.submit(SessionChanged(unit.plan.serial, unit.demand_w > 0))

    def _trouble(self, serial: str) -> None:
        unit = self.units.get(serial)
        if unit is None:
            return
        self._later(MINUTE_MS, 30 * MINUTE_MS, self._trouble, serial)
        if unit.plan.out_of_service:
            return
        if unit.connected and self.random.random() < 0.5:
            self._change_demand(unit)
        if self._strikes("wish"):
            self.submit(WishChanged(serial, self.random.choice([None, 0, 3_000, 8_000, 60_000])))
        if unit.connected and self._strikes("reboot"):
            self._boot(unit)
        if unit.lies or self._strikes("liar"):
            unit.lies = not unit.lies
            unit.demand_w = unit.plan.maximum_w * self.random.choice([100, 110]) // 100
            if not unit.lies:
                unit.demand_w, unit.exceeded = unit.plan.maximum_w, 0
        if unit.connected and self._strikes("drop"):
            self._drop(unit)

    def _drop(self, unit: Unit) -> None:
        serial, generation = unit.plan.serial, unit.generation
        unit.drops(self.now_ms)
        unit.unknown = True
        if self._strikes("swift"):
            self._later(0, 5_000, self._connect, serial)
            return
        # The service learns of it when TCP or its ping says so, which takes up to fifteen seconds.
        self._later(0, 15_000, self._gone, serial, generation)
        longest_ms = self.random.choice([2 * MINUTE_MS, 2 * MINUTE_MS, 30 * MINUTE_MS])
        self._later(15_001, longest_ms, self._connect, serial)

    def _gone(self, serial: str, generation: int) -> None:
        unit = self.units.get(serial)
        if unit is not None and not unit.connected and unit.generation == generation and unit.unknown:
            unit.unknown = False
            self.submit(ChargerDisconnected(serial))

    def _heartbeat(self, serial: str, generation: int) -> None:
        unit = self.units.get(serial)
        if unit is not None and unit.connected and unit.generation == generation:
            unit.sets_clock(self._utc_offset_ms, self.now_ms)

    def _sample(self, serial: str, generation: int) -> None:
        unit = self.units.get(serial)
        if unit is None or not unit.connected or unit.generation != generation:
            return
        self._later(self._sample_every_ms, self._sample_every_ms * 5 // 4, self._sample, serial, generation)
        power_w = unit.power_w(self.now_ms)
        if self._strikes("wild_sample"):
            self.submit(MeterSampled(serial, self.now_ms + unit.utc_offset_ms, power_w=unit.plan.maximum_w * 3))
        if self._strikes("late_sample"):
            self._later(0, 3_000, self._measured, serial, generation, power_w, self.now_ms)
        else:
            self._measured(serial, generation, power_w, self.now_ms)

    def _measured(self, serial: str, generation: int, power_w: Watts, at_ms: Millis) -> None:
        """A sample arrives. A liar is caught by two that are above all it is counted at."""
        unit = self.units.get(serial)
        if unit is None or not unit.connected or unit.generation != generation:
            return
        unit.samples_since_caught += 1
        if unit.lies:
            self._flush()
        exceeds = unit.lies and power_w > self.engine.site.chargers[serial].worst_w + unit.plan.tolerance_w
        unit.exceeded = unit.exceeded + 1 if exceeds else 0
        if unit.exceeded >= SAMPLES_TO_CATCH_A_LIAR:
            unit.caught, unit.samples_since_caught = True, 0
        elif unit.samples_since_caught >= 2:
            unit.caught = False
        self.submit(MeterSampled(serial, at_ms + unit.utc_offset_ms, power_w=power_w))

    # What the service does

    def _deliver(self, effects: Sequence[Effect]) -> None:
        if self._durable is not None:
            self._step_unrecorded()
        for effect in effects:
            self.strike_dead()
            if self._trace is not None and not isinstance(effect, PointChanged):
                self._trace(f"{self.now_ms / 1000:10.3f} s  <- {effect}")
            match effect:
                case SetLimit() | SetFloor():
                    self._order(effect)
                case Confirm():
                    self._confirmed(effect)
                case Terminate():
                    self._terminated(effect)
                case PointChanged():
                    self.shown[effect.point.signal] = effect.value
                case _:
                    pass

    def _step_unrecorded(self) -> None:
        self._lost_steps += 1
        if self._lost_steps > 0:
            event, now = self._submitted.popleft() if self._submitted else (Woke(), self.clock())
            self.reference.take(event, now)
            if isinstance(event, WishChanged) and event.serial in self.units:
                self.units[event.serial].wish_w = event.limit_w

    def _order(self, effect: SetLimit | SetFloor) -> None:
        self.tally.orders += 1
        unit = self.units[effect.serial]
        if isinstance(effect, SetLimit):
            self._judge_order(unit, effect)
        refuses = isinstance(effect, SetLimit) and effect.way in unit.refuses
        if not unit.connected or self._strikes("loss"):
            self._answer_later(unit, effect, Answer.UNANSWERED if self.random.random() < 0.8 else None)
        elif refuses or self._strikes("refusal"):
            forgets = self._strikes("forgetful_refusal")
            self._later(10, 2_000, self._refuse, effect, unit.generation, forgets)
        else:
            silent = self._strikes("silence")
            slowest_ms = MINUTE_MS if self._strikes("late") else 300
            unit.busy_until_ms = max(unit.busy_until_ms, self.now_ms + self.random.randint(10, slowest_ms))
            valid_to_ms = NEVER_MS
            if isinstance(effect, SetLimit) and effect.valid_ms is not None:
                valid_to_ms = self.clock().utc_ms + effect.valid_ms
            unit.in_transit[effect.order] = effect.limit_w, valid_to_ms
            delay_ms = unit.busy_until_ms - self.now_ms
            self._later(
                delay_ms,
                delay_ms,
                self._obey,
                effect,
                unit,
                (unit.generation, self._incarnation),
                valid_to_ms,
                silent,
            )
            if silent or delay_ms >= SHELL_DEADLINE_MS:
                self._answer_later(unit, effect, Answer.UNANSWERED)

    def _judge_order(self, unit: Unit, effect: SetLimit) -> None:
        """Only a raise needs proven room; nothing is ordered above what was wished, or what the hardware can."""
        plan = unit.plan
        wish_w = plan.maximum_w if unit.wish_w is None else max(unit.wish_w, plan.minimum_w)
        if effect.limit_w > min(wish_w, plan.maximum_w) or plan.out_of_service:
            raise Violation(f"{plan.serial} is ordered {effect.limit_w} W against its wish or its hardware")
        if effect.way in (Way.PAUSE, Way.STOP) and effect.limit_w > 0:
            raise Violation(f"{plan.serial} is ordered {effect.limit_w} W by {effect.way.value}")
        if (effect.valid_ms or 0) > (plan.lease_ms or 0) or (plan.lease_ms is not None and effect.valid_ms is None):
            raise Violation(f"{plan.serial} is granted {effect.limit_w} W for {effect.valid_ms} ms")
        charger = self.engine.site.chargers[plan.serial]
        order, charger.in_flight = charger.in_flight, None
        counted_w, charger.in_flight = charger.worst_case_w(plan), order
        if effect.limit_w <= counted_w:
            return
        truth_w = effect.limit_w + sum(
            other.may_come_to_draw_w(self.now_ms)
            for other in self.units.values()
            if other is not unit and not other.lies and not other.hidden
        )
        if truth_w > self.reference.limit_w:
            limit_w = self.reference.limit_w
            raise Violation(f"raising {plan.serial} to {effect.limit_w} W allows {truth_w} W, the limit is {limit_w} W")

    def _obey(
        self, effect: SetLimit | SetFloor, unit: Unit, sent_over: tuple[int, int], valid_to_ms: Millis, silent: bool
    ) -> None:
        """A connection keeps the order of what was sent over it; what a dead one left is done before, or never."""
        generation, incarnation = sent_over
        unit.in_transit.pop(effect.order, None)
        stale = generation != unit.generation or not unit.connected
        if self.units.get(effect.serial) is not unit or generation < unit.obeyed_generation:
            return
        if not unit.connected and unit.plan.lease_ms is None and unit.plan.offline is Offline.NAMEPLATE:
            return
        if stale and not self._strikes("stray"):
            return
        unit.obeyed_generation = generation
        if isinstance(effect, SetFloor):
            unit.installs(effect.limit_w, self.now_ms)
        else:
            ends_ms = NEVER_MS if valid_to_ms == NEVER_MS else valid_to_ms - unit.utc_offset_ms
            unit.obeys(effect.limit_w, ends_ms, self.now_ms)
        if silent or incarnation != self._incarnation:
            return
        read_back_w = effect.limit_w if self.random.random() < 0.5 else None
        self.submit(LimitAnswered(effect.serial, effect.order, Answer.ACCEPTED, read_back_w))
        if self._strikes("twice"):
            self._answer_later(unit, effect, self.random.choice(list(Answer)))

    def _refuse(self, effect: SetLimit | SetFloor, generation: int, forgets: bool) -> None:
        unit = self.units.get(effect.serial)
        if unit is None or not unit.connected or unit.generation != generation:
            return
        read_back_w = unit.held_w(self.now_ms)
        if forgets:
            # It says so, and it is gone once that is on record: else nobody could know after a restart.
            unit.forgets_with = effect.order
            read_back_w = unit.plan.maximum_w if unit.floor_w is None else unit.floor_w
        lied = read_back_w > effect.limit_w and isinstance(effect, SetLimit) and self.random.random() < 0.3
        answer = Answer.ACCEPTED if lied else Answer.REFUSED
        self.submit(LimitAnswered(effect.serial, effect.order, answer, read_back_w if lied else None))

    def _answer_later(self, unit: Unit, effect: SetLimit | SetFloor, answer: Answer | None) -> None:
        if answer is not None:
            self._later(
                SHELL_DEADLINE_MS, SHELL_DEADLINE_MS, self._answer, effect, (unit.generation, self._incarnation), answer
            )

    def _answer(self, effect: SetLimit | SetFloor, sent_over: tuple[int, int], answer: Answer) -> None:
        unit, (generation, incarnation) = self.units.get(effect.serial), sent_over
        if unit is None or incarnation != self._incarnation:
            return
        if unit.generation == generation or self._strikes("stray"):
            self.submit(LimitAnswered(effect.serial, effect.order, answer))

    def _confirmed(self, effect: Confirm) -> None:
        ought = self.reference.accepted.pop(effect.command, None)
        if ought is None:
            raise Violation(f"command {effect.command} is confirmed before it is recorded, or twice")
        if ought != (effect.reason is None):
            raise Violation(f"command {effect.command} ought to be {'accepted' if ought else 'refused'}, not {effect}")
        self._unconfirmed.discard(effect.command)
        if ought and self._strikes("revoke"):
            self._later(0, 1_000, self._revoke, effect.command, self._boots)

    def _revoke(self, command: int, boots: int) -> None:
        if boots == self._boots:
            self.submit(SetpointRevoked(command))

    def _terminated(self, effect: Terminate) -> None:
        self.tally.terminations += 1
        awaiting = self.reference.awaiting
        if awaiting is None or awaiting[0] != effect.command:
            raise Violation(f"termination of command {effect.command}, but {awaiting} is awaited")
        self.reference.awaiting = None
        truth_w = self._truth_w()
        if truth_w > awaiting[1] or truth_w > self.reference.limit_w:
            raise Violation(f"termination of command {effect.command} for {awaiting[1]} W: {truth_w} W may be drawn")

    # What control centres and people do

    def _flap(self) -> None:
        self._later(SECOND_MS, 10 * MINUTE_MS, self._flap)
        up = not (self.link_up and self._strikes("flap"))
        if up or self.link_up:
            self.link_up = up
            self.submit(LinkChanged((1 + (self.random.random() < 0.3)) if up else 0))

    def _setpoint(self) -> None:
        self._later(100, 8 * MINUTE_MS, self._setpoint)
        self._send_setpoint()

    def _send_setpoint(self) -> None:
        if not self.link_up or self._is_calm:
            return
        draw = self.random
        if self.sent and self._strikes("replay"):
            self._send_again(draw.choice(self.sent[-5:]))
            return
        value = draw.choice(SETPOINTS)
        utc_ms = self.clock().utc_ms
        tag = draw.choice([None, utc_ms, utc_ms - 60_000 if self._strikes("stale") else utc_ms])
        valid = tag is None or not self._strikes("stale")
        duration_ms = draw.choice([None, None, None, 10 * MINUTE_MS])
        group = draw.choice(["A", "A", "B"])
        limit_w = math.floor(value) if math.isfinite(value) else None
        setpoint = SetpointReceived(self.commands + 1, "virtual", value, limit_w, tag, valid, group, duration_ms)
        self._command(setpoint)
        if self._strikes("replay"):  # within the window of its time tag, and after another
            self._later(100, 4_000, self._send_setpoint)
            self._later(4_001, 9_000, self._send_again, setpoint)

    def _send_again(self, old: SetpointReceived) -> None:
        if self.link_up and not self._is_calm:
            self._command(replace(old, command=self.commands + 1))

    def _command(self, event: SetpointReceived | SwitchReceived) -> None:
        """Send a command; one that is refused must change nothing at all."""
        self.commands = event.command
        self._unconfirmed.add(event.command)
        self.tally.setpoints += 1
        if isinstance(event, SetpointReceived):
            self.sent = [*self.sent[-9:], event]
        if self.random.random() > 0.2 or self._is_unrecorded():
            self.submit(event)
            return
        for _ in range(STANDSTILL):
            self._flush()
            if not self.engine.due(self.clock()):
                break
        before, sent = self._state(), self.tally.orders
        self.submit(event)
        accepted = self._expects(event)
        self._flush()
        if not accepted and not self._is_unrecorded() and (before, sent) != (self._state(), self.tally.orders):
            raise Violation(f"{event} was refused and changed {before} to {self._state()}")

    def _is_unrecorded(self) -> bool:
        return self._durable is not None

    def _state(self) -> str:
        """All that the site knows, but for the time of the last event."""
        name, boot_id, _, *everything = codec.pack(self.engine.site)
        return json.dumps([name, boot_id, everything])

    def _expects(self, event: SetpointReceived | SwitchReceived) -> bool:
        probe = self.reference.copy()
        probe.take(event, self.clock())
        return probe.accepted[event.command]

    def _switch(self, switch: Switch, on: bool, percent: int = 100) -> None:
        if self.link_up:
            utc_ms = self.clock().utc_ms
            tag = self.random.choice([None, utc_ms, utc_ms - 60_000 if self._strikes("stale") else utc_ms])
            self._command(SwitchReceived(self.commands + 1, "virtual", switch, on, percent, tag))

    def _operate(self) -> None:
        self._later(MINUTE_MS, 30 * MINUTE_MS, self._operate)
        draw = self.random
        if self._strikes("switch"):
            switch = draw.choice(list(Switch))
            on = switch is not Switch.LIMIT_ENABLED
            self._switch(switch, on, draw.choice(STEPS))
            self._later(MINUTE_MS, 10 * MINUTE_MS, self._switch, switch, not on)
        if self._strikes("manual"):
            duration_ms = draw.choice([None, 5 * MINUTE_MS])
            self.submit(ManualLimitSet(draw.choice([0, 8_000, 500_000]), "Kim", "works", duration_ms))
            self._later(MINUTE_MS, 20 * MINUTE_MS, self.submit, ManualLimitLifted("Kim"))

    def _alive(self) -> None:
        self.submit(Alive())
        self._later(self._alive_every_ms, self._alive_every_ms, self._alive)

    def _strike_service(self) -> None:
        self._later(MINUTE_MS, HOUR_MS, self._strike_service)
        if self._strikes("idle_wake"):
            self.engine.submit(Woke())
        if self._strikes("clock_jump"):
            self._utc_offset_ms += self.random.choice([-2, 2]) * HOUR_MS
            self.engine.submit(Woke())
            for serial, unit in self.units.items():
                self._later(0, 5 * MINUTE_MS, self._heartbeat, serial, unit.generation)
        if self._durable is None and not self.journal.failing:
            self._flush()
            self.engine.snapshot()
        if self._strikes("journal"):
            self.journal.failing = True
            self._later(0, 1_000, self._send_setpoint)
            for serial in self.units:
                self._later(0, 1_000, self.submit, WishChanged(serial, None))
        elif self._strikes("kill"):
            self._lives = self.random.randint(0, 20)
        elif self._strikes("kill"):
            self._die(clean=True)

    # Peace at the end, and the promise that everybody is served again

    def _calm(self) -> None:
        self.faults = dict.fromkeys(self.faults, 0.0)
        self._is_calm, self._lives = True, -1
        self.end_ms = max(self.end_ms, self.now_ms + CALM_MS)  # it begins late where the service was down
        if self._durable is None:
            self.journal.failing = False
        for unit in self.units.values():
            unit.lies, unit.refuses, unit.exceeded = False, frozenset(), 0
            self._later(0, MINUTE_MS, self._connect, unit.plan.serial)
        if self.random.random() < 0.3:
            self._stays_away = self.random.choice([*self.units, None])
        for unit in self.units.values():
            if unit.plan.serial == self._stays_away and unit.connected:
                unit.drops(self.now_ms)
                self.submit(ChargerDisconnected(unit.plan.serial))
        self._later(5_000, 5_000, self._order_peace)
        self._later(2 * MINUTE_MS, 2 * MINUTE_MS, self._order_peace)
        self._later(SETTLE_MS, SETTLE_MS, self._look_for_peace)

    def _order_peace(self) -> None:
        self.link_up = True
        self.submit(LinkChanged(1))
        self.submit(ManualLimitLifted("Kim"))
        for serial in self.units:
            self.submit(WishChanged(serial, None))
        for switch, on in ((Switch.EMERGENCY_STOP, False), (Switch.LIMIT_ENABLED, True), (Switch.STEP, False)):
            self._command(SwitchReceived(self.commands + 1, "virtual", switch, on))
        value = float(self.plan.capacity_w * 6 // 10)
        for group in ("B", "A"):
            self._command(SetpointReceived(self.commands + 1, "virtual", value, int(value), group=group))

    def _look_for_peace(self) -> None:
        self._flush()
        if not self._unsettled():
            self._settled = True
        else:
            self._later(SECOND_MS, SECOND_MS, self._look_for_peace)

    def _unsettled(self) -> str:
        """Who is not served as he should be; empty when nobody."""
        site, granted_w, away_w, hungry = self.engine.site, 0, 0, []
        for unit, charger in self._pairs:
            plan = unit.plan
            if plan.out_of_service:
                continue
            if plan.serial == self._stays_away:
                away_w += charger.worst_w
                continue
            if not charger.connected or not charger.settled(plan) or charger.disobeys or charger.at_worst(plan):
                return f"{plan.serial} is not settled: {charger}"
            granted_w += charger.grant_w or 0
            wanted_w = max(min(unit.demand_w, plan.maximum_w), plan.minimum_w)
            if unit.demand_w and (charger.grant_w or 0) < wanted_w * 95 // 100:
                hungry.append((plan.serial, charger.grant_w, wanted_w, plan.minimum_w))
        limit_w = self.reference.limit_w
        left_w = max(0, limit_w - away_w) - granted_w
        if left_w < 0 or site.ledger.total_w > max(limit_w, away_w):
            return f"{site.ledger.total_w} W counted and {granted_w} W granted of {limit_w} W"
        if left_w * 10 > limit_w:
            for serial, grant_w, wanted_w, minimum_w in hungry:
                if grant_w or minimum_w <= left_w:
                    return f"{left_w} W of {limit_w} W are left, while {serial} wants {wanted_w} W and has {grant_w} W"
        if self.reference.awaiting is not None and away_w <= limit_w:
            return f"command {self.reference.awaiting[0]} is not terminated"
        return ""

    # What must hold after every step

    def _truth_w(self) -> Watts:
        now_ms = self.now_ms
        return sum(unit.may_draw_w(now_ms) for unit in self.units.values() if not unit.lies and not unit.hidden)

    def _check(self) -> None:
        now_ms, site, truth_w = self.now_ms, self.engine.site, 0
        for unit, charger in self._pairs:
            if now_ms >= unit.valid_until_ms:
                unit.refresh(now_ms)
            if unit.lies or unit.unknown or unit.unannounced:
                continue
            may_draw_w, counted_w = unit.truth_w, charger.worst_w
            if may_draw_w > counted_w:
                raise Violation(f"{unit.plan.serial} may draw {may_draw_w} W and is counted at {counted_w} W")
            if unit.caught and unit.connected and counted_w < unit.plan.maximum_w:
                raise Violation(f"{unit.plan.serial} drew more than granted and is counted at {counted_w} W")
            truth_w += may_draw_w
        shown, limit_w = self.shown, self.reference.limit_w
        if shown[Signal.LIMIT_REACHED] and truth_w > limit_w:
            raise Violation(f"the limit of {limit_w} W is said to be reached: {truth_w} W may be drawn")
        self._check_limit(site)
        # What single chargers change is shared out together within a moment that grows with their number.
        if site.ledger.total_w > limit_w and (
            site.unshared_ms is None or site.unshared_ms + self._boot_ms > now_ms + 100
        ):
            self._check_cuts(limit_w)
        if self.tally.steps % 64 == 0:
            self._check_sizes(site)

    def _check_limit(self, site: Site) -> None:
        ought, link, shown = self.reference, self.reference.link, self.shown
        limit_w, falls_back = ought.limit_w, ought.falls_back
        if site.limit.power_w != limit_w:
            raise Violation(f"{site.limit} is in force, {limit_w} W ought to be")
        if link.fallen_ms is None:
            state = LinkState.CONNECTED if link.lost_ms is None else LinkState.HOLD
        elif link.released:
            state = LinkState.AUTONOMOUS
        else:
            state = LinkState.FALLBACK if link.back_ms is None else LinkState.RECOVERY
        if site.link.state is not state:
            raise Violation(f"the link is supervised as {site.link.state}, it ought to be {state}")
        deadline_ms = ought.due_ms
        if deadline_ms < NEVER_MS // 2 and (self._wake_ms is None or self._wake_ms > deadline_ms):
            raise Violation(f"something is due at {deadline_ms}, the service wakes at {self._wake_ms}")
        total_w = site.ledger.total_w
        said = (shown[Signal.LIMIT_IN_FORCE_W], shown[Signal.FALLBACK_ACTIVE], shown[Signal.WORST_CASE_W])
        if said != (limit_w, falls_back, total_w) or shown[Signal.LIMIT_REACHED] != (total_w <= limit_w):
            raise Violation(f"{said} is said of {limit_w} W, fallback {falls_back}, worst case {total_w} W")
        last = ought.orders.last
        if last is not None and shown[Signal.SETPOINT_MIRROR] != last[0]:
            raise Violation(f"{shown[Signal.SETPOINT_MIRROR]} is mirrored, {last[0]} was accepted last")
        if self._unconfirmed and not self._submitted:
            raise Violation(f"the commands {sorted(self._unconfirmed)} are not answered")

    def _check_cuts(self, limit_w: Watts) -> None:
        """Above the limit everybody who can be told was told at once, and told enough."""
        fixed_w, shared_w, unsure_w, others_w = 0, 0, 0, 0
        for unit, charger in self._pairs:
            if not charger.obedient:
                fixed_w += charger.worst_w
                continue
            shared_w += charger.target_w
            if charger.unsure(unit.plan):
                unsure_w += charger.worst_w
            else:
                others_w += charger.target_w
            told_w = charger.grant_w
            idle = charger.in_flight is None and charger.retry_ms is None
            if idle and charger.target_w < (unit.plan.maximum_w if told_w is None else told_w):
                raise Violation(f"{unit.plan.serial} was told {told_w} W and not yet to go to {charger.target_w} W")
        if shared_w > max(0, limit_w - fixed_w):
            raise Violation(f"{shared_w} W are shared out beside {fixed_w} W, the limit is {limit_w} W")
        if others_w > max(0, limit_w - fixed_w - unsure_w):
            raise Violation(
                f"{others_w} W are shared out beside {fixed_w} W and {unsure_w} W of those we are unsure of"
            )

    def _check_sizes(self, site: Site) -> None:
        """Nothing grows without a bound."""
        chargers = len(self.units)
        sizes = {
            "looks": (len(site.looks), 50 * chargers),
            "leaving": (sum(len(charger.leaving) for charger in site.chargers.values()), 20 * chargers),
            "alarms": (len(site.alarms), 3 * chargers + 2),
            "points": (len(site.image.shown), len(self.plan.points.points)),
            "groups": (len(site.commanded.by_group), 2),
            "chargers": (len(site.chargers) + len(site.at_worst) + len(site.power.counted), 3 * chargers),
            "waiting": (len(self._submitted), 0),
        }
        for name, (size, bound) in sizes.items():
            if size > bound:
                raise Violation(f"{size} {name} are kept, {bound} are enough")


def _flushed_anyway(_delay_s: float, _flush: Callable[[], None]) -> None:
    """Every turn of a world ends with a flush, unless more is to come before it."""


def prove(seed: int, hours: float = 2.0) -> Tally:
    """Play one seeded world; `Violation` on the first broken promise."""
    return World(seed, hours).run()
