"""One of our outstations in a process of its own: `stack_process STACK CHARGERS T1_S`, told by lines what to publish.

It accepts finite setpoints from 6 kW and terminates them at once. A line on standard input is `IOA VALUE UTC_MS`.
"""

from __future__ import annotations

import asyncio
import sys

from bridge.core.messages import Confirm, Event, PointChanged, Reason, SetpointReceived, Terminate
from bridge.core.points import PointAddress, Quality
from bridge.iec104.c104_stack import C104Stack
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import OutstationPlan
from tests.iec104.fake_site import clock, table


async def main(name: str, chargers: int, t1_s: float) -> None:
    points = table(chargers)
    plan = OutstationPlan("127.0.0.1", 0, points, t1_s=t1_s, t2_s=1, t3_s=3)
    outstation: Listener | C104Stack

    def submit(event: Event) -> None:
        if isinstance(event, SetpointReceived):
            good = event.limit_w is not None and event.limit_w >= 6000
            outstation.confirm(Confirm(event.command, None if good else Reason.BELOW_MINIMUM))
            if good:
                outstation.terminate(Terminate(event.command))

    outstation = (C104Stack if name == "c104" else Listener)(plan, submit, clock)
    await outstation.open()
    print(outstation.port, flush=True)  # noqa: T201  its way to tell
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        ioa, value, utc_ms = line.split()
        point = points.by_address[PointAddress(1, int(ioa))]
        outstation.publish(PointChanged(point, float(value), Quality.GOOD, int(utc_ms), report=True))
    await outstation.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
