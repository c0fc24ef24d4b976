"""Events on disk: none lost over a power cut, kept for every group, thinned out when the file is full."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.store.database import Database, StoreError
from bridge.store.events import EventsFailed, Row, StoredEvents
from tests.store.powercut import Acknowledged, Recorder

MEASURED, SINGLE, COUNTER = 36, 30, 37
SEED = 20_261_123
IMAGES = 300


def row(sequence: int, type_id: int = MEASURED, address: int = 200) -> Row:
    return sequence, type_id, 3, 1, address.to_bytes(3, "little") + sequence.to_bytes(12, "little")


def no_gap(_first: Row, _number: int) -> Row | None:
    return None


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "events.db")
    yield database
    database.close()


def events(database: Database, *groups: str, max_bytes: int = 2**31) -> StoredEvents:
    made = StoredEvents(database, frozenset({MEASURED}), max_bytes)
    made.serve(groups or ("",))
    return made


def sequences(stored: StoredEvents, after: int = 0, number: int = 100_000) -> list[int]:
    return [each[0] for each in stored.after(after, number)]


def test_events_outlive_the_process_in_their_order_and_to_the_last_octet(tmp_path: Path) -> None:
    rows = [row(n) for n in range(1, 50)]
    database = Database(tmp_path / "events.db")
    stored = events(database)
    stored.append(rows[:20], no_gap)
    stored.append(rows[20:], no_gap)
    database.close()
    again = events(Database(tmp_path / "events.db"))
    assert again.after(0, 1000) == rows
    assert again.after(10, 3) == rows[10:13]
    assert again.last_sequence == 49


def test_an_event_is_deleted_when_every_group_has_acknowledged_it_and_numbers_are_never_used_again(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "events.db")
    stored = events(database, "dso", "tso")
    stored.append([row(n) for n in range(1, 11)], no_gap)
    stored.acknowledge("dso", 10)
    stored.settle()
    assert sequences(stored) == list(range(1, 11))
    stored.acknowledge("tso", 4)
    stored.settle()
    assert sequences(stored) == list(range(5, 11))
    stored.acknowledge("tso", 10)
    stored.settle()
    database.close()
    again = events(Database(tmp_path / "events.db"), "dso", "tso")
    assert (sequences(again), again.last_sequence, again.acknowledged("dso")) == ([], 10, 10)


def test_what_was_acknowledged_is_written_down_with_the_next_events_too(tmp_path: Path) -> None:
    database = Database(tmp_path / "events.db")
    stored = events(database)
    stored.append([row(1)], no_gap)
    stored.acknowledge("", 1)
    stored.append([row(2)], no_gap)
    database.close()
    again = events(Database(tmp_path / "events.db"))
    assert (sequences(again), again.acknowledged("")) == ([2], 1)


def test_a_group_that_is_new_begins_with_the_oldest_event_and_one_that_is_gone_holds_nothing_back(
    database: Database,
) -> None:
    stored = events(database, "old", "dso")
    stored.append([row(n) for n in range(1, 11)], no_gap)
    stored.acknowledge("old", 3)
    stored.acknowledge("dso", 7)
    stored.settle()
    stored.serve(["dso", "new"])
    assert (stored.acknowledged("dso"), stored.acknowledged("new")) == (7, 3)
    stored.acknowledge("new", 10)
    stored.settle()
    assert sequences(stored) == [8, 9, 10]


def test_a_damaged_event_is_left_out_and_the_others_are_read(tmp_path: Path) -> None:
    database = Database(tmp_path / "events.db")
    events(database).append([row(n) for n in range(1, 6)], no_gap)
    database.close()
    with sqlite3.connect(tmp_path / "events.db") as other:
        other.execute("UPDATE event SET octets = x'c80000ff' WHERE sequence = 3")
    other.close()
    assert sequences(events(Database(tmp_path / "events.db"))) == [1, 2, 4, 5]


def test_when_full_measured_values_are_thinned_out_the_oldest_first_and_nothing_else_is_lost(
    database: Database,
) -> None:
    stored = events(database, max_bytes=400_000)
    gaps: list[tuple[int, int]] = []

    def gap(first: Row, number: int) -> Row:
        gaps.append((first[0], number))
        return row(first[0], COUNTER, 900)

    lost, newest = 0, 0
    for _ in range(300):
        batch = [row(newest + n, SINGLE if n % 50 == 0 else MEASURED, 200 + n % 7) for n in range(1, 101)]
        newest += 100
        lost += stored.append(batch, gap)
    kept = {each[0]: each[1] for each in stored.after(0, 100_000)}
    assert (database.path.stat().st_size) < 600_000
    assert [n for n in range(50, newest + 1, 50) if kept.get(n) != SINGLE] == [], "no single point is lost"
    assert len(kept) + lost - len(gaps) == newest, "every loss is declared"
    assert sum(number for _, number in gaps) == lost
    assert {kept.get(first) for first, _ in gaps} <= {COUNTER}
    old, new = (sum(1 for n in kept if low < n <= low + 3_000) for low in (0, newest - 3_000))
    assert old < new
    assert sorted(kept) == list(kept)


def test_when_nothing_is_left_to_thin_the_oldest_go(database: Database) -> None:
    stored = events(database, max_bytes=200_000)
    for first in range(1, 20_000, 100):
        stored.append([row(first + n, SINGLE) for n in range(100)], no_gap)
    kept = sequences(stored)
    assert kept[-1] == 20_000
    assert kept == list(range(kept[0], 20_001))


def test_a_disk_that_fails_is_told_as_an_error_of_the_system(tmp_path: Path) -> None:
    database = Database(tmp_path / "events.db")
    stored = events(database)
    database.connection.pragma("max_page_count", 8)
    with pytest.raises(EventsFailed) as failed:
        stored.append([row(n) for n in range(1, 5_000)], no_gap)
    assert isinstance(failed.value, OSError)
    assert isinstance(failed.value, StoreError)


def record(folder: Path, synchronous: int | None) -> tuple[Recorder, dict[int, int]]:
    """Append and acknowledge as the service does; how far was acknowledged when so many operations were done."""
    recorder = Recorder(f"events-{folder.name}")
    chance = random.Random(SEED)
    database = Database(folder / "events.db", vfs=f"events-{folder.name}")
    database.connection.pragma("wal_autocheckpoint", 16)
    if synchronous is not None:
        database.connection.pragma("synchronous", synchronous)
    stored = events(database)
    acknowledged = {0: 0}
    for _ in range(80):
        first = stored.last_sequence + 1
        stored.append([row(first + n) for n in range(chance.randrange(1, 30))], no_gap)
        recorder.log.append(Acknowledged(stored.last_sequence))
        if chance.random() < 0.5:
            far = chance.randint(stored.acknowledged(""), stored.last_sequence)
            acknowledged[len(recorder.log)] = far
            stored.acknowledge("", far)
        if chance.random() < 0.2:
            stored.settle()
    database.close()
    return recorder, acknowledged


def losses(folder: Path, recorder: Recorder, acknowledged: dict[int, int]) -> list[str]:
    """Cut the power at `IMAGES` moments, start on what is left, and say what is missing or was forgotten too early."""
    chance, found = random.Random(SEED), []
    for number in range(IMAGES):
        cut = chance.randrange(len(recorder.log) + 1)
        recorded = max((each.records for each in recorder.log[:cut] if isinstance(each, Acknowledged)), default=0)
        far = max(sequence for at, sequence in acknowledged.items() if at <= cut)
        left = folder / f"{number}"
        left.mkdir()
        for name, content in recorder.image(cut, chance).items():
            (left / name).write_bytes(content)
        try:
            database = Database(left / "events.db")
            stored = events(database)
            kept, behind = sequences(stored), stored.acknowledged("")
            database.close()
        except StoreError as error:
            found.append(f"image {number}, cut {cut}: {error}")
            continue
        newest = kept[-1] if kept else behind
        if behind > far or newest < recorded or not set(range(behind + 1, newest + 1)) <= set(kept):
            found.append(f"image {number}, cut {cut}: {len(kept)} kept behind {behind} of {recorded}, acked {far}")
    return found


def test_a_power_cut_loses_no_event_that_was_recorded_and_forgets_none_before_it_was_acknowledged(
    tmp_path: Path,
) -> None:
    assert losses(tmp_path, *record(tmp_path, None)) == [], f"seed {SEED}"


def test_the_same_power_cuts_are_seen_to_lose_events_when_commits_are_not_synced(tmp_path: Path) -> None:
    assert len(losses(tmp_path, *record(tmp_path, 0))) > IMAGES / 20, f"seed {SEED}"
