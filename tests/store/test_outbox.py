"""Claims about the outbox: order, durability, newest-only slots, dead letters, and what is dropped without room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.ocpp201.letters import Cause, Letter
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit
from bridge.store.outbox import Outbox
from bridge.store.shelf import Shelf


class Turn:
    """One turn of a loop: what is to be called soon is called by `end`."""

    def __init__(self, path: Path) -> None:
        self.soon: list[Callable[[], None]] = []
        self.failures: list[str] = []
        self.database = Database(path / "bridge.db")
        self.group = GroupCommit(self.database, self.soon.append, self.failures.append)

    def outbox(self, max_bytes: int = 1 << 20) -> Outbox:
        return Outbox(self.database, self.group, max_bytes=max_bytes, utc_ms=lambda: 1_000)

    def end(self) -> None:
        for _ in range(len(self.soon)):
            self.soon.pop(0)()


def numbers(outbox: Outbox, serial: str = "A") -> list[int]:
    return [letter.number for letter in outbox.letters(serial)]


def test_a_letter_waits_once_it_is_on_disk_and_not_before(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox, kept = turn.outbox(), list[Letter]()
    outbox.enqueue("A", "TransactionEvent", '{"seqNo":0}', kept.append)
    outbox.enqueue("A", "TransactionEvent", '{"seqNo":1}', kept.append)
    assert (kept, numbers(outbox)) == ([], [])
    turn.end()
    assert [letter.number for letter in kept] == numbers(outbox) == [1, 2]
    assert outbox.text(kept[1]) == '{"seqNo":1}'


def test_what_one_turn_wants_written_is_written_all_or_none(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox, kept = turn.outbox(), list[Letter]()
    Shelf(turn.database, turn.group).put("transactions", "A/1", "next seqNo 1")
    outbox.enqueue("A", "TransactionEvent", "{}", kept.append)
    turn.database.connection.execute("PRAGMA query_only = 1")
    turn.end()
    assert kept == []
    assert len(turn.failures) == 1
    turn.database.close()
    after = Turn(tmp_path)
    assert after.outbox().depth() == 0
    assert list(Shelf(after.database).items("transactions")) == []


def test_letters_outlive_a_restart_in_order_and_are_offline_then(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox = turn.outbox()
    for action in ("MeterValues", "TransactionEvent", "TransactionEvent"):
        outbox.enqueue("A", action, "{}", lambda _: None)
    turn.end()
    outbox.delivered(outbox.heads("A")[0])
    turn.end()
    turn.database.close()
    again = Turn(tmp_path).outbox()
    assert [(letter.action, letter.number, letter.offline) for letter in again.letters("A")] == [
        ("TransactionEvent", 3, True),
        ("MeterValues", 1, True),
    ]


def test_transaction_events_and_all_others_wait_in_lines_of_their_own(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox = turn.outbox()
    for action in ("NotifyEvent", "NotifyEvent", "TransactionEvent"):
        outbox.enqueue("A", action, "{}", lambda _: None)
    turn.end()
    assert [letter.number for letter in outbox.heads("A")] == [3, 1]
    assert outbox.heads("B") == []


def test_only_the_newest_of_a_slot_is_kept_except_for_one_in_flight(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox = turn.outbox()
    for text in ("1", "2", "3"):
        outbox.enqueue("A", "StatusNotification", text, lambda _: None, slot="status 1")
        turn.end()
        if text == "2":
            next(iter(outbox.letters("A"))).in_flight = True
    assert [outbox.text(letter) for letter in outbox.letters("A")] == ["2", "3"]


def test_a_dead_letter_is_kept_with_its_reason_until_a_person_resends_it(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox = turn.outbox()
    for _ in range(3):
        outbox.enqueue("A", "TransactionEvent", "{}", lambda _: None)
    turn.end()
    first = outbox.heads("A")[0]
    first.attempts = 3
    outbox.bury(first, "FormatViolation: no such idToken")
    turn.end()
    turn.database.close()
    turn = Turn(tmp_path)
    outbox = turn.outbox()
    assert (numbers(outbox), outbox.dead) == ([2, 3], 1)
    assert outbox.listed(only_dead=True) == [
        {
            "number": 1,
            "serial": "A",
            "action": "TransactionEvent",
            "utc_ms": 1_000,
            "attempts": 3,
            "dead": "FormatViolation: no such idToken",
        }
    ]
    assert outbox.resend([7]) == []
    assert [letter.attempts for letter in outbox.resend()] == [0]
    assert (numbers(outbox), outbox.dead) == ([1, 2, 3], 0)


def test_short_of_room_it_drops_every_second_sample_and_never_a_start_or_an_end(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox = turn.outbox(max_bytes=20 * 300)
    for place in range(40):
        outbox.enqueue("A", "TransactionEvent", "{}", lambda _: None, thinnable=place not in (0, 39))
        turn.end()
    left = numbers(outbox)
    assert left[0] == 1
    assert left[-1] == 40
    assert len(left) <= 24
    assert outbox.dropped == 40 - len(left)
    for place in range(40):
        outbox.enqueue("B", "TransactionEvent", "{}", lambda _: None)
        turn.end()
        assert outbox.waiting("B") == place + 1


def test_a_damaged_letter_is_never_sent(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    outbox = turn.outbox()
    outbox.enqueue("A", "TransactionEvent", "{}", lambda _: None)
    turn.end()
    turn.database.connection.execute("UPDATE outbox SET text = '{ }'")
    assert outbox.text(outbox.heads("A")[0]) is None


def test_a_file_of_the_release_before_gets_the_outbox_added(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    turn.database.connection.execute("DROP TABLE outbox")
    turn.database.connection.pragma("user_version", 1)
    turn.database.close()
    assert Turn(tmp_path).outbox().depth() == 0


def test_letters_of_the_release_before_are_delivered_and_new_ones_say_what_they_are_told_for(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    turn.outbox().enqueue("A", "TransactionEvent", '{"seqNo":0}', lambda _: None)
    turn.end()
    for column in ("exchange", "cause"):
        turn.database.connection.execute(f"ALTER TABLE outbox DROP COLUMN {column}")
    turn.database.connection.pragma("user_version", 2)
    turn.database.close()
    after = Turn(tmp_path)
    outbox, start = after.outbox(), Cause(7, "Rx unit StartTransaction")
    assert outbox.text(outbox.heads("A")[0]) == '{"seqNo":0}'
    outbox.enqueue("A", "TransactionEvent", '{"seqNo":1}', lambda _: None, cause=start)
    after.end()
    after.database.close()
    assert [letter.cause for letter in Turn(tmp_path).outbox().letters("A")] == [Cause(), start]


def test_what_a_shelf_was_given_can_be_read_before_it_is_on_disk(tmp_path: Path) -> None:
    turn = Turn(tmp_path)
    shelf = Shelf(turn.database, turn.group)
    shelf.put("room", "b", "1")
    turn.end()
    shelf.put("room", "a", "2")
    shelf.delete("room", "b")
    assert (shelf.get("room", "a"), shelf.get("room", "b"), list(shelf.items("room"))) == ("2", None, [("a", "2")])
    turn.end()
    assert (shelf.get("room", "a"), shelf.get("room", "b"), list(shelf.items("room"))) == ("2", None, [("a", "2")])


def test_it_says_when_the_first_letter_dies_and_when_none_is_dead_any_more(tmp_path: Path) -> None:
    turn, told = Turn(tmp_path), list[bool]()
    outbox, letters = Outbox(turn.database, turn.group, on_dead=told.append), list[Letter]()
    for number in range(2):
        outbox.enqueue("A", "TransactionEvent", f'{{"seqNo":{number}}}', letters.append)
    turn.end()
    for letter in letters:
        outbox.bury(letter, "FormatViolation")
    assert told == [True]
    outbox.resend([letters[0].number])
    assert told == [True]
    outbox.resend()
    assert told == [True, False]
