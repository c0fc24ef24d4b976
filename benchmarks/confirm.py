"""From a setpoint to its ACTIVATION_CON, journal included: while all is quiet, and while all chargers answer."""

from __future__ import annotations

import asyncio
import time

from benchmarks.control import Helper
from benchmarks.figures import Row, spread
from benchmarks.master import Master
from benchmarks.rig import HIGHEST_W, LOWEST_W, Site, site, tell

IDLE_COMMANDS = 300
BUSY_ROUNDS = 6
IDLE_P99_MS, BUSY_P99_MS = 5.0, 25.0
EVERY_S = 0.01


async def measure(chargers: int) -> list[Row]:
    """Two rows: idle beside the floor and c104, and busy."""
    async with site(chargers) as running:
        idle_ms = await _idle(running.master, chargers * HIGHEST_W)
        tell(f"ours, idle: {IDLE_COMMANDS} confirmations")
        busy_ms = await _busy(running)
        tell(f"ours, busy: {len(busy_ms)} confirmations")
    floor_ms = await _other("benchmarks.confirming", "raw", chargers * HIGHEST_W)
    c104_ms = await _other("benchmarks.confirming", "c104", chargers * HIGHEST_W)
    idle, busy = spread(idle_ms), spread(busy_ms)
    return [
        Row(
            "confirmation, idle",
            chargers,
            "ms",
            idle,
            goal=f"p99 ≤ {IDLE_P99_MS:g} ms",
            reached=idle.p99 <= IDLE_P99_MS,
            floor=spread(floor_ms).p50,
            stock=spread(c104_ms).p50,
            note=f"stock is c104, which keeps no journal: p99 {spread(c104_ms).p99:.2f} ms",
        ),
        Row(
            "confirmation, busy",
            chargers,
            "ms",
            busy,
            goal=f"p99 ≤ {BUSY_P99_MS:g} ms",
            reached=busy.p99 <= BUSY_P99_MS,
            note=f"a setpoint every {EVERY_S * 1e3:g} ms while all chargers are told and answer",
        ),
    ]


async def _idle(master: Master, limit_w: float) -> list[float]:
    """The same setpoint again and again: decided, journalled and confirmed, and nothing follows from it."""
    took_ms = []
    for _ in range(IDLE_COMMANDS):
        sent_ns, confirmed_ns, _ = await master.setpoint(limit_w)
        took_ms.append((confirmed_ns - sent_ns) / 1e6)
        await asyncio.sleep(EVERY_S)
    return took_ms[10:]


async def _busy(running: Site) -> list[float]:
    """Setpoints that change every charger's limit, and between them others that change nothing more."""
    took_ms: list[float] = []
    for number in range(BUSY_ROUNDS):
        limit_w = running.chargers * (LOWEST_W if number % 2 else HIGHEST_W - 2_000)
        await running.fleet.ask("expect", finals=running.chargers, each_once=True)
        waiting = asyncio.create_task(running.fleet.ask("wait", within_s=60))
        deadline = time.monotonic() + 60
        while not waiting.done() and time.monotonic() < deadline:
            sent_ns, confirmed_ns, _ = await running.master.setpoint(limit_w)
            took_ms.append((confirmed_ns - sent_ns) / 1e6)
            await asyncio.sleep(EVERY_S)
        await waiting
        await asyncio.sleep(0.5)
    return took_ms


async def _other(module: str, kind: str, limit_w: float) -> list[float]:
    async with Helper(module, kind) as server:
        master = await Master.connect(server.hello["port"])
        took_ms = await _idle(master, limit_w)
        master.close()
        tell(f"{kind}: {IDLE_COMMANDS} confirmations")
        return took_ms
