"""Events for control centres, on disk before they are sent and until every redundancy group has acknowledged them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import apsw
import structlog

from bridge.store.database import Database, StoreError

log = structlog.get_logger(__name__)

MAX_BYTES = 2 * 1024**3  # 30 days of a site with 20 chargers
THIN_AT_ONCE = 2_000  # rows; bounds how long one `append` takes
KEEP_ONE_OF = 6  # 10 s become 1 min, and 6 min the next time
DELETE_AT_ONCE = 20_000

Row: TypeAlias = tuple[int, int, int, int, bytes]

SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    sequence INTEGER PRIMARY KEY, type_id INTEGER NOT NULL, cause INTEGER NOT NULL, common_address INTEGER NOT NULL,
    octets BLOB NOT NULL, crc INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS acknowledged (redundancy_group TEXT PRIMARY KEY, sequence INTEGER NOT NULL)
    STRICT, WITHOUT ROWID;
"""


class EventsFailed(StoreError, OSError):  # noqa: N818  it says what happened
    """An event could not be put on disk. Nothing can be written any more until the service starts anew."""


class StoredEvents:
    """One log of events for all groups. A row is sequence, type, cause, common address and octets of one object.

    `measured` are the types that are thinned out, the oldest first, when the file has reached `max_bytes`: of every
    six values of a point one is kept, again and again, and only when none is left to thin anything else is dropped.
    Whatever writes raises EventsFailed if it cannot, then and from then on. What was acknowledged since the last commit
    is not yet forgotten after a crash and comes again: nothing is lost, something may come twice.
    """

    def __init__(self, database: Database, measured: frozenset[int], max_bytes: int = MAX_BYTES) -> None:
        self._database = database
        self._measured = measured
        self._max_bytes = max_bytes
        self._page_bytes = int(database.connection.pragma("page_size"))
        with self._writing() as connection:
            connection.execute(SCHEMA)
        self._acknowledged: dict[str, int] = dict(database.rows("SELECT redundancy_group, sequence FROM acknowledged"))
        ((newest,),) = database.rows("SELECT max(sequence) FROM event")
        self.last_sequence: int = max(newest or 0, *self._acknowledged.values(), 0)
        self._unsettled = False
        self._thinned_to = 0
        self._thinned_in_this_pass = 0
        self._damaged = 0

    def serve(self, groups: Sequence[str]) -> None:
        """Keep events for exactly these groups; one that is new begins with the oldest event kept."""
        ((oldest,),) = self._database.rows("SELECT min(sequence) FROM event")
        begin = self.last_sequence if oldest is None else oldest - 1
        self._acknowledged = {group: self._acknowledged.get(group, begin) for group in groups}
        with self._writing() as connection:
            connection.execute("DELETE FROM acknowledged")
            self._write_acknowledged(connection)

    def append(self, rows: Sequence[Row], declare_gap: Callable[[Row, int], Row | None]) -> int:
        """Record events in one transaction: on disk when this returns. How many others were dropped for them."""
        dropped = 0
        with self._writing() as connection:
            self._insert(connection, rows)
            if self._unsettled:
                self._write_acknowledged(connection)
            if self._is_full(connection):
                dropped = self._thin(connection, declare_gap)
        self.last_sequence = rows[-1][0]
        return dropped

    def after(self, sequence: int, number: int) -> list[Row]:
        """The oldest events behind `sequence`, at most so many; a damaged one is left out, counted and logged."""
        try:
            found = self._database.rows(
                "SELECT sequence, type_id, cause, common_address, octets, crc FROM event WHERE sequence > ?"
                " ORDER BY sequence LIMIT ?",
                (sequence, number),
            )
        except StoreError as error:
            raise EventsFailed(str(error)) from error
        rows: list[Row] = []
        for *row, crc in found:
            if crc == _crc(*row):
                rows.append((row[0], row[1], row[2], row[3], row[4]))
            else:
                self._damaged += 1
                log.error("a recorded event is damaged and left out", sequence=row[0], damaged=self._damaged)
        return rows

    def acknowledged(self, group: str) -> int:
        """The newest event that this group has acknowledged."""
        return self._acknowledged[group]

    def acknowledge(self, group: str, sequence: int) -> None:
        """The group has had all events up to this one; the disk learns of it with the next commit."""
        self._acknowledged[group] = sequence
        self._unsettled = True

    def settle(self) -> None:
        """Write down what was acknowledged."""
        if self._unsettled:
            with self._writing() as connection:
                self._write_acknowledged(connection)

    def _insert(self, connection: apsw.Connection, rows: Sequence[Row]) -> None:
        connection.executemany(
            "INSERT OR REPLACE INTO event (sequence, type_id, cause, common_address, octets, crc)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [(*row, _crc(*row)) for row in rows],
        )

    def _write_acknowledged(self, connection: apsw.Connection) -> None:
        """Note how far the groups are and delete what all of them have had, so much at once that nobody waits long."""
        connection.executemany(
            "INSERT OR REPLACE INTO acknowledged (redundancy_group, sequence) VALUES (?, ?)",
            list(self._acknowledged.items()),
        )
        had_by_all = min(self._acknowledged.values())
        connection.execute(
            "DELETE FROM event WHERE sequence <= min(?, (SELECT min(sequence) FROM event) + ?)",
            (had_by_all, DELETE_AT_ONCE),
        )
        self._unsettled = connection.changes() >= DELETE_AT_ONCE

    def _is_full(self, connection: apsw.Connection) -> bool:
        pages = int(connection.pragma("page_count")) - int(connection.pragma("freelist_count"))
        return pages * self._page_bytes >= self._max_bytes

    def _thin(self, connection: apsw.Connection, declare_gap: Callable[[Row, int], Row | None]) -> int:
        """Thin the next rows of this pass; after a pass that could not, drop the oldest rows whatever they are."""
        chunk = self._oldest(self._thinned_to, THIN_AT_ONCE)
        dropped = list(_thinned(chunk, self._measured))
        if chunk:
            self._thinned_to = chunk[-1][0]
            self._thinned_in_this_pass += len(dropped)
        if len(chunk) < THIN_AT_ONCE:
            if not self._thinned_in_this_pass:
                dropped = self._oldest(0, THIN_AT_ONCE // KEEP_ONE_OF)
            self._thinned_to = self._thinned_in_this_pass = 0
        if not dropped:
            return 0
        connection.executemany("DELETE FROM event WHERE sequence = ?", [(row[0],) for row in dropped])
        gap = declare_gap(dropped[0], len(dropped))
        if gap is not None:
            self._insert(connection, [gap])
        log.warning("the event file is full: values dropped", number=len(dropped), max_bytes=self._max_bytes)
        return len(dropped)

    def _oldest(self, sequence: int, number: int) -> list[Row]:
        sql = (
            "SELECT sequence, type_id, cause, common_address, octets FROM event WHERE sequence > ?"
            " ORDER BY sequence LIMIT ?"
        )
        return [(row[0], row[1], row[2], row[3], row[4]) for row in self._database.rows(sql, (sequence, number))]

    @contextmanager
    def _writing(self) -> Iterator[apsw.Connection]:
        try:
            with self._database.transaction() as connection:
                yield connection
        except StoreError as error:
            raise EventsFailed(str(error)) from error


def _thinned(rows: Sequence[Row], measured: frozenset[int]) -> Iterator[Row]:
    """The measured values to drop of these: of each point all but every sixth."""
    seen: dict[tuple[int, bytes], int] = {}
    for row in rows:
        if row[1] in measured:
            point = row[3], row[4][:3]
            number = seen[point] = seen.get(point, -1) + 1
            if number % KEEP_ONE_OF:
                yield row


def _crc(sequence: int, type_id: int, cause: int, common_address: int, octets: bytes) -> int:
    return zlib.crc32(octets, zlib.crc32(b"%d %d %d %d" % (sequence, type_id, cause, common_address)))
