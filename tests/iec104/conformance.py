"""A conformance suite for any controlled station with our points: it speaks raw octets and knows no stack.

`CASES` are functions named as claims; each raises AssertionError (or a closed connection, or a timeout) where the claim
does not hold. Run as a module it prints the table of what each of our two stacks does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.iec104.asdu import decode_time, encode_time
from tests.iec104.fake_site import UTC_MS
from tests.iec104.raw_master import (
    STARTDT,
    STOPDT,
    TESTFR,
    TESTFR_CON,
    RawMaster,
    Seen,
    asdu,
    interrogation,
    ioa,
    setpoint,
)

ROOT = Path(__file__).parent.parent.parent
STACKS = ("native", "c104")
T1_S, T2_S, K = 2, 1, 12  # what the station under test was told; t1 is longer where it is not what a case is about
QUIET_S = 0.4  # after so long without a word nothing more comes
TAG = encode_time(UTC_MS)
POINT = ioa(100) + struct.pack("<fB", 20000.0, 0)

KNOWN_FAILURES = {
    "c104": {
        "the_end_of_initialisation_is_announced": "never sent by itself",
        "a_tagged_setpoint_is_confirmed": "one type for each address",
        "an_unknown_type_is_returned_with_cause_44": "no answer at all",
        "an_unknown_cause_is_returned_with_cause_45": "no answer, or a confirmation",
        "a_setpoint_with_the_test_flag_is_returned_with_cause_45": "confirmed with cause 7",
        "a_deactivated_setpoint_is_answered_with_cause_9": "confirmed with cause 7",
        "an_unknown_common_address_is_returned_once_with_cause_46": "answered twice, P/N=0",
        "an_unknown_object_address_is_returned_once_with_cause_47": "answered twice, P/N=0",
        "an_interrogation_is_answered_with_untagged_types": "the types of the points, which are tagged",
        "an_interrogation_of_20000_points_is_complete_and_terminated": "cut without termination",
        "an_interrogation_can_be_deactivated": "begins another one",
        "counters_are_not_reset_and_that_is_said": "confirmed, and not done",
        "a_read_is_answered_with_the_value_alone": "an additional C_RD with cause 7",
        "events_are_kept_while_nobody_listens": "dropped",
        "events_that_were_not_confirmed_come_again": "dropped",
        "a_reset_of_the_process_is_refused": "negative confirmation and cause 47",
        "an_illegal_u_frame_ends_the_connection": "answered",
        "a_length_of_3_ends_the_connection": "answered",
        "a_length_of_255_ends_the_connection": "accepted",
        "a_frame_that_never_ends_ends_the_connection_after_t1": "kept",
        "a_truncated_clock_command_ends_nothing_but_itself": "ends the process",
        "a_test_command_with_a_wrong_cause_ends_nothing_but_itself": "ends the process",
        "a_truncated_sequence_ends_nothing_but_itself": "ends the process",
        "a_second_control_centre_is_served_too": "one connection at a time, by our own rule",
        "an_answer_reaches_its_requester_alone": "one connection at a time, by our own rule",
    },
    "native": {},
}
"""By stack, the cases it is known to fail and why."""


class Station:
    """The station under test; what has to come from it may take `patience_s`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, patience_s: float) -> None:
        self._process = process
        self.port = port
        self.patience_s = patience_s
        self.masters: list[RawMaster] = []

    async def connect(self, *, start: bool = True) -> RawMaster:
        master = await RawMaster.connect(self.port, start=start)
        master.patience_s = self.patience_s
        self.masters.append(master)
        return master

    async def fresh(self) -> RawMaster:
        """A started connection on which all that was waiting has come."""
        master = await self.connect()
        await said(master, 0.15)
        return master

    async def publish(self, address: int, value: float, utc_ms: int = UTC_MS) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"%d %g %d\n" % (address, value, utc_ms))
        await self._process.stdin.drain()

    async def is_alive(self) -> bool:
        await asyncio.sleep(0.2)
        return self._process.returncode is None


