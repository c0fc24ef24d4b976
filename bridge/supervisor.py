"""What systemd is told: ready, reloading, stopping, a line of status, and that the control loop keeps its promises."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping


class Supervisor:
    """Sends sd_notify datagrams to the socket that the environment names, and none where nobody supervises us."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def tell(self, *words: str) -> None:
        """Send e.g. `READY=1`, `STATUS=...`, `WATCHDOG=1` in one datagram; a supervisor that has gone is none."""
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as datagrams:
            datagrams.sendto("\n".join(words).encode(), self._address)

    def reloading(self) -> None:
        """Say that the configuration is being read anew; `READY=1` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
