"""A site that accepts every finite setpoint from 6 kW, and the point table the tests of this room share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bridge.core.messages import (
    Confirm,
    Event,
    LinkChanged,
    PointChanged,
    Reason,
    SetpointReceived,
    SwitchReceived,
    Terminate,
)
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import OutstationPlan

UTC_MS = 1_790_000_000_123


def clock() -> Now:
    return Now(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


def table(chargers: int = 2, common_address: int = 1) -> PointTable:
    def point(ioa: int, kind: PointKind, signal: Signal, charger: int | None = None) -> Point:
        return Point(PointAddress(common_address, ioa), kind, signal, charger)

    points = [
        point(100, PointKind.SETPOINT, Signal.LIMIT_SETPOINT),
        point(200, PointKind.MEASURED, Signal.SITE_POWER_W),
        point(201, PointKind.MEASURED, Signal.SETPOINT_MIRROR),
        point(202, PointKind.MEASURED, Signal.LIMIT_IN_FORCE_W),
        point(300, PointKind.SINGLE, Signal.LIMIT_ACTIVE),
        point(303, PointKind.SINGLE, Signal.COMMON_ALARM),
    ]
    for index in range(chargers):
        points += [
            point(1000 + 10 * index, PointKind.MEASURED, Signal.CHARGER_POWER_W, index),
            point(1004 + 10 * index, PointKind.TOTAL, Signal.CHARGER_ENERGY_WH, index),
            point(1005 + 10 * index, PointKind.SINGLE, Signal.CHARGER_CONNECTED, index),
        ]
    return PointTable(tuple(points))


class FakeSite:
    """Answers setpoints the way the engine does, at once; records every event."""

    def __init__(self, points: PointTable | None = None, **plan: Any) -> None:
        self.points = points or table()
        self.events: list[Event] = []
        self.terminates = True
        host = plan.pop("host", "127.0.0.1")
        self.listener = Listener(OutstationPlan(host, 0, self.points, **plan), self.submit, clock)

    @property
    def setpoints(self) -> list[SetpointReceived]:
        return [event for event in self.events if isinstance(event, SetpointReceived)]

    @property
    def switches(self) -> list[SwitchReceived]:
        return [event for event in self.events if isinstance(event, SwitchReceived)]

    @property
    def started(self) -> list[int]:
        return [event.started for event in self.events if isinstance(event, LinkChanged)]

    def submit(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, SwitchReceived):
            self.listener.confirm(Confirm(event.command))
            return
        if not isinstance(event, SetpointReceived):
            return
        if event.limit_w is None:
            self.listener.confirm(Confirm(event.command, Reason.NOT_A_NUMBER))
        elif event.limit_w < 6000:
            self.listener.confirm(Confirm(event.command, Reason.BELOW_MINIMUM))
        else:
            self.listener.confirm(Confirm(event.command))
            if self.terminates:
                self.listener.terminate(Terminate(event.command))

    def publish(
        self,
        ioa: int,
        value: float,
        quality: Quality = Quality.GOOD,
        utc_ms: int = UTC_MS,
        *,
        report: bool = True,
        common_address: int = 1,
    ) -> None:
        point = self.points.by_address[PointAddress(common_address, ioa)]
        self.listener.publish(PointChanged(point, value, quality, utc_ms, report))


async def eventually(condition: Callable[[], bool], within_s: float = 15) -> None:
    """Wait until `condition` holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  what is waited for is not always announced
            await asyncio.sleep(0.001)


@asynccontextmanager
async def running(site: FakeSite | None = None) -> AsyncIterator[FakeSite]:
    site = site or FakeSite()
    await site.listener.open()
    try:
        yield site
    finally:
        await site.listener.close()
