"""Integers, UUIDs and sequence numbers that outlive the service."""

from __future__ import annotations

import uuid

from bridge.legacy.transactions import ENDED_KEPT, MAX_NUMBER, MAX_OPEN, Transactions
from tests.legacy.fake_unit import SERIAL, MemoryShelf

START = (SERIAL, 1, "04A1B2C3", 1000, "2026-09-01T10:00:00Z")


def test_a_retried_start_gets_the_same_integer_and_is_not_new() -> None:
    transactions = Transactions(MemoryShelf())
    first = transactions.start(*START)
    again = [transactions.start(*START) for _ in range(3)]
    assert first is not None
    assert first.is_new
    assert all(start is not None and not start.is_new and start.transaction is first.transaction for start in again)
    assert 0 < first.transaction.number <= MAX_NUMBER
    assert uuid.UUID(first.transaction.transaction_id).version == 4


def test_a_retried_start_is_known_after_a_restart_and_after_its_end() -> None:
    shelf = MemoryShelf()
    before = Transactions(shelf)
    first = before.start(*START)
    assert first is not None
    assert [before.take_seq_no(first.transaction) for _ in range(3)] == [0, 1, 2]
    after = Transactions(shelf)
    again = after.start(*START)
    assert again is not None
    assert not again.is_new
    assert again.transaction == first.transaction
    assert after.take_seq_no(again.transaction) == 3
    assert after.end(again.transaction, "stop") == 4
    known = Transactions(shelf).start(*START)
    assert known is not None
    assert known.transaction.ended
    assert not known.is_new


def test_without_a_believable_time_only_an_open_transaction_is_found_again() -> None:
    transactions = Transactions(MemoryShelf())
    start = (SERIAL, 1, "A", 0, None)
    first, again = transactions.start(*start), transactions.start(*start)
    assert first is not None
    assert again is not None
    assert again.transaction is first.transaction
    transactions.end(first.transaction, "")
    second = transactions.start(*start)
    assert second is not None
    assert second.is_new


def test_a_second_start_on_a_connector_names_the_one_that_was_left_open() -> None:
    transactions = Transactions(MemoryShelf())
    first = transactions.start(*START)
    second = transactions.start(SERIAL, 1, "OTHER", 2000, None)
    assert first is not None
    assert second is not None
    assert second.left_open is first.transaction
    assert second.transaction.number != first.transaction.number


def test_numbers_are_never_handed_out_twice_and_wrap_within_31_bits() -> None:
    shelf = MemoryShelf()
    shelf.put("counters", "transaction_number", str(MAX_NUMBER - 1))
    transactions = Transactions(shelf)
    transactions.recover(SERIAL, 1, 9, "number 1")
    numbers = []
    for meter in range(3):
        start = transactions.start(SERIAL, 1, "A", meter, None)
        assert start is not None
        transactions.end(start.transaction, "")
        numbers.append(start.transaction.number)
    assert numbers == [MAX_NUMBER, 2, 3]
    start = Transactions(shelf).start(SERIAL, 1, "A", 99, None)
    assert start is not None
    assert start.transaction.number == 4


def test_a_recovered_transaction_keeps_a_usable_number_and_gets_one_for_minus_one() -> None:
    transactions = Transactions(MemoryShelf())
    kept, minted = transactions.recover(SERIAL, 812, 1, "number 812"), transactions.recover(SERIAL, -1, None, "stop x")
    assert kept is not None
    assert minted is not None
    assert kept.transaction.number == 812
    assert minted.transaction.number > 0
    again = transactions.recover(SERIAL, -1, None, "stop x")
    assert again is not None
    assert again.transaction is minted.transaction


def test_what_is_kept_of_each_unit_is_bounded_and_units_do_not_see_each_other() -> None:
    shelf = MemoryShelf()
    transactions = Transactions(shelf)
    for meter in range(ENDED_KEPT + 30):
        start = transactions.start(SERIAL, 1, "A", meter, "2026-09-01T10:00:00Z")
        assert start is not None
        transactions.end(start.transaction, "")
    assert len(shelf.rooms["transactions"]) == ENDED_KEPT
    assert all(transactions.start("S4-0002", connector, "A", 0, None) for connector in range(MAX_OPEN))
    assert transactions.start("S4-0002", MAX_OPEN, "A", 0, None) is None
    assert transactions.recover("S4-0002", 5_000, None, "x") is None
    assert transactions.open_of(SERIAL) == []
    assert len(Transactions(shelf).open_of("S4-0002")) == MAX_OPEN


def test_an_unreadable_row_on_the_shelf_is_left_there_and_the_rest_is_read() -> None:
    shelf = MemoryShelf()
    Transactions(shelf).start(*START)
    shelf.put("transactions", "S4-0001/77", "{broken")
    assert len(Transactions(shelf).open_of(SERIAL)) == 1
    assert "S4-0001/77" in shelf.rooms["transactions"]


def test_event_ids_are_never_used_twice() -> None:
    shelf = MemoryShelf()
    assert [Transactions(shelf).mint_event_id() for _ in range(3)] == [1, 2, 3]
