"""One SQLite file with one writing connection whose commits are on disk when they return."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

# SQLite before this one can lose a committed transaction when two connections reset the WAL at once.
MIN_SQLITE = (3, 51, 3)
APPLICATION_ID = 0x47_4C_42_31  # GLB1
BUSY_TIMEOUT_MS = 250
QUICK_CHECK_MAX_BYTES = 64 * 1024 * 1024
MAX_VALUE_BYTES = 64 * 1024 * 1024
MOVE_AWAY = "move the file away and start again: the bridge then begins as it did the first time"

PRAGMAS: tuple[tuple[str, str | int], ...] = (
    ("journal_mode", "wal"),
    ("synchronous", 2),  # FULL: one fdatasync a commit
    ("wal_autocheckpoint", 1_000),
    ("journal_size_limit", 16 * 1024 * 1024),
    ("trusted_schema", 0),
    ("cell_size_check", 1),
)
# What each version of the file adds to the one before it.
SCHEMAS = (
    """
CREATE TABLE journal (
    sequence INTEGER PRIMARY KEY, utc_ms INTEGER NOT NULL, record TEXT NOT NULL, crc INTEGER NOT NULL, set_aside TEXT
) STRICT;
CREATE TABLE snapshot (
    sequence INTEGER PRIMARY KEY, utc_ms INTEGER NOT NULL, state TEXT NOT NULL, crc INTEGER NOT NULL
) STRICT;
CREATE TABLE shelf (
    room TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (room, key)
) STRICT, WITHOUT ROWID;
""",
    """
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY, serial TEXT NOT NULL, action TEXT NOT NULL, slot TEXT NOT NULL,
    thinnable INTEGER NOT NULL, text TEXT NOT NULL, utc_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, dead TEXT,
    crc INTEGER NOT NULL
) STRICT;
""",
    """
ALTER TABLE outbox ADD COLUMN exchange INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN cause TEXT NOT NULL DEFAULT '';
""",
    "CREATE TABLE IF NOT EXISTS format (written TEXT NOT NULL, readable_from INTEGER NOT NULL) STRICT;",
)
SCHEMA_VERSION = len(SCHEMAS)


class StoreError(Exception):
    """The file cannot be used (any more); the text says what, where and what to do."""


class Database:
    """The file at `path`, made if it is missing, held exclusively until `close`.

    A write that fails for the world's reasons (I/O error, disk full) is the last one: after a failed fsync the page
    cache no longer tells what the disk holds, so everything later is refused until the file is opened anew.
    `vfs` names another SQLite VFS than the system's. Raises StoreError if the file is locked, damaged, not ours, of a
    newer version or not writable.
    """

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self.path = path
        self.failure: str | None = None
        version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if version < MIN_SQLITE:
            raise StoreError(f"SQLite {apsw.sqlite_lib_version()} is older than 3.51.3: install a newer apsw")
        try:
            _make_folder(path.parent)
            self.connection = apsw.Connection(str(path), vfs=vfs)
        except (OSError, apsw.Error) as error:
            raise StoreError(f"{path}: cannot be opened: {error}: check the folder, its rights and space") from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        path, connection = self.path, self.connection
        try:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            connection.pragma("locking_mode", "exclusive")
            version = self._recognize()
            for name, value in PRAGMAS:
                connection.pragma(name, value)
                if (holds := connection.pragma(name)) != value:
                    raise StoreError(f"{path}: PRAGMA {name} is {holds!r} instead of {value!r}: cannot be made durable")
            if connection.pragma("locking_mode") != "exclusive":
                raise StoreError(f"{path}: cannot be locked exclusively")
            if path.stat().st_size <= QUICK_CHECK_MAX_BYTES and (found := connection.pragma("quick_check")) != "ok":
                raise StoreError(f"{path}: is damaged ({str(found).splitlines()[-1]}): {MOVE_AWAY}")
            with self.transaction():  # proves that the file can be written, too
                for schema in SCHEMAS[version:]:
                    connection.execute(schema)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", SCHEMA_VERSION)
        except (OSError, apsw.Error) as error:
            raise StoreError(_explain(path, error)) from error

    def _recognize(self) -> int:
        """The version of the file, 0 of a new one; raises StoreError, before anything is written, if it is not ours."""
        application = self.connection.pragma("application_id")
        version = int(self.connection.pragma("user_version"))
        tables = self.connection.execute("SELECT count(*) FROM sqlite_schema").get
        if application == 0 and version == 0 and tables == 0:
            return 0
        if application != APPLICATION_ID:
            raise StoreError(f"{self.path}: belongs to another program: choose another data_dir")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: was written by a newer release (schema {version}, this one knows {SCHEMA_VERSION}):"
                " run that release, or choose another data_dir"
            )
        return version

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """One transaction; on disk when the block has ended. Raises StoreError if it cannot be, then and ever after."""
        if self.failure is not None:
            raise StoreError(self.failure)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except apsw.Error as error:
            self.failure = _explain(self.path, error)
            self._roll_back()
            raise StoreError(self.failure) from error
        except BaseException:
            self._roll_back()
            raise

    def rows(self, sql: str, bindings: Sequence[str | int] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. Raises StoreError if they cannot be read."""
        try:
            return self.connection.execute(sql, tuple(bindings)).fetchall()
        except apsw.Error as error:
            raise StoreError(_explain(self.path, error)) from error

    def _roll_back(self) -> None:
        with suppress(apsw.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file; nothing is owed to the disk any more, so an error is of no consequence."""
        with suppress(apsw.Error):
            self.connection.close(force=True)


def _make_folder(folder: Path) -> None:
    """Make the folder so that it outlives a power cut: its name is on disk before anything in it is promised."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        descriptor = os.open(made.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explain(path: Path, error: Exception) -> str:
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return f"{path}: is in use by another process: stop the other gridlimit, or choose another data_dir"
    if isinstance(error, apsw.NotADBError):
        return f"{path}: is no database: {MOVE_AWAY}"
    if isinstance(error, apsw.CorruptError):
        return f"{path}: is damaged ({error}): {MOVE_AWAY}"
    if isinstance(error, apsw.FullError):
        return f"{path}: the disk is full: free some space and restart"
    if isinstance(error, apsw.ReadOnlyError | apsw.CantOpenError):
        return f"{path}: cannot be written ({error}): check its rights and how it is mounted, then restart"
    return f"{path}: {error}: check the disk, then restart"
