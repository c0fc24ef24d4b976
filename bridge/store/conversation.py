"""The conversation of the chargers on disk, so that it can be read after a restart: bounded, and never in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import structlog

from bridge.ocpp201.trace import Said
from bridge.store.database import Database, StoreError

MAX_BYTES = 256 * 1024 * 1024  # of the file: about two days of 50 units
MAX_WAITING = 20_000  # messages in memory; more in a second are not kept
WRITE_AFTER_S = 1.0
WRITE_NEXT_AFTER_S = 0.05
WRITTEN_AT_ONCE = 200  # so that no order waits long for a file nobody is in a hurry for
DELETED_AT_ONCE = 2_000
READ_AT_ONCE = 5_000
SEARCHED_AT_ONCE = 20_000
KEPT_AT_MOST = 2_000_000  # messages that a file of MAX_BYTES can hold

SCHEMA = """
CREATE TABLE IF NOT EXISTS said (
    number INTEGER PRIMARY KEY, utc_ms INTEGER NOT NULL, serial TEXT NOT NULL, leg TEXT NOT NULL, way TEXT NOT NULL,
    kind TEXT NOT NULL, action TEXT NOT NULL, exchange INTEGER NOT NULL, cause TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS said_by_serial ON said (serial, number);
"""
COLUMNS = "number, utc_ms, serial, leg, way, kind, action, exchange, cause, text"

log = structlog.get_logger(__name__)


class Conversation:
    """The newest messages of all chargers in a file of their own, the oldest deleted beyond `max_bytes`.

    `keep` returns at once; what was kept is written within a second or so, by `call_later`, in small parts. A crash of
    the process loses what was not written, a power cut perhaps some seconds more. When the file fails, nothing is kept
    any more and the service goes on. The constructor and `newest` raise StoreError.
    """

    def __init__(
        self,
        database: Database,
        call_later: Callable[[float, Callable[[], None]], object],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._database = database
        self._call_later = call_later
        self._max_bytes = max_bytes
        self._waiting: list[Said] = []
        self._failed = False
        self.dropped = 0
        with database.transaction() as connection:
            connection.execute(SCHEMA)
        database.connection.pragma("synchronous", 1)  # NORMAL: whole after a power cut, but not to the last second
        self._page_bytes = int(database.connection.pragma("page_size"))

    def keep(self, said: Said) -> None:
        """Have a message written soon. Its text has no secrets any more."""
        if self._failed or len(self._waiting) >= MAX_WAITING:
            self.dropped += 1
            return
        self._waiting.append(said)
        if len(self._waiting) == 1:
            self._call_later(WRITE_AFTER_S, self._write_some)

    def flush(self) -> None:
        """Write all that waits, now."""
        while self._waiting and not self._failed:
            self._write(WRITTEN_AT_ONCE)

    def newest(
        self, serial: str = "", action: str = "", count: int = READ_AT_ONCE, within: int = SEARCHED_AT_ONCE
    ) -> list[Said]:
        """The newest messages, oldest first: of one charger, of actions with `action` in their names or causes.

        Looked for are `count` among the newest `within`, so that a running service is not held up.
        """
        of_one, bindings = ("WHERE serial = ?", [serial]) if serial else ("", [])
        rows = self._database.rows(
            f"SELECT * FROM (SELECT {COLUMNS} FROM said {of_one} ORDER BY number DESC LIMIT ?)"  # noqa: S608  ours
            " WHERE instr(lower(action || ' ' || cause), ?) ORDER BY number DESC LIMIT ?",
            [*bindings, within, action.lower(), count],
        )
        return [Said(*row) for row in reversed(rows)]

    def _write_some(self) -> None:
        self._write(WRITTEN_AT_ONCE)
        if self._waiting:
            self._call_later(WRITE_NEXT_AFTER_S, self._write_some)

    def _write(self, number: int) -> None:
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        try:
            with self._database.transaction() as connection:
                connection.executemany(
                    f"INSERT OR REPLACE INTO said ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  ours
                    batch,
                )
                pages = int(connection.pragma("page_count")) - int(connection.pragma("freelist_count"))
                if pages * self._page_bytes > self._max_bytes:
                    connection.execute(
                        "DELETE FROM said WHERE number < (SELECT min(number) FROM said) + ?", (DELETED_AT_ONCE,)
                    )
        except StoreError as error:
            self._failed = True
            self._waiting.clear()
            log.error("the conversation cannot be kept any more", why=str(error))  # noqa: TRY400


def open_file(path: Path) -> Database:
    """Open the file of a conversation; one that cannot be used is set aside as *.damaged, for nothing depends on it."""
    try:
        return Database(path)
    except StoreError as error:
        log.error("the kept conversation cannot be used and is set aside", why=str(error))  # noqa: TRY400
        for suffix in ("", "-wal", "-shm"):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.replace(f"{file}.damaged")
        return Database(path)
