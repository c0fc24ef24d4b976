"""An outstation under measurement in a process of its own: wire, engine and durable journal, without chargers.

`python -m benchmarks.outstation STACK POINTS FOLDER`; a line `RATE SECONDS` on standard input has it report events.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from bridge.core.messages import Confirm, Effect, PointChanged, Terminate
from bridge.core.plan import OnReturn, Plan
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.engine import Engine
from bridge.iec104.c104_stack import C104Stack
from bridge.iec104.event_buffer import MEASURED_TYPES
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import OutstationPlan
from bridge.store.database import Database
from bridge.store.events import StoredEvents
from bridge.store.journal import Journal
from bridge.timers import WakeUp, boot_id, system_clock

FIRST_IOA = 1000
TICK_S = 0.005


def table(points: int) -> PointTable:
    """The setpoint and so many measured values, two addresses apart: nothing can be packed as a sequence."""
    measured = (
        Point(PointAddress(1, FIRST_IOA + 2 * n), PointKind.MEASURED, Signal.CHARGER_POWER_W, n) for n in range(points)
    )
    return PointTable((Point(PointAddress(1, 100), PointKind.SETPOINT, Signal.LIMIT_SETPOINT), *measured))


def plan(points: PointTable) -> Plan:
    return Plan("bench", 100_000, 6_000, False, 100_000, 300_000, 10_000, OnReturn.KEEP_FALLBACK, 0, 10_000, (), points)


async def report(outstation: Listener | C104Stack, points: PointTable, rate: int, seconds: float) -> int:
    """Report so many events a second, each with a value and a time of its own; how many."""
    measured = [point for point in points.points if point.kind is PointKind.MEASURED]
    began, number = time.monotonic(), 0
    base_ms = system_clock().utc_ms
    while number < rate * seconds:
        due = min(int((time.monotonic() - began) * rate), int(rate * seconds))
        while number < due:
            point = measured[number % len(measured)]
            changed = PointChanged(point, float(number), Quality.GOOD, base_ms + number, report=True)
            outstation.publish(changed)
            number += 1
        await asyncio.sleep(TICK_S)
    return number


async def main(stack: str, number: int, folder: Path) -> None:
    loop = asyncio.get_running_loop()
    points = table(number)
    outstation_plan = OutstationPlan("127.0.0.1", 0, points)

    def deliver(effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Confirm():
                    outstation.confirm(effect)
                case Terminate():
                    outstation.terminate(effect)
                case PointChanged():
                    outstation.publish(effect)

    wake_up = WakeUp(loop, system_clock, lambda: engine.flush())  # noqa: PLW0108  made below
    engine = Engine(
        Journal(Database(folder / "bridge.db")), system_clock, deliver, sys.exit, loop.call_soon, wake_up.at
    )
    outstation: Listener | C104Stack
    if stack == "c104":
        outstation = C104Stack(outstation_plan, engine.submit, system_clock)
    else:
        events = StoredEvents(Database(folder / "events.db"), MEASURED_TYPES)
        outstation = Listener(outstation_plan, engine.submit, system_clock, events)
    engine.start(plan(points), boot_id())
    await outstation.open()
    print(outstation.port, flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        rate, seconds = line.split()
        print(await report(outstation, points, int(rate), float(seconds)), flush=True)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
