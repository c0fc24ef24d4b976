"""What the benchmarks share: a connected site or a peer server with its load generator, and how one is told a limit."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.control import Helper
from benchmarks.master import Master
from benchmarks.service import Service, cpu_s_of

ALL_LIMITED_S = 240.0
HIGHEST_W, LOWEST_W = 20_000, 8_000  # for each charger on average: every step changes every limit

Progress = Callable[[str], None]


def tell(line: str) -> None:
    """Show progress."""
    sys.stderr.write(f"  … {line}\n")
    sys.stderr.flush()


@dataclass(slots=True)
class Site:
    """The running service, its chargers and a control centre."""

    service: Service
    fleet: Helper
    master: Master
    chargers: int

    async def cut(self, limit_w: float) -> tuple[float, float, dict[str, Any]]:
        """One lower setpoint: seconds until confirmed, until terminated, and what the fleet says of the answers."""
        await self.fleet.ask("expect", finals=self.chargers)
        sent_ns, confirmed_ns, terminated = await self.master.setpoint(limit_w)
        terminated_ns = await asyncio.wait_for(terminated, 60)
        said = await self.fleet.ask("wait", within_s=60)
        return (confirmed_ns - sent_ns) / 1e9, (terminated_ns - sent_ns) / 1e9, said | {"sent_ns": sent_ns}


@asynccontextmanager
async def site(chargers: int, *, profile: str = "", **changes: Any) -> AsyncIterator[Site]:
    """A service with all chargers connected, booted and limited. `profile` names a file for cProfile."""
    with tempfile.TemporaryDirectory(prefix="gridlimit-bench-") as folder:
        service = Service(Path(folder), chargers, **changes)
        command = None
        if profile:
            run = ["-m", "bridge", "run", "--config", str(service.config)]
            command = [sys.executable, "-m", "cProfile", "-o", profile, *run]
        try:
            await service.start(command)
            async with Helper("benchmarks.fleet") as fleet:
                master = await Master.connect(service.iec104_port)
                began = time.monotonic()
                await fleet.ask("expect", finals=chargers, each_once=True)
                await connect(fleet, service.ocpp_port, chargers, ours=True)
                said = await fleet.ask("wait", within_s=ALL_LIMITED_S)
                assert said["last_ns"] is not None, f"only {said['finals']} of {chargers} were limited: {said}"
                tell(f"{chargers} chargers connected, booted and limited in {time.monotonic() - began:.1f} s")
                await quiet(service)
                yield Site(service, fleet, master, chargers)
                master.close()
        finally:
            await service.__aexit__()


async def quiet(service: Service) -> None:
    """Wait until the service has nothing left to do."""
    before, calm = cpu_s_of(service.pid), 0
    for _ in range(240):
        await asyncio.sleep(0.25)
        now = cpu_s_of(service.pid)
        calm = calm + 1 if now - before <= 0.02 else 0
        before = now
        if calm >= 6:
            return


async def connect(fleet: Helper, port: int, chargers: int, *, ours: bool, boots: bool = True, at_once: int = 0) -> None:
    """Have the fleet connect."""
    await fleet.ask(
        "connect",
        port=port,
        chargers=chargers,
        hello=ours,
        boots=boots,
        legacy_protocol="ocpp1.5" if ours else "ocpp1.6",
        at_once=at_once,
    )


@asynccontextmanager
async def peer(module: str, chargers: int) -> AsyncIterator[tuple[Helper, Helper]]:
    """A server that is not ours with all chargers connected and booted, and its fleet."""
    async with Helper(module) as server, Helper("benchmarks.fleet") as fleet:
        await connect(fleet, server.hello["port"], chargers, ours=False)
        yield server, fleet


def steps(chargers: int, rounds: int) -> list[float]:
    """Setpoints from high to low, each a cut for every charger."""
    step_w = (HIGHEST_W - LOWEST_W) / (rounds + 1)
    return [chargers * (HIGHEST_W - step_w * (number + 1)) // 1 for number in range(rounds)]
