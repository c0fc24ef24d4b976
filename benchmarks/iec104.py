"""What the outstation costs: setpoint to confirmation, a large interrogation, a stream of events; c104 in the same run.

`python -m benchmarks.iec104` prints the table; `figures` returns its rows. The control centre is a blocking socket that
shares no code with either outstation, and acknowledges every w = 8 frames as agreed.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.figures import Row, spread

SETPOINTS = 2_000
POINTS = 100_000
RATE, SECONDS = 20_000, 5.0
POINTS_OF_EVENTS = 1_000
W = 8
QUIET_S = 3.0


class Asdu(NamedTuple):
    """A received ASDU as far as it is counted."""

    type_id: int
    number: int
    cause: int
    octets: bytes


class Master:
    """A control centre on a blocking socket."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._sent = self._received = self._unconfirmed = 0
        self._socket.sendall(b"\x68\x04\x07\x00\x00\x00")
        assert self._frame()[2] == 0x0B

    def send(self, asdu: bytes) -> None:
        control = struct.pack("<BBHH", 0x68, len(asdu) + 4, self._sent << 1, self._received << 1)
        self._sent = (self._sent + 1) % 32768
        self._unconfirmed = 0
        self._socket.sendall(control + asdu)

    def asdu(self, within_s: float = 30) -> Asdu | None:
        """The next ASDU, None if none comes in time or the connection ended."""
        self._socket.settimeout(within_s)
        try:
            while (frame := self._frame())[2] & 1:
                if frame[2] == 0x43:
                    self._socket.sendall(b"\x68\x04\x83\x00\x00\x00")
        except (TimeoutError, ConnectionError):
            return None
        self._received = (self._received + 1) % 32768
        self._unconfirmed += 1
        if self._unconfirmed >= W:
            self._unconfirmed = 0
            self._socket.sendall(struct.pack("<BBHH", 0x68, 4, 1, self._received << 1))
        return Asdu(frame[6], frame[7] & 0x7F, frame[8] & 0x3F, frame[6:])

    def close(self) -> None:
        self._socket.close()

    def _frame(self) -> bytes:
        while len(self._buffer) < 2 or len(self._buffer) < self._buffer[1] + 2:
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionResetError
            self._buffer += data
        size = self._buffer[1] + 2
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        return frame


@contextmanager
def outstation(stack: str, points: int) -> Iterator[tuple[Master, subprocess.Popen[str]]]:
    """A connected control centre, past what is said at first, and the outstation's process."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(  # noqa: S603  our own module
            [sys.executable, "-m", "benchmarks.outstation", stack, str(points), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TZ": "UTC"},
        )
        assert process.stdout is not None
        try:
            master = Master(int(process.stdout.readline()))
            while master.asdu(0.3) is not None:
                pass
            yield master, process
            master.close()
        finally:
            process.kill()
            process.wait()


def confirmations(stack: str) -> list[float]:
    """Milliseconds from a setpoint to its confirmation, the journal's commit in between."""
    took_ms = []
    with outstation(stack, 100) as (master, _):
        for number in range(SETPOINTS):
            body = (100).to_bytes(3, "little") + struct.pack("<fB", 20_000.0 + number % 1_000, 0)
            began = time.perf_counter()
            master.send(struct.pack("<BBBBH", 50, 1, 6, 0, 1) + body)
            while (seen := master.asdu()) is not None and seen.cause != 7:
                pass
            took_ms.append((time.perf_counter() - began) * 1000)
            assert seen is not None
    return took_ms


def interrogation(stack: str) -> tuple[int, float, bool]:
    """Objects received, seconds, and whether the termination came."""
    with outstation(stack, POINTS) as (master, _):
        began = time.perf_counter()
        master.send(struct.pack("<BBBBH", 100, 1, 6, 0, 1) + b"\x00\x00\x00\x14")
        objects, last = 0, began
        while (seen := master.asdu(QUIET_S)) is not None:
            last = time.perf_counter()
            objects += seen.number if seen.cause == 20 else 0
            if seen.cause == 10:
                break
        return objects, last - began, seen is not None


def events(stack: str) -> tuple[int, int, float]:
    """Events reported, events received once and in order, and seconds until the last."""
    with outstation(stack, POINTS_OF_EVENTS) as (master, process):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{RATE} {SECONDS}\n")
        process.stdin.flush()
        began = last = time.perf_counter()
        newest, received = -1.0, 0
        while (seen := master.asdu(QUIET_S)) is not None:
            last = time.perf_counter()
            if seen.type_id != 36:
                continue
            for at in range(6, len(seen.octets), 15):
                (value,) = struct.unpack_from("<f", seen.octets, at + 3)
                received += value > newest
                newest = max(newest, value)
            if received >= RATE * SECONDS:
                break
        return int(process.stdout.readline()), received, last - began


def figures() -> list[Row]:
    """All rows; c104 stands where the stock way does."""
    ours, theirs = spread(confirmations("native")), spread(confirmations("c104"))
    confirmed = Row(
        "setpoint to confirmation, journalled", 0, "ms", ours, "p50 ≤ 1 ms, p99 ≤ 5 ms",
        ours.p50 <= 1 and ours.p99 <= 5, stock=theirs.p50, note=f"c104 p99 {theirs.p99:.2f} ms",
    )  # fmt: skip
    objects, seconds, terminated = interrogation("native")
    their_objects, their_s, their_end = interrogation("c104")
    is_complete = their_end and their_objects == POINTS
    interrogated = Row(
        f"interrogation of {POINTS} points", 0, "s", spread([seconds]), "complete in < 0.5 s",
        objects == POINTS and terminated and seconds < 0.5, stock=their_s if is_complete else None,
        note=f"c104: {their_objects} objects, {'terminated' if their_end else 'not terminated'}, {their_s:.2f} s",
    )  # fmt: skip
    reported, received, took_s = events("native")
    c104_reported, c104_received, c104_s = events("c104")
    told = Row(
        f"events, {RATE} a second offered", 0, "/s", spread([received / took_s]), f"{RATE} a second, none lost",
        received == reported and took_s < SECONDS + 0.5, stock=c104_received / c104_s, higher_is_better=True,
        note=f"lost {reported - received} of {reported}; c104 lost {c104_reported - c104_received}",
    )  # fmt: skip
    return [confirmed, interrogated, told]


def main() -> None:
    """Print the rows."""
    for row in figures():
        stock = "–" if row.stock is None else f"{row.stock:.3g}"
        verdict = "reached" if row.reached else "NOT REACHED"
        print(
            f"{row.what}: {row.ours:.3g} {row.unit} (p99 {row.seen.p99:.3g}, worst {row.seen[-1]:.3g}), c104 {stock};"
            f" {row.goal}: {verdict}; {row.note}"
        )


if __name__ == "__main__":
    main()
