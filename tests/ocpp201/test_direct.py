"""Connections that are read and written without a task, and the timer that minds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.ocpp201.direct import DirectConnection, text_frame
from bridge.ocpp201.keepalive import KeepAlive


@asynccontextmanager
async def pair(
    serve_one: Callable[[DirectConnection], None],
) -> AsyncIterator[tuple[DirectConnection, ClientConnection]]:
    """A server's connection that receives nothing by itself, and its client, which pings nobody."""
    made: asyncio.Future[DirectConnection] = asyncio.get_running_loop().create_future()

    async def handle(connection: ServerConnection) -> None:
        assert isinstance(connection, DirectConnection)
        serve_one(connection)
        made.set_result(connection)
        await connection.wait_closed()

    options = {"compression": None, "ping_interval": None, "close_timeout": 1}
    async with serve(handle, "127.0.0.1", 0, create_connection=DirectConnection, **options) as server:  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", **options) as client:  # type: ignore[arg-type]
            yield await made, client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  polled
            await asyncio.sleep(0.005)


async def test_whole_messages_are_taken_in_the_order_they_come() -> None:
    taken: list[bytes] = []

    def take(text: bytes) -> bool:
        taken.append(text)
        return True

    async with pair(lambda connection: setattr(connection, "take", take)) as (_, client):
        for number in range(100):
            await client.send(f"[{number}]")
        await until(lambda: len(taken) == 100)
        assert taken == [f"[{number}]".encode() for number in range(100)]


async def test_what_is_not_taken_and_all_behind_it_waits_in_order() -> None:
    taken: list[bytes] = []

    def take(text: bytes) -> bool:
        if text == b"no":
            return False
        taken.append(text)
        return True

    async with pair(lambda connection: setattr(connection, "take", take)) as (connection, client):
        for text in ("first", "no", "second", ["a ", "fragmented ", "one"], "ümlaut"):
            await client.send(text)
        async with asyncio.timeout(10):
            assert [await connection.recv() for _ in range(4)] == ["no", "second", "a fragmented one", "ümlaut"]
        await client.send("last")
        await until(lambda: len(taken) == 2)
        assert taken == [b"first", b"last"]


async def test_binary_messages_and_octets_that_are_no_utf_8_are_left_to_recv() -> None:
    taken: list[bytes] = []
    async with pair(lambda connection: setattr(connection, "take", taken.append)) as (connection, client):
        await client.send(b"\x00")
        await client.send(b"\xff", text=True)
        async with asyncio.timeout(10):
            assert await connection.recv() == b"\x00"
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            await client.wait_closed()
        assert client.close_code == 1007
        assert taken == []


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536])
async def test_a_message_of_any_length_arrives_whole(length: int) -> None:
    async with pair(lambda _: None) as (connection, client):
        connection.write_text(b"x" * length)
        async with asyncio.timeout(10):
            assert await client.recv() == "x" * length
    assert text_frame(b"x" * length).endswith(b"x" * length)


async def test_nothing_is_written_to_a_connection_that_is_closing() -> None:
    async with pair(lambda _: None) as (connection, client):
        await connection.close()
        connection.write_text(b"late")
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionClosed):
                await client.recv()


async def test_who_is_silent_is_pinged_and_whoever_answers_stays() -> None:
    keep_alive = KeepAlive(0.02, 5.0, 1.0)
    async with pair(keep_alive.watch) as (connection, _):
        began_s = connection.heard_s
        await until(lambda: connection.heard_s > began_s)
        assert connection.close_code is None
    keep_alive.close()


async def test_who_stays_silent_is_ended_even_if_it_never_closes() -> None:
    keep_alive = KeepAlive(0.02, 0.1, 0.1)
    async with pair(keep_alive.watch) as (connection, client):
        client.transport.pause_reading()
        async with asyncio.timeout(10):
            await connection.wait_closed()
        assert connection.close_code == 1006
        client.transport.abort()
    keep_alive.close()
