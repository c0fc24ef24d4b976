"""From a setpoint to its ACTIVATION_CON while nobody looks on, and while twenty dashboards do: the ratio is the point.

Each of the twenty reads the live values as a dashboard does. In the field one does, however many browsers it serves.
The two are measured in turn, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.control import Helper, Reply, obey, run, say
from benchmarks.figures import Row, spread
from benchmarks.rig import HIGHEST_W, site, tell

DASHBOARDS = 20
ROUNDS = 4
COMMANDS = 150
EVERY_S = 0.02
MOST_RATIO = 1.5


async def measure(chargers: int) -> Row:
    """One row: the confirmation with twenty dashboards, its floor the same without."""
    alone_ms: list[float] = []
    watched_ms: list[float] = []
    async with site(chargers) as running, Helper("benchmarks.dashboard") as onlookers:
        for _ in range(ROUNDS):
            alone_ms += await _confirmations(running.master, chargers * HIGHEST_W)
            await onlookers.ask("look", port=running.service.http_port, dashboards=DASHBOARDS)
            watched_ms += await _confirmations(running.master, chargers * HIGHEST_W)
            seen = await onlookers.ask("leave")
            tell(f"{len(watched_ms)} confirmations each; the dashboards were told {seen['messages']} times")
    watched, alone = spread(watched_ms), spread(alone_ms)
    return Row(
        f"confirmation, {DASHBOARDS} look on",
        chargers,
        "ms",
        watched,
        goal=f"≤ {MOST_RATIO:g} times the median without",
        reached=watched.p50 <= MOST_RATIO * alone.p50,
        floor=alone.p50,
        note=f"the floor is the same with nobody looking on: p99 {alone.p99:.2f} ms, at worst {alone.worst:.2f} ms",
    )


async def _confirmations(master: Any, limit_w: float) -> list[float]:
    took_ms = []
    for _ in range(COMMANDS):
        sent_ns, confirmed_ns, _ = await master.setpoint(limit_w)
        took_ms.append((confirmed_ns - sent_ns) / 1e6)
        await asyncio.sleep(EVERY_S)
    return took_ms


class Onlookers:
    """Connections that read the live values and count the messages."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._begun = 0
        self._messages = 0

    async def do(self, do: str, given: dict[str, Any]) -> Reply:
        """Look on with so many dashboards, or leave."""
        if do == "look":
            self._begun = self._messages = 0
            self._tasks = [asyncio.create_task(self._read(given["port"])) for _ in range(given["dashboards"])]
            async with asyncio.timeout(30):
                while self._begun < len(self._tasks):  # noqa: ASYNC110  they announce it in no other way
                    await asyncio.sleep(0.05)
        else:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return {"messages": self._messages}

    async def _read(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
        try:
            writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while line := await reader.readline():
                self._begun += line.startswith(b"event: state")
                self._messages += line.startswith(b"event: ")
        finally:
            writer.close()


async def _onlookers() -> None:
    say({})
    await obey(Onlookers().do)


if __name__ == "__main__":
    run(_onlookers)
