"""The player against an outstation and units that are not the bridge's: it sees what they do, and says so."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from bridge.lab.judgement import Verdict
from bridge.lab.player import Player, Target
from bridge.lab.scenario import scenario_app
from bridge.lab.scenario_file import Pace, Run, Scenario, load

SHIPPED = Path(__file__).parents[2] / "scenarios"
FAST = Pace(minute_s=0.05, silence_s=1.0, drop_s=0.2)
REDUCED = """
test: T
title: Reduced
description: less
expected: less power
set up: {limit: 50 kW, every charger wants: 50 kW, "wait until power of all": 40 kW to 50 kW}
steps:
  - at: 0 s
    do: set limit
    to: 20 kW
    then:
      - {on the wire: answer to the command, is: positive, within: 2 s}
      - {at the units: power of all, at most: 20 kW, within: 1 s, figure: yes}
"""
BROKEN = """
test: T
title: Broken
description: no link
expected: kept
runs: [the TCP connection drops]
set up: {limit: 20 kW, every charger wants: 50 kW, "wait until power of all": 15 kW to 20 kW}
steps:
  - at: 0 s
    do: break link
    then:
      - {at the units: power of all, at most: 20 kW, hold for: 1 s}
  - at: 2 s
    do: restore link
    then:
      - {on the wire: link, is: up, within: 10 s, figure: yes}
      - {on the wire: point 201, value: 20 kW, within: 10 s}
"""
ILL_TREATED = """
test: T
title: Ill-treated
description: a lie, a change of mind and a death
expected: watched
set up: {limit: 50 kW, every charger wants: 50 kW, "wait until power of all": 40 kW to 50 kW}
steps:
  - {at: 0 s, do: charger ignores its limit, charger: 0}
  - at: 0 s
    do: set limits in turn
    to: [20 kW, 30 kW]
    every: 0.1 s
    for: 0.5 s
    then:
      - {on the wire: answer to the command, is: positive, within: 2 s, hold for: 1 s}
      - {on the wire: point 201, value: 20 kW, within: 2 s}
  - {after: 0 s, do: kill the bridge}
"""


class Units:
    """The control API of one unit that draws what its vehicle wants, at most `limit_w`: it knows of no bridge."""

    def __init__(self) -> None:
        self.demand_w = 0
        self.limit_w = 50_000
        self.orders: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST /chargers/S4-1 "):
            length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
            self.orders.append(json.loads(await reader.readexactly(length)))
            self.demand_w = self.orders[-1].get("demand_w", self.demand_w)
        body = json.dumps([{"serial": "S4-1", "power_w": min(self.demand_w, self.limit_w)}]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        writer.close()


class Mortal:
    """A bridge that only writes down what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def kill_bridge(self) -> None:
        self.done.append("killed")

    async def start_bridge(self) -> None:
        self.done.append("started")


def scenario(folder: Path, text: str) -> Scenario:
    file = folder / "t.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody walks to a unit here."""
    monkeypatch.setattr("bridge.lab.player.SETTLE_BY_HAND_S", 20.0)


@pytest.fixture
def units() -> Units:
    return Units()


