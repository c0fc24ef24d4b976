"""Unreadable messages are kept whole, and a flood of them costs little."""

from __future__ import annotations

from bridge.core.quantities import Now
from bridge.legacy.quarantine import KEPT_EACH, SHELVED_A_MINUTE, Quarantine
from tests.legacy.fake_unit import SERIAL, MemoryShelf


def test_a_message_is_kept_whole_with_its_reason_across_a_restart() -> None:
    shelf = MemoryShelf()
    Quarantine(shelf).keep(SERIAL, "no JSON", '[2,"x",', Now(1, 2))
    (kept,) = Quarantine(shelf).of(SERIAL)
    assert (kept.serial, kept.utc_ms, kept.why, kept.frame) == (SERIAL, 2, "no JSON", '[2,"x",')


def test_a_flood_is_counted_and_written_at_most_ten_times_a_minute() -> None:
    shelf = MemoryShelf()
    quarantine = Quarantine(shelf)
    for number in range(1_000):
        quarantine.keep(SERIAL, "flood", str(number), Now(number, number))
    assert shelf.writes == SHELVED_A_MINUTE
    assert quarantine.counts[SERIAL] == 1_000
    assert len(quarantine.newest) == KEPT_EACH
    quarantine.keep("S4-0002", "other", "x", Now(1_000, 1_000))
    assert shelf.writes == SHELVED_A_MINUTE + 1


def test_each_unit_keeps_its_newest_hundred() -> None:
    shelf = MemoryShelf()
    quarantine = Quarantine(shelf)
    for number in range(KEPT_EACH + 20):
        quarantine.keep(SERIAL, "slow", str(number), Now(number * 60_000, 0))
    kept = list(Quarantine(shelf).of(SERIAL))
    assert [kept[0].frame, kept[-1].frame, len(kept)] == ["20", "119", KEPT_EACH]
