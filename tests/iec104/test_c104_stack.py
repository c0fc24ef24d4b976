"""The outstation on c104's server, seen from a master that is a bare socket."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.messages import (
    Confirm,
    Event,
    LinkChanged,
    PointChanged,
    Reason,
    SetpointReceived,
    SetpointRevoked,
    Terminate,
)
from bridge.core.points import Point, PointAddress, PointKind, PointTable, Quality, Signal
from bridge.core.quantities import Now
from bridge.iec104 import c104_stack
from bridge.iec104.c104_stack import C104Stack
from bridge.iec104.outstation import OutstationPlan

SETPOINT = Point(PointAddress(1, 100), PointKind.SETPOINT, Signal.LIMIT_SETPOINT)
POWER = Point(PointAddress(1, 200), PointKind.MEASURED, Signal.SITE_POWER_W)
ACTIVE = Point(PointAddress(1, 300), PointKind.SINGLE, Signal.LIMIT_ACTIVE)
ENERGY = Point(PointAddress(1, 1004), PointKind.TOTAL, Signal.CHARGER_ENERGY_WH, charger=0)
TABLE = PointTable((SETPOINT, POWER, ACTIVE, ENERGY))
POSITIVE, NEGATIVE, TERMINATED = 0x07, 0x47, 0x0A
UTC_MS = 1_783_227_967_089


class Master:
    """A control centre of 30 lines: STARTDT, I-frames out, ASDUs in. No S-frames: k=12 is enough for a test."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sent = 0
        self._received = 0
        self._buffer = b""

    async def start(self) -> Master:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=5)
        self._socket.setblocking(False)
        await self._send(bytes.fromhex("680407000000"))
        return self

    async def command(self, value: float, *, cause: int = 6, type_id: int = 50, ioa: int = 100) -> None:
        tag = bytes.fromhex("00000c0a041a07") if type_id == 63 else b""
        asdu = struct.pack("<BBBBH", type_id, 1, cause, 0, 1) + ioa.to_bytes(3, "little")
        await self.asdu(asdu + struct.pack("<fB", value, 0) + tag)

    async def asdu(self, asdu: bytes) -> None:
        await self._send(bytes((0x68, len(asdu) + 4)) + struct.pack("<HH", self._sent << 1, self._received << 1) + asdu)
        self._sent += 1

    async def next(self, within_s: float = 15.0) -> bytes | None:
        """The next ASDU, None if none comes in time."""
        deadline = time.monotonic() + within_s
        while True:
            frame, self._buffer = self._split()
            if frame and not frame[2] & 1:
                self._received += 1
                return frame[6:]
            if not frame:
                left = deadline - time.monotonic()
                try:
                    data = await asyncio.wait_for(
                        asyncio.get_running_loop().sock_recv(self._socket, 4096), max(left, 0.001)
                    )
                except TimeoutError:
                    return None
                if not data:
                    raise ConnectionResetError
                self._buffer += data

    def close(self) -> None:
        self._socket.close()

    def _split(self) -> tuple[bytes, bytes]:
        size = self._buffer[1] + 2 if len(self._buffer) > 1 else 2
        return (self._buffer[:size], self._buffer[size:]) if 2 < size <= len(self._buffer) else (b"", self._buffer)

    async def _send(self, frame: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, frame)


