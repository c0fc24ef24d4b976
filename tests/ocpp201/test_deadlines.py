"""The one timer for all calls in flight."""

from __future__ import annotations

import asyncio

from bridge.ocpp201.deadlines import Deadlines


class Caller:
    def __init__(self, deadlines: Deadlines, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.late_s: float | None = None
        deadlines.start(self)

    def time_out(self) -> None:
        self.late_s = asyncio.get_running_loop().time() - self.deadline_s


async def until_late(*callers: Caller) -> None:
    async with asyncio.timeout(10):
        while any(caller.late_s is None for caller in callers):  # noqa: ASYNC110  polled
            await asyncio.sleep(0.005)


async def test_every_deadline_is_met_and_none_before_its_time() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    callers = [Caller(deadlines, loop.time() + delay_s) for delay_s in (0.08, 0.02, 0.05, 0.05, 0.0)]
    await until_late(*callers)
    assert all(caller.late_s is not None and caller.late_s >= 0 for caller in callers)


async def test_who_was_answered_in_time_is_left_in_peace() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    answered, forgotten = Caller(deadlines, loop.time() + 0.01), Caller(deadlines, loop.time() + 0.05)
    deadlines.stop(answered)
    await until_late(forgotten)
    assert answered.late_s is None


async def test_a_shorter_deadline_that_comes_later_is_met_first() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    Caller(deadlines, loop.time() + 3_600)
    await until_late(Caller(deadlines, loop.time() + 0.01))


async def test_one_whose_next_call_begins_when_the_last_timed_out_has_a_deadline_again() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)

    class Patient(Caller):
        times = 0

        def time_out(self) -> None:
            self.times += 1
            if self.times < 3:
                self.deadline_s = loop.time() + 0.01
                deadlines.start(self)
            else:
                super().time_out()

    await until_late(Patient(deadlines, loop.time() + 0.01))
