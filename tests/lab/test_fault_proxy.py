"""The fault proxy between a small echo server and a plain client, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bridge.lab.fault_proxy import Direction, FaultProxy

DEADLINE_S = 5.0
MOMENT_S = 0.1


class Echo:
    """Sends back what it gets, and knows what it got and which connections ended."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                self.received += chunk
                writer.write(chunk)
                await writer.drain()
        self.ended.set()
        writer.close()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest_asyncio.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    proxy = FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1])
    await proxy.open()
    yield proxy
    await proxy.close()
    server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echoed(self, data: bytes, within_s: float = DEADLINE_S) -> bytes:
        self.writer.write(data)
        async with asyncio.timeout(within_s):
            return await self.reader.readexactly(len(data))

    async def end(self) -> bytes:
        """Wait for the end; ConnectionResetError for a reset, b"" for a FIN."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()


@pytest_asyncio.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    yield client
    client.writer.close()


async def test_a_sound_proxy_passes_everything_in_order(client: Client) -> None:
    data = bytes(range(256)) * 4_000
    assert await client.echoed(data) == data


async def test_a_cut_resets_what_is_open(proxy: FaultProxy, client: Client, echo: Echo) -> None:
    await client.echoed(b"one")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.end()
    async with asyncio.timeout(DEADLINE_S):
        await echo.ended.wait()


async def test_a_cut_refuses_new_connections_until_it_is_healed(proxy: FaultProxy) -> None:
    proxy.cut()
    refused = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    with pytest.raises(ConnectionResetError):
        await refused.end()
    proxy.restore()
    healed = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    assert await healed.echoed(b"two") == b"two"
    healed.writer.close()


async def test_silence_keeps_the_connection_and_delivers_later(proxy: FaultProxy, client: Client, echo: Echo) -> None:
    await client.echoed(b"one")
    proxy.silence()
    with pytest.raises(TimeoutError):
        await client.echoed(b"two", within_s=MOMENT_S)
    assert echo.received == b"one"
    assert proxy.connections == 1
    proxy.restore()
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(3) == b"two"


async def test_silence_one_way_lets_the_other_way_through(proxy: FaultProxy, client: Client, echo: Echo) -> None:
    await client.echoed(b"one")
    proxy.silence(Direction.FROM_TARGET)
    with pytest.raises(TimeoutError):
        await client.echoed(b"two", within_s=MOMENT_S)
    assert echo.received == b"onetwo"


async def test_silence_hides_the_end_of_a_connection(proxy: FaultProxy, client: Client, echo: Echo) -> None:
    await client.echoed(b"one")
    proxy.silence()
    client.writer.close()
    await asyncio.sleep(MOMENT_S)
    assert not echo.ended.is_set()
    proxy.restore()
    async with asyncio.timeout(DEADLINE_S):
        await echo.ended.wait()


async def test_a_connection_made_in_silence_reaches_nobody_until_it_is_healed(proxy: FaultProxy, echo: Echo) -> None:
    proxy.silence()
    hopeful = Client(*await asyncio.open_connection("127.0.0.1", proxy.port))
    with pytest.raises(TimeoutError):
        await hopeful.echoed(b"hello", within_s=MOMENT_S)
    assert echo.received == b""
    proxy.restore()
    async with asyncio.timeout(DEADLINE_S):
        assert await hopeful.reader.readexactly(5) == b"hello"
    hopeful.writer.close()


async def test_a_cut_ends_what_was_silent(proxy: FaultProxy, client: Client) -> None:
    await client.echoed(b"one")
    proxy.silence()
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.end()
    async with asyncio.timeout(DEADLINE_S):
        while proxy.connections:  # noqa: ASYNC110  the proxy has no event for its last connection
            await asyncio.sleep(0.01)


async def test_a_delay_holds_bytes_and_keeps_their_order(proxy: FaultProxy, client: Client) -> None:
    proxy.delay(MOMENT_S)
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    for number in range(10):
        client.writer.write(bytes([number]))
        await client.writer.drain()
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(10) == bytes(range(10))
    assert clock() - begun_s >= 2 * MOMENT_S


async def test_dropped_bytes_never_arrive_and_garbled_ones_arrive_wrong(
    proxy: FaultProxy, client: Client, echo: Echo
) -> None:
    await client.echoed(b"one")
    proxy.drop(Direction.TO_TARGET)
    with pytest.raises(TimeoutError):
        await client.echoed(b"two", within_s=MOMENT_S)
    proxy.restore()
    proxy.garble(Direction.FROM_TARGET)
    assert await client.echoed(b"\x00\x0f") == b"\xff\xf0"
    assert echo.received == b"one\x00\x0f"


async def test_a_flood_into_silence_is_held_back_in_the_sender(proxy: FaultProxy, client: Client) -> None:
    await client.echoed(b"one")
    proxy.silence()
    flood = bytes(64 * 1024 * 1024)
    client.writer.write(flood)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(MOMENT_S):
            await client.writer.drain()
    assert client.writer.transport.get_write_buffer_size() > len(flood) // 2
    client.writer.transport.abort()


async def test_closing_the_proxy_ends_everything(proxy: FaultProxy, client: Client, echo: Echo) -> None:
    await client.echoed(b"one")
    await proxy.close()
    assert await client.end() == b""
    async with asyncio.timeout(DEADLINE_S):
        await echo.ended.wait()
