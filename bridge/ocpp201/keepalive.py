"""One timer that pings whoever is silent and ends whoever stays so: no task for each, no ping for the talkative."""

from __future__ import annotations

import asyncio
import heapq
from typing import Final

from websockets.frames import CloseCode
from websockets.protocol import State

from bridge.ocpp201.direct import DirectConnection

PINGED_AT_ONCE: Final = 100  # so that thousands who are due together hold nobody up
NEXT_AFTER_S: Final = 0.01


class KeepAlive:
    """Pings a connection that said nothing for `interval_s`; it is ended if it says nothing for `timeout_s` more.

    Anything that comes is a sign of life. The closing handshake has `close_timeout_s`.
    """

    def __init__(self, interval_s: float, timeout_s: float, close_timeout_s: float) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._close_timeout_s = close_timeout_s
        self._number = 0
        # When to look, a number that keeps the order, whom at, and when it was pinged (0: it was not).
        self._due: list[tuple[float, int, DirectConnection, float]] = []
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connection: DirectConnection) -> None:
        """Mind an open connection until it ends."""
        connection.heard_s = connection.loop.time()
        self._look_again(connection.heard_s + self._interval_s, connection, 0.0)
        if self._timer is None:
            self._timer = connection.loop.call_at(self._due[0][0], self._look, connection.loop)

    def close(self) -> None:
        """Mind nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()

    def _look_again(self, at_s: float, connection: DirectConnection, pinged_s: float) -> None:
        self._number += 1
        heapq.heappush(self._due, (at_s, self._number, connection, pinged_s))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        left = PINGED_AT_ONCE
        while self._due and left and self._due[0][0] <= now_s:
            _, _, connection, pinged_s = heapq.heappop(self._due)
            if connection.protocol.state is not State.OPEN:
                continue
            heard_s = connection.heard_s
            if pinged_s and heard_s < pinged_s:
                connection.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                connection.send_data()
                loop.call_later(self._close_timeout_s, connection.transport.abort)
            elif heard_s + self._interval_s > now_s:
                self._look_again(heard_s + self._interval_s, connection, 0.0)
            else:
                left -= 1
                connection.protocol.send_ping(b"")
                connection.send_data()
                self._look_again(now_s + self._timeout_s, connection, now_s)
        self._timer = None
        if self._due:
            self._timer = loop.call_at(max(self._due[0][0], now_s + NEXT_AFTER_S), self._look, loop)
