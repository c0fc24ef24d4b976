"""All chargers lose their connection at once and come back at once: until all are booted and limited again."""

from __future__ import annotations

import time

from benchmarks.control import Helper
from benchmarks.figures import Row, spread
from benchmarks.rig import connect, peer, quiet, site, steps, tell

ROUNDS = 3
GOAL_S = 15.0


async def measure(chargers: int) -> Row:
    """Each unit is booted again, told its limit anew and has said that it holds it."""
    took_s, highest = [], 0.0
    async with site(chargers) as running:
        limit_w = steps(chargers, 4)[-1]
        await running.cut(limit_w)
        await quiet(running.service)
        for _ in range(ROUNDS):
            held = await running.fleet.ask("drop")
            await running.fleet.ask("expect", finals=chargers, each_once=True)
            began_ns = time.monotonic_ns()
            await connect(running.fleet, running.service.ocpp_port, chargers, ours=True, at_once=chargers)
            said = await running.fleet.ask("wait", within_s=90)
            assert said["last_ns"] is not None, f"only {said['finals']} of {chargers} were limited again"
            took_s.append((said["last_ns"] - began_ns) / 1e9)
            await quiet(running.service)
            held = await running.fleet.ask("look")
            highest = max(highest, held["highest_w"] / limit_w)
            tell(f"ours: {took_s[-1]:.1f} s, the units held at most {highest:.1%} of the limit")
    floor, stock = await _other("benchmarks.floor", chargers), await _other("benchmarks.stock", chargers)
    ours = spread(took_s)
    reached = ours.worst <= GOAL_S and highest <= 1
    note = (
        f"the limits held by all units, in sum, were never above {highest:.1%} of the limit in force;"
        " floor and stock answer the boot and order nothing"
    )
    return Row(
        "storm",
        chargers,
        "s",
        ours,
        goal=f"≤ {GOAL_S:g} s",
        reached=reached,
        floor=floor,
        stock=stock,
        note=note,
    )


async def _other(module: str, chargers: int) -> float:
    async with peer(module, chargers) as (server, fleet):
        await fleet.ask("drop")
        return await _timed(server, fleet, chargers)


async def _timed(server: Helper, fleet: Helper, chargers: int) -> float:
    began = time.monotonic()
    await connect(fleet, server.hello["port"], chargers, ours=False, at_once=chargers)
    return time.monotonic() - began