class Engine:
    """Records events and answers setpoints as `answer` says, at once on the loop."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.stack: C104Stack | None = None
        self.answer: Callable[[SetpointReceived], object] = self.confirm
        self.clock_offset_ms = 0

    def submit(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, SetpointReceived):
            self.answer(event)

    def confirm(self, event: SetpointReceived) -> None:
        assert self.stack is not None
        below = event.limit_w is None or event.limit_w < 6000
        self.stack.confirm(Confirm(event.command, Reason.BELOW_MINIMUM if below else None))

    def clock(self) -> Now:
        return Now(time.monotonic_ns() // 1_000_000 + self.clock_offset_ms, UTC_MS)

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture(autouse=True)
def utc() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
async def stack(engine: Engine) -> AsyncIterator[C104Stack]:
    stack = C104Stack(OutstationPlan(host="127.0.0.1", port=0, points=TABLE), engine.submit, engine.clock)
    engine.stack = stack
    await stack.open()
    yield stack
    await stack.close()


@pytest.fixture
async def master(stack: C104Stack, engine: Engine) -> AsyncIterator[Master]:
    master = await Master(stack.port).start()
    await until(lambda: LinkChanged(1) in engine.events)
    yield master
    master.close()


async def until(holds: Callable[[], object], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


def cause_of(asdu: bytes | None) -> int | None:
    return None if asdu is None else asdu[2]


async def test_an_accepted_setpoint_is_confirmed_positively_and_handed_to_the_core(
    master: Master, engine: Engine
) -> None:
    await master.command(20_000.7)
    assert cause_of(await master.next()) == POSITIVE
    (event,) = engine.of(SetpointReceived)
    assert (event.limit_w, event.tag_utc_ms, event.tag_valid) == (20_000, None, True)
    assert event.value == pytest.approx(20_000.7)


async def test_a_refused_setpoint_is_confirmed_negatively(master: Master) -> None:
    await master.command(0.0)
    assert cause_of(await master.next()) == NEGATIVE


async def test_not_a_number_and_infinity_reach_the_core_without_a_limit(master: Master, engine: Engine) -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        await master.command(value)
        assert cause_of(await master.next()) == NEGATIVE
    assert [event.limit_w for event in engine.of(SetpointReceived)] == [None, None, None]


async def test_an_exception_in_the_callback_is_a_negative_confirmation_and_the_next_setpoint_is_heard(
    master: Master, stack: C104Stack, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c104 confirms positively what its callback raised at, and drops the callback for good."""

    def broken(*_: object) -> bool:
        raise SystemExit("anything at all")

    with monkeypatch.context() as patch:
        patch.setattr(stack, "_received", broken)
        await master.command(20_000)
        assert cause_of(await master.next()) == NEGATIVE
    await master.command(30_000)
    assert cause_of(await master.next()) == POSITIVE
    assert [event.value for event in engine.of(SetpointReceived)] == [30_000.0]


async def test_a_core_that_fails_is_a_negative_confirmation(master: Master, engine: Engine) -> None:
    def fail(_: SetpointReceived) -> None:
        raise RuntimeError("the core")

    engine.answer = fail
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await master.command(20_000)
    assert cause_of(await master.next()) == NEGATIVE


@pytest.mark.parametrize(
    ("cause", "answer"),
    [(0x08, NEGATIVE), (0x03, None), (0x07, None), (0x3F, None), (0x86, 0x80 | NEGATIVE), (0x46, NEGATIVE)],
    ids=["deactivation", "spontaneous", "activation con", "unknown", "test flag", "negative request"],
)
async def test_only_a_plain_activation_is_executed(
    master: Master, engine: Engine, cause: int, answer: int | None
) -> None:
    await master.command(20_000, cause=cause)
    heard = cause_of(await master.next(within_s=0.5 if answer is None else 15.0))
    assert heard == answer
    assert engine.of(SetpointReceived) == []
    await master.command(20_000)
    assert cause_of(await master.next()) == POSITIVE


async def test_a_tagged_setpoint_is_refused_and_an_unknown_address_too(master: Master, engine: Engine) -> None:
    await master.command(20_000, type_id=63)
    assert cause_of(await master.next()) == NEGATIVE
    await master.next()
    await master.command(20_000, ioa=999)
    assert cause_of(await master.next()) == NEGATIVE
    assert engine.of(SetpointReceived) == []


async def test_a_setpoint_that_is_not_decided_in_time_is_refused_and_revoked(
    master: Master, stack: C104Stack, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c104_stack, "ANSWER_S", 0.1)
    engine.answer = lambda _: None
    await master.command(20_000)
    assert cause_of(await master.next()) == NEGATIVE
    (received,) = engine.of(SetpointReceived)
    await until(lambda: SetpointRevoked(received.command) in engine.events)
    stack.confirm(Confirm(received.command))
    stack.terminate(Terminate(received.command))
    assert await master.next(within_s=0.4) is None


async def test_a_setpoint_handed_over_too_late_never_reaches_the_core(master: Master, engine: Engine) -> None:
    arrive = engine.clock
    readings = iter([arrive(), replace(arrive(), monotonic_ms=arrive().monotonic_ms + 1_001)])
    assert engine.stack is not None
    engine.stack._clock = lambda: next(readings)
    await master.command(20_000)
    assert cause_of(await master.next()) == NEGATIVE
    assert engine.of(SetpointReceived) == []
    assert engine.of(SetpointRevoked) == []


