"""Events that outlive the outstation: kills, wraps and stalled windows lose none, repeat few and disorder none."""

from __future__ import annotations

import asyncio
import random
import struct
import sys
from pathlib import Path

import pytest

from bridge.core.messages import PointChanged
from bridge.core.points import PointAddress, Quality
from bridge.core.quantities import Now
from bridge.iec104.asdu import decode_time, encode_time
from bridge.iec104.event_buffer import MEASURED_TYPES, EventBuffer, Row
from bridge.iec104.outstation import Outstation, OutstationPlan
from bridge.store.database import Database
from bridge.store.events import MAX_BYTES, StoredEvents
from tests.iec104.fake_site import UTC_MS, FakeSite, running, table
from tests.iec104.quiet_master import Master
from tests.iec104.raw_master import RawMaster, Seen

ROOT = Path(__file__).parent.parent.parent
KILLS = 8
SEED = 20_261_123


def numbers(seen: Seen) -> list[int]:
    """What the outstation process counted, with the time it gave it."""
    if seen.type_id != 36:
        return []
    objects = [octets for _, octets in seen.objects(12)]
    values = [round(struct.unpack_from("<f", octets)[0]) for octets in objects]
    assert [decode_time(octets[5:]).utc_ms - UTC_MS for octets in objects] == values, "each has its original time"
    return values


