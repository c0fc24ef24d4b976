"""Two thousand mutated frames on a unit's connection: none ends or stalls the service, all that goes up is valid."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from websockets.exceptions import ConnectionClosed

from bridge.core.messages import MeterSampled
from tests.legacy.fake_unit import SERIAL, Bench, FakeUnit, running

FRAMES = 2_000
NOW = "2026-09-01T10:00:00Z"
VALUES = [{"timestamp": NOW, "values": [{"value": "7,2", "unit": "kW", "measurand": "Power.Active.Import"}]}]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("BootNotification", {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA", "firmwareVersion": "1"}),
    ("Authorize", {"idTag": "04A1B2C3"}),
    ("StatusNotification", {"connectorId": 1, "status": "Faulted", "errorCode": "GroundFailure", "timestamp": NOW}),
    ("StartTransaction", {"connectorId": 1, "idTag": "04A1B2C3", "timestamp": NOW, "meterStart": 7}),
    ("MeterValues", {"connectorId": 1, "transactionId": 1, "values": VALUES}),
    ("StopTransaction", {"transactionId": 1, "timestamp": NOW, "meterStop": 9, "transactionData": VALUES}),
    ("DataTransfer", {"vendorId": "Voltex", "data": "x"}),
]
LEAVES: list[Any] = [
    None,
    True,
    "",
    0,
    -1,
    2**31,
    2**63,
    1e308,
    "NaN",
    "x" * 300,
    "1970-01-01T00:00:00Z",
    [],
    {},
    "\x00",
]


def mutated(chance: random.Random, message_id: str) -> str:
    """Change leaves of a right frame, then perhaps single characters of its text."""
    action, payload = chance.choice(CALLS)
    frame: list[Any] = [2, message_id, action, json.loads(json.dumps(payload))]
    for _ in range(chance.randrange(3)):
        place: Any = frame[3] if chance.random() < 0.9 else frame
        while isinstance(place, dict | list) and place:
            key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
            if chance.random() < 0.4 or not isinstance(place[key], dict | list):
                place[key] = chance.choice(LEAVES)
                break
            place = place[key]
    text = json.dumps(frame)
    if chance.random() < 0.3:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(["", "[", "}", '"', "é", "9" * 30, "\\u0000", ","]) + text[at + 1 :]
    return text


async def send_all(bench: Bench, unit: FakeUnit, frames: list[str]) -> int:
    """Send frames, wait until they were read or the connection was closed, and return how many were read."""
    bench.units[-1]._rpc._rate_per_s = 1e6
    try:
        for frame in frames:
            await unit.websocket.send(frame)
        await unit.call("Heartbeat", {}, "last")
    except (ConnectionClosed, TimeoutError):
        return bench.units[-1]._rpc.counts.received
    return len(frames)


async def test_two_thousand_mutated_frames_end_nothing_and_everything_sent_up_is_valid() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  repeats a failure
    chance = random.Random(seed)
    left = [mutated(chance, f"m{number}") for number in range(FRAMES)]
    async with running() as bench:
        async with asyncio.timeout(60):
            while left:
                async with bench.unit() as unit:
                    left = left[max(1, await send_all(bench, unit, left)) :]
        async with bench.unit() as unit:
            assert (await unit.call("BootNotification", {}))["status"] == "Accepted"
            before = len(bench.of(MeterSampled))
            await unit.call("MeterValues", {"connectorId": 1, "values": VALUES})
            assert len(bench.of(MeterSampled)) == before + 1
    assert sum(unit._rpc.counts.received for unit in bench.units) >= FRAMES
    assert len(bench.central_system.received) > FRAMES / 3
    assert bench.quarantine.counts[SERIAL] > FRAMES / 20
    assert len(bench.shelf.rooms["quarantine"]) <= 100
