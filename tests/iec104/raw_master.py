"""A control centre on a bare socket: it speaks APCI by hand and shares no code with the outstation it tests."""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple, Self

STARTDT, STOPDT, TESTFR = b"\x68\x04\x07\x00\x00\x00", b"\x68\x04\x13\x00\x00\x00", b"\x68\x04\x43\x00\x00\x00"
STARTDT_CON, STOPDT_CON = b"\x68\x04\x0b\x00\x00\x00", b"\x68\x04\x23\x00\x00\x00"
TESTFR_CON = b"\x68\x04\x83\x00\x00\x00"


class Seen(NamedTuple):
    """A received ASDU, taken apart as far as its header."""

    type_id: int
    number: int
    cause: int
    negative: bool
    test: bool
    originator: int
    common_address: int
    body: bytes

    @property
    def ioa(self) -> int:
        return int.from_bytes(self.body[:3], "little")

    def objects(self, size: int) -> list[tuple[int, bytes]]:
        """(address, octets behind it) of every object of `size` octets without address."""
        step = size + 3
        assert len(self.body) == step * self.number, "length does not fit the number of objects"
        starts = range(0, len(self.body), step)
        return [(int.from_bytes(self.body[at : at + 3], "little"), self.body[at + 3 : at + step]) for at in starts]


def asdu(
    type_id: int, cause: int, body: bytes, *, common_address: int = 1, originator: int = 0, number: int = 1
) -> bytes:
    return struct.pack("<BBBBH", type_id, number, cause, originator, common_address) + body


def ioa(address: int) -> bytes:
    return address.to_bytes(3, "little")


def setpoint(value: float, *, address: int = 100, cause: int = 6, originator: int = 0, qualifier: int = 0) -> bytes:
    body = ioa(address) + struct.pack("<fB", value, qualifier)
    return asdu(50, cause, body, originator=originator)


def interrogation(*, cause: int = 6, qualifier: int = 20, common_address: int = 1, originator: int = 0) -> bytes:
    body = ioa(0) + bytes((qualifier,))
    return asdu(100, cause, body, common_address=common_address, originator=originator)


class RawMaster:
    """One TCP connection. It confirms every I-frame at once unless `confirm` is False.

    It waits `patience_s` for what has to come.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.confirm = True
        self.patience_s = 15.0
        self.sent = self.received = 0
        self.acknowledged = 0
        self.octets: list[bytes] = []

    @classmethod
    async def connect(cls, port: int, *, start: bool = True) -> Self:
        master = cls(*await asyncio.open_connection("127.0.0.1", port))
        if start:
            await master.start()
        return master

    async def start(self) -> None:
        self.writer.write(STARTDT)
        assert await self.frame() == STARTDT_CON

    async def stop(self) -> None:
        """STOPDT, confirming what the outstation had sent before it heard of it."""
        self.writer.write(STOPDT)
        while (frame := await self.frame()) != STOPDT_CON:
            if not frame[2] & 1:
                self.received = (self.received + 1) % 32768
                self.supervise()

    def information(self, octets: bytes) -> bytes:
        frame = struct.pack("<BBHH", 0x68, len(octets) + 4, self.sent << 1, self.received << 1) + octets
        self.sent = (self.sent + 1) % 32768
        return frame

    def send(self, octets: bytes) -> None:
        self.writer.write(self.information(octets))

    def supervise(self) -> None:
        self.writer.write(struct.pack("<BBHH", 0x68, 4, 1, self.received << 1))

    async def frame(self, within_s: float | None = None) -> bytes:
        """The next APDU; IncompleteReadError when the outstation closed."""
        async with asyncio.timeout(self.patience_s if within_s is None else within_s):
            head = await self.reader.readexactly(2)
            frame = head + await self.reader.readexactly(head[1])
        self.octets.append(frame)
        return frame

    async def asdu(self, within_s: float | None = None) -> Seen:
        """The next ASDU, its sequence number checked."""
        while True:
            frame = await self.frame(within_s)
            control, acknowledged = struct.unpack_from("<HH", frame, 2)
            if control & 1:
                if frame == TESTFR:
                    self.writer.write(TESTFR_CON)
                continue
            assert control >> 1 == self.received
            self.acknowledged = acknowledged >> 1
            self.received = (self.received + 1) % 32768
            if self.confirm:
                self.supervise()
            type_id, number, cause, originator, address = struct.unpack_from("<BBBBH", frame, 6)
            assert type_id > 40 or not number & 0x80, "SQ=1"
            flags = bool(cause & 0x40), bool(cause & 0x80)
            return Seen(type_id, number, cause & 0x3F, *flags, originator, address, frame[12:])

    async def answer(self, octets: bytes) -> Seen:
        """Send a request and return the first ASDU that is neither an event nor the end of initialisation."""
        self.send(octets)
        while (seen := await self.asdu()).cause in (3, 4):
            pass
        return seen

    async def interrogate(self, request: bytes | None = None, termination: int = 10) -> list[Seen]:
        """All of an interrogation's answer but its confirmation and termination; both are checked."""
        confirmation = await self.answer(request or interrogation())
        assert (confirmation.cause, confirmation.negative) == (7, False)
        seen = []
        while (one := await self.asdu()).cause != termination:
            seen.append(one)
        return seen

    async def is_closed(self, within_s: float | None = None) -> bool:
        """Whether the outstation ends the connection, after whatever it still says."""
        try:
            async with asyncio.timeout(self.patience_s if within_s is None else within_s):
                while await self.reader.read(4096):
                    pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.writer.transport.abort()
