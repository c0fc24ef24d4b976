"""A rule-based state machine: the journal against a list."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from bridge.store.database import Database
from bridge.store.journal import Journal


class JournalMachine(RuleBasedStateMachine):
    """The journal against a list: what was appended is there, in order, however often the file is closed and opened."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.utc_ms = 1_000
        self.written: dict[int, tuple[str, int]] = {}
        self.aside: set[int] = set()
        self.snapshots: dict[int, str] = {}
        self.last = 0
        self.open()

    def open(self) -> None:
        self.database = Database(Path(self.folder.name) / "bridge.db")
        self.journal = Journal(self.database, lambda: self.utc_ms)

    @rule(records=st.lists(st.text(max_size=20), min_size=1, max_size=5))
    def append(self, records: list[str]) -> None:
        self.journal.append(records)
        for record in records:
            self.last += 1
            self.written[self.last] = (record, self.utc_ms)

    @rule(state=st.text(max_size=20))
    def snapshot(self, state: str) -> None:
        self.journal.snapshot(state, self.last)
        self.snapshots[self.last] = state
        self.snapshots = dict(sorted(self.snapshots.items())[-3:])

    @precondition(lambda self: self.written)
    @rule(place=st.integers(0, 10))
    def set_aside(self, place: int) -> None:
        sequence = sorted(self.written)[place % len(self.written)]
        self.journal.set_aside(sequence, "why")
        self.aside.add(sequence)

    @rule(wait_ms=st.integers(1, 5_000))
    def wait(self, wait_ms: int) -> None:
        self.utc_ms += wait_ms

    @rule(age_ms=st.integers(0, 5_000))
    def prune(self, age_ms: int) -> None:
        before_ms, oldest = self.utc_ms - age_ms, min(self.snapshots, default=0)
        while self.journal.prune(before_ms):
            pass
        for sequence in sorted(self.written):
            if sequence > oldest or self.written[sequence][1] >= before_ms:
                break
            del self.written[sequence]

    @rule()
    def close_and_open(self) -> None:
        self.database.close()
        self.open()

    @invariant()
    def tells_what_was_written(self) -> None:
        first = min(self.written, default=self.last + 1)
        assert self.journal.last_sequence == self.last
        assert self.journal.first_sequence == first
        told = list(self.journal.tail(first - 1))
        assert told == [(n, self.written[n][0]) for n in sorted(self.written) if n not in self.aside]
        assert self.journal.snapshots() == self.snapshots
        newest = max(self.snapshots, default=None)
        assert self.journal.newest_snapshot() == (None if newest is None else (newest, self.snapshots[newest]))

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()


def test_the_journal_tells_what_a_list_would() -> None:
    quick = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(JournalMachine, settings=quick)
