"""Claims about the alarms of connections that are not who they say they are: one each, bounded, over when quiet."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ocpp201 import intruders as module
from bridge.ocpp201.intruders import MAX_OPEN, Intruders


class Told(list[tuple[str, str, bool]]):
    def __call__(self, alarm: str, serial: str, is_open: bool) -> None:
        self.append((alarm, serial, is_open))


async def test_an_alarm_is_told_once_and_again_when_it_has_been_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.05)
    told = Told()
    intruders = Intruders(told)
    for _ in range(3):
        intruders.seen("A", "DuplicateIdentity")
    assert told == [("duplicate_id", "A", True)]
    async with asyncio.timeout(10):
        while len(told) < 2:  # noqa: ASYNC110  nothing to wait on
            await asyncio.sleep(0.005)
    intruders.seen("A", "DuplicateIdentity")
    assert told[1:] == [("duplicate_id", "A", False), ("duplicate_id", "A", True)]
    intruders.close()


async def test_no_more_alarms_are_open_at_once_than_somebody_can_read() -> None:
    told = Told()
    intruders = Intruders(told)
    for number in range(10 * MAX_OPEN):
        intruders.seen(f"S4-{number}", "FailedToAuthenticateAtCsms")
    intruders.seen("S4-0", "IdentityMismatch")
    assert len(told) == MAX_OPEN
    assert {alarm for alarm, _, _ in told} == {"authentication_failed"}
    intruders.close()
