"""The CSMS is away, sessions run, the bridge is killed at random moments: nothing a unit was told is lost."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.lab.csms import Told
from bridge.lab.outage import Lost, Outage, judge, play


async def test_everything_a_unit_was_told_is_kept_arrives_in_order_and_without_a_gap(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201  the way back to a failure
    tally = await play(tmp_path, seed, units=8, outage_s=12.0, kills=3, toggle_s=0.7)
    assert tally.kills >= 1
    assert tally.offline > 0
    assert tally.sessions >= 8


def event(seq_no: int, event_type: str, **more: Any) -> Told:
    payload = {"seqNo": seq_no, "eventType": event_type, "transactionInfo": {"transactionId": "T"}} | more
    return Told("S4-0000", "TransactionEvent", payload, {})


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([event(0, "Started"), event(2, "Ended")], "seqNo 2 where 1 was due"),
        ([event(0, "Started"), event(1, "Updated")], "Started, Updated"),
        ([event(0, "Started"), event(0, "Started", evse=1), event(1, "Ended")], "came twice"),
        ([], "1 sessions, 0 transactions"),
    ],
)
def test_the_judge_sees_what_is_lost(events: list[Told], why: str) -> None:
    charger: Any = SimpleNamespace(serial="S4-0000", started=1, taken=[])
    csms: Any = SimpleNamespace(told=events)
    with pytest.raises(Lost, match=why):
        judge(csms, [charger], Outage(0))


def test_the_judge_lets_an_event_come_twice_with_its_own_number() -> None:
    events = [event(0, "Started"), event(0, "Started", offline=True), event(1, "Ended")]
    charger: Any = SimpleNamespace(serial="S4-0000", started=1, taken=[])
    csms: Any = SimpleNamespace(told=events)
    judge(csms, [charger], tally := Outage(0))
    assert (tally.events, tally.repeated) == (2, 1)
