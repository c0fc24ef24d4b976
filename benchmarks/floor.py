"""The floor: raw `websockets` on uvloop, the same bytes both ways and nothing decided, kept or checked."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks import wire
from benchmarks.control import Reply, obey, run, say

logging.getLogger("websockets").setLevel(logging.CRITICAL)  # connections end without a word here

QUOTE = '"'
READ = (wire.CALL_READ % 2).decode()
BOOT_ANSWER = (
    '[3,"boot",{"currentTime":"2030-01-01T00:00:00.000Z","interval":300,"status":"Accepted"}]'  # both dialects
)


class Floor:
    """Sends an order to every connection and counts the answers."""

    def __init__(self) -> None:
        self.legacy: set[ServerConnection] = set()
        self.native: set[ServerConnection] = set()
        self.left = 0
        self.done = asyncio.Event()

    async def serve(self, connection: ServerConnection) -> None:
        """Receive until the connection ends."""
        legacy = connection.subprotocol != "ocpp2.0.1"
        (self.legacy if legacy else self.native).add(connection)
        async for frame in connection:
            assert isinstance(frame, str)
            if frame.startswith('[2,"boot"'):
                await connection.send(BOOT_ANSWER)
            elif frame[1] == "2":
                await connection.send(f'[3,"{frame[4 : frame.index(QUOTE, 4)]}",{{}}]')
            elif legacy and "status" in frame:
                broadcast([connection], READ)
            else:
                self.left -= 1
                if not self.left:
                    self.done.set()

    async def do(self, do: str, given: dict[str, Any]) -> Reply:
        """Tell all chargers `limit_w` and wait until all have answered."""
        assert do == "fan"
        limit_w = given["limit_w"]
        self.left = len(self.legacy) + len(self.native)
        self.done.clear()
        began = time.monotonic()
        broadcast(self.native, (wire.CALL_LIMIT % (1, 1, limit_w)).decode())
        broadcast(self.legacy, (wire.CALL_WRITE % (1, limit_w)).decode())
        async with asyncio.timeout(60):
            await self.done.wait()
        return {"seconds": time.monotonic() - began}


async def _main() -> None:
    floor = Floor()
    protocols: Any = ["ocpp2.0.1", "ocpp1.6"]
    server = await serve(
        floor.serve, "127.0.0.1", 0, subprotocols=protocols, compression=None, ping_interval=None, backlog=4096
    )
    async with server:
        say({"port": next(iter(server.sockets)).getsockname()[1]})
        await obey(floor.do)


if __name__ == "__main__":
    run(_main)
