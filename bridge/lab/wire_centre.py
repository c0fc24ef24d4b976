"""A control centre on a bare socket: it sends any command, records every frame and replays captures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from bridge.lab.telegrams import ACTIVATION, Telegram, TypeId, decode, encode_time

STARTDT_ACT, STARTDT_CON, TESTFR_ACT, TESTFR_CON = 0x07, 0x0B, 0x43, 0x83
DEACTIVATION = 8
MODULUS = 32768
INTERROGATED = 20  # the first of the causes with which an interrogation is answered
RECORDED = 100_000  # frames and telegrams kept; the oldest go first
FINAL = {7, 9, 44, 45, 46, 47}
ENDED = {10, 44, 45, 46, 47}  # causes with which an interrogation is over


class Command(Enum):
    """What can be commanded: the name, its type without and with time tag."""

    SINGLE = ("single", TypeId.C_SC_NA_1, TypeId.C_SC_TA_1)
    DOUBLE = ("double", TypeId.C_DC_NA_1, TypeId.C_DC_TA_1)
    NORMALIZED = ("normalized", TypeId.C_SE_NA_1, TypeId.C_SE_TA_1)
    SCALED = ("scaled", TypeId.C_SE_NB_1, TypeId.C_SE_TB_1)
    FLOAT = ("float", TypeId.C_SE_NC_1, TypeId.C_SE_TC_1)


class Frame(NamedTuple):
    """One APDU as it passed, at a time on the monotonic clock."""

    at_s: float
    sent: bool
    octets: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """A command to be sent: to single 0 or 1, to double 1 (off) or 2 (on), else the value in the unit of the wire."""

    command: Command
    ioa: int
    value: float
    common_address: int = 1
    originator: int = 0
    qualifier: int = 0
    tag_utc_ms: int | None = None

    @property
    def type_id(self) -> int:
        """Type identification, with time tag where there is one."""
        _, untagged, tagged = self.command.value
        return untagged if self.tag_utc_ms is None else tagged

    def asdu(self, *, select: bool = False, cause: int = ACTIVATION) -> bytes:
        """The octets; struct.error for a value the type cannot carry."""
        qualifier = self.qualifier | (0x80 if select else 0)
        match self.command:
            case Command.SINGLE | Command.DOUBLE:
                element = struct.pack("<B", int(self.value) | self.qualifier << 2 | (0x80 if select else 0))
            case Command.NORMALIZED:
                element = struct.pack("<hB", max(-32768, min(round(self.value * 32768), 32767)), qualifier)
            case Command.SCALED:
                element = struct.pack("<hB", round(self.value), qualifier)
            case Command.FLOAT:
                element = struct.pack("<fB", self.value, qualifier)
        tag = b"" if self.tag_utc_ms is None else encode_time(self.tag_utc_ms)
        return asdu(self.type_id, cause, self.ioa, element + tag, self.common_address, self.originator)


def asdu(type_id: int, cause: int, ioa: int, element: bytes, common_address: int, originator: int = 0) -> bytes:
    """An ASDU with one information object."""
    header = struct.pack("<BBBBH", type_id, 1, cause, originator, common_address)
    return header + ioa.to_bytes(3, "little") + element


class WireCentre:
    """One connection in STARTDT; every I-frame is acknowledged at once. `frames` and `received` are in order.

    With `tls`, over TLS after IEC 62351-3.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.frames: deque[Frame] = deque(maxlen=RECORDED)
        self.received: deque[Telegram] = deque(maxlen=RECORDED)
        self.on_telegram: Callable[[Telegram], None] | None = None
        self._host, self._port, self._tls = host, port, tls
        self._sent = self._seen = 0
        self._news = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ended = False

    async def connect(self, within_s: float = 10.0) -> None:
        """Dial and start data transfer. OSError, TimeoutError."""
        async with asyncio.timeout(within_s):
            reader, self._writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
            self._write(bytes((0x68, 4, STARTDT_ACT, 0, 0, 0)))
            frame = await self._frame(reader)
            while frame[2] != STARTDT_CON:
                self._answer(frame)
                frame = await self._frame(reader)
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        """End the connection."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    def send(self, octets: bytes) -> float:
        """Send an ASDU; the monotonic time at which it left."""
        self._write(struct.pack("<BBHH", 0x68, len(octets) + 4, self._sent << 1, self._seen << 1) + octets)
        self._sent = (self._sent + 1) % MODULUS
        return self.frames[-1].at_s

    async def ask(self, octets: bytes, within_s: float = 3.0) -> Telegram | None:
        """Send a request and wait for its confirmation or refusal; None if none comes in time."""
        sent_s, type_id, ioa = self.send(octets), octets[0], int.from_bytes(octets[6:9], "little")
        return await self.seen(
            lambda it: it.type_id == type_id and it.ioa == ioa and it.cause in FINAL and it.at_s >= sent_s, within_s
        )

    async def seen(self, wanted: Callable[[Telegram], bool], within_s: float) -> Telegram | None:
        """The first telegram that is wanted, among those received too; None if none comes in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    self._news.clear()
                    found = next(filter(wanted, self.received), None)
                    if found is not None or self.ended:
                        return found
                    await self._news.wait()
        return None

    async def operate(self, order: Order, *, select: bool, cancel: bool = False) -> list[Telegram | None]:
        """Send a command, selected before where asked, cancelled instead of executed where asked; the answers."""
        answers: list[Telegram | None] = []
        if select:
            answers.append(await self.ask(order.asdu(select=True)))
            if answers[0] is None or answers[0].negative:
                return answers
        answers.append(await self.ask(order.asdu(cause=DEACTIVATION if cancel else ACTIVATION)))
        return answers

    async def interrogate(self, request: bytes, within_s: float = 10.0) -> list[Telegram]:
        """Send C_IC_NA_1 or C_CI_NA_1; what is answered, its termination or refusal last. TimeoutError without one."""
        sent_s, type_id = self.send(request), request[0]

        def is_last(it: Telegram) -> bool:
            return it.type_id == type_id and it.at_s >= sent_s and (it.negative or it.cause in ENDED)

        last = await self.seen(is_last, within_s)
        if last is None:
            raise TimeoutError(f"the interrogation came to no end within {within_s:g} s")
        answered = [it for it in self.received if it.at_s >= sent_s and (it.cause >= INTERROGATED or it is last)]
        return answered[: answered.index(last) + 1]

    async def measure(self, common_address: int, count: int) -> list[float]:
        """Seconds from a test command (C_TS_TA_1) to its confirmation, `count` times. TimeoutError."""
        took_s = []
        for number in range(count):
            element = struct.pack("<H", number & 0xFFFF) + encode_time(time.time_ns() // 1_000_000)
            began = time.perf_counter()
            if await self.ask(asdu(TypeId.C_TS_TA_1, ACTIVATION, 0, element, common_address)) is None:
                raise TimeoutError(f"test command {number} was not answered")
            took_s.append(time.perf_counter() - began)
            self.received.clear()
        return took_s

    async def replay(self, capture: Iterable[Frame], speed: float = 1.0) -> int:
        """Send the ASDUs that a control centre sent in a capture, numbered anew, with its pauses; how many."""
        number, before_s = 0, None
        for frame in capture:
            if not frame.sent or len(frame.octets) <= 6 or frame.octets[2] & 1:
                continue
            if before_s is not None:
                await asyncio.sleep(max(0.0, frame.at_s - before_s) / speed)
            before_s = frame.at_s
            self.send(frame.octets[6:])
            number += 1
        return number

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                self._answer(await self._frame(reader))
        self.ended = True
        self._news.set()

    async def _frame(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readexactly(2)
        octets = head + await reader.readexactly(max(head[1], 4))
        self.frames.append(Frame(time.monotonic(), sent=False, octets=octets))
        return octets

    def _answer(self, octets: bytes) -> None:
        if not octets[2] & 1:
            self._seen = (self._seen + 1) % MODULUS
            self._write(struct.pack("<BBHH", 0x68, 4, 1, self._seen << 1))
            telegrams = decode(octets, self.frames[-1].at_s, sent=False)
            self.received.extend(telegrams)
            self._news.set()
            if self.on_telegram is not None:
                for telegram in telegrams:
                    self.on_telegram(telegram)
        elif octets[2] == TESTFR_ACT:
            self._write(bytes((0x68, 4, TESTFR_CON, 0, 0, 0)))

    def _write(self, octets: bytes) -> None:
        if self._writer is None:
            raise ConnectionError("connect first")
        self.frames.append(Frame(time.monotonic(), sent=True, octets=octets))
        self._writer.write(octets)


def save(frames: Iterable[Frame], path: Path) -> int:
    """Write a capture as JSON lines; how many."""
    lines = [json.dumps({"at": at_s, "sent": sent, "octets": octets.hex()}) for at_s, sent, octets in frames]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return len(lines)


def load(path: Path) -> list[Frame]:
    """Read a capture. OSError; ValueError where a line is none of ours."""
    frames = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        try:
            read = json.loads(line)
            frames.append(Frame(float(read["at"]), bool(read["sent"]), bytes.fromhex(read["octets"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: is no frame of a capture: {error}") from error
    return frames
