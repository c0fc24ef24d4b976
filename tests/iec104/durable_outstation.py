"""An outstation in a process of its own that counts up, one event a number, and says which numbers are on disk."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bridge.core.messages import PointChanged
from bridge.core.points import PointAddress, Quality
from bridge.iec104.event_buffer import MEASURED_TYPES
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import OutstationPlan
from bridge.store.database import Database
from bridge.store.events import StoredEvents
from tests.iec104.fake_site import UTC_MS, clock, table


async def main(folder: Path) -> None:
    points = table()
    point = points.by_address[PointAddress(1, 200)]
    events = StoredEvents(Database(folder / "events.db"), MEASURED_TYPES)
    number = events.last_sequence + 1
    listener = Listener(OutstationPlan("127.0.0.1", 0, points), lambda _event: None, clock, events)
    await listener.open()
    print("port", listener.port, flush=True)  # noqa: T201  its way to tell
    while True:
        for _ in range(20):
            listener.publish(PointChanged(point, float(number), Quality.GOOD, UTC_MS + number, report=True))
            number += 1
        await asyncio.sleep(0.002)
        if not listener.outstation._unrecorded:
            print("recorded", number - 1, flush=True)  # noqa: T201


asyncio.run(main(Path(sys.argv[1])))
