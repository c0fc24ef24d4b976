"""The APCI of IEC 60870-5-104 for the controlled station, without I/O: octets and time in, events and octets out.

A connection is in one of four states (IEC 60870-5-104 §5.3, figure of the controlled station):

    STOPPED ──STARTDT act / con──▶ STARTED ──STOPDT act, all sent frames confirmed / con──▶ STOPPED
                                     └──STOPDT act, some unconfirmed──▶ STOPPING ──last one confirmed / con──▶ STOPPED
    any ──violation of the standard, t1 elapsed──▶ CLOSED

Everything that changes the state is in this file. Time is monotonic, in milliseconds, and handed in by the caller.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple, TypeAlias

from bridge.core.quantities import Millis

START: Final = 0x68
MODULUS: Final = 32768
MINIMUM_LENGTH: Final = 4
MAXIMUM_LENGTH: Final = 253
MAXIMUM_ASDU: Final = MAXIMUM_LENGTH - 4

STARTDT_ACT: Final = 0x07
STARTDT_CON: Final = 0x0B
STOPDT_ACT: Final = 0x13
STOPDT_CON: Final = 0x23
TESTFR_ACT: Final = 0x43
TESTFR_CON: Final = 0x83

_UNNUMBERED: Final = {
    code: bytes((START, 4, code, 0, 0, 0))
    for code in (STARTDT_ACT, STARTDT_CON, STOPDT_ACT, STOPDT_CON, TESTFR_ACT, TESTFR_CON)
}
_INFORMATION = struct.Struct("<BBHH")
_CONTROL = struct.Struct("<HH")
_MINUTE_MS: Final = 60_000


class ProtocolError(ValueError):
    """Octets that the standard does not allow; the text names what was wrong."""


@unique
class State(Enum):
    """Whether user data may flow."""

    STOPPED = "stopped"
    STARTED = "started"
    STOPPING = "stopping"  # STOPDT act received, frames sent before it are still unconfirmed
    CLOSED = "closed"


class Started(NamedTuple):
    """STARTDT was received and confirmed: user data may flow."""


class Stopped(NamedTuple):
    """STOPDT was received and confirmed: no user data until the next STARTDT."""


class AsduReceived(NamedTuple):
    """An I-frame in sequence brought these octets of an ASDU, 0–249 of them, not yet looked at."""

    octets: bytes


class Acknowledged(NamedTuple):
    """N(R) confirmed the `number` oldest ASDUs handed to `send` and not confirmed before."""

    number: int


class Closed(NamedTuple):
    """The connection must be closed now; `why` says which rule was broken."""

    why: str


Event: TypeAlias = Started | Stopped | AsduReceived | Acknowledged | Closed


@dataclass(frozen=True, slots=True)
class Parameters:
    """What both ends agreed on, IEC 60870-5-104 §5.2 and §5.5, and how many U-frames a minute are borne.

    `k` I-frames may be unconfirmed, a received one is confirmed after `w` of them or `t2_ms`. `t1_ms` is how long a
    confirmation may take, `t3_ms` the silence after which the link is tested.
    """

    k: int = 12
    w: int = 8
    t1_ms: Millis = 15_000
    t2_ms: Millis = 10_000
    t3_ms: Millis = 20_000
    start_stop_per_minute: int = 120
    test_per_minute: int = 600

    def __post_init__(self) -> None:
        if not (1 <= self.k < MODULUS and 1 <= self.w < MODULUS):
            raise ValueError(f"k={self.k}, w={self.w}: each must be 1–32767")
        if not 0 < self.t2_ms < self.t1_ms or self.t3_ms <= 0:
            raise ValueError(f"t1={self.t1_ms} ms, t2={self.t2_ms} ms, t3={self.t3_ms} ms: t2 < t1, none of them 0")


class _RateCap:
    """Counts in windows of one minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._since_ms: Millis | None = None
        self._number = 0

    def exceeded_by_one_more(self, now_ms: Millis) -> bool:
        if self._since_ms is None or now_ms - self._since_ms >= _MINUTE_MS:
            self._since_ms, self._number = now_ms, 0
        self._number += 1
        return self._number > self._per_minute


