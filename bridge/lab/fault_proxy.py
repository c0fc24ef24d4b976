"""A TCP proxy that breaks a connection on order: cut, silent, slow, lossy or garbled, and whole again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from enum import Enum, unique

log = logging.getLogger(__name__)

CHUNK_BYTES = 16_384
MAX_CHUNKS_HELD = 64
MAX_CONNECTIONS = 256
DIAL_TIMEOUT_S = 10.0


@unique
class Direction(Enum):
    """Which way bytes flow: to the target, from it, or both."""

    TO_TARGET = "to_target"
    FROM_TARGET = "from_target"
    BOTH = "both"

    def covers(self, one_way: Direction) -> bool:
        """Tell whether a fault in this direction meets bytes flowing `one_way`."""
        return self in (Direction.BOTH, one_way)


@unique
class Fault(Enum):
    """What is wrong with a whole line, both ways."""

    NONE = "none"
    CUT = "cut"
    SILENT = "silent"


class FaultProxy:
    """Forwards TCP connections to a target, unless told otherwise.

    `cut()` resets every connection, and each new one as soon as it is accepted. `silence()` keeps connections open and
    forwards nothing, not even their end; what was sent meanwhile arrives after `restore()`, as after an outage that TCP
    survives. `drop()` swallows, `garble()` inverts every bit. `delay()` holds every byte for that long, order kept.
    Faults add up until `restore()` heals all of them. At most 1 MiB is held each way, the rest waits in the sender.
    """

    def __init__(self, target_host: str, target_port: int, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._is_cut = False
        self._delay_s = 0.0
        self._silent: Direction | None = None
        self._dropped: Direction | None = None
        self._garbled: Direction | None = None
        self._flows = {Direction.TO_TARGET: asyncio.Event(), Direction.FROM_TARGET: asyncio.Event()}
        self.restore()

    @property
    def connections(self) -> int:
        """How many connections are open through the proxy."""
        return len(self._links)

    async def open(self) -> None:
        """Listen; OSError if the port is taken. Port 0 takes a free one; `port` is the bound one."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        links = list(self._links.items())
        for link, writers in links:
            link.cancel()
            for writer in writers:
                writer.close()
        await asyncio.gather(*(link for link, _ in links), return_exceptions=True)

    @property
    def fault(self) -> Fault:
        """What is wrong with the line as a whole."""
        if self._is_cut:
            return Fault.CUT
        return Fault.SILENT if self._silent is Direction.BOTH else Fault.NONE

    def bring(self, fault: Fault) -> None:
        """Bring this fault about and heal every other."""
        self.restore()
        if fault is Fault.CUT:
            self.cut()
        elif fault is Fault.SILENT:
            self.silence()

    def cut(self) -> None:
        """Reset all connections and keep resetting new ones."""
        self._is_cut = True
        for link, writers in self._links.items():
            for writer in writers:
                _reset(writer)
            link.cancel()

    def silence(self, direction: Direction = Direction.BOTH) -> None:
        """Keep connections open and forward nothing in `direction`."""
        self._silent = direction
        for one_way, flows in self._flows.items():
            if direction.covers(one_way):
                flows.clear()
            else:
                flows.set()

    def drop(self, direction: Direction = Direction.BOTH) -> None:
        """Swallow every byte in `direction`."""
        self._dropped = direction

    def garble(self, direction: Direction = Direction.BOTH) -> None:
        """Invert every bit in `direction`."""
        self._garbled = direction

    def delay(self, delay_s: float) -> None:
        """Hold every byte for `delay_s`; 0 for none."""
        self._delay_s = delay_s

    def restore(self) -> None:
        """Heal every fault; connections that were cut stay ended."""
        self._is_cut = False
        self._delay_s = 0.0
        self._silent = self._dropped = self._garbled = None
        for flows in self._flows.values():
            flows.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut or len(self._links) >= MAX_CONNECTIONS:
            _reset(writer)
            return
        writers = [writer]
        link = asyncio.create_task(self._link(reader, writers))
        self._links[link] = writers
        link.add_done_callback(self._links.pop)

    async def _link(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        """Dial the target for one client and forward until either ends; `writers` lists both once there are two."""
        try:
            await self._flows[Direction.TO_TARGET].wait()
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                target_reader, target_writer = await asyncio.open_connection(*self._target)
            writers.append(target_writer)
            await self._forward((reader, writers[0]), (target_reader, target_writer))
        except (OSError, TimeoutError) as problem:
            log.info("proxy %s: %s", self.port, problem)
        finally:
            for writer in writers:
                writer.close()

    async def _forward(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        target: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Pump both ways until one of them ends."""
        pumps = {
            asyncio.create_task(self._pump(client[0], target[1], Direction.TO_TARGET)),
            asyncio.create_task(self._pump(target[0], client[1], Direction.FROM_TARGET)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one_way: Direction) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(MAX_CHUNKS_HELD)
        reading = asyncio.create_task(self._hold(reader, held))
        clock = asyncio.get_running_loop().time
        try:
            while True:
                received_s, chunk = await held.get()
                await asyncio.sleep(max(0.0, received_s + self._delay_s - clock()))
                await self._flows[one_way].wait()
                if not chunk:
                    return
                if self._dropped is not None and self._dropped.covers(one_way):
                    continue
                if self._garbled is not None and self._garbled.covers(one_way):
                    chunk = bytes(byte ^ 0xFF for byte in chunk)
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            return
        finally:
            reading.cancel()

    @staticmethod
    async def _hold(reader: asyncio.StreamReader, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Note when each chunk came; an empty one is the end."""
        clock = asyncio.get_running_loop().time
        chunk = b"."
        while chunk:
            try:
                chunk = await reader.read(CHUNK_BYTES)
            except ConnectionError:
                chunk = b""
            await held.put((clock(), chunk))


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a TCP connection with RST instead of FIN."""
    link = writer.get_extra_info("socket")
    if link is not None:
        with contextlib.suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
