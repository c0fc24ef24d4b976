"""The engine: nothing is acted upon that is not on disk, and a restart goes on where the journal ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

import bridge.core.site as core
from bridge.core.messages import (
    ChargerConnected,
    Confirm,
    Effect,
    LinkChanged,
    Reason,
    SetLimit,
    SetpointReceived,
)
from bridge.core.quantities import Now
from bridge.engine import Engine, JournalError
from tests.core.bench import UTC_MS, charger_plan, of, site_plan

PLAN = site_plan(charger_plan(0), charger_plan(1))


class MemoryJournal:
    """A journal that outlives the engine because the test keeps it."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.state: tuple[int, str] | None = None
        self.aside: set[int] = set()

    @property
    def last_sequence(self) -> int:
        return len(self.records)

    def append(self, records: Sequence[str]) -> None:
        self.records += records

    def snapshot(self, state: str, sequence: int) -> None:
        self.state = (sequence, state)

    def newest_snapshot(self) -> tuple[int, str] | None:
        return self.state

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        for sequence in range(after + 1, len(self.records) + 1):
            if sequence not in self.aside:
                yield sequence, self.records[sequence - 1]

    def set_aside(self, sequence: int, why: str) -> None:
        assert why
        self.aside.add(sequence)


class Bench:
    def __init__(self, journal: MemoryJournal, *, now_ms: int = 1_000_000) -> None:
        self.now_ms = now_ms
        self.order: list[str] = []
        self.effects: list[Effect] = []
        self.failures: list[str] = []
        self.turns: list[Callable[[], None]] = []
        self.engine = Engine(
            journal,
            lambda: Now(self.now_ms, UTC_MS + self.now_ms),
            self.deliver,
            self.failures.append,
            self.turns.append,
        )
        self.engine.start(PLAN, "boot-1")

    def deliver(self, effects: Sequence[Effect]) -> None:
        self.effects += effects

    def turn(self) -> None:
        while self.turns:
            self.turns.pop(0)()


class PatientBench(Bench):
    """An engine that lets what chargers say wait; the test says when the time has come."""

    def __init__(self, journal: MemoryJournal) -> None:
        super().__init__(journal)
        self.later: list[Callable[[], None]] = []
        self.engine._call_later = lambda _, work: self.later.append(work)


class CountingJournal(MemoryJournal):
    commits = 0

    def append(self, records: Sequence[str]) -> None:
        self.commits += 1
        super().append(records)


class FailingJournal(MemoryJournal):
    broken = False

    def append(self, records: Sequence[str]) -> None:
        if self.broken:
            raise JournalError("disk full")
        super().append(records)


def setpoint(command: int, value: float) -> SetpointReceived:
    return SetpointReceived(command, "m", value, int(value))


def test_an_event_is_on_disk_before_its_confirmation_leaves() -> None:
    journal = MemoryJournal()
    bench = Bench(journal)
    seen: list[int] = []
    bench.engine._deliver = lambda effects: seen.extend(len(journal.records) for _ in of(Confirm, list(effects)))
    before = len(journal.records)
    bench.engine.submit(setpoint(1, 20_000))
    assert len(journal.records) == before, "nothing happens inside submit"
    bench.turn()
    assert seen == [before + 1]


def test_a_restart_enforces_the_last_accepted_limit_without_any_listener() -> None:
    journal = MemoryJournal()
    first = Bench(journal)
    first.engine.submit(LinkChanged(1))
    first.engine.submit(setpoint(1, 20_000))
    first.engine.submit(setpoint(2, 0))
    first.turn()
    again = Bench(journal, now_ms=first.now_ms + 60_000)
    assert again.engine.site.limit.power_w == 20_000
    assert again.engine.site.link.state.value == "HOLD"


def test_a_restart_from_the_records_alone_equals_one_from_the_snapshot() -> None:
    journal = MemoryJournal()
    first = Bench(journal)
    first.engine.submit(LinkChanged(1))
    first.engine.submit(setpoint(1, 20_000))
    first.turn()
    plain = MemoryJournal()
    plain.records = list(journal.records)
    assert Bench(plain).engine.site == Bench(journal).engine.site


def test_when_the_journal_fails_the_setpoint_is_refused_and_the_service_asks_to_be_restarted() -> None:
    journal = FailingJournal()
    bench = Bench(journal)
    journal.broken = True
    bench.engine.submit(setpoint(1, 50_000))
    bench.turn()
    assert of(Confirm, bench.effects) == [Confirm(1, Reason.NOT_RECORDED)]
    assert bench.engine.site.limit.power_w == PLAN.fallback_w
    assert len(bench.failures) == 1
    assert "disk full" in bench.failures[0]


def test_a_broken_promise_sets_the_event_aside_and_the_restart_begins_in_fallback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = MemoryJournal()
    bench = Bench(journal)
    for plan in PLAN.chargers:
        bench.engine.submit(ChargerConnected(plan.serial))
    bench.engine.submit(setpoint(1, 50_000))
    bench.turn()

    def broken(*_: object) -> None:
        raise AssertionError("planted")

    with monkeypatch.context() as planted:
        planted.setattr(core, "decide", broken)
        bench.engine.submit(setpoint(2, 60_000))
        bench.turn()
    assert len(bench.failures) == 1
    assert len(journal.aside) == 1
    last = of(SetLimit, bench.effects)[-2:]
    assert [order.limit_w for order in last] == [0, 0], "5 kW each would be below their minimum"
    again = Bench(journal)
    assert again.engine.site.link.state.value == "FALLBACK"
    assert again.engine.site.limit.power_w == PLAN.fallback_w
    assert again.engine.site.commanded.newest is not None
    assert again.engine.site.commanded.newest.limit_w == 50_000


def test_what_chargers_say_is_journalled_and_settled_together_in_one_commit() -> None:
    journal = CountingJournal()
    bench = PatientBench(journal)
    before = journal.commits
    for plan in PLAN.chargers:
        bench.engine.submit(ChargerConnected(plan.serial))
    bench.turn()
    assert journal.commits == before, "it may wait"
    assert len(bench.later) == 1
    bench.later.pop()()
    assert journal.commits == before + 1
    assert len(of(SetLimit, bench.effects)) == len(PLAN.chargers)


def test_a_setpoint_waits_for_nobody_and_what_was_said_before_it_goes_before_it() -> None:
    journal = CountingJournal()
    bench = PatientBench(journal)
    bench.engine.submit(ChargerConnected(PLAN.chargers[0].serial))
    bench.engine.submit(setpoint(1, 20_000))
    before = len(journal.records)
    bench.turn()
    assert [record.split('"')[1] for record in journal.records[before:]] == ["ChargerConnected", "SetpointReceived"]
    assert of(Confirm, bench.effects) == [Confirm(1)]
    assert of(SetLimit, bench.effects) == [], "the confirmation leaves before all is shared out anew"
    bench.engine.flush()
    assert len(of(SetLimit, bench.effects)) == 1
    bench.later.pop()()
    assert bench.engine.site.limit.power_w == 20_000


def test_patience_ends_even_if_nothing_else_comes() -> None:
    bench = PatientBench(CountingJournal())
    bench.engine.submit(ChargerConnected(PLAN.chargers[0].serial))
    bench.later.pop()()
    bench.engine.submit(ChargerConnected(PLAN.chargers[1].serial))
    assert len(bench.later) == 1
    bench.later.pop()()
    assert all(charger.connected for charger in bench.engine.site.chargers.values())