class Connection:
    """One TCP connection of a control centre, seen from the outstation.

    Feed `receive` and `wake`, act on the events they return, `send` while `window` is above 0, and write what
    `data_to_send` returns after each of them. Nothing is processed or sent after `Closed`.
    """

    def __init__(self, parameters: Parameters, now_ms: Millis) -> None:
        self.state = State.STOPPED
        self._parameters = parameters
        self._buffer = bytearray()
        self._partial_since_ms: Millis | None = None
        self._output: list[bytes] = []
        self._send_sequence = 0  # V(S)
        self._receive_sequence = 0  # V(R)
        self._sent_ms: deque[Millis] = deque()  # when each unconfirmed I-frame left; its length is V(S) − Ack
        self._unconfirmed = 0  # I-frames received and not confirmed by us
        self._confirm_by_ms: Millis = 0
        self._heard_ms = now_ms
        self._tested_ms: Millis | None = None
        self._start_stops = _RateCap(parameters.start_stop_per_minute)
        self._tests = _RateCap(parameters.test_per_minute)
        self._stood_down = False

    @property
    def window(self) -> int:
        """How many more ASDUs `send` may be given now, 0–k (IEC 60870-5-104 §5.5)."""
        return self._parameters.k - len(self._sent_ms) if self.state is State.STARTED else 0

    def receive(self, data: bytes, now_ms: Millis) -> list[Event]:
        """Take octets as TCP delivered them; return what they mean, in order."""
        events: list[Event] = []
        if self.state is State.CLOSED:
            return events
        was_partial = bool(self._buffer)
        self._buffer += data
        position = 0
        try:
            while size := self._frame_size(position):
                self._frame(bytes(self._buffer[position + 2 : position + size]), now_ms, events)
                position += size
        except ProtocolError as violation:
            events.append(self._close(str(violation)))
            return events
        if position:
            del self._buffer[:position]
            self._heard_ms = now_ms
        if not self._buffer:
            self._partial_since_ms = None
        elif position or not was_partial:
            self._partial_since_ms = now_ms
        return events

    def send(self, asdu: bytes, now_ms: Millis) -> None:
        """Send one ASDU of at most 249 octets in an I-frame; only while `window` is above 0."""
        assert self.window > 0, "the send window is full or data transfer is stopped"  # noqa: S101  the caller's bug
        assert len(asdu) <= MAXIMUM_ASDU, "the ASDU is too long"  # noqa: S101  the caller's bug
        sequences = self._send_sequence << 1, self._receive_sequence << 1
        self._output.append(_INFORMATION.pack(START, len(asdu) + 4, *sequences) + asdu)
        self._send_sequence = (self._send_sequence + 1) % MODULUS
        self._sent_ms.append(now_ms)
        self._unconfirmed = 0

    def stand_down(self) -> None:
        """Data transfer goes on over another connection: stop without a word, as after STOPDT (§10).

        What the control centre still confirms of the frames sent before is no error and is not heeded.
        """
        self.state = State.STOPPED
        self._stood_down = True
        self._sent_ms.clear()
        if self._unconfirmed:
            self._supervise()

    def data_to_send(self) -> bytes:
        """All octets to write now. Confirms what was received where w is reached and no I-frame did it already."""
        if self._unconfirmed >= self._parameters.w:
            self._supervise()
        data = b"".join(self._output)
        self._output.clear()
        return data

    def next_deadline(self) -> Millis | None:
        """When `wake` is due, None once closed."""
        if self.state is State.CLOSED:
            return None
        parameters = self._parameters
        deadline = self._heard_ms + parameters.t3_ms if self._tested_ms is None else self._tested_ms + parameters.t1_ms
        if self._sent_ms:
            deadline = min(deadline, self._sent_ms[0] + parameters.t1_ms)
        if self._unconfirmed:
            deadline = min(deadline, self._confirm_by_ms)
        if self._partial_since_ms is not None:
            deadline = min(deadline, self._partial_since_ms + parameters.t1_ms)
        return deadline

    def wake(self, now_ms: Millis) -> list[Event]:
        """Do what is due by time: close after t1, confirm after t2, test after t3. Early and late are harmless."""
        if self.state is State.CLOSED:
            return []
        parameters = self._parameters
        if self._partial_since_ms is not None and now_ms >= self._partial_since_ms + parameters.t1_ms:
            return [self._close("an APDU was not complete within t1")]
        if self._sent_ms and now_ms >= self._sent_ms[0] + parameters.t1_ms:
            return [self._close("an I-frame was not confirmed within t1")]
        if self._tested_ms is not None:
            if now_ms >= self._tested_ms + parameters.t1_ms:
                return [self._close("TESTFR was not confirmed within t1")]
        elif now_ms >= self._heard_ms + parameters.t3_ms:
            self._output.append(_UNNUMBERED[TESTFR_ACT])
            self._tested_ms = now_ms
        if self._unconfirmed and now_ms >= self._confirm_by_ms:
            self._supervise()
        return []

    def _frame_size(self, position: int) -> int:
        """Octets of the complete APDU at `position`, 0 while incomplete; its first two octets are judged at once."""
        available = len(self._buffer) - position
        if available and self._buffer[position] != START:
            raise ProtocolError(f"start octet {self._buffer[position]:#04x} instead of 0x68")
        if available < 2:  # noqa: PLR2004  the start octet and the length
            return 0
        length = self._buffer[position + 1]
        if not MINIMUM_LENGTH <= length <= MAXIMUM_LENGTH:
            raise ProtocolError(f"APDU length {length} is outside 4–253")
        return length + 2 if available >= length + 2 else 0

    def _frame(self, octets: bytes, now_ms: Millis, events: list[Event]) -> None:
        """One complete APDU without its start octet and length: control field and ASDU."""
        first, second = _CONTROL.unpack_from(octets)
        if not first & 1:
            self._information(first, second, octets[4:], now_ms, events)
        elif first & 3 == 1:
            if first != 1 or len(octets) != MINIMUM_LENGTH:
                raise ProtocolError(f"malformed S-frame {octets[:4].hex()} of {len(octets)} octets")
            if self.state is State.STOPPED and not self._stood_down:
                raise ProtocolError("S-frame before STARTDT")
            if self.state is not State.STOPPED:
                self._confirmed(second, events)
        else:
            if octets[0] not in _UNNUMBERED or first >> 8 or second or len(octets) != MINIMUM_LENGTH:
                raise ProtocolError(f"illegal U-frame {octets[:4].hex()} of {len(octets)} octets")
            self._unnumbered(octets[0], now_ms, events)

    def _information(self, first: int, second: int, asdu: bytes, now_ms: Millis, events: list[Event]) -> None:
        """An I-frame, IEC 60870-5-104 §5.1: in sequence or the connection ends."""
        if self.state is not State.STARTED:
            raise ProtocolError("I-frame before STARTDT" if self.state is State.STOPPED else "I-frame after STOPDT")
        if first >> 1 != self._receive_sequence:
            raise ProtocolError(f"N(S)={first >> 1} instead of {self._receive_sequence}")
        self._confirmed(second, events)
        self._receive_sequence = (self._receive_sequence + 1) % MODULUS
        if not self._unconfirmed:
            self._confirm_by_ms = now_ms + self._parameters.t2_ms
        self._unconfirmed += 1
        events.append(AsduReceived(asdu))

    def _confirmed(self, field: int, events: list[Event]) -> None:
        """N(R) of an I- or S-frame: everything before it has arrived."""
        if field & 1:
            raise ProtocolError(f"reserved bit set beside N(R)={field >> 1}")
        outstanding = len(self._sent_ms)
        oldest = (self._send_sequence - outstanding) % MODULUS
        number = ((field >> 1) - oldest) % MODULUS
        if number > outstanding:
            raise ProtocolError(f"N(R)={field >> 1} is outside {oldest}–{self._send_sequence}")
        if not number:
            return
        for _ in range(number):
            self._sent_ms.popleft()
        events.append(Acknowledged(number))
        if self.state is State.STOPPING and not self._sent_ms:
            self._stop(events)

    def _unnumbered(self, code: int, now_ms: Millis, events: list[Event]) -> None:
        """One of the six U-frames, IEC 60870-5-104 §5.3. A confirmation nobody asked for is ignored."""
        if code in (TESTFR_ACT, TESTFR_CON):
            if self._tests.exceeded_by_one_more(now_ms):
                raise ProtocolError(f"more than {self._parameters.test_per_minute} TESTFR in a minute")
            if code == TESTFR_ACT:
                self._output.append(_UNNUMBERED[TESTFR_CON])
            else:
                self._tested_ms = None
            return
        if self._start_stops.exceeded_by_one_more(now_ms):
            raise ProtocolError(f"more than {self._parameters.start_stop_per_minute} STARTDT and STOPDT in a minute")
        if code == STARTDT_ACT:
            if self.state is State.STOPPING:
                raise ProtocolError("STARTDT before STOPDT was confirmed")
            self._output.append(_UNNUMBERED[STARTDT_CON])
            if self.state is State.STOPPED:
                self.state = State.STARTED
                self._stood_down = False
                events.append(Started())
        elif code == STOPDT_ACT:
            if self._unconfirmed:
                self._supervise()
            if self._sent_ms:
                self.state = State.STOPPING
            else:
                self._stop(events)

    def _stop(self, events: list[Event]) -> None:
        self._output.append(_UNNUMBERED[STOPDT_CON])
        if self.state is not State.STOPPED:
            self.state = State.STOPPED
            events.append(Stopped())

    def _supervise(self) -> None:
        """Confirm with an S-frame all that was received."""
        self._output.append(_INFORMATION.pack(START, 4, 1, self._receive_sequence << 1))
        self._unconfirmed = 0

    def _close(self, why: str) -> Closed:
        self.state = State.CLOSED
        self._output.clear()
        self._unconfirmed = 0
        return Closed(why)
