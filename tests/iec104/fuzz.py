"""Coverage-guided fuzzing of the outstation by atheris: ASDUs by themselves, and whole sequences of frames.

`python -m tests.iec104.fuzz asdu|frames [options of libFuzzer]` runs for ever; the suite's long form is
`-runs=2000000`.
What it finds interesting is kept in tests/iec104/corpus/ and replayed by the tests, without atheris.
"""

from __future__ import annotations

import importlib
import logging
import struct
import sys
import time
from pathlib import Path
from typing import Any

import structlog

from bridge.core.messages import Confirm, Event, Reason, SetpointReceived, SwitchReceived, Terminate
from bridge.core.points import Encoding, Point, PointAddress, PointKind, PointTable, Signal
from bridge.core.quantities import Now
from bridge.iec104 import asdu
from bridge.iec104.apci import MAXIMUM_ASDU, ProtocolError
from bridge.iec104.outstation import Outstation, OutstationPlan, Session
from bridge.iec104.scans import Flutter
from tests.iec104.fake_site import UTC_MS
from tests.iec104.raw_master import STARTDT

CORPUS = Path(__file__).parent / "corpus"
LONGEST_S = 0.01  # no input takes longer; measured by the fuzzer alone, on a machine that is otherwise idle

POINTS = PointTable(
    (
        Point(PointAddress(1, 100), PointKind.SETPOINT, Signal.LIMIT_SETPOINT),
        Point(PointAddress(1, 101), PointKind.SETPOINT, Signal.LIMIT_SETPOINT, encoding=Encoding.SCALED),
        Point(PointAddress(1, 102), PointKind.SETPOINT, Signal.LIMIT_SETPOINT, encoding=Encoding.NORMALIZED),
        Point(PointAddress(1, 110), PointKind.COMMAND, Signal.LIMIT_ENABLE, select_before_operate=True),
        Point(PointAddress(1, 111), PointKind.COMMAND, Signal.EMERGENCY_STOP, encoding=Encoding.DOUBLE),
        *(
            Point(PointAddress(1, 200 + n), PointKind.MEASURED, Signal.CHARGER_POWER_W, n, groups=(1 + n % 16,))
            for n in range(40)
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

    The first octet of each part is its length, the second the time that passes before it in half seconds.
    """
    now_ms = 0

    def answer(event: Event) -> None:
        if isinstance(event, SetpointReceived | SwitchReceived):
            outstation.confirm(Confirm(event.command, None if event.command % 3 else Reason.BELOW_MINIMUM))
            outstation.terminate(Terminate(event.command))

    outstation = Outstation(OutstationPlan("", 0, POINTS, flutter=Flutter(), sequence_of_objects=True), answer)
    session = Session(outstation, "fuzz:1", Now(0, UTC_MS))
    session.receive(STARTDT, Now(0, UTC_MS))
    sent = 0
    while octets and session.ended_because is None:
        size, wait, octets = octets[0], octets[1:2], octets[2:]
        part, octets = octets[:size], octets[size:]
        if size & 1:  # an ASDU in sequence, so that its content is reached
            part = struct.pack("<BBHH", 0x68, len(part) % 250 + 4, sent << 1, 0) + part[:249]
            sent += 1
        now_ms += 500 * (wait[0] if wait else 0)
        now = Now(now_ms, UTC_MS + now_ms)
        session.wake(now)
        outstation.wake(now)
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


TARGETS = {"asdu": one_asdu, "frames": frames}


def main() -> None:
    """Fuzz until something is found."""
    atheris: Any = importlib.import_module("atheris")  # wanted here alone
    name = sys.argv.pop(1)
    target = TARGETS[name]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    atheris.instrument_all()
    is_measured = "--no-time" not in sys.argv
    arguments = [argument for argument in sys.argv if argument != "--no-time"]

    def timed(octets: bytes) -> None:
        began = time.perf_counter()
        target(octets)
        took_s = time.perf_counter() - began
        if is_measured and took_s > LONGEST_S:  # once may be the machine's doing
            began = time.perf_counter()
            target(octets)
            assert time.perf_counter() - began < LONGEST_S, f"{took_s} s for {octets.hex()}"

    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    atheris.Setup([*arguments, str(folder)], timed)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
