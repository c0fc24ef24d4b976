"""The journal: every event in order, on disk before it is acted upon, and snapshots that shorten the way back."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import apsw

from bridge.engine import JournalError
from bridge.store.database import MOVE_AWAY, Database, StoreError

SNAPSHOTS_KEPT = 3
READ_AT_ONCE = 1_000
PRUNE_AT_ONCE = 2_000


class JournalFailed(StoreError, JournalError):  # noqa: N818  it says what happened
    """A record could not be put on disk. Nothing can be written any more until the service starts anew."""


def _system_utc_ms() -> int:
    return time.time_ns() // 1_000_000


class Journal:
    """Records are texts, numbered from 1 without a gap; each carries a checksum over number, time and text.

    `written` is the format they are in, None while nobody has said. `utc_ms` dates records for pruning alone, `synced`
    is told how many seconds each commit of records took. Whatever writes raises JournalFailed if it cannot, then and
    from then on; whatever reads raises StoreError when the file fails or a record is damaged.
    """

    def __init__(
        self,
        database: Database,
        utc_ms: Callable[[], int] = _system_utc_ms,
        synced: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._utc_ms = utc_ms
        self._synced = synced
        rows = database.rows("SELECT max(sequence) FROM journal UNION ALL SELECT max(sequence) FROM snapshot")
        self._last_sequence: int = max(sequence or 0 for (sequence,) in rows)
        formats = database.rows("SELECT written, readable_from FROM format")
        self.written: str | None = formats[0][0] if formats else None
        self._readable_from: int = formats[0][1] if formats else 1

    @property
    def last_sequence(self) -> int:
        """The number of the newest record on disk; 0 if there never was one."""
        return self._last_sequence

    @property
    def first_sequence(self) -> int:
        """The number of the oldest record that can still be read; one more than the last if none can."""
        (row,) = self._database.rows(f"SELECT min(sequence) FROM journal WHERE sequence >= {self._readable_from}")  # noqa: S608  a number
        return self._last_sequence + 1 if row[0] is None else int(row[0])

    def append(self, records: Sequence[str]) -> None:
        """Write all records in one transaction: on disk when this returns. Raises JournalFailed."""
        utc_ms = self._utc_ms()
        numbered = enumerate(records, self._last_sequence + 1)
        rows = [(sequence, utc_ms, record, _crc(sequence, utc_ms, record)) for sequence, record in numbered]
        began = time.perf_counter()
        with self._writing() as connection:
            connection.executemany("INSERT INTO journal (sequence, utc_ms, record, crc) VALUES (?, ?, ?, ?)", rows)
        self._synced(time.perf_counter() - began)
        self._last_sequence += len(rows)

    def snapshot(self, state: str, sequence: int) -> None:
        """Keep the state as it was after the record `sequence`, and drop all but the newest few."""
        if not 0 <= sequence <= self._last_sequence:
            raise ValueError(f"no record {sequence}: the last is {self._last_sequence}")
        utc_ms = self._utc_ms()
        with self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO snapshot (sequence, utc_ms, state, crc) VALUES (?, ?, ?, ?)",
                (sequence, utc_ms, state, _crc(sequence, utc_ms, state)),
            )
            connection.execute(
                "DELETE FROM snapshot WHERE sequence NOT IN"
                " (SELECT sequence FROM snapshot ORDER BY sequence DESC LIMIT ?)",
                (SNAPSHOTS_KEPT,),
            )

    def newest_snapshot(self) -> tuple[int, str] | None:
        """Number and state of the newest snapshot that is whole; None without one."""
        rows = self._database.rows("SELECT sequence, utc_ms, state, crc FROM snapshot ORDER BY sequence DESC")
        for sequence, utc_ms, state, crc in rows:
            if crc == _crc(sequence, utc_ms, state):
                return sequence, state
        return None

    def snapshots(self) -> dict[int, str]:
        """Every snapshot that is whole: the state after the record of that number, the oldest first."""
        rows = self._database.rows("SELECT sequence, utc_ms, state, crc FROM snapshot ORDER BY sequence")
        return {sequence: state for sequence, utc_ms, state, crc in rows if crc == _crc(sequence, utc_ms, state)}

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        """Number and text of every record after that number, in order, without those set aside.

        Those of a format that is no longer read are left out. Raises StoreError at the first record that is damaged or
        missing.
        """
        after = max(after, self._readable_from - 1)
        while after < self._last_sequence:
            rows = self._database.rows(
                "SELECT sequence, utc_ms, record, crc, set_aside IS NULL FROM journal WHERE sequence > ?"
                " ORDER BY sequence LIMIT ?",
                (after, READ_AT_ONCE),
            )
            if not rows:
                raise StoreError(f"{self._database.path}: record {after + 1} is missing: {MOVE_AWAY}")
            for sequence, utc_ms, record, crc, is_replayed in rows:
                if sequence != after + 1 or crc != _crc(sequence, utc_ms, record):
                    raise StoreError(f"{self._database.path}: record {after + 1} is damaged or missing: {MOVE_AWAY}")
                after = sequence
                if is_replayed:
                    yield sequence, record

    def rewrite(self, written: str, state: str | None, records: Sequence[tuple[int, str]], readable_from: int) -> None:
        """Take up another format, all or nothing: the newest snapshot and the records after it as they are in that.

        What is older than `readable_from` stays as it is, for people. Without a `state` no snapshot is left.
        """
        newest = self.newest_snapshot()
        utc_ms = self._utc_ms()
        with self._writing() as connection:
            connection.execute("DELETE FROM snapshot")
            if state is not None and newest is not None:
                row = (newest[0], utc_ms, state, _crc(newest[0], utc_ms, state))
                connection.execute("INSERT INTO snapshot (sequence, utc_ms, state, crc) VALUES (?, ?, ?, ?)", row)
            for sequence, record in records:
                connection.execute(
                    "UPDATE journal SET utc_ms = ?, record = ?, crc = ? WHERE sequence = ?",
                    (utc_ms, record, _crc(sequence, utc_ms, record), sequence),
                )
            connection.execute("DELETE FROM format")
            connection.execute("INSERT INTO format (written, readable_from) VALUES (?, ?)", (written, readable_from))
        self.written, self._readable_from = written, readable_from

    def prune(self, before_utc_ms: int) -> int:
        """Drop the oldest records, written before that time and covered by every snapshot kept, and say how many.

        At most a few thousand at once, so that nobody waits long: call it again while it says more than 0.
        """
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM journal WHERE sequence <= (SELECT min(sequence) FROM snapshot) AND sequence <"
                " (SELECT ifnull(min(sequence), ?) FROM (SELECT sequence FROM journal WHERE utc_ms >= ?"
                " ORDER BY sequence LIMIT 1)) AND sequence < (SELECT min(sequence) FROM journal) + ?",
                (self._last_sequence + 1, before_utc_ms, PRUNE_AT_ONCE),
            )
            return connection.changes()

    def set_aside(self, sequence: int, why: str) -> None:
        """Never replay this record again, but keep it with the reason."""
        with self._writing() as connection:
            connection.execute("UPDATE journal SET set_aside = ? WHERE sequence = ?", (why, sequence))
            if connection.changes() != 1:
                raise ValueError(f"no record {sequence} to set aside")

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        except StoreError as error:
            raise JournalFailed(str(error)) from error


def _crc(sequence: int, utc_ms: int, text: str) -> int:
    return zlib.crc32(f"{sequence} {utc_ms} {text}".encode())