@asynccontextmanager
async def station(stack: str, name: str) -> AsyncIterator[Station]:
    """The station for the case of that name; one that is known to fail it is not waited for."""
    patience_s = QUIET_S if name in KNOWN_FAILURES[stack] else 15.0
    chargers, t1_s = 10_000 if "20000" in name else 2, T1_S if "ends_the_connection" in name else 30
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.iec104.stack_process", stack, str(chargers), str(t1_s), cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env=os.environ | {"TZ": "UTC"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        made = Station(process, int(await process.stdout.readline()), patience_s)
        yield made
        for master in made.masters:
            master.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(master: RawMaster, within_s: float = QUIET_S) -> list[Seen]:
    """Everything that comes until nothing does for so long."""
    seen = []
    with contextlib.suppress(TimeoutError):
        while True:
            seen.append(await master.asdu(within_s))
    return seen


async def answers(master: RawMaster, request: bytes, last: int | None = None) -> list[Seen]:
    """All answers to a request but events: the first is waited for, where it is positive also one with cause `last`."""
    master.send(request)
    seen: list[Seen] = []
    with contextlib.suppress(TimeoutError):
        while True:
            is_due = not seen or (last is not None and seen[-1].cause != last and not seen[0].negative)
            one = await master.asdu(None if is_due else QUIET_S)
            seen += [one] if one.cause not in (3, 4) else []
    return seen


async def only(master: RawMaster, request: bytes) -> Seen:
    """The one answer to a request."""
    seen = await answers(master, request)
    assert len(seen) == 1, f"{len(seen)} answers"
    return seen[0]


async def mirrored(master: RawMaster, request: bytes, cause: int) -> None:
    """The one answer is the request with this cause and P/N=1, and nothing is executed."""
    seen = await only(master, request)
    assert (seen.cause, seen.negative) == (cause, True)
    assert (seen.type_id, seen.body) == (request[0], request[6:])


async def ends(station: Station, octets: bytes, *, started: bool = True, within_s: float = 1.5) -> None:
    """These octets end their connection and nothing else."""
    master = await station.connect(start=started)
    master.writer.write(octets)
    assert await master.is_closed(max(within_s, station.patience_s))
    assert await station.is_alive()


async def harmless(station: Station, octets: bytes) -> None:
    """This ASDU neither ends the process nor the service to the next connection."""
    master = await station.connect()
    master.send(octets)
    assert await station.is_alive()
    master.close()
    await asyncio.sleep(0.2)
    assert (await answers(await station.connect(), setpoint(20000.0)))[0].cause == 7


async def data_transfer_is_started_and_stopped(station: Station) -> None:
    master = await station.fresh()
    await master.stop()
    await master.start()


async def testfr_is_confirmed_before_and_after_startdt(station: Station) -> None:
    master = await station.connect(start=False)
    master.writer.write(TESTFR)
    assert await master.frame() == TESTFR_CON
    await master.start()


async def the_end_of_initialisation_is_announced(station: Station) -> None:
    master = await station.connect()
    seen = await master.asdu()
    while (seen.type_id, seen.cause) != (70, 4):
        seen = await master.asdu()


async def a_setpoint_is_confirmed_with_its_originator(station: Station) -> None:
    request = setpoint(20000.0, originator=9)
    first = (await answers(await station.fresh(), request))[0]
    assert (first.cause, first.negative, first.originator, first.body) == (7, False, 9, request[6:])


async def a_tagged_setpoint_is_confirmed(station: Station) -> None:
    first = (await answers(await station.fresh(), asdu(63, 6, POINT + TAG)))[0]
    assert (first.type_id, first.cause, first.negative) == (63, 7, False)


async def a_direct_setpoint_is_terminated(station: Station) -> None:
    seen = await answers(await station.fresh(), setpoint(20000.0), last=10)
    assert [one.cause for one in seen] == [7, 10]


async def a_setpoint_below_the_minimum_is_refused(station: Station) -> None:
    await mirrored(await station.fresh(), setpoint(0.0), 7)


async def a_setpoint_that_is_no_number_is_refused(station: Station) -> None:
    for value in (float("nan"), float("inf"), float("-inf"), -1e30):
        seen = await only(await station.fresh(), setpoint(value))
        assert (seen.cause, seen.negative) == (7, True)
        station.masters[-1].close()
        await asyncio.sleep(0.2)


async def an_unknown_type_is_returned_with_cause_44(station: Station) -> None:
    await mirrored(await station.fresh(), asdu(127, 6, POINT), 44)


