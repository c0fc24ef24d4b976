"""A journal of another release: what it holds goes on holding, and what cannot be read leads to the fallback limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.core import codec
from bridge.core.messages import Alive, LinkChanged, Started
from bridge.core.quantities import Now
from bridge.core.site import Site
from bridge.engine import Engine
from bridge.store.database import Database
from bridge.store.journal import Journal
from bridge.upgrade import upgrade
from tests.core.bench import UTC_MS, charger_plan, site_plan
from tests.test_engine import setpoint

PLAN = site_plan(charger_plan(0), charger_plan(1))
FORMAT = codec.format_of(Site, *codec.EVENTS.values())


class Bench:
    """An engine over a journal on disk that can be opened again, as another release would."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "bridge.db")
        self.journal = Journal(self.database)
        self.now_ms = 1_000_000

    def start(self) -> Engine:
        engine = Engine(
            self.journal,
            lambda: Now(self.now_ms, UTC_MS + self.now_ms),
            lambda _: None,
            lambda _: None,
            lambda _: None,
        )
        engine.start(PLAN, "boot-1", upgrade(self.journal))
        return engine

    def limited(self) -> None:
        """20 kW are in force, the newest of it behind the snapshot."""
        engine = self.start()
        engine.submit(LinkChanged(1))
        engine.submit(setpoint(1, 20_000))
        engine.flush()
        engine.submit(Alive())
        engine.flush()

    def rewritten(self, written: dict[str, Any], state: Any = None, records: list[Any] | None = None) -> None:
        """Let the journal be as another release wrote it."""
        newest = self.journal.newest_snapshot()
        assert newest is not None
        state = json.loads(newest[1]) if state is None else state
        numbered = [(number, json.dumps(record)) for number, record in records or []]
        self.journal.rewrite(json.dumps(written), json.dumps(state), numbered, newest[0] + 1)

    def tail(self) -> list[Any]:
        newest = self.journal.newest_snapshot()
        assert newest is not None
        return [(number, json.loads(record)) for number, record in self.journal.tail(newest[0])]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def without(kind: str, field: str) -> dict[str, Any]:
    """The format as it was before a field came."""
    return FORMAT | {kind: {name: about for name, about in FORMAT[kind].items() if name != field}}


def test_the_same_release_rewrites_nothing(bench: Bench) -> None:
    bench.limited()
    before = bench.tail()
    assert upgrade(bench.journal) is None
    assert bench.tail() == before


def test_a_field_that_is_new_since_then_has_its_default_wherever_it_stands(bench: Bench) -> None:
    bench.limited()
    newest = bench.journal.newest_snapshot()
    assert newest is not None
    state = json.loads(newest[1])
    del state[list(FORMAT["Site"]).index("connections")]  # in the middle
    event = list(FORMAT["SetpointReceived"]).index("tag_utc_ms") + 3  # behind name and clocks
    records = [
        (number, record[:event] + record[event + 1 :] if record[0] == "SetpointReceived" else record)
        for number, record in bench.tail()
    ]
    older = without("Site", "connections") | {
        "SetpointReceived": without("SetpointReceived", "tag_utc_ms")["SetpointReceived"]
    }
    bench.rewritten(older, state, records)
    engine = bench.start()
    assert (engine.site.limit.power_w, engine.site.link.state.value) == (20_000, "HOLD")
    assert bench.journal.written == json.dumps(FORMAT)
    assert Bench.tail(bench) == []  # the start has kept its state


def test_a_field_that_this_release_does_not_know_leads_to_the_fallback_limit_in_words(bench: Bench) -> None:
    bench.limited()
    bench.rewritten(FORMAT | {"Site": FORMAT["Site"] | {"blackout": "bool"}})
    why = str(upgrade(bench.journal))
    assert "Site has no blackout any more" in why
    bench.now_ms += 1_000
    engine = bench.start()
    assert engine.site.limit.power_w == 100_000  # the sentence was not handed over: a fresh site
    again = Bench.__new__(Bench)
    again.__dict__ |= bench.__dict__
    bench.rewritten(FORMAT | {"Site": FORMAT["Site"] | {"blackout": "bool"}})
    engine = again.start()
    assert (engine.site.limit.power_w, engine.site.link.state.value) == (10_000, "FALLBACK")
    assert ("invariant_broken", "Depot Nord") in engine.site.alarms


def test_a_journal_begun_anew_goes_on_after_the_next_start_and_keeps_what_was_there(bench: Bench) -> None:
    bench.limited()
    kept = bench.journal.last_sequence
    bench.rewritten(FORMAT | {"Alive": {"since_ms": "int"}}, records=[(kept, ["Alive", 1, 2, 3])])
    assert bench.start().site.limit.power_w == 10_000
    (rows,) = bench.database.rows("SELECT count(*) FROM journal WHERE sequence <= ?", (kept,))
    assert rows[0] == kept
    assert bench.journal.first_sequence == kept + 1
    bench.now_ms += 1_000
    bench.database.close()
    again = Bench(bench.database.path.parent)
    again.now_ms = bench.now_ms
    assert again.start().site.limit.power_w == 10_000


def test_a_journal_from_before_formats_were_kept_is_read_as_it_stands(bench: Bench) -> None:
    bench.limited()
    with bench.database.transaction() as connection:
        connection.execute("DELETE FROM format")
    bench.database.close()
    again = Bench(bench.database.path.parent)
    assert again.journal.written is None
    assert again.start().site.limit.power_w == 20_000


def test_every_event_survives_a_format_that_names_its_fields() -> None:
    reader = codec.Reader(FORMAT)
    text = codec.record(Started("boot", PLAN), Now(1, 2))
    assert reader.replayed(text) == codec.replayed(text) == (Started("boot", PLAN), Now(1, 2))
