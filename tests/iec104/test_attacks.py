"""Attacks and faults whose outcome needs the whole way from the wire to the orders: master, outstation, journal, core.

The list is rows I1–I38; the others of them are tested where their outcome is decided, under the same names.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.messages import (
    Answer,
    ChargerConnected,
    Confirm,
    Effect,
    LimitAnswered,
    LimitChanged,
    PointChanged,
    SetLimit,
    Terminate,
)
from bridge.core.plan import Plan
from bridge.core.points import PointAddress, Quality
from bridge.core.quantities import Now
from bridge.engine import Engine
from bridge.iec104.asdu import decode_time, encode_time
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import Outstation, OutstationPlan, RedundancyGroup
from bridge.timers import WakeUp
from tests.core.bench import charger_plan, site_plan
from tests.iec104.fake_site import UTC_MS, eventually, table
from tests.iec104.quiet_master import Master
from tests.iec104.raw_master import RawMaster, asdu, interrogation, ioa, setpoint
from tests.test_engine import MemoryJournal

TESTS = Path(__file__).parent.parent


class Park:
    """A bridge without its OCPP side: two chargers that acknowledge every order at once, or not at all."""

    def __init__(self, journal: MemoryJournal, outstation: dict[str, Any], site: dict[str, Any]) -> None:
        self.plan: Plan = site_plan(charger_plan(0), charger_plan(1), **{"points": table(), **site})
        self.acknowledges = True
        self.wall_offset_ms = self.monotonic_offset_ms = 0
        self.effects: list[Effect] = []
        loop = asyncio.get_running_loop()
        self.wake_up = WakeUp(loop, self.clock, self.wake)
        self.engine = Engine(journal, self.clock, self.deliver, self.failed, loop.call_soon, self.wake_up.at)
        self.listener = Listener(
            OutstationPlan("127.0.0.1", 0, self.plan.points, **outstation), self.engine.submit, self.clock
        )

    def clock(self) -> Now:
        monotonic_ms = time.monotonic_ns() // 1_000_000
        return Now(monotonic_ms + self.monotonic_offset_ms, time.time_ns() // 1_000_000 + self.wall_offset_ms)

    def wake(self) -> None:
        self.engine.flush()

    def failed(self, why: str) -> None:
        raise AssertionError(why)

    def deliver(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case PointChanged():
                    self.listener.publish(effect)
                case Confirm():
                    self.listener.confirm(effect)
                case Terminate():
                    self.listener.terminate(effect)
                case SetLimit() if self.acknowledges:
                    answer = LimitAnswered(effect.serial, effect.order, Answer.ACCEPTED, effect.limit_w)
                    self.engine.submit(answer)

    def of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def limit_w(self) -> int:
        return self.engine.site.limit.power_w


@asynccontextmanager
async def park(
    journal: MemoryJournal | None = None, outstation: dict[str, Any] | None = None, **site: Any
) -> AsyncIterator[Park]:
    made = Park(journal or MemoryJournal(), outstation or {}, site)
    made.engine.start(made.plan, "boot-1")
    for charger in made.plan.chargers:
        made.engine.submit(ChargerConnected(charger.serial))
    await made.listener.open()
    try:
        yield made
    finally:
        await made.listener.close()
        made.wake_up.cancel()


def tagged(value: float, utc_ms: int) -> bytes:
    return asdu(63, 6, ioa(100) + struct.pack("<fB", value, 0) + encode_time(utc_ms))


async def outcome(master: RawMaster, request: bytes) -> tuple[int, bool]:
    """Cause and P/N of the confirmation; terminations of earlier commands pass by."""
    answer = await master.answer(request)
    while answer.cause in (3, 10):
        answer = await master.asdu()
    return answer.cause, answer.negative


async def image(master: RawMaster) -> dict[int, tuple[float, int]]:
    """Value and quality of every measured point."""
    seen = [one for one in await master.interrogate() if one.type_id == 13]
    return {address: struct.unpack("<fB", octets) for one in seen for address, octets in one.objects(5)}


async def test_i21_zero_watts_are_refused_as_any_value_below_the_minimum_and_never_mean_no_limit() -> None:
    async with park() as made:
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(20_000.0)) == (7, False)
        for value in (0.0, -0.0, 5_999.0):
            assert await outcome(master, setpoint(value)) == (7, True)
        assert made.limit_w == 20_000, "refused, no clamp"
    async with park(allow_zero=True) as made:
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(0.0)) == (7, False)
        assert made.limit_w == 0
        await eventually(lambda: made.engine.site.ledger.total_w == 0)
        assert await outcome(master, setpoint(5_999.0)) == (7, True)
        assert made.limit_w == 0


async def test_i20_a_value_above_the_capacity_is_accepted_and_the_capacity_holds() -> None:
    async with park() as made:
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(150_000.0)) == (7, False)
        assert made.limit_w == 100_000
        for value in (1_000_001.0, 1e38, float("nan"), float("inf"), float("-inf"), -1.0, -1e30, 1e-45):
            assert await outcome(master, setpoint(value)) == (7, True)
        assert made.limit_w == 100_000


@pytest.mark.parametrize("off_ms", [-11_000, 11_000, -86_400_000, 366 * 86_400_000])
async def test_i23_a_command_from_another_time_is_refused_and_changes_nothing(off_ms: int) -> None:
    async with park() as made:
        master = await RawMaster.connect(made.listener.port)
        now_ms = made.clock().utc_ms
        assert await outcome(master, tagged(30_000.0, now_ms)) == (7, False)
        assert await outcome(master, tagged(20_000.0, now_ms + off_ms)) == (7, True)
        assert await outcome(master, tagged(20_000.0, now_ms)) == (7, True), "not newer than the last"
        assert made.limit_w == 30_000
        assert await outcome(master, tagged(20_000.0, now_ms + 1)) == (7, False)
        assert made.limit_w == 20_000


async def test_i25_the_same_command_again_is_confirmed_again_and_applied_once() -> None:
    async with park() as made:
        master = await RawMaster.connect(made.listener.port)
        request = tagged(20_000.0, made.clock().utc_ms)
        assert await outcome(master, request) == (7, False)
        await eventually(lambda: made.engine.site.ledger.total_w <= 20_000)
        changes, orders = len(made.of(LimitChanged)), len(made.of(SetLimit))
        for _ in range(5):
            assert await outcome(master, request) == (7, False)
        assert (len(made.of(LimitChanged)), len(made.of(SetLimit))) == (changes, orders)


async def test_i26_of_two_groups_the_lowest_setpoint_holds_or_the_one_that_was_named() -> None:
    groups = tuple(RedundancyGroup(name, frozenset({f"127.0.0.{n}"})) for n, name in ((1, "dso"), (2, "tso")))
    for deciding, expected in ((None, [50_000, 20_000, 20_000, 30_000]), ("dso", [50_000, 50_000, 60_000, 60_000])):
        async with park(outstation={"groups": groups}, deciding_group=deciding) as made:
            dso = await RawMaster.connect(made.listener.port)
            tso = RawMaster(
                *await asyncio.open_connection("127.0.0.1", made.listener.port, local_addr=("127.0.0.2", 0))
            )
            await tso.start()
            held = []
            for master, value in ((dso, 50_000.0), (tso, 20_000.0), (dso, 60_000.0), (tso, 30_000.0)):
                assert await outcome(master, setpoint(value)) == (7, False)
                held.append(made.limit_w)
            assert held == expected


async def test_i27_a_flood_of_setpoints_is_answered_in_full_and_the_last_one_holds() -> None:
    async with park() as made:
        made.acknowledges = False
        master = await RawMaster.connect(made.listener.port)
        await master.asdu()
        orders = len(made.of(SetLimit))
        values = [float(10_000 + number * 50) for number in range(1_000)]
        master.writer.write(b"".join(master.information(setpoint(value)) for value in reversed(values)))
        answers: list[bool] = []
        while len(answers) < 1_000:
            if (seen := await master.asdu()).cause == 7:
                answers.append(seen.negative)
        assert False in answers, "each is confirmed, or refused where too many are undecided"
        assert await outcome(master, setpoint(9_000.0)) == (7, False)
        assert made.limit_w == 9_000
        assert len(made.of(SetLimit)) - orders <= 2, "one order in flight for each charger, whatever comes"


async def test_i28_an_oscillating_limit_is_cut_at_once_and_never_exceeded_and_raises_are_unlimited_by_default() -> None:
    async with park() as made:
        master = await RawMaster.connect(made.listener.port)
        for _ in range(20):
            for value in (12_000.0, 100_000.0):
                assert await outcome(master, setpoint(value)) == (7, False)
                assert made.limit_w == value
        assert await outcome(master, setpoint(12_000.0)) == (7, False)
        assert sum(charger.target_w for charger in made.engine.site.chargers.values()) <= 12_000


async def test_i30_an_interrogation_flood_is_answered_one_at_a_time_and_commands_pass() -> None:
    async with park() as made:
        flooder, master = [await RawMaster.connect(made.listener.port) for _ in range(2)]
        for _ in range(500):
            flooder.send(interrogation())
        assert await outcome(master, setpoint(20_000.0)) == (7, False)
        confirmations: list[bool] = []
        while len(confirmations) < 500:
            seen = await flooder.asdu()
            if seen.cause == 7:
                confirmations.append(seen.negative)
        assert False in confirmations
        assert True in confirmations


async def test_i35_a_link_lost_before_the_termination_leaves_the_command_in_force_and_interrogation_says_so() -> None:
    async with park() as made:
        made.acknowledges = False
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(20_000.0)) == (7, False)
        master.close()
        await eventually(lambda: made.engine.site.connections == 0)
        for order in made.of(SetLimit):
            made.engine.submit(LimitAnswered(order.serial, order.order, Answer.ACCEPTED, order.limit_w))
        again = await RawMaster.connect(made.listener.port)
        state = await image(again)
        assert state[201] == (20_000.0, 0)
        assert state[202] == (20_000.0, 0)
        assert made.limit_w == 20_000


async def test_i36_what_was_confirmed_holds_after_a_kill_before_any_listener_opens() -> None:
    journal = MemoryJournal()
    async with park(journal) as made:
        made.acknowledges = False
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(20_000.0)) == (7, False)
        records = list(journal.records)
    left = MemoryJournal()
    left.records, left.state = records, journal.state if journal.state and journal.state[0] <= len(records) else None
    again = Park(left, {}, {})
    again.engine.start(again.plan, "boot-1")
    assert again.limit_w == 20_000
    assert not again.listener.links
    assert again.listener.port == 0, "nothing listens yet"
    for charger in again.plan.chargers:
        again.engine.submit(ChargerConnected(charger.serial))
    again.engine.flush()
    assert sum(order.limit_w for order in again.of(SetLimit)) <= 20_000
    again.wake_up.cancel()


@pytest.mark.parametrize("hours", [-2, 2])
async def test_i37_a_step_of_the_wall_clock_neither_ends_nor_lengthens_the_hold(hours: int) -> None:
    async with park(hold_ms=300_000) as made:
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(20_000.0)) == (7, False)
        master.close()
        await eventually(lambda: made.engine.site.connections == 0)
        made.wall_offset_ms = hours * 3_600_000
        made.engine.flush()
        assert made.limit_w == 20_000, "no early release"
        made.monotonic_offset_ms = 299_000
        made.engine.flush()
        assert made.limit_w == 20_000
        made.monotonic_offset_ms = 301_000
        made.engine.flush()
        assert made.limit_w == 10_000, "the fallback, on time"


def test_i38_a_backlog_of_100000_events_is_drained_as_fast_as_the_window_allows() -> None:
    points, number, round_trip_s = table(), 100_000, 0.1
    outstation = Outstation(OutstationPlan("", 0, points, event_capacity=number), lambda _event: None)
    point = points.by_address[PointAddress(1, 200)]
    for count in range(number):
        outstation.publish(PointChanged(point, float(count), Quality.GOOD, UTC_MS + count, True), Now(0, UTC_MS))
        if count % 1_000 == 999:
            outstation.flush()
    master = Master(outstation)
    round_trips, drained = 0, len(master.opening[1:]) * 16
    newest = 0
    while asdus := master.confirm(round_trips * 100):
        round_trips += 1
        drained += sum(octets[1] for octets in asdus)
        times = [decode_time(octets[-7:]).utc_ms for octets in asdus]
        assert times == sorted(times)
        assert times[0] > newest
        newest = times[-1]
    assert drained == number
    rate = number / (round_trips * round_trip_s)
    bound = 12 * 16 / round_trip_s
    assert rate >= 1_500
    assert rate >= 0.99 * bound


async def test_i13_an_idle_partition_is_noticed_on_time_whatever_the_wall_clock_does() -> None:
    async with park(outstation={"t1_s": 0.3, "t2_s": 0.1, "t3_s": 0.3}) as made:
        master = await RawMaster.connect(made.listener.port)
        await eventually(lambda: made.engine.site.connections == 1)
        made.wall_offset_ms = -7_200_000
        assert master.writer is not None
        await eventually(lambda: made.engine.site.connections == 0)


async def test_i3_a_hundred_idle_connections_leave_room_for_the_control_centre() -> None:
    groups = (RedundancyGroup("dso", frozenset({"127.0.0.1"})),)
    async with park(outstation={"groups": groups}) as made:
        idle = []
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", made.listener.port, local_addr=("127.0.0.3", 0))
            idle.append((reader, writer))
        master = await RawMaster.connect(made.listener.port)
        assert await outcome(master, setpoint(20_000.0)) == (7, False)
        for _, writer in idle:
            writer.close()


async def test_no_request_takes_longer_than_ten_milliseconds() -> None:
    """Measured over the parser and its answers alone; the slowest of all short frames there are."""
    outstation = Outstation(OutstationPlan("", 0, table(200)), lambda _event: None)
    slowest_s = 0.0
    for type_id in range(256):
        for cause in (0, 3, 6, 8, 0x46, 0x86):
            master = Master(outstation)
            octets = asdu(type_id, cause, bytes(243 if type_id % 2 else 4), number=1)
            began = time.thread_time()
            master.send(octets)
            slowest_s = max(slowest_s, time.thread_time() - began)
            master.session.end("tried")
    assert slowest_s < 0.2, "of the processor's time, a bound for a busy machine; make fuzz holds to 10 ms"


def everything_tested() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(TESTS.rglob("test_*.py")))


ROWS = range(1, 39)


def test_every_row_of_the_attack_list_has_its_id_in_the_name_of_a_test() -> None:
    text = everything_tested()
    named = {int(found) for found in re.findall(r"def test_i(\d+)_", text)}
    named |= {int(found) for found in re.findall(r'"i(\d+) ', text)}
    assert [row for row in ROWS if row not in named] == []
