"""Meter samples a second: translated, journalled, sent on as IEC 104 events that are kept until acknowledged."""

from __future__ import annotations

from typing import Any

from benchmarks import wire
from benchmarks.figures import Row, spread
from benchmarks.rig import peer, site, tell
from benchmarks.service import cpu_s_of, free_ports

SECONDS, WARM_S = 10.0, 3.0
GOAL_PER_S = 5_000


async def measure(chargers: int) -> list[Row]:
    """Without a CSMS, and with one that is away, so that everything is kept in the outbox as well."""
    floor, stock = await _other("benchmarks.floor", chargers), await _other("benchmarks.stock", chargers)
    away = {"csms": {"url": f"ws://127.0.0.1:{free_ports(1)[0]}/"}}
    rows = []
    for what, changes in (("telemetry", {}), ("telemetry, with outbox", away)):
        rows.append(await _ours(what, chargers, floor, stock, changes))
    return rows


async def _ours(what: str, chargers: int, floor: float, stock: float, changes: dict[str, Any]) -> Row:
    async with site(chargers, **changes) as running:
        events, service_s = running.master.events, cpu_s_of(running.service.pid)
        before = (await running.fleet.ask("look"))["cpu_s"]
        said = await running.fleet.ask("sample", seconds=SECONDS, warm_s=WARM_S)
        busy_s = SECONDS + WARM_S
        service, fleet = cpu_s_of(running.service.pid) - service_s, said["cpu_s"] - before
        per_s = said["samples"] / said["seconds"]
        events = running.master.events - events
    samples_per_s = per_s * wire.VALUES_PER_MESSAGE
    tell(f"{what}: {per_s:.0f} messages/s, {samples_per_s:.0f} samples/s")
    note = (
        f"{per_s:,.0f} MeterValues messages a second, {wire.VALUES_PER_MESSAGE} sampled values in each;"
        f" round trip p50 {said['p50_ms']:.0f}, p99 {said['p99_ms']:.0f}, max {said['max_ms']:.0f} ms with every"
        f" charger waiting for its answer before it sends again; {events / busy_s:,.0f} IEC 104 events/s;"
        f" service {service / busy_s:.0%} of a core, {service / max(1, per_s * busy_s) * 1e6:.0f} us CPU a message;"
        f" load generator {fleet / busy_s:.0%} of a core"
    )
    return Row(
        what,
        chargers,
        "samples/s",
        spread([samples_per_s]),
        f"≥ {GOAL_PER_S:,} samples/s",
        samples_per_s >= GOAL_PER_S,
        floor,
        stock,
        note,
        higher_is_better=True,
    )


async def _other(module: str, chargers: int) -> float:
    async with peer(module, chargers) as (_, fleet):
        said = await fleet.ask("sample", seconds=SECONDS / 2, warm_s=WARM_S)
        tell(f"{module}: {said['samples'] / said['seconds']:.0f} messages/s")
        return float(said["samples"]) / float(said["seconds"]) * wire.VALUES_PER_MESSAGE
