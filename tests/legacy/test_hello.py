"""The hello over real sockets: split, pipelined, endless, absent, and everything that is none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from bridge.legacy.hello import Hello, HelloConnection, Opening, Refused, hello_connection, hello_pattern, read_opening

TEMPLATE = r"S4HELLO SN=<serial> FW=<version>\r\n"
HELLO = b"S4HELLO SN=S4-0001 FW=2016.1\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: bridge\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PATTERNS = [hello_pattern(TEMPLATE)]


class Listener:
    """A WebSocket listener behind the hello; `seen` is what each connection that got through said it was."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str | None, str | None]] = []

    async def handle(self, connection: ServerConnection) -> None:
        assert isinstance(connection, HelloConnection)
        self.seen.append((connection.hello_serial, connection.hello_version))
        await connection.wait_closed()


@asynccontextmanager
async def listening(deadline_s: float = 5.0) -> AsyncIterator[Listener]:
    listener = Listener()
    connection_class = hello_connection([TEMPLATE], deadline_s=deadline_s)
    async with serve(listener.handle, "127.0.0.1", 0, create_connection=connection_class) as server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener


async def say(listener: Listener, *pieces: bytes, pause_s: float | None = None) -> bytes:
    """Send pieces on a fresh connection and return the first line that comes back, b"" if it is closed instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s or 0)
        async with asyncio.timeout(20):
            return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_hello_split_at_every_byte_is_swallowed_and_the_handshake_answered() -> None:
    whole = HELLO + HANDSHAKE
    async with listening() as listener:
        for cut in range(1, len(HELLO) + 6):
            assert (await say(listener, whole[:cut], whole[cut:], pause_s=0.001)).startswith(b"HTTP/1.1 101")
        assert listener.seen == [("S4-0001", "2016.1")] * (len(HELLO) + 5)


async def test_a_hello_in_single_bytes_is_swallowed() -> None:
    async with listening() as listener:
        single = [bytes([byte]) for byte in HELLO + HANDSHAKE]
        assert (await say(listener, *single, pause_s=0.0005)).startswith(b"HTTP/1.1 101")


async def test_a_hello_and_its_handshake_in_one_segment_are_told_apart() -> None:
    async with listening() as listener:
        assert (await say(listener, HELLO + HANDSHAKE)).startswith(b"HTTP/1.1 101")
        assert listener.seen == [("S4-0001", "2016.1")]


async def test_nothing_is_answered_to_the_hello() -> None:
    async with listening() as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(HELLO)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.close()


async def test_a_connection_that_begins_with_its_handshake_is_an_ordinary_one() -> None:
    async with listening() as listener, connect(f"ws://127.0.0.1:{listener.port}/CS-0001") as websocket:
        assert await (await websocket.ping()) >= 0
        assert listener.seen == [(None, None)]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS on a plain listener"),
        (b"\x00\xff" * 40, "neither a hello"),
        (b"POST / HTTP/1.1\r\n\r\n", "neither a hello"),
        (b"S4HELLO SN=S4 0001 FW=1\r\n" + HANDSHAKE, "neither a hello"),
        (b"S4HELLO SN= FW=1\r\n", "neither a hello"),
        (b"S4HELLO SN=" + b"A" * 49 + b" FW=1\r\n", "neither a hello"),
        (b"S4HELLO SN=../../x FW=1\r\n", "neither a hello"),
        (b"S4HELLO SN=S4-0001 FW=\x1b[2J\r\n", "neither a hello"),
        (HELLO + HELLO, "neither a hello"),
        (HELLO + b"\x16\x03\x01", "TLS on a plain listener"),
        (b"S4HELLO SN=" + b"A" * 600, "longer than 512 bytes"),
    ],
)
async def test_what_is_neither_hello_nor_handshake_is_closed_with_one_line(said: bytes, why: str) -> None:
    async with listening() as listener:
        with capture_logs() as lines:
            assert await say(listener, said) == b""
        assert [line["event"] for line in lines] == ["hello refused: connection closed"]
        assert why in lines[0]["why"]
        assert lines[0]["peer"][0] == "127.0.0.1"
        assert listener.seen == []


async def test_a_hello_that_never_ends_is_closed_at_its_deadline() -> None:
    async with listening(deadline_s=0.1) as listener:
        with capture_logs() as lines:
            assert await say(listener, HELLO[:20]) == b""
        assert "no complete hello within 0.1 s" in lines[0]["why"]


async def test_a_connection_that_ends_within_its_hello_is_named() -> None:
    async with listening() as listener:
        with capture_logs() as lines:
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(HELLO[:20])
            await writer.drain()
            writer.close()
            async with asyncio.timeout(20):
                while not lines:  # noqa: ASYNC110  a log line sets no event
                    await asyncio.sleep(0.005)
        assert "ended before" in lines[0]["why"]


async def test_connections_that_fail_do_not_disturb_the_others() -> None:
    async with listening(deadline_s=1.0) as listener:
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(50)]
        assert (await say(listener, HELLO + HANDSHAKE)).startswith(b"HTTP/1.1 101")
        for reader, writer in silent:
            assert await asyncio.wait_for(reader.read(1), 20) == b""
            writer.close()


async def test_mutated_openings_never_raise_and_never_name_a_serial_outside_the_alphabet() -> None:
    chance = random.Random(2016)
    for _ in range(5_000):
        said = bytearray(HELLO + HANDSHAKE)
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(said))
            said[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
        verdict = read_opening(bytes(said[: chance.randrange(1, 600)]), PATTERNS, 512)
        if isinstance(verdict, Hello):
            assert verdict.serial.replace("-", "").replace(".", "").replace("_", "").isalnum()
            assert verdict.serial.isascii()
            assert len(verdict.serial) <= 48


def test_every_beginning_of_a_hello_is_incomplete_and_the_whole_one_is_read() -> None:
    for length in range(len(HELLO)):
        assert read_opening(HELLO[:length], PATTERNS, 512) is Opening.INCOMPLETE
    assert read_opening(HELLO + b"GE", PATTERNS, 512) == Hello("S4-0001", "2016.1", len(HELLO))


def test_a_pattern_whose_end_also_stands_inside_it_is_read_to_its_end() -> None:
    pattern = hello_pattern("ID:<serial>;<version>;")
    assert read_opening(b"ID:A-1;", [pattern], 512) is Opening.INCOMPLETE
    assert read_opening(b"ID:A-1;2.0;", [pattern], 512) == Hello("A-1", "2.0", 11)
    assert isinstance(read_opening(b"ID:A 1;2.0;", [pattern], 512), Refused)


def test_two_makes_with_different_hellos_share_a_listener() -> None:
    patterns = [*PATTERNS, hello_pattern(r"VX<serial>\n")]
    assert read_opening(b"VX77\nGET ", patterns, 512) == Hello("77", "", 5)
    assert read_opening(HELLO, patterns, 512) == Hello("S4-0001", "2016.1", len(HELLO))


@pytest.mark.parametrize(
    "template", ["SN=<serial>", "hello\r\n", "<serial><version>\n", "<serial> <serial>\n", "é<serial>\n"]
)
def test_a_template_that_cannot_be_read_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="hello"):
        hello_pattern(template)