async def an_unknown_cause_is_returned_with_cause_45(station: Station) -> None:
    await mirrored(await station.fresh(), setpoint(20000.0, cause=3), 45)


async def a_setpoint_with_the_test_flag_is_returned_with_cause_45(station: Station) -> None:
    await mirrored(await station.fresh(), asdu(50, 0x86, POINT), 45)


async def a_deactivated_setpoint_is_answered_with_cause_9(station: Station) -> None:
    await mirrored(await station.fresh(), setpoint(20000.0, cause=8), 9)


async def an_unknown_common_address_is_returned_once_with_cause_46(station: Station) -> None:
    await mirrored(await station.fresh(), asdu(50, 6, POINT, common_address=9), 46)


async def an_unknown_object_address_is_returned_once_with_cause_47(station: Station) -> None:
    await mirrored(await station.fresh(), setpoint(20000.0, address=101), 47)


async def an_interrogation_is_answered_with_untagged_types(station: Station) -> None:
    master = await station.fresh()
    seen = await answers(master, interrogation(originator=3), last=10)
    assert [seen[0].cause, seen[-1].cause] == [7, 10]
    assert {(one.type_id, one.cause, one.originator) for one in seen[1:-1]} == {(13, 20, 3), (1, 20, 3)}


async def an_interrogation_of_20000_points_is_complete_and_terminated(station: Station) -> None:
    seen = await answers(await station.fresh(), interrogation(), last=10)
    assert seen[-1].cause == 10
    assert sum(one.number for one in seen if one.cause == 20) == 5 + 2 * 10_000


async def an_interrogation_can_be_deactivated(station: Station) -> None:
    seen = await answers(await station.fresh(), interrogation(cause=8))
    assert [(one.cause, one.negative) for one in seen] == [(9, True)], "none was running"


async def a_group_nobody_has_is_refused_and_not_answered(station: Station) -> None:
    await mirrored(await station.fresh(), interrogation(qualifier=36), 7)


async def counters_are_interrogated(station: Station) -> None:
    seen = await answers(await station.fresh(), asdu(101, 6, ioa(0) + b"\x05"), last=10)
    assert (seen[0].cause, seen[-1].cause) == (7, 10)
    assert {one.cause for one in seen[1:-1]} == {37}


async def counters_are_not_reset_and_that_is_said(station: Station) -> None:
    await mirrored(await station.fresh(), asdu(101, 6, ioa(0) + b"\xc5"), 7)


async def a_read_is_answered_with_the_value_alone(station: Station) -> None:
    seen = await only(await station.fresh(), asdu(102, 5, ioa(200)))
    assert (seen.cause, seen.ioa) == (5, 200)


async def the_clock_is_confirmed(station: Station) -> None:
    seen = await only(await station.fresh(), asdu(103, 6, ioa(0) + TAG))
    assert (seen.cause, seen.negative) == (7, False)


async def a_test_command_comes_back(station: Station) -> None:
    request = asdu(107, 6, ioa(0) + b"\xaa\x55" + TAG)
    seen = await only(await station.fresh(), request)
    assert (seen.cause, seen.body) == (7, request[6:])


async def an_event_carries_its_own_time(station: Station) -> None:
    master = await station.fresh()
    await station.publish(200, 7200.0)
    seen = await master.asdu()
    assert (seen.type_id, seen.cause, seen.ioa) == (36, 3, 200)
    assert decode_time(seen.body[-7:]).utc_ms == UTC_MS


async def events_are_kept_while_nobody_listens(station: Station) -> None:
    for number in range(5):
        await station.publish(200, float(number), UTC_MS + number)
    await asyncio.sleep(0.2)
    master, number = await station.connect(), 0
    while number < 5:
        seen = await master.asdu()
        number += seen.number if seen.type_id == 36 else 0
    assert number == 5


async def events_that_were_not_confirmed_come_again(station: Station) -> None:
    master = await station.fresh()
    master.confirm = False
    await station.publish(200, 7.0)
    assert (await master.asdu()).ioa == 200
    master.close()
    await asyncio.sleep(0.3)
    master = await station.connect()
    while (await master.asdu()).ioa != 200:
        pass


