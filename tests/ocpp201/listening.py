"""A listener with the events it submits, charger entries, and bare clients to speak to it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.typing import Subprotocol

from bridge.core.messages import Event, SetLimit
from bridge.core.quantities import Now
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.rpc import WebSocket
from bridge.ocpp201.server import MakeSession, Server
from bridge.ocpp201.station import Station
from bridge.settings import ChargerEntry, ChargerProfile

EventT = TypeVar("EventT")
NATIVE: dict[str, Any] = {
    "vendor": "any",
    "model": "any",
    "protocol": "ocpp2.0.1",
    "minimum_w": 4_140,
    "maximum_w": 22_000,
    "limit": {"method": "charging_profile"},
    "sampling": {"interval_s": 60, "measurands": ["Energy.Active.Import.Register", "Power.Active.Import"]},
}
BOOT = {"reason": "PowerUp", "chargingStation": {"model": "M1", "vendorName": "V", "firmwareVersion": "1.2"}}


def clock() -> Now:
    return Now(round(time.monotonic() * 1000), round(time.time() * 1000))


def charger_entry(serial: str = "CS-0001", *, out_of_service: bool = False, **changes: Any) -> ChargerEntry:
    profile = ChargerProfile.model_validate(NATIVE | changes)
    return ChargerEntry.model_validate(
        {
            "serial": serial,
            "charger_profile": "native-201",
            "profile": profile,
            "index": 0,
            "out_of_service": out_of_service,
        }
    )


class Listening:
    """A running listener and everything that was submitted by it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.server: Server
        self._changed = asyncio.Event()

    def submit(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.server.port}/{path}"

    def order(self, limit_w: int, serial: str = "CS-0001", order: int = 1) -> None:
        self.server.set_limit(SetLimit(serial, order, limit_w))

    async def submitted(self, kind: type[EventT], count: int = 1) -> list[EventT]:
        """Wait until `count` events of a kind were submitted and return them."""
        async with asyncio.timeout(20):
            while True:
                found: list[EventT] = [event for event in self.events if isinstance(event, kind)]
                if len(found) >= count:
                    return found
                self._changed.clear()
                await self._changed.wait()

    def connect(self, path: str = "CS-0001", protocol: str | None = "ocpp2.0.1", **options: Any) -> connect:
        subprotocols = None if protocol is None else [Subprotocol(protocol)]
        return connect(self.url(path), subprotocols=subprotocols, **{"compression": None} | options)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that announces itself in no other way."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  nothing to wait on
            await asyncio.sleep(0.002)


@asynccontextmanager
async def listening(
    entries: Iterable[ChargerEntry],
    connection_class: type[ServerConnection] = ServerConnection,
    more_sessions: dict[str, MakeSession] | None = None,
    call_timeout_s: float = 10.0,
    **limits: Any,
) -> AsyncIterator[Listening]:
    world = Listening()
    central_system = CentralSystem(frozenset(), clock)

    def station(websocket: WebSocket, entry: ChargerEntry) -> Station:
        return Station(websocket, entry, central_system, world.submit, clock, call_timeout_s=call_timeout_s)

    chargers = {entry.serial: entry for entry in entries}
    sessions = {"ocpp2.0.1": station} | (more_sessions or {})
    world.server = Server("127.0.0.1", 0, chargers, sessions, world.submit, clock, connection_class, **limits)
    await world.server.open()
    try:
        yield world
    finally:
        await world.server.close()


async def ask(websocket: ClientConnection, action: str, payload: dict[str, Any], message_id: str = "") -> Any:
    """Send one CALL and return the next frame that answers it, passing over calls of the other side."""
    message_id = message_id or f"{action}-{time.monotonic_ns()}"[:36]
    await websocket.send(json.dumps([2, message_id, action, payload]))
    return await next_frame(websocket, lambda frame: frame[0] != 2 and frame[1] == message_id)


async def next_frame(websocket: ClientConnection, wanted: Callable[[Any], bool] = lambda _: True) -> Any:
    async with asyncio.timeout(20):
        while True:
            frame = json.loads(await websocket.recv())
            if wanted(frame):
                return frame


async def next_call(websocket: ClientConnection, action: str) -> Any:
    return await next_frame(websocket, lambda frame: frame[0] == 2 and frame[2] == action)


async def mute_peer(port: int, path: str) -> asyncio.StreamWriter:
    """Open a WebSocket as a station would and then never answer anything, not even a ping."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(b"0123456789abcdef").decode()
    writer.write(
        f"GET /{path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp2.0.1\r\n\r\n".encode()
    )
    assert b"101" in await reader.readline()
    return writer