async def test_termination_follows_the_confirmation_and_carries_its_own_value(
    master: Master, stack: C104Stack, engine: Engine
) -> None:
    await master.command(20_000)
    assert cause_of(await master.next()) == POSITIVE
    await master.command(0.0)
    assert cause_of(await master.next()) == NEGATIVE

    def at_once(event: SetpointReceived) -> None:
        stack.confirm(Confirm(event.command))
        stack.terminate(Terminate(event.command))

    engine.answer = at_once
    await master.command(30_000)
    assert cause_of(await master.next()) == POSITIVE
    terminated = await master.next()
    assert cause_of(terminated) == TERMINATED
    assert terminated is not None
    assert struct.unpack("<f", terminated[9:13]) == (30_000.0,)


async def test_a_refused_command_does_not_take_the_termination_of_the_one_before(
    master: Master, stack: C104Stack, engine: Engine
) -> None:
    for value in (20_000, 0.0):
        await master.command(value)
        assert cause_of(await master.next()) in {POSITIVE, NEGATIVE}
    stack.terminate(Terminate(engine.of(SetpointReceived)[0].command))
    terminated = await master.next()
    assert terminated is not None
    assert struct.unpack("<f", terminated[9:13]) == (20_000.0,)


async def test_a_superseded_or_refused_command_gets_no_termination(
    master: Master, stack: C104Stack, engine: Engine
) -> None:
    for value in (20_000, 30_000, 0.0):
        await master.command(value)
        assert cause_of(await master.next()) in {POSITIVE, NEGATIVE}
    superseded, _, refused = engine.of(SetpointReceived)
    stack.terminate(Terminate(superseded.command))
    stack.terminate(Terminate(refused.command))
    assert await master.next(within_s=0.4) is None


async def test_the_link_is_up_before_the_first_setpoint_of_it_reaches_the_core(
    stack: C104Stack, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c104_stack, "POLL_S", 10.0)
    await asyncio.sleep(0.15)
    master = await Master(stack.port).start()
    await master.command(20_000)
    assert cause_of(await master.next()) == POSITIVE
    assert engine.events[0] == LinkChanged(1)
    master.close()


async def test_a_command_whose_link_was_lost_gets_no_termination(stack: C104Stack, engine: Engine) -> None:
    master = await Master(stack.port).start()
    await master.command(20_000)
    assert cause_of(await master.next()) == POSITIVE
    master.close()
    await until(lambda: LinkChanged(0) in engine.events)
    master = await Master(stack.port).start()
    await until(lambda: engine.of(LinkChanged)[-1] == LinkChanged(1))
    stack.terminate(Terminate(engine.of(SetpointReceived)[0].command))
    assert await master.next(within_s=0.4) is None
    master.close()


async def test_points_are_invalid_until_published(master: Master) -> None:
    answers = await interrogated(master)
    assert (answers[36][9:13], answers[36][13]) == (b"\0\0\0\0", 0xC0)
    assert answers[30][9] & 0xF1 == 0xC0
    assert 37 not in answers


async def interrogated(master: Master) -> dict[int, bytes]:
    """The answers to a station interrogation by their type; the test's table has one point of each."""
    await master.asdu(bytes.fromhex("64010600010000000014"))
    answers: dict[int, bytes] = {}
    while (asdu := await master.next()) and (asdu[0], asdu[2]) != (100, TERMINATED):
        answers[asdu[0]] = asdu
    return answers


async def test_what_is_published_before_the_outstation_listens_is_in_its_image(engine: Engine) -> None:
    stack = C104Stack(OutstationPlan("127.0.0.1", 0, TABLE), engine.submit, engine.clock)
    stack.publish(PointChanged(POWER, 5.0, Quality.GOOD, UTC_MS, report=True))
    await stack.open()
    master = await Master(stack.port).start()
    power = (await interrogated(master))[36]
    assert (struct.unpack("<f", power[9:13]), power[13]) == ((5.0,), 0)
    master.close()
    await stack.close()


