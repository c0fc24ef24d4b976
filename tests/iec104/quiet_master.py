"""A control centre without a socket: octets go straight into a session, the time in milliseconds is an argument."""

from __future__ import annotations

import struct

from bridge.core.quantities import Now
from bridge.iec104.outstation import Outstation, Session
from tests.iec104.fake_site import UTC_MS
from tests.iec104.raw_master import STARTDT


class Master:
    """A started connection, past the end of initialisation; it confirms what it sees with its next request."""

    def __init__(self, outstation: Outstation, name: str = "10.0.0.1:1") -> None:
        self.outstation = outstation
        self.session = Session(outstation, name, Now(0, UTC_MS))
        self.sent = self.seen = 0
        self.asdus: list[bytes] = []  # all that were ever seen
        self.opening = self.exchange(STARTDT, 0) + self.confirm()

    def exchange(self, data: bytes, now_ms: int) -> list[bytes]:
        """The ASDUs that come back."""
        self.session.receive(data, Now(now_ms, UTC_MS))
        stream, asdus = self.session.data_to_send(Now(now_ms, UTC_MS)), []
        while stream:
            frame, stream = stream[: stream[1] + 2], stream[stream[1] + 2 :]
            if not frame[2] & 1:
                self.seen += 1
                asdus.append(frame[6:])
        self.asdus += asdus
        return asdus

    def confirm(self, now_ms: int = 0) -> list[bytes]:
        """Confirm all that was seen; the ASDUs that come next."""
        return self.exchange(struct.pack("<BBHH", 0x68, 4, 1, self.seen << 1), now_ms)

    def all(self, now_ms: int = 0) -> list[bytes]:
        """All ASDUs that are to come, each confirmed."""
        asdus = self.exchange(b"", now_ms)
        while more := self.confirm(now_ms):
            asdus += more
        return asdus

    def send(self, octets: bytes, now_ms: int = 0) -> list[bytes]:
        """Send a request; the ASDUs that come back at once."""
        frame = struct.pack("<BBHH", 0x68, len(octets) + 4, self.sent << 1, self.seen << 1) + octets
        self.sent += 1
        return self.exchange(frame, now_ms)

    def ask(self, octets: bytes, now_ms: int = 0) -> bytes:
        """The one answer to a request."""
        (answer,) = self.send(octets, now_ms)
        return answer


def outcome(answer: bytes) -> tuple[int, bool]:
    """Cause of transmission and P/N."""
    return answer[2] & 0x3F, bool(answer[2] & 0x40)