@pytest.fixture
async def units_url(units: Units) -> AsyncIterator[str]:
    server = await asyncio.start_server(units.serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def played(target: Target, *scenarios: Scenario) -> tuple[list[Verdict], list[str]]:
    lines: list[str] = []
    player = Player(target, lines.append)
    await player.open()
    try:
        results = [await player.play(one, run) for one in scenarios for run in one.runs]
    finally:
        await player.close()
    return [result.verdict for result in results], [*lines, *(result.measured for result in results)]


async def test_a_unit_that_ignores_its_limit_fails_however_well_the_command_was_confirmed(
    outstation_port: int, units_url: str, tmp_path: Path
) -> None:
    target = Target("127.0.0.1", outstation_port, (units_url,), pace=FAST)
    verdicts, lines = await played(target, scenario(tmp_path, REDUCED))
    assert verdicts == [Verdict.FAILED]
    assert "at the units: power of all at most 20 kW within 1 s: 50.00 kW after 1." in lines[-1]
    assert any("answer to the command is positive within 2 s" in line and "passed" in line for line in lines)


async def test_a_set_up_that_is_not_accepted_is_the_result(
    outstation_port: int, units_url: str, tmp_path: Path
) -> None:
    target = Target("127.0.0.1", outstation_port, (units_url,), pace=FAST)
    verdicts, lines = await played(target, scenario(tmp_path, REDUCED.replace("limit: 50 kW", "limit: 1 kW")))
    assert verdicts == [Verdict.FAILED]
    assert "the limit of 1000 W was not accepted: activation confirmation, negative" in lines[-1]


async def test_in_the_field_the_operator_is_asked_and_the_bridge_reports_the_power(
    outstation_port: int, tmp_path: Path
) -> None:
    target = Target("127.0.0.1", outstation_port, pace=FAST)
    verdicts, lines = await played(target, scenario(tmp_path, REDUCED), scenario(tmp_path, BROKEN))
    assert verdicts == [Verdict.PASSED, Verdict.PASSED]
    assert any(line.startswith("  please let every charger draw 50 kW") for line in lines)
    assert "20.00 kW after" in lines[-2]
    assert "(1 not judged)" in lines[-1]


async def test_a_broken_link_is_really_broken_and_the_control_centre_interrogates_when_it_is_back(
    outstation_port: int, tmp_path: Path
) -> None:
    changes: list[bool] = []
    player = Player(Target("127.0.0.1", outstation_port, pace=FAST), lambda _: None)
    await player.open()
    result = await player.play(scenario(tmp_path, BROKEN), Run.DROP)
    changes = [is_up for _, is_up in player.centre.link_changes]
    await player.close()
    assert result.verdict is Verdict.PASSED
    assert changes[0]
    assert changes[-1]
    assert False in changes


async def test_whatever_was_done_to_chargers_and_bridge_is_put_right_for_the_next_scenario(
    outstation_port: int, units: Units, units_url: str, tmp_path: Path
) -> None:
    bridge = Mortal()
    target = Target("127.0.0.1", outstation_port, (units_url,), pace=FAST, bridge=bridge)
    verdicts, lines = await played(target, scenario(tmp_path, ILL_TREATED))
    assert verdicts == [Verdict.PASSED], lines
    assert bridge.done == ["killed", "started"]
    assert units.orders[1:] == [{"behaviour": "ignores"}, {"behaviour": "obeys", "action": "return"}]
    assert "  control centre sets 20 kW and 30 kW in turn, one every 0.1 s for 0.5 s" in lines


async def test_what_needs_a_bridge_to_kill_or_a_charger_that_lies_is_not_judged_in_the_field(
    outstation_port: int, tmp_path: Path
) -> None:
    target = Target("127.0.0.1", outstation_port, pace=FAST)
    configured = ILL_TREATED + "bridge configuration: {fallback: {hold_s: 30}}"
    verdicts, lines = await played(target, scenario(tmp_path, configured))
    assert verdicts == [Verdict.NOT_JUDGED]
    assert lines[-1] == (
        "not judged here: it needs a bridge that may be killed and a bridge configured with"
        ' {"fallback": {"hold_s": 30}} and simulated chargers (--chargers-url) that vanish, lie or refuse on order;'
        " without --target the lab has that"
    )


def test_no_outstation_at_the_target_is_said_and_exits_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.lab.player.LINK_S", 1.0)
    result = CliRunner().invoke(scenario_app, ["play", str(SHIPPED), "--target", "127.0.0.1:9"])
    assert result.exit_code == 1
    assert "127.0.0.1:9 does not answer" in result.stderr


@pytest.mark.parametrize("words", [["--target", "nowhere"], ["--only", "t99"], ["none.yaml"]])
def test_what_cannot_be_played_is_said_and_exits_1(words: list[str]) -> None:
    result = CliRunner().invoke(scenario_app, ["play", *([str(SHIPPED)] if words[0] != "none.yaml" else []), *words])
    assert result.exit_code == 1
    assert result.stderr


def test_the_table_and_the_files_say_what_was_measured(
    outstation_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.yaml").write_text(REDUCED, encoding="utf-8")
    json_file, junit_file = tmp_path / "out.json", tmp_path / "out.xml"
    words = ["play", str(tmp_path / "t.yaml"), "--target", f"127.0.0.1:{outstation_port}"]
    result = CliRunner().invoke(scenario_app, [*words, "--json", str(json_file), "--junit", str(junit_file)])
    assert result.exit_code == 0, result.stdout
    assert "Measured" in result.stdout
    (one,) = json.loads(json_file.read_text(encoding="utf-8"))
    assert (one["test"], one["verdict"], len(one["checks"])) == ("T", "passed", 2)
    assert one["measured"].startswith("20.00 kW after")
    suite = ET.parse(junit_file).getroot()  # noqa: S314  our own file
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")
    (tmp_path / "t.yaml").write_text(ILL_TREATED, encoding="utf-8")
    assert CliRunner().invoke(scenario_app, [*words, "--junit", str(junit_file)]).exit_code == 0
    assert "skipped" in junit_file.read_text(encoding="utf-8")
    monkeypatch.setattr("bridge.lab.player.SETTLE_BY_HAND_S", 0.5)
    (tmp_path / "t.yaml").write_text(REDUCED.replace("40 kW to 50 kW", "1 kW to 2 kW"), encoding="utf-8")
    failed = CliRunner().invoke(scenario_app, [*words, "--junit", str(junit_file)])
    assert failed.exit_code == 1
    assert "not 1 to 2 kW" in junit_file.read_text(encoding="utf-8")


def play(test: str, results: Path, stack: str = "native") -> subprocess.Popen[str]:
    """Begin to play a scenario in the whole depot: every peer real on loopback, in processes of their own."""
    words = ["-m", "bridge", "scenario", "play", str(SHIPPED), "--only", test, "--stack", stack, "--json", str(results)]
    environment = {**os.environ, "TZ": "Europe/Berlin"}
    return subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def judged(playing: subprocess.Popen[str], results: Path) -> list[tuple[str, str]]:
    """The test and the verdict of each run, once it has ended."""
    said, _ = playing.communicate(timeout=240)
    assert playing.returncode == 0, said
    return [(result["test"], result["verdict"]) for result in json.loads(results.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize(("test", "runs"), [("T1", 1), ("T2", 2), ("T3", 1), ("T4", 1)])
@pytest.mark.parametrize("stack", ["native", "c104"])
def test_t1_to_t4_pass_in_the_whole_depot(stack: str, test: str, runs: int, tmp_path: Path) -> None:
    """Bridge, units, station, control centre, and a link that is cut and goes silent."""
    results = tmp_path / "results.json"
    assert judged(play(test, results, stack), results) == [(test, "passed")] * runs


@pytest.mark.slow
def test_chargers_that_vanish_or_lie_a_restart_and_a_fickle_control_centre_leave_the_limit_kept(tmp_path: Path) -> None:
    """T5 to T8 side by side, for they mostly wait. SCENARIOS=all plays T9 and T10 too, which wait for two minutes."""
    tests = ["T5", "T6", "T7", "T8", *(["T9", "T10"] if os.environ.get("SCENARIOS") == "all" else [])]
    playing = {test: play(test, tmp_path / f"{test}.json") for test in tests}
    try:
        for test, process in playing.items():
            assert judged(process, tmp_path / f"{test}.json") == [(test, "passed")]
    finally:
        for process in playing.values():
            process.kill()