async def until_killed(folder: Path, chance: random.Random, through: int = 0) -> tuple[list[int], int]:
    """Run the outstation, read what it sends, kill it somewhere; what was seen, and the newest number on disk.

    It is not killed before number `through` was seen.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.iec104.durable_outstation", str(folder), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    port = int((await process.stdout.readline()).split()[1])
    seen = [0]
    master = await RawMaster.connect(port)
    master.confirm = through > 0 or chance.random() < 0.8
    try:
        async with asyncio.timeout(chance.uniform(0.05, 0.4) if not through else 20):
            while not through or seen[-1] < through:
                seen += numbers(await master.asdu())
    except TimeoutError:
        assert not through, f"{through} was recorded and is not told"
    process.kill()
    recorded = 0
    async for line in process.stdout:
        if line.startswith(b"recorded ") and line.endswith(b"\n"):
            recorded = int(line.split()[1])
    await process.wait()
    master.close()
    return seen[1:], recorded


@pytest.mark.slow
async def test_killed_at_any_moment_the_outstation_delivers_every_event_it_recorded_in_order(tmp_path: Path) -> None:
    chance, newest, recorded = random.Random(SEED), 0, 0
    for life in range(KILLS + 1):
        seen, on_disk = await until_killed(tmp_path, chance, through=recorded if life == KILLS else 0)
        recorded = max(recorded, on_disk)
        for number in seen:
            assert number <= newest + 1, f"{newest} was followed by {number}"
            newest = max(newest, number)


def stored(folder: Path) -> tuple[Database, StoredEvents]:
    database = Database(folder / "events.db")
    return database, StoredEvents(database, MEASURED_TYPES)


class World:
    def __init__(self, events: StoredEvents | None = None, **plan: int) -> None:
        self.points = table()
        self.outstation = Outstation(OutstationPlan("", 0, self.points, **plan), lambda _event: None, events)  # type: ignore[arg-type]

    def count(self, first: int, last: int) -> None:
        point = self.points.by_address[PointAddress(1, 200)]
        for number in range(first, last + 1):
            changed = PointChanged(point, float(number), Quality.GOOD, UTC_MS + number, report=True)
            self.outstation.publish(changed, Now(0, UTC_MS))
        self.outstation.flush()


def counted(asdus: list[bytes]) -> list[int]:
    found = []
    for octets in asdus:
        if octets[0] == 36:
            bodies = [octets[at : at + 15] for at in range(6, len(octets), 15)]
            found += [round(struct.unpack_from("<f", body, 3)[0]) for body in bodies]
    return found


def test_events_of_an_earlier_life_come_first_and_those_acknowledged_do_not_come_again(tmp_path: Path) -> None:
    database, events = stored(tmp_path)
    world = World(events)
    master = Master(world.outstation)
    world.count(1, 32)
    assert counted(master.exchange(b"", 0)) == list(range(1, 33))
    master.exchange(struct.pack("<BBHH", 0x68, 4, 1, 2 << 1), 0)  # end of initialisation and the first ASDU of 16
    world.outstation.wake(Now(0, UTC_MS))
    database.close()
    database, events = stored(tmp_path)
    world = World(events)
    world.count(33, 40)
    master = Master(world.outstation)
    assert counted([*master.opening, *master.all()]) == list(range(17, 41))
    database.close()


def test_a_backlog_larger_than_memory_is_drained_in_order(tmp_path: Path) -> None:
    database, events = stored(tmp_path)
    world = World(events)
    world.count(1, 10_000)
    world.count(10_001, 20_000)
    master = Master(world.outstation)
    world.count(20_001, 20_100)
    assert counted([*master.opening, *master.all()]) == list(range(1, 20_101))
    world.count(20_101, 20_110)
    assert counted(master.all()) == list(range(20_101, 20_111))
    world.outstation.wake(Now(0, UTC_MS))
    assert events.after(0, 10) == []
    database.close()


def test_i11_a_stalled_window_holds_the_rest_back_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    database, events = stored(tmp_path)
    world = World(events)
    master = Master(world.outstation)
    for first in range(1, 30_001, 3_000):
        world.count(first, first + 2_999)
        master.exchange(b"", 0)
    assert len(master.session._pending) <= 2_000
    assert counted(master.asdus) + counted(master.all()) == list(range(1, 30_001))
    database.close()


class Failing(EventBuffer):
    """A log whose disk is gone after the first commit."""

    def append(self, rows: object, declare_gap: object) -> int:
        if self.last_sequence:
            raise OSError("the disk is gone")
        return super().append(rows, declare_gap)  # type: ignore[arg-type]


def test_without_a_disk_events_flow_on_from_memory() -> None:
    world = World(Failing(100))  # type: ignore[arg-type]
    master = Master(world.outstation)
    world.count(1, 5)
    world.count(6, 10)
    assert counted(master.all()) == list(range(1, 11))
    world.count(11, 12)
    assert counted(master.all()) == [11, 12]
    assert world.outstation.store_failed


class Unreadable(EventBuffer):
    """A log whose disk cannot be read any more."""

    def after(self, sequence: int, number: int) -> list[Row]:  # noqa: ARG002
        raise OSError("the disk is gone")


def test_a_disk_that_cannot_be_read_ends_no_connection() -> None:
    world = World(Unreadable(100))  # type: ignore[arg-type]
    world.count(1, 5)
    master = Master(world.outstation)
    world.count(6, 7)
    assert counted(master.all()) == [6, 7], "what was on the disk is lost, what comes is not"


@pytest.mark.slow
async def test_i10_98304_events_in_i_frames_of_their_own_survive_three_wraps_of_the_sequence_numbers() -> None:
    async with running(FakeSite(k=32767, w=32000)) as site:
        master = await RawMaster.connect(site.listener.port)
        await master.asdu()
        master.confirm = False
        told = 0
        while told < 3 * 32768:
            # Two points of two types by turns: no two events share an ASDU.
            for number in range(told, told + 4096):
                site.publish((200, 300)[number % 2], float(number // 2 % 2**20), utc_ms=UTC_MS + number)
            for number in range(told, told + 4096):
                seen = await master.asdu()
                assert (seen.type_id, seen.number) == ((36, 30)[number % 2], 1)
                assert decode_time(seen.body[-7:]).utc_ms == UTC_MS + number
            told += 4096
            master.supervise()


def test_a_gap_is_declared_as_an_event_in_its_place() -> None:
    buffer = EventBuffer(100)
    buffer.serve([""])

    def gap(first: Row, number: int) -> Row:
        return first[0], 37, 3, 1, bytes((number,))

    assert buffer.append([(n, 36, 3, 1, b"") for n in range(1, 151)], gap) == 55
    assert [row[0] for row in buffer.after(0, 3)] == [1, 56, 57]


def test_thirty_days_of_a_site_with_twenty_chargers_fit_the_event_store(tmp_path: Path) -> None:
    """Power, voltage and current of each and the power of the site every ten seconds: none within its deadband."""
    database, log = stored(tmp_path)
    events_in_30_days = 30 * 86_400 // 10 * (20 * 3 + 1)
    octets = bytes((200, 0, 0)) + struct.pack("<fB", 7_200.0, 0) + encode_time(UTC_MS)
    for first in range(1, 100_000, 1_000):
        log.append([(first + number, 36, 3, 1, octets) for number in range(1_000)], lambda _first, _number: None)
    database.close()
    taken = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert taken / 100_000 * events_in_30_days < MAX_BYTES
