"""Claims about power cuts: whatever the disk kept of what was not yet synced, nothing acknowledged is lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bridge.store.database import Database, StoreError
from bridge.store.journal import Journal
from bridge.store.shelf import Shelf
from tests.store.powercut import Acknowledged, Recorder

SEED = 20_160_401
IMAGES = 300


def record(folder: Path, synchronous: int | None) -> Recorder:
    """Write about 150 records in the manner of the service; few pages between checkpoints, so that many happen."""
    recorder = Recorder(f"recorder-{folder.name}")
    chance = random.Random(SEED)
    database = Database(folder / "control.db", vfs=f"recorder-{folder.name}")
    database.connection.pragma("wal_autocheckpoint", 16)
    if synchronous is not None:
        database.connection.pragma("synchronous", synchronous)
    journal, shelf = Journal(database), Shelf(database)
    for _ in range(60):
        first = journal.last_sequence + 1
        journal.append([f"record {first + n} " + "x" * chance.randrange(600) for n in range(chance.randrange(1, 5))])
        recorder.log.append(Acknowledged(journal.last_sequence))
        if chance.random() < 0.2:
            shelf.put("room", "key", f"{journal.last_sequence}")
        if chance.random() < 0.1:
            journal.snapshot("s" * 3_000, journal.last_sequence)
    database.close()
    return recorder


def losses(folder: Path, recorder: Recorder) -> list[str]:
    """Cut the power at `IMAGES` moments, start the store on what is left each time, and say what it has lost."""
    chance = random.Random(SEED)
    found = []
    for number in range(IMAGES):
        cut = chance.randrange(len(recorder.log) + 1)
        acknowledged = max((each.records for each in recorder.log[:cut] if isinstance(each, Acknowledged)), default=0)
        left = folder / f"{number}"
        left.mkdir()
        for name, content in recorder.image(cut, chance).items():
            (left / name).write_bytes(content)
        try:
            database = Database(left / "control.db")
            records = [text.split()[1] for _, text in Journal(database).tail(0)]
            shelved = int(Shelf(database).get("room", "key") or 0)
            database.close()
        except StoreError as error:
            found.append(f"image {number}, cut {cut}: {error}")
            continue
        if records != [str(n + 1) for n in range(len(records))] or len(records) < max(acknowledged, shelved):
            found.append(f"image {number}, cut {cut}: {len(records)} of {acknowledged} records")
    return found


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert losses(tmp_path, record(tmp_path, None)) == [], f"seed {SEED}"


@pytest.mark.parametrize("synchronous", [0, 1], ids=["OFF", "NORMAL"])
def test_the_same_power_cuts_are_seen_to_lose_records_when_commits_are_not_synced(
    tmp_path: Path, synchronous: int
) -> None:
    assert len(losses(tmp_path, record(tmp_path, synchronous))) > IMAGES / 20, f"seed {SEED}"
