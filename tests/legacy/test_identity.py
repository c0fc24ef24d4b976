"""Claims about who a legacy unit is: its hello, else its address, else what its BootNotification says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bridge.core.messages import ChargerBooted, ChargerConnected
from tests.legacy.fake_unit import SERIAL, Bench, running, until

BOOT = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA"}


async def dial(bench: Bench, path: str = "", protocol: str | None = "ocpp1.5") -> ClientConnection:
    offered = None if protocol is None else [Subprotocol(protocol)]
    return await connect(f"ws://127.0.0.1:{bench.server.port}/{path}", subprotocols=offered, compression=None)


async def boot(websocket: ClientConnection, **serials: str) -> Any:
    await websocket.send(json.dumps([2, "1", "BootNotification", BOOT | serials]))
    async with asyncio.timeout(20):
        return json.loads(await websocket.recv())


@pytest.mark.parametrize("protocol", ["ocpp1.5", None])
@pytest.mark.parametrize("path", ["", "ocpp/"])
async def test_a_unit_without_hello_or_address_is_who_its_boot_says(path: str, protocol: str | None) -> None:
    async with running() as bench:
        websocket = await dial(bench, path, protocol)
        answer = await boot(websocket, chargeBoxSerialNumber=SERIAL)
        assert (answer[0], answer[2]["status"]) == (3, "Accepted")
        assert bench.of(ChargerConnected) == [ChargerConnected(SERIAL)]
        assert len(bench.of(ChargerBooted)) == 1
        await websocket.close()


@pytest.mark.parametrize(
    "serials",
    [{}, {"chargeBoxSerialNumber": "S4-9999"}, {"chargeBoxSerialNumber": SERIAL, "chargePointSerialNumber": "S4-2"}],
)
async def test_a_boot_that_names_nobody_or_two_is_refused(serials: dict[str, str]) -> None:
    async with running() as bench:
        websocket = await dial(bench)
        with pytest.raises(ConnectionClosed):
            await boot(websocket, **serials)
        assert bench.events == []


async def test_a_unit_without_a_name_that_says_something_else_first_is_refused() -> None:
    async with running() as bench:
        websocket = await dial(bench)
        await websocket.send('[2,"1","Heartbeat",{}]')
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(websocket.recv(), 5)
        assert bench.events == []


async def test_a_station_of_ocpp_201_must_say_its_identity_in_its_address() -> None:
    async with running() as bench:
        with pytest.raises(InvalidStatus):
            await dial(bench, protocol="ocpp2.0.1")


async def test_a_hello_and_an_address_that_disagree_are_refused_and_told_once_a_minute() -> None:
    async with running() as bench:
        told: list[tuple[str, str, str]] = []
        bench.server._security_event = lambda *event: told.append(event)
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.server.port)
            key = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            upgrade = f"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n"
            writer.write(f"S4HELLO SN={SERIAL} FW=1\r\nGET /S4-0002 HTTP/1.1\r\n{upgrade}".encode())
            assert b"403" in await reader.readline()
            writer.close()
        assert [(serial, kind) for serial, kind, _ in told] == [(SERIAL, "IdentityMismatch")]
        bench.moved_ms += 61_000
        async with bench.unit():
            await until(lambda: bench.of(ChargerConnected))
