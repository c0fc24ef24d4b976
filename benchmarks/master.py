"""A control centre on one TCP connection that stamps what comes at the moment it comes, and no more."""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any

STARTDT, STARTDT_CON = b"\x68\x04\x07\x00\x00\x00", b"\x68\x04\x0b\x00\x00\x00"
TESTFR, TESTFR_CON = b"\x68\x04\x43\x00\x00\x00", b"\x68\x04\x83\x00\x00\x00"
C_SE_NC_1 = 50
LIMIT_IOA = 100
ACTIVATION, CONFIRMED, TERMINATED = 6, 7, 10
ACKNOWLEDGE_EVERY = 8
EVENT_TYPES = frozenset({1, 3, 9, 11, 13, 15, 30, 31, 34, 35, 36, 37})


class Master(asyncio.Protocol):
    """Sends setpoints (C_SE_NC_1) and counts events; every eighth I-frame is acknowledged."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.started = asyncio.get_running_loop().create_future()
        self.confirmed: asyncio.Future[tuple[int, bool]] | None = None
        self.terminated: asyncio.Future[int] | None = None
        self.events = 0
        self._sent = self._received = 0
        self._buffer = b""

    @classmethod
    async def connect(cls, port: int) -> Master:
        """Connect and start data transfer."""
        loop = asyncio.get_running_loop()
        _, master = await loop.create_connection(cls, "127.0.0.1", port)
        await asyncio.wait_for(master.started, 10)
        return master

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(STARTDT)

    def data_received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        data = self._buffer + data
        at = 0
        while len(data) - at >= 2 and len(data) - at >= 2 + data[at + 1]:
            frame = data[at : at + 2 + data[at + 1]]
            at += len(frame)
            if frame == STARTDT_CON:
                self.started.set_result(None)
            elif frame == TESTFR:
                self.transport.write(TESTFR_CON)
            elif not frame[2] & 1:
                self._information(frame, now_ns)
        self._buffer = data[at:]

    def _information(self, frame: bytes, now_ns: int) -> None:
        self._received = (self._received + 1) % 32768
        if self._received % ACKNOWLEDGE_EVERY == 0:
            self.transport.write(struct.pack("<BBHH", 0x68, 4, 1, self._received << 1))
        kind, number, cause = frame[6], frame[7] & 0x7F, frame[8]
        if kind in EVENT_TYPES:
            self.events += number
        elif kind == C_SE_NC_1 and cause & 0x3F == CONFIRMED and self.confirmed is not None:
            self.confirmed.set_result((now_ns, bool(cause & 0x40)))
            self.confirmed = None
        elif kind == C_SE_NC_1 and cause & 0x3F == TERMINATED and self.terminated is not None:
            self.terminated.set_result(now_ns)
            self.terminated = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio says why
        for waiting in (self.started, self.confirmed, self.terminated):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionError("the outstation closed"))

    async def setpoint(self, value: float, within_s: float = 20.0) -> tuple[int, int, asyncio.Future[int]]:
        """Send a limit; when it was sent and confirmed (ns, monotonic), and a future of its termination."""
        loop = asyncio.get_running_loop()
        confirmed = self.confirmed = loop.create_future()
        terminated = self.terminated = loop.create_future()
        octets = struct.pack("<BBBBH", C_SE_NC_1, 1, ACTIVATION, 0, 1) + LIMIT_IOA.to_bytes(3, "little")
        octets += struct.pack("<fB", value, 0)
        head = struct.pack("<BBHH", 0x68, len(octets) + 4, self._sent << 1, self._received << 1)
        self._sent = (self._sent + 1) % 32768
        sent_ns = time.monotonic_ns()
        self.transport.write(head + octets)
        confirmed_ns, negative = await asyncio.wait_for(confirmed, within_s)
        assert not negative, f"the setpoint {value} was refused"
        return sent_ns, confirmed_ns, terminated

    def close(self) -> None:
        """End the connection."""
        self.transport.abort()
