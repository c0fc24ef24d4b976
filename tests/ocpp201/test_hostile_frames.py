"""Ten thousand mutated frames on the listener: none ends or stalls it, and another station is served meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
from contextlib import suppress

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bridge.core.messages import Answer, LimitAnswered
from tests.ocpp201.listening import BOOT, Listening, ask, charger_entry, eventually, listening, mute_peer, next_call

FRAMES = 10_000
FRAMES_A_CONNECTION = 150  # below the burst a connection is granted, so that reading never pauses

TRANSACTION = {
    "eventType": "Updated",
    "timestamp": "2026-09-01T10:00:00Z",
    "triggerReason": "MeterValuePeriodic",
    "seqNo": 1,
    "transactionInfo": {"transactionId": "t1", "chargingState": "Charging"},
    "evse": {"id": 1, "connectorId": 1},
    "meterValue": [
        {
            "timestamp": "2026-09-01T10:00:00Z",
            "sampledValue": [
                {"value": 7.2, "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "kW", "multiplier": 0}},
                {"value": 16, "measurand": "Current.Import", "phase": "L1"},
            ],
        }
    ],
}
VALID = [
    json.dumps(frame)
    for frame in (
        [2, "1", "BootNotification", BOOT],
        [2, "2", "Heartbeat", {}],
        [2, "3", "TransactionEvent", TRANSACTION],
        [2, "4", "MeterValues", {"evseId": 1, "meterValue": TRANSACTION["meterValue"]}],
        [2, "5", "Authorize", {"idToken": {"idToken": "04A1B2C3", "type": "ISO14443"}}],
        [3, "6", {"status": "Accepted"}],
        [4, "7", "NotSupported", "", {}],
    )
]
TOKENS = (
    *("[", "]", "{", "}", '"', ",", ":", "\\", "null", "true", "-1", "1e400", "NaN", "9" * 30, "9" * 5_000, "0.5"),
    *("\x00", "\\u0000", "\\ud800", "\ufeff", "é", "[" * 300, '{"a":' * 40, "x" * 70_000, "2", "3", "4", "5"),
)


def mutated(chance: random.Random) -> bytes:
    """Take a valid frame and cut, double, swap, insert or flip in it, a few times."""
    frame = bytearray(chance.choice(VALID).encode())
    for _ in range(chance.randint(1, 4)):
        at, to = sorted((chance.randrange(len(frame) + 1), chance.randrange(len(frame) + 1)))
        how = chance.randrange(5)
        if how == 0:
            del frame[at:to]
        elif how == 1:
            frame[at:at] = frame[at:to]
        elif how == 2:
            frame[at:at] = chance.choice(TOKENS).encode("utf-8", "surrogatepass")
        elif how == 3 and at < len(frame):
            frame[at] = chance.randrange(256)
        else:
            frame[at:to] = chance.choice(TOKENS).encode("utf-8", "surrogatepass")
    return bytes(frame)


async def pester(world: Listening, serial: str, chance: random.Random, count: int) -> int:
    """Send mutated frames on as many connections as it takes and return how many left."""
    sent = 0
    while sent < count:
        with suppress(ConnectionClosed):
            async with world.connect(serial, ping_interval=None, close_timeout=1) as websocket:
                reading = asyncio.create_task(drained(websocket))
                for _ in range(min(FRAMES_A_CONNECTION, count - sent)):
                    sent += 1
                    await websocket.send(mutated(chance), text=chance.random() > 0.01)
                await websocket.close()
                await reading
    return sent


async def drained(websocket: ClientConnection) -> None:
    with suppress(ConnectionClosed):
        async for _ in websocket:
            pass


async def is_served(world: Listening, station: ClientConnection, order: int) -> None:
    """A heartbeat is answered and a limit reaches the other station."""
    assert (await ask(station, "Heartbeat", {}))[0] == 3
    world.order(10_000 + order, "CS-0001", order)
    call = await next_call(station, "SetChargingProfile")
    await station.send(json.dumps([3, call[1], {"status": "Accepted"}]))
    await eventually(lambda: LimitAnswered("CS-0001", order, Answer.ACCEPTED) in world.events)


async def test_ten_thousand_mutated_frames_neither_end_nor_stall_the_listener() -> None:
    seed = int(os.environ.get("SEED", "201"))
    print(f"seed {seed}")  # noqa: T201  a failure is repeated with SEED=
    hostile = [f"CS-1{number:03}" for number in range(8)]
    async with listening([charger_entry(serial) for serial in ("CS-0001", *hostile)]) as world:
        async with world.connect() as station:
            pestering = asyncio.gather(
                *(
                    pester(world, serial, random.Random(f"{seed} {serial}"), FRAMES // len(hostile))
                    for serial in hostile
                )
            )
            order = 0
            while not pestering.done():
                order += 1
                await is_served(world, station, order)
                await asyncio.sleep(0.1)
            assert sum(await pestering) == FRAMES
            await is_served(world, station, order + 1)
        assert order > 1


async def test_five_hundred_mutated_handshakes_and_websocket_frames_neither_end_nor_stall_the_listener() -> None:
    seed = int(os.environ.get("SEED", "201"))
    print(f"seed {seed}")  # noqa: T201  a failure is repeated with SEED=
    chance = random.Random(seed)
    opening = (
        b"GET /CS-1000 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        b"Sec-WebSocket-Protocol: ocpp2.0.1\r\n\r\n"
    )
    async with listening([charger_entry(), charger_entry("CS-1000")]) as world, world.connect() as station:
        for number in range(500):
            if number % 2:
                _, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
                broken = bytearray(opening)
                for _ in range(chance.randint(1, 5)):
                    broken[chance.randrange(len(broken))] = chance.randrange(256)
                writer.write(broken)
            else:
                writer = await mute_peer(world.server.port, "CS-1000")
                writer.write(chance.randbytes(chance.randint(1, 200)))
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            if number % 100 == 0:
                await is_served(world, station, number + 1)
            await eventually(lambda: "CS-1000" not in world.server._live)
        await is_served(world, station, 1_000)
