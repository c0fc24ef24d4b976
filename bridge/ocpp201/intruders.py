"""Alarms for connections that claim to be a charger and are not: open at once, closed when it has been quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

QUIET_S: Final = 600.0
MAX_OPEN: Final = 50  # of a stranger who tries one serial after the other the first ones tell enough

# What the listener reports, and the name of its alarm.
ALARMS: Final = {
    "DuplicateIdentity": "duplicate_id",
    "FailedToAuthenticateAtCsms": "authentication_failed",
    "IdentityMismatch": "identity_mismatch",
}


class Intruders:
    """Keeps one alarm for each serial and kind of claim; `tell` is told its name, the serial, and whether it is open.

    An alarm is told when it opens and when nothing of its kind came for 10 minutes, however often it came between.
    """

    def __init__(self, tell: Callable[[str, str, bool], None]) -> None:
        self._tell = tell
        self._open: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def seen(self, serial: str, kind: str) -> None:
        """Note that somebody claimed to be `serial` and was refused."""
        key = (ALARMS[kind], serial)
        timer = self._open.get(key)
        if timer is not None:
            timer.cancel()
        elif len(self._open) >= MAX_OPEN:
            return
        else:
            self._tell(*key, True)
        self._open[key] = asyncio.get_running_loop().call_later(QUIET_S, self._quiet, key)

    def close(self) -> None:
        """Tell nothing any more."""
        for timer in self._open.values():
            timer.cancel()

    def _quiet(self, key: tuple[str, str]) -> None:
        del self._open[key]
        self._tell(*key, False)
