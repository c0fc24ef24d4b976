"""Time for the service: the two clocks, one wake-up at the core's next deadline, and calendar work by APScheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from bridge.core.quantities import Millis, Now

ALIVE_EVERY_S = 5.0
LONGEST_SLEEP_S = 3600.0


def system_clock() -> Now:
    """Both clocks now. CLOCK_BOOTTIME goes on while the machine sleeps and never steps."""
    return Now(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, time.time_ns() // 1_000_000)


def boot_id() -> str:
    """Names this boot of the machine: monotonic times of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


class WakeUp:
    """Calls `wake` at the deadline that was last asked for; asking again replaces it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], Now], wake: Callable[[], None]) -> None:
        self._loop = loop
        self._clock = clock
        self._wake = wake
        self._deadline_ms: Millis | None = None
        self._handle: asyncio.TimerHandle | None = None

    def at(self, deadline_ms: Millis | None) -> None:
        """Wake at this monotonic time, or not at all."""
        if deadline_ms == self._deadline_ms:
            return
        self.cancel()
        self._deadline_ms = deadline_ms
        if deadline_ms is not None:
            delay_s = (deadline_ms - self._clock().monotonic_ms) / 1000
            self._handle = self._loop.call_later(min(max(0.0, delay_s), LONGEST_SLEEP_S), self._due)

    def cancel(self) -> None:
        """Do not wake any more."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle, self._deadline_ms = None, None

    def _due(self) -> None:
        self._handle, self._deadline_ms = None, None
        self._wake()


class Calendar:
    """Work by the wall clock, where an hour's step does no harm: nothing that a promise rests on."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(timezone="UTC")

    def daily(self, work: Callable[[], None], hour: int) -> None:
        """Do `work` every day at this hour, UTC."""
        self._scheduler.add_job(work, "cron", hour=hour, coalesce=True, misfire_grace_time=None)

    def start(self) -> None:
        """Begin; needs the running loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """End without waiting for work that runs."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
