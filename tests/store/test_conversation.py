"""Claims about the kept conversation: what is written and when, how much of it, and that it is never in the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bridge.core.quantities import Now
from bridge.ocpp201.trace import CSMS, UNIT, Said, Trace
from bridge.store.conversation import MAX_WAITING, WRITTEN_AT_ONCE, Conversation, open_file
from bridge.store.database import Database


class Timer:
    """Calls later when told to."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, delay_s: float, call: Callable[[], None]) -> None:
        assert delay_s <= 1
        self.due.append(call)

    def ring(self) -> None:
        for _ in range(len(self.due)):
            self.due.pop(0)()


def said(number: int, serial: str = "A", action: str = "Heartbeat", text: str = "{}") -> Said:
    return Said(number, 1_000 + number, serial, UNIT, "Rx", "call", action, number, "", text)


def kept(path: Path) -> list[int]:
    database = Database(path)
    try:
        return [each.number for each in Conversation(database, Timer()).newest(count=100_000)]
    finally:
        database.close()


def test_what_was_said_is_on_disk_within_a_second_whatever_becomes_of_the_process(tmp_path: Path) -> None:
    timer, database = Timer(), Database(tmp_path / "trace.db")
    conversation = Conversation(database, timer)
    conversation.keep(said(1))
    conversation.keep(said(2))
    timer.ring()
    conversation.keep(said(3))
    database.close()
    assert kept(tmp_path / "trace.db") == [1, 2]


def test_it_is_read_by_serial_and_by_message_or_its_cause(tmp_path: Path) -> None:
    conversation = Conversation(Database(tmp_path / "trace.db"), Timer())
    caused = Said(4, 1, "A", CSMS, "Tx", "call", "TransactionEvent", 3, "Rx unit StartTransaction", "{}")
    for each in (said(1), said(2, "B"), said(3, action="StartTransaction"), caused):
        conversation.keep(each)
    conversation.flush()
    assert [each.number for each in conversation.newest("A")] == [1, 3, 4]
    assert [each.number for each in conversation.newest(action="STARTTRANS")] == [3, 4]
    assert [each.number for each in conversation.newest(count=2)] == [3, 4]
    assert conversation.newest("A", "transactionevent") == [caused]


def test_the_file_is_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    conversation = Conversation(Database(tmp_path / "trace.db"), Timer(), max_bytes=2_000_000)
    for number in range(1, 12_001):
        conversation.keep(said(number, text="x" * 500))
    conversation.flush()
    newest = conversation.newest(count=100_000)
    assert newest[-1].number == 12_000
    assert 1_500 < len(newest) < 4_000
    assert (tmp_path / "trace.db").stat().st_size < 4_000_000


def test_a_flood_is_written_in_small_parts_and_what_is_too_much_is_counted(tmp_path: Path) -> None:
    timer = Timer()
    conversation = Conversation(Database(tmp_path / "trace.db"), timer)
    for number in range(MAX_WAITING + 10):
        conversation.keep(said(number))
    assert conversation.dropped == 10
    timer.ring()
    assert len(conversation.newest(count=100_000)) == WRITTEN_AT_ONCE
    assert len(timer.due) == 1


def test_a_file_that_fails_is_given_up_and_nobody_else_suffers(tmp_path: Path) -> None:
    timer, database = Timer(), Database(tmp_path / "trace.db")
    conversation = Conversation(database, timer)
    database.failure = "the disk is full"
    for number in range(3):
        conversation.keep(said(number))
        timer.ring()
    conversation.flush()
    assert conversation.dropped == 2


def test_numbers_go_on_after_a_restart_and_the_last_service_is_remembered(tmp_path: Path) -> None:
    database = Database(tmp_path / "trace.db")
    conversation = Conversation(database, Timer())
    first = Trace(lambda: Now(0, 0), keep=conversation.keep)
    first.observer("A", UNIT)("Rx", True, "1", "Heartbeat", {})
    conversation.flush()
    second = Trace(lambda: Now(0, 0), keep=conversation.keep, before=conversation.newest())
    second.observer("A", UNIT)("Rx", True, "1", "BootNotification", {})
    assert [(each.number, each.action) for each in second.since()] == [(1, "Heartbeat"), (2, "BootNotification")]
    database.close()


def test_no_secret_and_nothing_of_iso_15118_reaches_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "trace.db")
    conversation = Conversation(database, Timer())
    observe = Trace(lambda: Now(0, 0), keep=conversation.keep).observer("A", UNIT)
    observe("Rx", True, "1", "Get15118EVCertificate", {"exiRequest": "SECRET", "action": "SECRET"})
    observe("Tx", False, "1", "Get15118EVCertificate", {"exiResponse": "SECRET"})
    observe("Rx", True, "2", "NotifyEVChargingNeeds", {"chargingNeeds": {"departureTime": "SECRET"}})
    observe("Rx", True, "3", "DataTransfer", {"vendorId": "org.example.ISO15118pnc", "data": "SECRET"})
    observe("Tx", False, "3", "DataTransfer", {"status": "Accepted", "data": "SECRET"})
    observe("Rx", True, "4", "Authorize", {"iso15118CertificateHashData": [{"serialNumber": "SECRET"}]})
    observe("Tx", True, "5", "ChangeConfiguration", {"key": "AuthorizationKey", "value": "SECRET"})
    observe("Rx", True, "6", "DataTransfer", {"vendorId": "Voltex", "data": "kept"})
    conversation.flush()
    database.close()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"SECRET" not in files
    assert b"Get15118EVCertificate" in files
    assert b"kept" in files


def test_a_damaged_file_is_set_aside_and_does_not_keep_the_service_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "trace.db"
    path.write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    conversation = Conversation(open_file(path), Timer())
    conversation.keep(said(1))
    conversation.flush()
    assert len(conversation.newest()) == 1
    assert (tmp_path / "trace.db.damaged").exists()
