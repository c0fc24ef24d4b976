"""Claims about the file: how it is held, and what is refused before and after it fails."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from bridge.store import database as store
from bridge.store.database import PRAGMAS, Database, StoreError
from bridge.store.journal import Journal, JournalFailed
from bridge.store.shelf import Shelf


class SyncFails(apsw.VFS):
    """A disk whose fdatasync fails while `is_broken`."""

    def __init__(self, name: str) -> None:
        self.is_broken = False
        self.syncs = 0
        super().__init__(name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  SQLite's name
        disk = self

        class File(apsw.VFSFile):
            def xSync(self, flags: int) -> None:  # noqa: N802
                disk.syncs += 1
                if disk.is_broken:
                    raise apsw.IOError
                super().xSync(flags)

        return File("", name, flags)


def records(journal: Journal) -> list[str]:
    return [record for _, record in journal.tail(0)]


def fill(journal: Journal) -> int:
    """Append until the journal fails; the number of records acknowledged."""
    written = 0
    while written < 10_000:
        try:
            journal.append(["x" * 1_000] * 3)
        except JournalFailed as failure:
            assert "the disk is full: free some space and restart" in str(failure)  # noqa: PT017  counted above
            return written
        written += 3
    raise AssertionError("the disk never became full")


def test_every_pragma_holds_and_the_library_is_new_enough(tmp_path: Path) -> None:
    database = Database(tmp_path / "control.db")
    for name, value in (*PRAGMAS, ("locking_mode", "exclusive")):
        assert database.connection.pragma(name) == value
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")) >= (3, 51, 3)


def test_an_sqlite_with_the_wal_reset_bug_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.40.1")
    with pytest.raises(StoreError, match=r"SQLite 3\.40\.1 is older than 3\.51\.3"):
        Database(tmp_path / "control.db")


def test_every_commit_is_synced_before_it_returns(tmp_path: Path) -> None:
    disk = SyncFails("counts-syncs")
    journal = Journal(Database(tmp_path / "control.db", vfs="counts-syncs"))
    for _ in range(10):
        before = disk.syncs
        journal.append(["x"])
        assert disk.syncs > before


def test_a_file_in_use_is_refused_to_another_process_and_to_another_connection(tmp_path: Path) -> None:
    held = Database(tmp_path / "control.db")
    with pytest.raises(StoreError, match="is in use by another process: stop the other gridlimit"):
        Database(tmp_path / "control.db")
    script = f"from bridge.store.database import Database\nfrom pathlib import Path\nDatabase(Path({str(held.path)!r}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert "is in use by another process" in other.stderr
    held.close()
    Database(tmp_path / "control.db").close()


def test_a_file_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE recipes (soup TEXT)")
    foreign.commit()
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="belongs to another program: choose another data_dir"):
        Database(path)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "control.db")
    database.connection.pragma("user_version", store.SCHEMA_VERSION + 1)
    database.close()
    with pytest.raises(StoreError, match="was written by a newer release"):
        Database(tmp_path / "control.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "control.db").write_bytes(b"once upon a time " * 1_000)
    with pytest.raises(StoreError, match="is no database: move the file away"):
        Database(tmp_path / "control.db")


def test_a_damaged_file_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "control.db"
    database = Database(path)
    Journal(database).append(["x" * 300] * 1_000)
    database.close()
    content = bytearray(path.read_bytes())
    content[40_960:45_056] = os.urandom(4_096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        Database(path)


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(StoreError, match=r"data/control\.db: cannot be opened: .* check the folder"):
        Database(tmp_path / "data" / "control.db")


def test_after_a_failed_sync_nothing_is_ever_reported_as_written_until_the_file_is_opened_anew(tmp_path: Path) -> None:
    disk = SyncFails("fails-to-sync")
    database = Database(tmp_path / "control.db", vfs="fails-to-sync")
    journal, shelf = Journal(database), Shelf(database)
    journal.append(["kept"])
    disk.is_broken = True
    with pytest.raises(JournalFailed, match="check the disk, then restart"):
        journal.append(["lost"])
    disk.is_broken = False
    with pytest.raises(JournalFailed):
        journal.append(["refused"])
    with pytest.raises(JournalFailed):
        journal.snapshot("refused", 1)
    with pytest.raises(StoreError):
        shelf.put("room", "key", "refused")
    assert journal.last_sequence == 1
    database.close()
    again = Journal(Database(tmp_path / "control.db"))
    assert records(again) == ["kept"]
    again.append(["goes on"])
    assert records(again) == ["kept", "goes on"]


def test_a_full_disk_fails_the_journal_and_harms_nothing_written_before(tmp_path: Path) -> None:
    database = Database(tmp_path / "control.db")
    database.connection.pragma("max_page_count", 40)
    journal = Journal(database)
    written = fill(journal)
    with pytest.raises(JournalFailed, match="the disk is full"):
        journal.append(["small"])
    database.close()
    assert len(records(Journal(Database(tmp_path / "control.db")))) == written > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_really_full_file_system_fails_the_journal_and_harms_nothing_written_before(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("root may not mount here")
    try:
        database = Database(tmp_path / "control.db")
        written = fill(Journal(database))
        database.close()
        subprocess.run(["mount", "-o", "remount,size=4m", str(tmp_path)], check=True)
        again = Database(tmp_path / "control.db")
        assert len(records(Journal(again))) == written > 100
        again.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
