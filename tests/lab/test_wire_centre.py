"""The control centre that can send anything, against our outstation and its own captures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bridge.core.points import Encoding, Point, PointAddress, PointKind, PointTable, Signal
from bridge.iec104 import asdu as codec
from bridge.iec104.security import TlsPlan
from bridge.lab.control_centre import control_centre_app
from bridge.lab.telegrams import decode, encode_time
from bridge.lab.wire_centre import Command, Frame, Order, WireCentre, load, save
from tests.iec104.fake_site import UTC_MS, FakeSite, running, table
from tests.iec104.pki import Authority

SELECTED = Point(PointAddress(1, 120), PointKind.SETPOINT, Signal.LIMIT_SETPOINT, select_before_operate=True)
STEP = Point(PointAddress(1, 121), PointKind.COMMAND, Signal.LIMIT_STEP, encoding=Encoding.DOUBLE, percent=60)
POINTS = PointTable((*table().points, SELECTED, STEP))


async def centre_at(site: FakeSite) -> WireCentre:
    centre = WireCentre("127.0.0.1", site.listener.port)
    await centre.connect()
    return centre


@pytest.mark.parametrize("tag_utc_ms", [None, UTC_MS])
@pytest.mark.parametrize(
    ("command", "value"),
    [
        (Command.SINGLE, 1.0),
        (Command.DOUBLE, 2.0),
        (Command.NORMALIZED, 0.25),
        (Command.SCALED, -60.0),
        (Command.FLOAT, 20_000.5),
    ],
)
def test_what_it_sends_is_read_the_same_by_the_outstations_own_codec_and_by_its_own(
    command: Command, value: float, tag_utc_ms: int | None
) -> None:
    octets = Order(command, 100, value, 7, 3, tag_utc_ms=tag_utc_ms).asdu(select=True)
    header, (item,) = codec.decode(octets)
    element: Any = item.element
    assert (header.common_address, header.originator, header.cause, element.select) == (7, 3, 6, True)
    assert float(element[0]) == value
    assert (None if item.time is None else item.time.utc_ms) == tag_utc_ms
    (telegram,) = decode(b"\x68\x00\x00\x00\x00\x00" + octets, 0.0, sent=True)
    assert (telegram.value, telegram.tag_utc_ms) == (value, tag_utc_ms)


def test_its_time_tags_are_those_of_the_codec() -> None:
    assert encode_time(UTC_MS) == codec.encode_time(UTC_MS)


async def test_it_selects_and_executes_and_cancels_and_is_told_of_refusals() -> None:
    async with running(FakeSite(POINTS)) as site:
        centre = await centre_at(site)
        order = Order(Command.FLOAT, 120, 20_000.0)
        answers = await centre.operate(order, select=True)
        assert [(each.cause, each.negative) for each in answers if each] == [(7, False), (7, False)]
        cancelled = await centre.operate(order, select=True, cancel=True)
        assert [(each.cause, each.negative) for each in cancelled if each] == [(7, False), (9, False)]
        refused = await centre.operate(order, select=False)
        assert [(each.cause, each.negative) for each in refused if each] == [(7, True)]
        switched = await centre.operate(Order(Command.DOUBLE, 121, 2.0), select=False)
        assert [(each.cause, each.negative) for each in switched if each] == [(7, False)]
        assert (len(site.setpoints), len(site.switches)) == (1, 1)
        await centre.close()


async def test_what_was_recorded_is_replayed_to_the_same_effect(tmp_path: Path) -> None:
    async with running(FakeSite(POINTS)) as site:
        centre = await centre_at(site)
        for value in (20_000.0, 30_000.0):
            await centre.operate(Order(Command.FLOAT, 100, value), select=False)
        save(centre.frames, tmp_path / "capture")
        await centre.close()
        capture = load(tmp_path / "capture")
        assert capture == list(centre.frames)
        again = await centre_at(site)
        assert await again.replay(capture, speed=100) == 2
        assert await again.seen(lambda it: it.cause == 7 and it.value == 30_000.0, 3) is not None
        assert [each.value for each in site.setpoints] == [20_000.0, 30_000.0] * 2
        await again.close()


def test_a_capture_that_is_none_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    save([Frame(1.0, sent=True, octets=b"\x68")], path)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(ValueError, match="capture:2"):
        load(path)


async def test_round_trips_are_measured_and_an_outstation_that_ends_is_noticed() -> None:
    async with running(FakeSite(POINTS)) as site:
        centre = await centre_at(site)
        assert len(await centre.measure(1, 50)) == 50
        for link in list(site.listener.links):
            link.close("the test")
        assert await centre.seen(lambda _: False, 2) is None
        assert centre.ended
        await centre.close()


async def test_the_commands_of_the_command_line_do_the_same(tmp_path: Path) -> None:
    async with running(FakeSite(POINTS)) as site:
        at = ["--port", str(site.listener.port)]
        capture = str(tmp_path / "capture")
        lines = [
            ["command", "float", "100", "20000", "--tagged"],
            ["command", "float", "120", "30000", "--select"],
            ["command", "float", "100", "0"],
            ["measure", "--count", "20"],
            ["record", capture, "--seconds", "0.2"],
            ["replay", capture, "--speed", "100"],
            ["command", "step", "1", "1"],
            ["interrogate"],
            ["interrogate", "--group", "1"],
            ["interrogate", "--freeze"],
            ["read", "200"],
            ["read", "100"],
            ["clock"],
        ]
        results = [await asyncio.to_thread(CliRunner().invoke, control_centre_app, [*at, *line]) for line in lines]
        assert [result.exit_code for result in results] == [0, 0, 1, 0, 0, 0, 2, 0, 1, 0, 0, 1, 0]
        assert "p99" in results[3].output
        assert "interrogated by station" in results[5].output
        assert "M_IT_NA_1 1004 = 0 (counter interrogation" in results[7].output
        assert "M_ME_NC_1 200 = " in results[10].output


async def test_it_speaks_tls_with_a_certificate_and_says_what_cannot(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    ours, theirs = authority.issue("outstation"), authority.issue("control centre")
    async with running(FakeSite(POINTS, tls=TlsPlan(*ours, authority.certificate))) as site:
        at = ["--port", str(site.listener.port), "--ca", str(authority.certificate)]
        known = [*at, "--certificate", str(theirs[0]), "--key", str(theirs[1])]
        lines = [
            [*known, "interrogate"],
            [*known, "setpoint", "20000"],
            [*known, "setpoint", "0"],
            [*known, "watch", "--seconds", "0.2"],
            [*at, "interrogate"],
            known,
            [*at, "--certificate", str(theirs[1]), "interrogate"],
        ]
        results = [await asyncio.to_thread(CliRunner().invoke, control_centre_app, line) for line in lines]
        assert [result.exit_code for result in results] == [0, 0, 1, 0, 1, 2, 2]
        assert "M_ME_NC_1 200 = " in results[0].output
        assert [each.value for each in site.setpoints] == [20_000.0, 0.0]
