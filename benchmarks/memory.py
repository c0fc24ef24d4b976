"""Memory of each connected charger that is idle."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.control import Helper
from benchmarks.figures import Row, spread
from benchmarks.rig import peer, site, tell
from benchmarks.service import Service, rss_bytes_of

GOAL_KIB = 64.0


async def measure(chargers: int) -> Row:
    """Resident memory with all connected, less that of the same service before anybody came."""
    with tempfile.TemporaryDirectory(prefix="gridlimit-bench-") as folder:
        async with Service(Path(folder), chargers) as alone:
            before = rss_bytes_of(alone.pid)
    async with site(chargers) as running:
        ours = (rss_bytes_of(running.service.pid) - before) / chargers / 1024
    tell(f"ours: {ours:.0f} KiB")
    floor, stock = await _other("benchmarks.floor", chargers), await _other("benchmarks.stock", chargers)
    note = f"the service without a connection: {before / 2**20:.0f} MiB"
    reached = ours <= GOAL_KIB
    return Row("memory", chargers, "KiB", spread([ours]), f"≤ {GOAL_KIB:g} KiB", reached, floor, stock, note)


async def _other(module: str, chargers: int) -> float:
    async with Helper(module) as alone:
        before = rss_bytes_of(alone.pid)
    async with peer(module, chargers) as (server, _):
        return (rss_bytes_of(server.pid) - before) / chargers / 1024
