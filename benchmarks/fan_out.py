"""One setpoint until all chargers have acknowledged, and what that costs for each."""

from __future__ import annotations

from benchmarks.figures import Row, spread
from benchmarks.rig import peer, quiet, site, steps, tell
from benchmarks.service import cpu_s_of

ROUNDS = 7
WARM_UP = 2
TO_FLOOR, OF_STOCK, GROWTH = 2.5, 8.0, 1.5


async def measure(sizes: list[int]) -> list[Row]:
    """A row for each size, and one for how the cost of a charger grows from the least to the greatest."""
    rows = [await _measure_one(size) for size in sizes]
    grown = growth(rows)
    return rows if grown is None else [*rows, grown]


def growth(rows: list[Row]) -> Row | None:
    """How the cost of a charger grows from the least to the greatest fleet, if there are two."""
    rows = [row for row in rows if row.what == "fan-out"]
    if len(rows) < 2:
        return None
    first, last = rows[0], rows[-1]
    grown = (last.ours / last.chargers) / (first.ours / first.chargers)
    floor = (last.floor / last.chargers) / (first.floor / first.chargers) if first.floor and last.floor else None
    note = f"cost of a charger from {first.chargers} to {last.chargers}"
    goal = f"≤ {GROWTH} ×"
    return Row("fan-out, growth", last.chargers, "×", spread([grown]), goal, grown <= GROWTH, floor, None, note)


async def _measure_one(chargers: int) -> Row:
    ours_ms, ours_cpu_ms, in_all_ms, fleet_share = await _ours(chargers)
    floor_ms, floor_cpu_ms = await _other("benchmarks.floor", chargers)
    stock_ms, stock_cpu_ms = await _other("benchmarks.stock", chargers)
    ours, floor, stock = spread(ours_ms), spread(floor_ms).p50, spread(stock_ms).p50
    reached = ours.p50 <= TO_FLOOR * floor and stock >= OF_STOCK * ours.p50
    ours_us, floor_us, stock_us = (
        1e3 * spread(figures).p50 / chargers for figures in (ours_cpu_ms, floor_cpu_ms, stock_cpu_ms)
    )
    in_all_us = 1e3 * spread(in_all_ms).p50 / chargers
    note = (
        f"{ours.p50 / chargers:.4f} ms a charger (floor {floor / chargers:.4f}, stock {stock / chargers:.4f});"
        f" CPU of the server alone, which others on the machine disturb less: {ours_us:.0f} us a charger"
        f" (floor {floor_us:.0f}: x {ours_us / floor_us:.1f}; stock {stock_us:.0f}: / {stock_us / ours_us:.1f}),"
        f" {in_all_us:.0f} us with what follows afterwards (trace, records, pings);"
        f" load generator {fleet_share:.0%} of a core meanwhile"
    )
    goal = f"≤ {TO_FLOOR} × floor, ≥ {OF_STOCK:g} × faster than stock"
    return Row("fan-out", chargers, "ms", ours, goal, reached, floor, stock, note)


async def _ours(chargers: int) -> tuple[list[float], list[float], list[float], float]:
    """Of each round: how long it took, what CPU the service used in it and until it was quiet again, all in ms.

    The last is how busy the load generator was.
    """
    async with site(chargers) as running:
        pid = running.service.pid
        took_ms, cpu_ms, in_all_ms, fleet_s = [], [], [], 0.0
        for number, limit_w in enumerate(steps(chargers, ROUNDS + WARM_UP)):
            before = (await running.fleet.ask("look"))["cpu_s"]
            service_before = cpu_s_of(pid)
            _, terminated_s, said = await running.cut(limit_w)
            until_acknowledged = cpu_s_of(pid)
            assert said["last_ns"] is not None, f"not all acknowledged: {said}"
            await quiet(running.service)
            if number >= WARM_UP:
                took_ms.append(terminated_s * 1e3)
                fleet_s += said["cpu_s"] - before
                cpu_ms.append((until_acknowledged - service_before) * 1e3)
                in_all_ms.append((cpu_s_of(pid) - service_before) * 1e3)
        assert not said["errors"], said["errors"]
        tell(f"ours, {chargers}: {[round(each) for each in took_ms]} ms, CPU {[round(each) for each in cpu_ms]} ms")
        return took_ms, cpu_ms, in_all_ms, fleet_s / sum(took_ms) * 1e3


async def _other(module: str, chargers: int) -> tuple[list[float], list[float]]:
    async with peer(module, chargers) as (server, _):
        took_ms, cpu_ms = [], []
        for number in range(ROUNDS + WARM_UP):
            before = cpu_s_of(server.pid)
            took_ms.append((await server.ask("fan", limit_w=10_000 + number))["seconds"] * 1e3)
            cpu_ms.append((cpu_s_of(server.pid) - before) * 1e3)
        tell(f"{module}, {chargers}: {[round(each) for each in took_ms]} ms, CPU {[round(each) for each in cpu_ms]} ms")
        return took_ms[WARM_UP:], cpu_ms[WARM_UP:]
