"""Transactions of legacy units: integer ids for the unit, UUIDs for OCPP 2.0.1, sequence numbers; all of it durable."""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Protocol

import structlog

ROOM: Final = "transactions"
COUNTERS: Final = "counters"
MAX_NUMBER: Final = 2**31 - 1
ENDED_KEPT: Final = 64  # of each unit, so that a retried StopTransaction is known again
MAX_OPEN: Final = 64  # of each unit

log = structlog.get_logger(__name__)


class Shelf(Protocol):
    """Kept values by room and key; whatever `put` was given is on disk when it returns."""

    def get(self, room: str, key: str) -> str | None:
        """Return the value, None if there is none."""
        ...

    def put(self, room: str, key: str, value: str) -> None:
        """Keep a value in place of what was there."""
        ...

    def items(self, room: str) -> Iterator[tuple[str, str]]:
        """Go through keys and values of a room."""
        ...

    def delete(self, room: str, key: str) -> None:
        """Forget a value; one that is not there is no error."""
        ...


class Counter:
    """Hands out 1, 2, 3 … across restarts, beginning anew after 2,147,483,647."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf = shelf
        self._name = name
        self._last = int(shelf.get(COUNTERS, name) or 0)

    def next(self) -> int:
        """Return the next number; it is on disk as used when this returns."""
        self._last = self._last % MAX_NUMBER + 1
        self._shelf.put(COUNTERS, self._name, str(self._last))
        return self._last


@dataclass(slots=True)
class Transaction:
    """One charging session of a unit.

    `number` is the id the unit knows, `transaction_id` the UUID OCPP 2.0.1 knows. `start_key` tells a retried start,
    `stop_key` a retried stop, empty while there was none. `connector` is None where the unit never said it.
    `remote_start_id` is that of the RequestStartTransaction that caused it, `stop_cause` what will have ended it if it
    ends now: a ReasonEnumType of OCPP 2.0.1, empty where nobody ordered anything. `base_wh` is what the register of the
    bridge stood at when it began, None for units with a register of their own. `charging_state` is what was last known
    of it, in the words of OCPP 2.0.1, empty if nothing.
    """

    serial: str
    number: int
    transaction_id: str
    connector: int | None
    start_key: str
    id_tag: str
    meter_start_wh: int | None
    next_seq_no: int = 0
    ended: bool = False
    stop_key: str = ""
    remote_start_id: int | None = None
    stop_cause: str = ""
    base_wh: int | None = None
    charging_state: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """What a StartTransaction amounts to: `is_new` unless retried; `left_open` is what was never stopped before it."""

    transaction: Transaction
    is_new: bool
    left_open: Transaction | None = None


class Transactions:
    """All transactions of all units: the open ones, and of each unit the last 64 that ended.

    Every change is on the shelf before a method returns. `mint` makes transaction ids, never one twice (E01.FR.08).
    """

    def __init__(self, shelf: Shelf, mint: Callable[[], str] = lambda: str(uuid.uuid4())) -> None:
        self.shelf = shelf
        self._mint = mint
        self._numbers = Counter(shelf, "transaction_number")
        self._event_ids = Counter(shelf, "event_id")
        self._known: dict[tuple[str, int], Transaction] = {}
        self._by_start: dict[tuple[str, str], Transaction] = {}
        self._open: dict[str, list[Transaction]] = {}
        self._ended: dict[str, deque[Transaction]] = {}
        kept = []
        for key, value in shelf.items(ROOM):
            try:
                kept.append(Transaction(**json.loads(value)))
            except (ValueError, TypeError) as why:
                log.warning("transaction on the shelf is unreadable: left there", key=key, why=str(why))
        for transaction in sorted(kept, key=lambda each: each.number):
            self._remember(transaction)

    def start(
        self, serial: str, connector: int, id_tag: str, meter_start_wh: int | None, timestamp: str | None
    ) -> Start | None:
        """Open a transaction, or find again the one that a retried StartTransaction opened.

        `timestamp` is as the unit wrote it, None where it could not be true: without it only an open transaction is
        found again. None where the unit has as many open ones as no unit has connectors.
        """
        key = json.dumps([connector, id_tag.casefold(), meter_start_wh, timestamp])
        known = self._by_start.get((serial, key))
        if known is not None and (timestamp is not None or not known.ended):
            return Start(known, is_new=False)
        left_open = self.open_on(serial, connector)
        if left_open is None and len(self.open_of(serial)) >= MAX_OPEN:
            return None
        number = self._numbers.next()
        while (serial, number) in self._known:
            number = self._numbers.next()
        started = Transaction(serial, number, self._mint(), connector, key, id_tag, meter_start_wh)
        self.save(started)
        return Start(started, is_new=True, left_open=left_open)

    def recover(self, serial: str, number: int, connector: int | None, start_key: str) -> Start | None:
        """Take up a transaction whose start never came here: number unknown, or -1 or 0 after a start without network.

        `start_key` finds it again when the message that told of it is retried. A usable number of the unit is kept.
        """
        known = self._by_start.get((serial, start_key))
        if known is not None:
            return Start(known, is_new=False)
        if len(self.open_of(serial)) >= MAX_OPEN:
            return None
        while number <= 0 or (serial, number) in self._known:
            number = self._numbers.next()
        recovered = Transaction(serial, number, self._mint(), connector, start_key, "", None)
        self.save(recovered)
        return Start(recovered, is_new=True)

    def mint_event_id(self) -> int:
        """Return an eventId for NotifyEvent that was never used before."""
        return self._event_ids.next()

    def find(self, serial: str, number: int) -> Transaction | None:
        """Return the transaction the unit knows by this number, open or ended."""
        return self._known.get((serial, number))

    def find_id(self, serial: str, transaction_id: str) -> Transaction | None:
        """Return the transaction OCPP 2.0.1 knows by this id, open or ended."""
        known = [*self._open.get(serial, ()), *self._ended.get(serial, ())]
        return next((each for each in known if each.transaction_id == transaction_id), None)

    def of_driver(self, serial: str, id_tag: str) -> list[Transaction]:
        """Return what is kept of a driver's transactions, open ones first."""
        known = [*self._open.get(serial, ()), *self._ended.get(serial, ())]
        return [each for each in known if each.id_tag.casefold() == id_tag.casefold()]

    def forget_driver(self, serial: str, id_tag: str) -> None:
        """Forget the transactions of a driver that have ended (N10)."""
        for transaction in self.of_driver(serial, id_tag):
            if transaction.ended:
                self._ended[serial].remove(transaction)
                self._forget(transaction)

    def open_of(self, serial: str) -> list[Transaction]:
        """Return the open transactions of a unit, oldest first."""
        return list(self._open.get(serial, ()))

    def open_on(self, serial: str, connector: int) -> Transaction | None:
        """Return the open transaction on a connector."""
        return next((each for each in self.open_of(serial) if each.connector == connector), None)

    def take_seq_no(self, transaction: Transaction) -> int:
        """Return the seqNo of the next event of a transaction: from 0, without gaps (OCPP 2.0.1 E01, §1.3.2.1)."""
        seq_no = transaction.next_seq_no
        transaction.next_seq_no += 1
        self.save(transaction)
        return seq_no

    def end(self, transaction: Transaction, stop_key: str) -> int:
        """Close a transaction and return the seqNo of its last event. The oldest ended ones are forgotten."""
        seq_no = transaction.next_seq_no
        transaction.next_seq_no += 1
        transaction.ended, transaction.stop_key = True, stop_key
        self.save(transaction)
        return seq_no

    def save(self, transaction: Transaction) -> None:
        """Write down what has changed in a transaction."""
        self.shelf.put(ROOM, f"{transaction.serial}/{transaction.number}", json.dumps(asdict(transaction)))
        self._remember(transaction)

    def _remember(self, transaction: Transaction) -> None:
        serial = transaction.serial
        self._known[serial, transaction.number] = transaction
        self._by_start[serial, transaction.start_key] = transaction
        running = self._open.setdefault(serial, [])
        if not transaction.ended:
            if transaction not in running:
                running.append(transaction)
            return
        if transaction in running:
            running.remove(transaction)
        ended = self._ended.setdefault(serial, deque())
        if transaction not in ended:
            ended.append(transaction)
        if len(ended) > ENDED_KEPT:
            self._forget(ended.popleft())

    def _forget(self, transaction: Transaction) -> None:
        del self._known[transaction.serial, transaction.number]
        if self._by_start.get((transaction.serial, transaction.start_key)) is transaction:
            del self._by_start[transaction.serial, transaction.start_key]
        self.shelf.delete(ROOM, f"{transaction.serial}/{transaction.number}")
