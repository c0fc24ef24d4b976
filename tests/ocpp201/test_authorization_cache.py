"""Claims about what the bridge remembers of idTokens for the time in which the CSMS cannot be asked."""

from __future__ import annotations

from typing import Any

from bridge.core.quantities import Now
from bridge.ocpp201 import authorization_cache as module
from bridge.ocpp201.authorization_cache import LIFETIME_MS, MAX_ENTRIES, AuthorizationCache
from bridge.ocpp201.rpc import UNANSWERED, CallError, Outcome
from tests.legacy.fake_unit import MemoryShelf

T0 = 1_788_256_800_000  # 2026-09-01T10:00:00Z
CARD = {"idToken": "04A1B2C3", "type": "ISO14443"}
FLEET = {"idToken": "FLEET", "type": "Central"}


class Memory:
    """A cache with its shelf and a clock that is moved by hand."""

    def __init__(self, shelf: MemoryShelf | None = None) -> None:
        self.shelf = shelf or MemoryShelf()
        self.ms = T0
        self.cache = AuthorizationCache(self.shelf, lambda: Now(self.ms, self.ms))

    def say(self, status: str, token: dict[str, Any] = CARD, serial: str = "A", **more: Any) -> None:
        answer = {"idTokenInfo": {"status": status} | more}
        self.cache.answered(serial, "Authorize", {"idToken": token}, answer)

    def knows(self, token: dict[str, Any] = CARD, serial: str = "A") -> Any:
        return self.cache.id_token_info(serial, token)


def test_c12_what_the_csms_said_last_counts_for_this_charger_whatever_the_case_of_the_token() -> None:
    memory = Memory()
    memory.say("Accepted", groupIdToken=FLEET)
    assert memory.knows(CARD | {"idToken": "04a1b2c3"}) == {"status": "Accepted", "groupIdToken": FLEET}
    assert memory.knows(serial="B") is None
    assert memory.knows(CARD | {"type": "Central"}) is None
    memory.cache.answered("A", "TransactionEvent", {"idToken": CARD}, {"idTokenInfo": {"status": "Blocked"}})
    assert memory.knows() == {"status": "Blocked"}


def test_no_answer_and_no_idtokeninfo_change_nothing() -> None:
    memory = Memory()
    memory.say("Accepted")
    outcomes: list[Outcome] = [UNANSWERED, CallError("InternalError"), {}]
    for outcome in outcomes:
        memory.cache.answered("A", "TransactionEvent", {"idToken": CARD}, outcome)
    memory.cache.answered("A", "TransactionEvent", {}, {"idTokenInfo": {"status": "Blocked"}})
    assert memory.knows() == {"status": "Accepted"}


def test_c10_what_has_expired_or_was_not_confirmed_for_a_month_is_not_known() -> None:
    memory = Memory()
    memory.say("Accepted", cacheExpiryDateTime="2026-09-01T12:00:00+00:00")
    assert memory.knows() == {"status": "Accepted", "cacheExpiryDateTime": "2026-09-01T12:00:00.000Z"}
    memory.ms += 7_200_000
    assert memory.knows() is None
    memory.say("Accepted")
    memory.ms += LIFETIME_MS + 1
    assert memory.knows() is None


def test_it_outlives_a_restart_and_writes_only_what_is_new() -> None:
    memory = Memory()
    for _ in range(5):
        memory.say("Accepted", groupIdToken=FLEET)
    assert memory.shelf.writes == 1
    memory.ms += 86_400_000
    memory.say("Accepted", groupIdToken=FLEET)
    assert memory.shelf.writes == 2
    assert Memory(memory.shelf).knows() == {"status": "Accepted", "groupIdToken": FLEET}


def test_what_cannot_be_read_does_not_keep_the_service_from_starting() -> None:
    memory = Memory()
    memory.say("Accepted")
    for number, value in enumerate(("", "[]", "[1, 2]", '["Accepted", null, null, "soon"]')):
        memory.shelf.put("authorization_cache", f"A/Central/{number}", value)
    assert Memory(memory.shelf).knows() == {"status": "Accepted"}


def test_c11_clearing_the_cache_of_one_charger_leaves_the_others() -> None:
    memory = Memory()
    for serial in ("A", "AB"):
        memory.say("Accepted", serial=serial)
    memory.cache.asked("A", "ClearCache", {}, {"status": "Rejected"})
    assert memory.knows(serial="A") is None
    assert memory.knows(serial="AB") == {"status": "Accepted"}
    assert Memory(memory.shelf).knows(serial="A") is None


def test_n10_a_customer_who_is_forgotten_is_forgotten_here_too() -> None:
    memory = Memory()
    memory.say("Accepted")
    asked = {"requestId": 1, "report": True, "clear": False, "idToken": CARD}
    memory.cache.asked("A", "CustomerInformation", asked, {"status": "Accepted"})
    assert memory.knows() is not None
    memory.cache.asked("A", "CustomerInformation", asked | {"clear": True}, {"status": "Accepted"})
    assert memory.knows() is None


def test_d01_an_accepted_local_list_counts_and_a_refused_one_does_not() -> None:
    memory = Memory()
    entries = [{"idToken": CARD, "idTokenInfo": {"status": "Accepted"}}]
    request = {"versionNumber": 1, "updateType": "Full", "localAuthorizationList": entries}
    memory.cache.asked("A", "SendLocalList", request, {"status": "Failed"})
    assert memory.knows() is None
    memory.cache.asked("A", "SendLocalList", request, {"status": "Accepted"})
    assert memory.knows() == {"status": "Accepted"}
    removed = {"versionNumber": 2, "updateType": "Differential", "localAuthorizationList": [{"idToken": CARD}]}
    memory.cache.asked("A", "SendLocalList", removed, {"status": "Accepted"})
    assert memory.knows() is None


def test_of_too_many_the_one_confirmed_longest_ago_gives_way(monkeypatch: Any) -> None:
    assert MAX_ENTRIES == 10_000
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    memory = Memory()
    for number in (1, 2, 3, 1, 4):
        memory.ms += 86_400_000
        memory.say("Accepted", CARD | {"idToken": f"TAG{number}"})
    kept = [number for number in range(1, 5) if memory.knows(CARD | {"idToken": f"TAG{number}"})]
    assert kept == [1, 3, 4]
    assert len(memory.shelf.rooms["authorization_cache"]) == 3
