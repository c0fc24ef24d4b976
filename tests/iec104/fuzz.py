"""What coverage-guided fuzzing calls: ASDUs by themselves, and whole sequences of frames with time passing.

`tests/iec104/fuzz_main.py` does it by atheris; the tests replay what it kept in tests/iec104/corpus/, without atheris.
"""

from __future__ import annotations

import struct
from pathlib import Path

from bridge.core.messages import Confirm, Event, PointChanged, Reason, SetpointReceived, SwitchReceived, Terminate
from bridge.core.points import Encoding, Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104 import asdu
from bridge.iec104.apci import MAXIMUM_ASDU, ProtocolError
from bridge.iec104.outstation import Outstation, OutstationPlan, Session
from bridge.iec104.scans import Flutter
from tests.iec104.fake_site import UTC_MS
from tests.iec104.raw_master import STARTDT, setpoint

CORPUS = Path(__file__).parent / "corpus"

POINTS = PointTable(
    (
        Point(PointAddress(1, 100), PointKind.SETPOINT, Signal.LIMIT_SETPOINT),
        Point(PointAddress(1, 101), PointKind.SETPOINT, Signal.LIMIT_SETPOINT, encoding=Encoding.SCALED),
        Point(PointAddress(1, 102), PointKind.SETPOINT, Signal.LIMIT_SETPOINT, encoding=Encoding.NORMALIZED),
        Point(PointAddress(1, 110), PointKind.COMMAND, Signal.LIMIT_ENABLE, select_before_operate=True),
        Point(PointAddress(1, 111), PointKind.COMMAND, Signal.EMERGENCY_STOP, encoding=Encoding.DOUBLE),
        *(
            Point(PointAddress(1, 200 + n), PointKind.MEASURED, Signal.CHARGER_POWER_W, n, groups=(1 + n % 16,))
            for n in range(16)
        ),
        Point(PointAddress(1, 300), PointKind.SINGLE, Signal.LIMIT_ACTIVE, background_ms=1000),
        Point(PointAddress(1, 400), PointKind.TOTAL, Signal.CHARGER_ENERGY_WH, 0, groups=(1,)),
    )
)


def one_asdu(octets: bytes) -> None:
    """What can be decoded is encoded to the same octets again; anything else is a ProtocolError and nothing more."""
    try:
        header, objects = asdu.decode(octets)
    except ProtocolError:
        return
    again = asdu.encode(header, objects) if len(octets) <= MAXIMUM_ASDU else octets
    assert asdu.decode(again)[0] == header
    assert len(again) == len(octets)


def frames(octets: bytes) -> None:
    """Octets to a started session, with time passing; every invariant of the session holds after each part.

    The first octet of each part is its length, the second the time that passes before it in half seconds. Whatever was
    done to it, the outstation then serves another control centre.
    """
    now = Now(0, UTC_MS)

    def answer(event: Event) -> None:
        if isinstance(event, SetpointReceived | SwitchReceived):
            outstation.confirm(Confirm(event.command, None if event.command % 3 else Reason.BELOW_MINIMUM))
            outstation.terminate(Terminate(event.command))

    outstation = Outstation(OutstationPlan("", 0, POINTS, flutter=Flutter(), sequence_of_objects=True), answer)
    changing = [each for each in POINTS.points if each.signal in (Signal.CHARGER_POWER_W, Signal.LIMIT_ACTIVE)][-2:]
    session = Session(outstation, "fuzz:1", now)
    session.receive(STARTDT, now)
    sent = confirmed = 0
    while octets and session.ended_because is None:
        size, wait, octets = octets[0], octets[1] if octets[1:] else 0, octets[2:]
        part, octets = octets[:size], octets[size:]
        if wait & 1:
            confirmed = session._connection._send_sequence
        if size & 1:  # an ASDU in sequence, so that its content is reached
            part = struct.pack("<BBHH", 0x68, len(part) % 250 + 4, sent << 1, confirmed << 1) + part[:249]
            sent += 1
        now = Now(now.monotonic_ms + 500 * wait, now.utc_ms + 500 * wait)
        session.wake(now)
        outstation.wake(now)
        if wait & 2:
            value = PointChanged(changing[size & 1], float(wait), Quality.GOOD, now.utc_ms, report=True)
            outstation.publish(value, now)
            outstation.flush()
        if session.ended_because is None:
            session.receive(part, now)
        if session.ended_because is None:
            session.data_to_send(now)
        assert len(session._in_flight) <= outstation.plan.k
        assert len(outstation.commands) <= outstation.plan.command_capacity
        assert len(outstation.selections) <= 1
    session.end("the fuzzer has had enough")
    assert not outstation.started
    assert not outstation.selections
    _serves_another(outstation, now)


def _serves_another(outstation: Outstation, now: Now) -> None:
    order = setpoint(20000.0)
    other = Session(outstation, "other:1", now)
    other.receive(STARTDT + struct.pack("<BBHH", 0x68, len(order) + 4, 0, 0) + order, now)
    said = other.data_to_send(now)
    assert order[:2] + b"\x07" in said or order[:2] + b"\x47" in said, "it has no answer"
    other.end("served")


TARGETS = {"asdu": one_asdu, "frames": frames}
