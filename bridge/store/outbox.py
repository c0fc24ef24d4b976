"""The outbox: what stations have to tell the CSMS, on disk from the moment they are answered until the CSMS has it."""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import structlog

from bridge.ocpp201.letters import NO_CAUSE, TRANSACTION_EVENT, Cause, Letter
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit

MAX_BYTES = 1 << 30
ROW_BYTES = 256  # what a letter costs beside its text
LISTED_AT_ONCE = 1_000

log = structlog.get_logger(__name__)


def _system_utc_ms() -> int:
    return time.time_ns() // 1_000_000


class _Queue:
    """The letters of one serial: TransactionEvents in one line, all others in another."""

    __slots__ = ("others", "transactions")

    def __init__(self) -> None:
        self.transactions: deque[Letter] = deque()
        self.others: deque[Letter] = deque()

    def __len__(self) -> int:
        return len(self.transactions) + len(self.others)

    def __iter__(self) -> Iterator[Letter]:
        return chain(self.transactions, self.others)

    def line(self, letter: Letter) -> deque[Letter]:
        return self.transactions if letter.action == TRANSACTION_EVENT else self.others


class Outbox:
    """Letters by serial (`bridge.ocpp201.letters.Outbox`); the texts stay on disk, only their places are in memory.

    What waits at the start was not delivered by the service that kept it and is `offline`. Beyond `max_bytes` every
    second thinnable letter of the longest line is dropped (OCPP 2.0.1 E04.FR.08), never another one. `text`, `listed`
    and the constructor raise StoreError when the file fails. `on_dead` is told when the first letter dies, True, and
    when none is dead any more, False.
    """

    def __init__(
        self,
        database: Database,
        group: GroupCommit,
        *,
        max_bytes: int = MAX_BYTES,
        utc_ms: Callable[[], int] = _system_utc_ms,
        on_dead: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._group = group
        self._max_bytes = max_bytes
        self._utc_ms = utc_ms
        self._on_dead = on_dead
        self._bytes = 0
        self._queues: dict[str, _Queue] = {}
        self.dropped = 0
        self.dead: int = database.rows("SELECT count(*) FROM outbox WHERE dead IS NOT NULL")[0][0]
        self._last: int = database.rows("SELECT ifnull(max(number), 0) FROM outbox")[0][0]
        self._load("WHERE dead IS NULL")

    def _load(self, where: str, bindings: tuple[str | int, ...] = ()) -> list[Letter]:
        columns = "number, serial, action, slot, thinnable <> 0, length(text), utc_ms, attempts, exchange, cause"
        rows = self._database.rows(f"SELECT {columns} FROM outbox {where} ORDER BY number", bindings)  # noqa: S608  our words
        letters = [Letter(*row, cause=Cause(exchange, request)) for *row, exchange, request in rows]
        for letter in letters:
            letter.offline = True
            self._insert(letter)
        return letters

    def enqueue(
        self,
        serial: str,
        action: str,
        text: str,
        on_kept: Callable[[Letter], None],
        *,
        slot: str = "",
        thinnable: bool = False,
        cause: Cause = NO_CAUSE,
    ) -> None:
        """Keep a request; it waits in its line, and `on_kept` is called with it, once it is on disk."""
        if slot:
            for older in [each for each in self.letters(serial) if each.slot == slot and not each.in_flight]:
                self.delivered(older)
        self._last += 1
        letter = Letter(self._last, serial, action, slot, thinnable, len(text), self._utc_ms(), cause=cause)

        def kept() -> None:
            self._insert(letter)
            if self._bytes > self._max_bytes:
                self._thin()
            on_kept(letter)

        self._group.write(
            "INSERT INTO outbox (number, serial, action, slot, thinnable, text, utc_ms, attempts, crc, exchange, cause)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
            (letter.number, serial, action, slot, int(thinnable), text, letter.utc_ms, _crc(letter, text), *cause),
            kept,
        )

    def heads(self, serial: str) -> list[Letter]:
        """The oldest TransactionEvent and the oldest of all others, as far as there are any."""
        queue = self._queues.get(serial)
        return [] if queue is None else [line[0] for line in (queue.transactions, queue.others) if line]

    def letters(self, serial: str) -> Iterable[Letter]:
        """All that wait for one serial: TransactionEvents first, each line in order."""
        return list(self._queues.get(serial, ()))

    def waiting(self, serial: str) -> int:
        """How many letters of a serial wait."""
        return len(self._queues.get(serial, ()))

    def depth(self) -> int:
        """How many letters wait in all."""
        return sum(map(len, self._queues.values()))

    def oldest_utc_ms(self) -> int | None:
        """Since when the letter that has waited longest has done so."""
        return min((letter.utc_ms for queue in self._queues.values() for letter in _firsts(queue)), default=None)

    def serials(self) -> set[str]:
        """Whose letters wait."""
        return {serial for serial, queue in self._queues.items() if queue}

    def text(self, letter: Letter) -> str | None:
        """The JSON text of a letter's payload, None if it is damaged."""
        rows = self._database.rows("SELECT text, crc FROM outbox WHERE number = ?", (letter.number,))
        is_whole = bool(rows) and rows[0][1] == _crc(letter, rows[0][0])
        return str(rows[0][0]) if is_whole else None

    def delivered(self, letter: Letter) -> None:
        """Forget a letter. Killed before that is on disk, the service sends it again."""
        if self._take(letter):
            self._group.write("DELETE FROM outbox WHERE number = ?", (letter.number,))

    def attempted(self, letter: Letter) -> None:
        """Keep how often it was sent in vain."""
        self._group.write("UPDATE outbox SET attempts = ? WHERE number = ?", (letter.attempts, letter.number))

    def bury(self, letter: Letter, why: str) -> None:
        """Keep a letter with its reason and send it no more."""
        if self._take(letter):
            self.dead += 1
            self._group.write(
                "UPDATE outbox SET dead = ?, attempts = ? WHERE number = ?", (why, letter.attempts, letter.number)
            )
            if self.dead == 1:
                self._on_dead(True)

    def resend(self, numbers: Iterable[int] | None = None) -> list[Letter]:
        """Let dead letters wait again, in their old places; without `numbers` all of them."""
        self._group.flush()
        wanted = None if numbers is None else set(numbers)
        dead = [row[0] for row in self._database.rows("SELECT number FROM outbox WHERE dead IS NOT NULL")]
        revived = []
        for number in dead if wanted is None else [each for each in dead if each in wanted]:
            self._group.write("UPDATE outbox SET dead = NULL, attempts = 0 WHERE number = ?", (number,))
            self._group.flush()
            revived += self._load("WHERE number = ?", (number,))
            self.dead -= 1
        if revived and not self.dead:
            self._on_dead(False)
        for letter in revived:
            letter.attempts = 0
        for serial in {letter.serial for letter in revived}:
            queue = self._queues[serial]
            queue.transactions = deque(sorted(queue.transactions, key=lambda each: each.number))
            queue.others = deque(sorted(queue.others, key=lambda each: each.number))
        return revived

    def listed(self, *, only_dead: bool = False, serial: str | None = None) -> list[dict[str, Any]]:
        """Say of the oldest thousand letters what they are and why they are still here; dead ones first."""
        self._group.flush()
        rows = self._database.rows(
            "SELECT number, serial, action, utc_ms, attempts, dead FROM outbox"
            " WHERE (dead IS NOT NULL OR ?) AND (serial = ? OR ?) ORDER BY dead IS NULL, number LIMIT ?",
            (int(not only_dead), serial or "", int(serial is None), LISTED_AT_ONCE),
        )
        names = ("number", "serial", "action", "utc_ms", "attempts", "dead")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _insert(self, letter: Letter) -> None:
        queue = self._queues.setdefault(letter.serial, _Queue())
        queue.line(letter).append(letter)
        self._bytes += letter.size + ROW_BYTES

    def _take(self, letter: Letter) -> bool:
        queue = self._queues.get(letter.serial)
        if queue is None or letter not in (line := queue.line(letter)):
            return False
        line.remove(letter)
        if not queue:
            del self._queues[letter.serial]
        self._bytes -= letter.size + ROW_BYTES
        return True

    def _thin(self) -> None:
        """Drop every second of what may be dropped from the longest line, so that its course stays visible."""
        longest = max(self._queues.values(), key=lambda queue: len(queue.transactions))
        thinnable = [letter for letter in longest.transactions if letter.thinnable and not letter.in_flight]
        for letter in thinnable[::2]:
            self.delivered(letter)
        self.dropped += len(thinnable[::2])
        log.error("outbox full", dropped=len(thinnable[::2]), what="every second sample of one charger")


def _firsts(queue: _Queue) -> Iterator[Letter]:
    return (line[0] for line in (queue.transactions, queue.others) if line)


def _crc(letter: Letter, text: str) -> int:
    return zlib.crc32(f"{letter.number} {letter.serial} {letter.action} {text}".encode())
