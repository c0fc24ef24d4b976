"""The whole service on virtual time: what is lost, late, split, repeated or killed on the wire breaks no promise."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from bridge.lab.virtual_network import OWNER, Clock, VirtualLoop
from bridge.lab.virtual_planted import BUGS, planted
from bridge.lab.virtual_prove import Setting, play, quiet

HOURS = 0.6
SEEDS = range(4)
PORT = 9000


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()


@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_breaks_a_promise_on_the_wire(seed: int) -> None:
    tally, failure = play(Setting(seed, HOURS, wire=True))
    assert failure is None, f"gridlimit prove {seed} --hours {HOURS:g} --wire: {failure}"
    assert tally.terminations > 0, "a site that never reaches its limit proves nothing"


def test_the_same_seed_gives_the_same_history_on_the_wire() -> None:
    histories: list[list[str]] = [[], []]
    for history in histories:
        play(Setting(3, 0.4, wire=True), history.append)
    assert histories[0] == histories[1] != []


@pytest.mark.parametrize(("name", "seed"), [("acknowledged limits alone are counted", 0), ("0 W is no limit", 0)])
def test_a_planted_bug_is_caught_on_the_wire(name: str, seed: int) -> None:
    (bug,) = (bug for bug in BUGS if bug.name == name)
    with planted(bug):
        assert play(Setting(seed, HOURS, wire=True))[1] is not None


def test_time_passes_only_while_everybody_waits_and_is_given_back() -> None:
    clock, before_s = Clock(), time.time()
    with clock.everywhere(), asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, random.Random(1))) as runner:
        begun_s, begun_utc_s = time.monotonic(), time.time()
        runner.run(asyncio.sleep(86_400))
        assert time.monotonic() - begun_s == pytest.approx(86_400)
        assert time.time() - begun_utc_s == pytest.approx(86_400)
    assert 0 <= time.time() - before_s < 86_400


def test_what_is_written_arrives_whole_and_in_order_though_in_pieces() -> None:
    async def talk() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.network.splits = 0.9
        heard = bytearray()
        done = asyncio.Event()

        async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            heard.extend(await reader.read())
            done.set()

        await asyncio.start_server(listen, "127.0.0.1", PORT)
        _, writer = await asyncio.open_connection("127.0.0.1", PORT)
        for number in range(1_000):
            writer.write(b"%d," % number)
        writer.close()
        async with asyncio.timeout(100):
            await done.wait()
        assert bytes(heard) == b"".join(b"%d," % number for number in range(1_000))

    clock = Clock()
    with clock.everywhere(), asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, random.Random(2))) as runner:
        runner.run(talk())


def test_whoever_is_killed_says_and_does_no_more() -> None:
    async def live_and_die() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        did: list[str] = []

        async def serve() -> None:
            OWNER.set("doomed")

            async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                while data := await reader.read(100):
                    writer.write(data)

            await asyncio.start_server(echo, "127.0.0.1", PORT)
            loop.call_later(1_000, did.append, "a timer of the dead")
            await asyncio.sleep(1_000)
            did.append("a task of the dead")

        serving = asyncio.create_task(serve())
        await asyncio.sleep(1)
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        loop.tasks[serving] = "doomed"
        await loop.kill("doomed")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", PORT)
        await asyncio.sleep(2_000)
        assert did == []

    clock = Clock()
    with clock.everywhere(), asyncio.Runner(loop_factory=lambda: VirtualLoop(clock, random.Random(3))) as runner:
        runner.run(live_and_die())