async def the_window_is_kept_and_its_end_ends_the_connection_after_t1(station: Station) -> None:
    master = await station.fresh()
    master.confirm = False
    for number in range(30):
        await station.publish((200, 300)[number % 2], float(number // 2 % 2))
    seen = await said(master, 0.3)
    assert len(seen) <= K
    assert await master.is_closed(T1_S + max(1.5, station.patience_s))


async def an_s_frame_confirms_by_t2(station: Station) -> None:
    master = await station.fresh()
    master.send(asdu(50, 0x2F, POINT))  # "unknown address", from a control centre: nothing to answer
    while (frame := await master.frame(T2_S + max(1.0, station.patience_s)))[2] != 1:
        assert not frame[2] & 1, frame.hex()


async def an_i_frame_before_startdt_ends_the_connection(station: Station) -> None:
    await ends(station, struct.pack("<BBHH", 0x68, 18, 0, 0) + setpoint(20000.0), started=False)


async def a_wrong_send_sequence_number_ends_the_connection(station: Station) -> None:
    await ends(station, struct.pack("<BBHH", 0x68, 18, 5 << 1, 0) + setpoint(20000.0))


async def a_wrong_receive_sequence_number_ends_the_connection(station: Station) -> None:
    await ends(station, struct.pack("<BBHH", 0x68, 4, 1, 100 << 1))


async def a_wrong_start_octet_ends_the_connection(station: Station) -> None:
    await ends(station, b"\x69\x04\x43\x00\x00\x00", within_s=T1_S + 1.5)


async def an_illegal_u_frame_ends_the_connection(station: Station) -> None:
    await ends(station, b"\x68\x04\xff\x00\x00\x00")


async def a_length_of_3_ends_the_connection(station: Station) -> None:
    await ends(station, b"\x68\x03\x43\x00\x00" + STOPDT)


async def a_length_of_255_ends_the_connection(station: Station) -> None:
    await ends(station, b"\x68\xff" + bytes(255))


async def a_frame_that_never_ends_ends_the_connection_after_t1(station: Station) -> None:
    await ends(station, STARTDT[:4], started=False, within_s=T1_S + 1.5)


async def a_reset_of_the_process_is_refused(station: Station) -> None:
    await mirrored(await station.fresh(), asdu(105, 6, ioa(0) + b"\x01"), 44)


async def a_truncated_clock_command_ends_nothing_but_itself(station: Station) -> None:
    await harmless(station, bytes.fromhex("670106000100"))


async def a_test_command_with_a_wrong_cause_ends_nothing_but_itself(station: Station) -> None:
    await harmless(station, bytes.fromhex("6b0108000100"))


async def a_truncated_sequence_ends_nothing_but_itself(station: Station) -> None:
    await harmless(station, bytes.fromhex("248103000100000000"))


async def a_second_control_centre_is_served_too(station: Station) -> None:
    await station.fresh()
    second = await station.fresh()
    assert (await answers(second, setpoint(20000.0)))[0].cause == 7


async def an_answer_reaches_its_requester_alone(station: Station) -> None:
    first, second = await station.fresh(), await station.fresh()
    assert (await answers(second, setpoint(20000.0)))[0].cause == 7
    assert [one for one in await said(first) if one.cause not in (3, 4)] == []


Case = Callable[[Station], Awaitable[None]]
_HELPERS = {"station", "said", "answers", "only", "mirrored", "ends", "harmless", "main"}
CASES: dict[str, Case] = {
    name: case
    for name, case in list(globals().items())
    if asyncio.iscoroutinefunction(case) and name not in _HELPERS and not name.startswith("_")
}


async def holds(stack: str, name: str) -> str | None:
    """Why the claim does not hold for that stack, None if it does."""
    async with station(stack, name) as under_test:
        try:
            async with asyncio.timeout(60):
                await CASES[name](under_test)
        except (AssertionError, OSError, EOFError, TimeoutError, IndexError) as error:
            return str(error).partition("\n")[0] or type(error).__name__
    return None


async def main() -> None:
    """Print the table of all cases and stacks as Markdown."""
    print("| case |", " | ".join(STACKS), "|\n|---|" + "---|" * len(STACKS))  # noqa: T201
    for name in CASES:
        found = [await holds(stack, name) for stack in STACKS]
        known = [KNOWN_FAILURES[stack].get(name, "fails") for stack in STACKS]
        cells = ["holds" if why is None else f"**no**: {said}" for why, said in zip(found, known, strict=True)]
        print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
