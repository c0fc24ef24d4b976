"""Commands in every form the standard has for them: types, units, time tags, direct and select before operate."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from bridge.core.messages import Confirm, SetpointReceived, Switch, SwitchReceived
from bridge.core.messages import Event as CoreEvent
from bridge.core.points import Encoding, Point, PointAddress, PointKind, PointTable, Signal
from bridge.iec104.asdu import encode_time
from bridge.iec104.outstation import Outstation, OutstationPlan, RedundancyGroup
from tests.iec104.fake_site import UTC_MS
from tests.iec104.quiet_master import Master, outcome
from tests.iec104.raw_master import asdu, ioa, setpoint

TAG = encode_time(UTC_MS)


def command(address: int, kind: PointKind, signal: Signal, encoding: Encoding, **more: Any) -> Point:
    return Point(PointAddress(1, address), kind, signal, encoding=encoding, **more)


POINTS = PointTable(
    (
        command(100, PointKind.SETPOINT, Signal.LIMIT_SETPOINT, Encoding.SHORT_FLOAT, unit="kW", per_unit=1000.0),
        command(101, PointKind.SETPOINT, Signal.LIMIT_SETPOINT, Encoding.SCALED, unit="%", per_unit=500.0),
        command(102, PointKind.SETPOINT, Signal.LIMIT_SETPOINT, Encoding.NORMALIZED, per_unit=50_000.0),
        command(110, PointKind.COMMAND, Signal.LIMIT_ENABLE, Encoding.SINGLE),
        command(111, PointKind.COMMAND, Signal.EMERGENCY_STOP, Encoding.DOUBLE),
        command(112, PointKind.COMMAND, Signal.LIMIT_STEP, Encoding.SINGLE, percent=60),
        command(113, PointKind.COMMAND, Signal.LIMIT_STEP, Encoding.SINGLE, percent=0),
        command(120, PointKind.SETPOINT, Signal.LIMIT_SETPOINT, Encoding.SHORT_FLOAT, select_before_operate=True),
        command(121, PointKind.COMMAND, Signal.LIMIT_STEP, Encoding.DOUBLE, percent=30, select_before_operate=True),
        command(200, PointKind.MEASURED, Signal.SITE_POWER_W, Encoding.SHORT_FLOAT),
    )
)


class World:
    def __init__(self, **plan: Any) -> None:
        self.commands: list[SetpointReceived | SwitchReceived] = []
        self.outstation = Outstation(OutstationPlan("", 0, POINTS, **plan), self.submit)
        self.master = Master(self.outstation)

    def submit(self, event: CoreEvent) -> None:
        if isinstance(event, SetpointReceived | SwitchReceived):
            self.commands.append(event)
            self.outstation.confirm(Confirm(event.command))


DONE, REFUSED, NOT_AGREED = (7, False), (7, True), (44, True)


@pytest.mark.parametrize(
    ("untagged", "tagged", "address", "element", "value", "limit_w"),
    [
        (50, 63, 100, struct.pack("<fB", 20.5, 0), 20.5, 20_500),
        (49, 62, 101, struct.pack("<hB", 60, 0), 60.0, 30_000),
        (48, 61, 102, struct.pack("<hB", 8192, 0), 0.25, 12_500),
        (48, 61, 102, struct.pack("<hB", 8191, 0), 8191 / 32768, 12_498),
    ],
    ids=["short float in kW", "scaled in %", "normalized of capacity", "normalized rounded down"],
)
def test_setpoints_of_every_type_reach_the_core_in_watts(
    untagged: int, tagged: int, address: int, element: bytes, value: float, limit_w: int
) -> None:
    world = World()
    for type_id, tag in ((untagged, b""), (tagged, TAG)):
        request = asdu(type_id, 6, ioa(address) + element + tag, originator=7)
        answer = world.master.ask(request)
        assert outcome(answer) == DONE
        assert (answer[:2], answer[3:]) == (request[:2], request[3:]), "mirrored, originator and all"
    assert [(each.value, each.limit_w) for each in world.commands if isinstance(each, SetpointReceived)] == [
        (value, limit_w)
    ] * 2
    assert [each.tag_utc_ms for each in world.commands] == [None, UTC_MS]


def test_a_setpoint_in_another_unit_is_told_in_that_of_the_mirror_and_any_other_as_received() -> None:
    setpoints = [each for each in POINTS.points if each.signal is Signal.LIMIT_SETPOINT][:2]  # in kW, and in 500 W
    mirror = Point(PointAddress(1, 201), PointKind.MEASURED, Signal.SETPOINT_MIRROR, unit="%", per_unit=500.0)
    told: list[float] = []

    def submit(event: CoreEvent) -> None:
        if isinstance(event, SetpointReceived):
            told.append(event.value)
            outstation.confirm(Confirm(event.command))

    outstation = Outstation(OutstationPlan("", 0, PointTable((*setpoints, mirror))), submit)
    master = Master(outstation)
    for request in (setpoint(20.5), asdu(49, 6, ioa(101) + struct.pack("<hB", 41, 0)), setpoint(-1.0)):
        assert outcome(master.ask(request)) == DONE
    assert told == [41.0, 41.0, -2.0]


@pytest.mark.parametrize(
    ("address", "types", "element", "switch", "on", "percent"),
    [
        (110, (45, 58), b"\x00", Switch.LIMIT_ENABLED, False, 100),
        (110, (45, 58), b"\x01", Switch.LIMIT_ENABLED, True, 100),
        (111, (46, 59), b"\x02", Switch.EMERGENCY_STOP, True, 100),
        (111, (46, 59), b"\x01", Switch.EMERGENCY_STOP, False, 100),
        (112, (45, 58), b"\x01", Switch.STEP, True, 60),
        (113, (45, 58), b"\x01", Switch.STEP, True, 0),
        (113, (45, 58), b"\x0d", Switch.STEP, True, 0),
    ],
    ids=["enable off", "enable on", "stop", "stop ended", "60 %", "0 %", "persistent"],
)
def test_single_and_double_commands_switch(
    address: int, types: tuple[int, int], element: bytes, switch: Switch, on: bool, percent: int
) -> None:
    world = World()
    assert outcome(world.master.ask(asdu(types[0], 6, ioa(address) + element))) == DONE
    assert outcome(world.master.ask(asdu(types[1], 6, ioa(address) + element + TAG))) == DONE
    for each, tag in zip(world.commands, (None, UTC_MS), strict=True):
        assert isinstance(each, SwitchReceived)
        assert (each.switch, each.on, each.percent, each.tag_utc_ms) == (switch, on, percent, tag)
        assert (each.master, each.group) == ("10.0.0.1:1", "")


@pytest.mark.parametrize(
    ("request_octets", "expected"),
    [
        (asdu(49, 6, ioa(100) + bytes(3)), NOT_AGREED),
        (asdu(50, 6, ioa(110) + bytes(5)), NOT_AGREED),
        (asdu(46, 6, ioa(110) + b"\x02"), NOT_AGREED),
        (asdu(45, 6, ioa(200) + b"\x01"), NOT_AGREED),
        (asdu(46, 6, ioa(111) + b"\x00"), NOT_AGREED),
        (asdu(46, 6, ioa(111) + b"\x03"), NOT_AGREED),
        (asdu(45, 6, ioa(110) + b"\x03"), NOT_AGREED),
        (asdu(45, 6, ioa(110) + b"\x05"), REFUSED),
        (asdu(45, 6, ioa(110) + b"\x09"), REFUSED),
        (asdu(45, 6, ioa(110) + b"\x7d"), REFUSED),
        (asdu(45, 6, ioa(110) + b"\x81"), REFUSED),
        (asdu(49, 6, ioa(101) + struct.pack("<hB", 60, 1)), REFUSED),
        (asdu(49, 6, ioa(101) + struct.pack("<hB", 60, 0x7F)), REFUSED),
        (asdu(45, 8, ioa(110) + b"\x01"), (9, True)),
    ],
    ids=[
        "scaled on a float",
        "setpoint on a switch",
        "double on a single",
        "command on a measured value",
        "state 0",
        "state 3",
        "reserved bit",
        "short pulse",
        "long pulse",
        "reserved QU",
        "select on direct",
        "i22 QL 1",
        "i22 QL 127",
        "i17 nothing to deactivate",
    ],
)
def test_i22_what_was_not_agreed_is_refused_and_reaches_nobody(
    request_octets: bytes, expected: tuple[int, bool]
) -> None:
    world = World()
    assert outcome(world.master.ask(request_octets)) == expected
    assert world.commands == []


def test_i24_commands_without_a_time_tag_are_refused_where_one_is_agreed() -> None:
    world = World(requires_time_tag=True)
    assert outcome(world.master.ask(setpoint(20.0))) == NOT_AGREED
    assert outcome(world.master.ask(asdu(63, 6, ioa(100) + struct.pack("<fB", 20.0, 0) + TAG))) == DONE
    assert len(world.commands) == 1


def test_i23_time_tags_are_read_in_the_zone_of_the_wire() -> None:
    world = World(time_zone="Europe/Berlin")
    local = encode_time(UTC_MS + 7_200_000, summer=True)  # a September day
    for tag in (local, encode_time(UTC_MS + 7_200_000), encode_time(UTC_MS, invalid=True)):
        world.master.ask(asdu(63, 6, ioa(100) + struct.pack("<fB", 20.0, 0) + tag))
    assert [each.tag_valid for each in world.commands] == [True, False, False]
    assert world.commands[0].tag_utc_ms == UTC_MS


def select(value: float, address: int = 120) -> bytes:
    return setpoint(value, address=address, qualifier=0x80)


def execute(value: float, address: int = 120) -> bytes:
    return setpoint(value, address=address)


STEP_SELECT, STEP_EXECUTE = asdu(46, 6, ioa(121) + b"\x82"), asdu(46, 6, ioa(121) + b"\x02")


def test_i22_what_was_selected_is_executed_once() -> None:
    world = World()
    request = select(20_000.0)
    answer = world.master.ask(request)
    assert outcome(answer) == DONE
    assert answer[6:] == request[6:], "S/E is mirrored"
    assert world.commands == []
    assert outcome(world.master.ask(execute(20_000.0), 9_999)) == DONE
    assert outcome(world.master.ask(execute(20_000.0), 9_999)) == REFUSED
    assert len(world.commands) == 1
    assert outcome(world.master.ask(STEP_SELECT, 10_000)) == DONE
    assert outcome(world.master.ask(STEP_EXECUTE, 10_001)) == DONE
    assert isinstance(world.commands[1], SwitchReceived)


def test_i22_an_execution_without_a_selection_or_after_its_time_is_refused() -> None:
    world = World(select_timeout_s=5)
    assert outcome(world.master.ask(execute(20_000.0))) == REFUSED
    world.master.ask(select(20_000.0), 0)
    assert outcome(world.master.ask(execute(20_000.0), 5_000)) == REFUSED
    world.master.ask(select(20_000.0), 6_000)
    world.master.ask(select(20_000.0), 9_000)
    assert outcome(world.master.ask(execute(20_000.0), 13_999)) == DONE


def test_i22_another_value_than_selected_is_refused_and_the_selection_is_gone() -> None:
    world = World()
    world.master.ask(select(20_000.0))
    assert outcome(world.master.ask(execute(20_001.0))) == REFUSED
    assert outcome(world.master.ask(execute(20_000.0))) == REFUSED
    assert world.commands == []


def test_i22_another_type_than_selected_is_refused_and_another_time_tag_is_not() -> None:
    world = World()
    world.master.ask(select(20_000.0))
    body = ioa(120) + struct.pack("<f", 20_000.0)
    assert outcome(world.master.ask(asdu(63, 6, body + b"\x00" + TAG))) == REFUSED
    assert outcome(world.master.ask(asdu(63, 6, body + b"\x80" + TAG))) == DONE
    assert outcome(world.master.ask(asdu(63, 6, body + b"\x00" + encode_time(UTC_MS + 500)))) == DONE
    assert [each.tag_utc_ms for each in world.commands] == [UTC_MS + 500]


def test_i22_a_connection_selects_one_point_at_a_time() -> None:
    world = World()
    world.master.ask(select(20_000.0))
    assert outcome(world.master.ask(STEP_SELECT)) == REFUSED
    assert outcome(world.master.ask(STEP_EXECUTE)) == REFUSED
    assert outcome(world.master.ask(execute(20_000.0))) == DONE


def test_i22_another_connection_can_neither_execute_nor_take_over_a_selection() -> None:
    world = World()
    other = Master(world.outstation, "10.0.0.2:1")
    world.master.ask(select(20_000.0))
    assert outcome(other.ask(execute(20_000.0))) == REFUSED
    assert outcome(other.ask(select(30_000.0))) == REFUSED
    assert outcome(other.ask(setpoint(20_000.0, address=120, cause=8))) == (9, True)
    assert outcome(world.master.ask(execute(20_000.0))) == DONE
    assert outcome(other.ask(select(30_000.0))) == DONE


def test_i22_a_selection_is_cancelled_by_deactivation_and_by_the_end_of_its_connection() -> None:
    world = World()
    other = Master(world.outstation, "10.0.0.2:1")
    world.master.ask(select(20_000.0))
    cancel = setpoint(20_000.0, address=120, cause=8)
    assert outcome(world.master.ask(cancel)) == (9, False)
    assert outcome(world.master.ask(cancel)) == (9, True)
    assert outcome(world.master.ask(execute(20_000.0))) == REFUSED
    world.master.ask(select(20_000.0))
    world.master.session.end("gone")
    assert outcome(other.ask(select(30_000.0))) == DONE


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_i20_what_is_not_finite_cannot_be_selected(value: float) -> None:
    world = World()
    assert outcome(world.master.ask(select(value))) == REFUSED


def test_i26_the_core_is_told_which_group_a_command_came_from() -> None:
    groups = (
        RedundancyGroup("dso", addresses=frozenset({"10.0.0.1"})),
        RedundancyGroup("tso", addresses=frozenset({"10.0.0.2"})),
    )
    world = World(groups=groups)
    other = Master(world.outstation, "10.0.0.2:7")
    for master in (world.master, other):
        assert outcome(master.ask(setpoint(20.0))) == DONE
    assert [(each.master, each.group) for each in world.commands] == [("10.0.0.1:1", "dso"), ("10.0.0.2:7", "tso")]
