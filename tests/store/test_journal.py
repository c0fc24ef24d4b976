"""Claims about the journal: order, wholeness, snapshots, pruning, and what a killed writer leaves."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bridge.store.database import Database, StoreError
from bridge.store.journal import PRUNE_AT_ONCE, SNAPSHOTS_KEPT, Journal

WRITER = """
import sys
from pathlib import Path
from bridge.store.database import Database
from bridge.store.journal import Journal
journal = Journal(Database(Path(sys.argv[1])))
while True:
    journal.append([f"record {journal.last_sequence + 1}"])
    print(journal.last_sequence, flush=True)
"""


class Clock:
    def __init__(self) -> None:
        self.utc_ms = 1_000

    def __call__(self) -> int:
        return self.utc_ms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "control.db"


def reopened(database: Database) -> Journal:
    database.close()
    return Journal(Database(database.path))


def test_records_come_back_in_order_after_a_restart(path: Path) -> None:
    database = Database(path)
    journal = Journal(database)
    assert (journal.last_sequence, list(journal.tail(0)), journal.newest_snapshot()) == (0, [], None)
    journal.append(["a", "ü \0 \U0001f50c"])
    journal.append([])
    journal.append(["c"])
    again = reopened(database)
    assert again.last_sequence == 3
    assert list(again.tail(0)) == [(1, "a"), (2, "ü \0 \U0001f50c"), (3, "c")]
    assert list(again.tail(2)) == [(3, "c")]


def test_a_long_tail_is_read_in_parts_without_a_gap(path: Path) -> None:
    journal = Journal(Database(path))
    journal.append([f"{n}" for n in range(1, 2_501)])
    assert [(n, f"{n}") for n in range(1, 2_501)] == list(journal.tail(0))


def test_a_group_is_written_whole_or_not_at_all(path: Path) -> None:
    journal = Journal(Database(path))
    with pytest.raises(UnicodeEncodeError):
        journal.append(["good", "\ud800 is no text"])
    journal.append(["next"])
    assert list(journal.tail(0)) == [(1, "next")]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal SET record = 'limit 90 kW' WHERE sequence = 2",
        "UPDATE journal SET utc_ms = utc_ms + 1 WHERE sequence = 2",
        "DELETE FROM journal WHERE sequence = 2",
        "UPDATE journal SET (utc_ms, record, crc) = (SELECT utc_ms, record, crc FROM journal WHERE sequence = 1)",
    ],
)
def test_a_record_changed_moved_or_missing_is_noticed(path: Path, damage: str) -> None:
    database = Database(path)
    journal = Journal(database)
    journal.append(["a", "b", "c"])
    database.connection.execute(damage)
    with pytest.raises(StoreError, match="record 2 is damaged or missing"):
        list(journal.tail(0))


def test_the_newest_whole_snapshot_is_found_and_few_are_kept(path: Path) -> None:
    database = Database(path)
    journal = Journal(database)
    for sequence in range(1, 6):
        journal.append([f"{sequence}"])
        journal.snapshot(f"after {sequence}", sequence)
    assert database.rows("SELECT count(*) FROM snapshot") == [(SNAPSHOTS_KEPT,)]
    assert journal.newest_snapshot() == (5, "after 5")
    database.connection.execute("UPDATE snapshot SET state = 'after 6' WHERE sequence = 5")
    assert journal.newest_snapshot() == (4, "after 4")
    with pytest.raises(ValueError, match="no record 6: the last is 5"):
        journal.snapshot("of the future", 6)


def test_a_record_set_aside_is_kept_but_never_replayed(path: Path) -> None:
    database = Database(path)
    journal = Journal(database)
    journal.append(["a", "b", "c"])
    journal.set_aside(2, "sum above the limit")
    assert list(journal.tail(0)) == [(1, "a"), (3, "c")]
    assert database.rows("SELECT record, set_aside FROM journal WHERE sequence = 2") == [("b", "sum above the limit")]
    journal.set_aside(3, "again")
    assert list(reopened(database).tail(0)) == [(1, "a")]


def test_pruning_takes_old_records_but_none_that_a_kept_snapshot_still_needs(path: Path) -> None:
    clock = Clock()
    database = Database(path)
    journal = Journal(database, clock)
    journal.append(["a", "b", "c", "d"])
    assert journal.prune(clock.utc_ms + 1) == 0
    journal.snapshot("after 2", 2)
    journal.snapshot("after 3", 3)
    clock.utc_ms = 2_000
    journal.append(["e"])
    assert journal.prune(1_000) == 0
    assert journal.prune(1_500) == 2
    assert list(journal.tail(2)) == [(3, "c"), (4, "d"), (5, "e")]
    with pytest.raises(StoreError, match="record 1 is damaged or missing"):
        list(journal.tail(0))


def test_the_numbers_go_on_where_everything_was_pruned(path: Path) -> None:
    clock = Clock()
    database = Database(path)
    journal = Journal(database, clock)
    journal.append(["x"] * (PRUNE_AT_ONCE + 10))
    journal.snapshot("all", journal.last_sequence)
    assert [journal.prune(5_000), journal.prune(5_000), journal.prune(5_000)] == [PRUNE_AT_ONCE, 10, 0]
    again = reopened(database)
    assert again.last_sequence == PRUNE_AT_ONCE + 10
    again.append(["next"])
    assert list(again.tail(PRUNE_AT_ONCE + 10)) == [(PRUNE_AT_ONCE + 11, "next")]


def test_a_record_written_while_the_clock_stood_back_does_not_let_later_ones_go_first(path: Path) -> None:
    clock = Clock()
    journal = Journal(Database(path), clock)
    for utc_ms in (5_000, 1_000, 5_000):
        clock.utc_ms = utc_ms
        journal.append([f"{utc_ms}"])
    journal.snapshot("all", 3)
    assert journal.prune(2_000) == 0


def test_a_writer_killed_at_any_moment_has_lost_nothing_it_had_acknowledged(path: Path) -> None:
    chance = random.Random(7)
    acknowledged = 0
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(chance.uniform(0, 0.1))
        writer.kill()
        acknowledged = int([first, *writer.stdout.read().split("\n")[:-1]][-1])
        writer.wait(timeout=10)
        writer.stdout.close()
        database = Database(path)
        journal = Journal(database)
        assert journal.last_sequence in {acknowledged, acknowledged + 1}
        assert list(journal.tail(0)) == [(n, f"record {n}") for n in range(1, journal.last_sequence + 1)]
        database.close()
    assert acknowledged > 10