async def test_a_reported_change_leaves_at_once_with_its_own_time_and_quality(master: Master, stack: C104Stack) -> None:
    stack.publish(PointChanged(POWER, 7_200.0, Quality.NOT_TOPICAL, UTC_MS, report=True))
    asdu = await master.next()
    assert asdu is not None
    assert (asdu[0], asdu[2], asdu[6:9]) == (36, 3, b"\xc8\0\0")
    assert struct.unpack("<f", asdu[9:13]) == (7_200.0,)
    assert asdu[13] == 0x40
    millis, minute, hour, day, month, year = struct.unpack("<HBBBBB", asdu[14:21])
    assert (millis, minute, hour, day & 0x1F, month, year) == (7_089, 6, 5, 5, 7, 26)


async def test_every_kind_of_point_is_published_and_what_is_no_number_is_invalid(
    master: Master, stack: C104Stack
) -> None:
    stack.publish(PointChanged(ACTIVE, 1.0, Quality.GOOD, UTC_MS, report=True))
    single = await master.next()
    assert single is not None
    assert (single[0], single[9]) == (30, 1)
    stack.publish(PointChanged(ENERGY, 2**31 + 5, Quality.GOOD, UTC_MS, report=True))
    total = await master.next()
    assert total is not None
    assert (total[0], total[9:13], total[13] & 0xE0) == (37, b"\5\0\0\0", 0x20)
    stack.publish(PointChanged(POWER, float("nan"), Quality.GOOD, UTC_MS, report=True))
    power = await master.next()
    assert power is not None
    assert (power[9:13], power[13]) == (b"\0\0\0\0", 0x80)


async def test_an_unreported_change_and_a_change_without_a_master_only_change_the_image(
    stack: C104Stack, engine: Engine
) -> None:
    stack.publish(PointChanged(POWER, 1.0, Quality.GOOD, UTC_MS, report=True))
    master = await Master(stack.port).start()
    await until(lambda: LinkChanged(1) in engine.events)
    stack.publish(PointChanged(POWER, 2.0, Quality.GOOD, UTC_MS, report=False))
    assert await master.next(within_s=0.3) is None
    assert struct.unpack("<f", (await interrogated(master))[36][9:13]) == (2.0,)
    master.close()


async def test_the_link_is_seen_to_come_and_go(stack: C104Stack, engine: Engine) -> None:
    master = await Master(stack.port).start()
    await until(lambda: engine.events == [LinkChanged(1)])
    master.close()
    await until(lambda: engine.events == [LinkChanged(1), LinkChanged(0)])


async def test_a_setpoint_that_waits_does_not_keep_the_stack_from_closing(engine: Engine) -> None:
    stack = C104Stack(OutstationPlan(host="127.0.0.1", port=0, points=TABLE), engine.submit, engine.clock)
    engine.answer = lambda _: None
    await stack.open()
    master = await Master(stack.port).start()
    await master.command(20_000)
    await until(lambda: engine.of(SetpointReceived))
    await stack.close()
    master.close()


async def test_a_taken_port_is_an_os_error(stack: C104Stack, engine: Engine) -> None:
    plan = OutstationPlan(host="127.0.0.1", port=stack.port, points=TABLE)
    with pytest.raises(OSError, match=str(stack.port)):
        await C104Stack(plan, engine.submit, engine.clock).open()


async def test_another_time_zone_than_utc_is_refused_with_what_to_do(engine: Engine) -> None:
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    with pytest.raises(RuntimeError, match="TZ=UTC"):
        await C104Stack(OutstationPlan("127.0.0.1", 0, TABLE), engine.submit, engine.clock).open()


async def test_a_missing_c104_is_said_with_what_to_install(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c104", None)
    with pytest.raises(RuntimeError, match=r"grid-limit-bridge\[lab\]"):
        await C104Stack(OutstationPlan("127.0.0.1", 0, TABLE), engine.submit, engine.clock).open()


async def test_what_c104_cannot_carry_is_said_before_anything_listens(engine: Engine) -> None:
    step = Point(PointAddress(1, 110), PointKind.COMMAND, Signal.LIMIT_STEP, percent=60, name="Step 60 %")
    stack = C104Stack(OutstationPlan("127.0.0.1", 0, PointTable((step,))), engine.submit, engine.clock)
    with pytest.raises(RuntimeError, match="cannot carry Step 60 % at 110"):
        await stack.open()
