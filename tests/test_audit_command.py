"""The records of a running service: complete after a kill, checked and exported by a command beside it."""

from __future__ import annotations

import csv
import io
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bridge.audit_command import audit_app
from tests.iec104.raw_master import RawMaster, setpoint
from tests.test_service import Bridge


def audit(*words: str | Path) -> Result:
    return CliRunner().invoke(audit_app, [str(word) for word in words])


def verify(bridge: Bridge) -> Result:
    return audit("verify", "--config", bridge.config)


def rows(bridge: Bridge, *words: str) -> list[dict[str, str]]:
    said = audit("export", "--config", bridge.config, "--format", "csv", *words)
    assert said.exit_code == 0, said.output
    return list(csv.DictReader(io.StringIO(said.stdout)))


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    running = Bridge(tmp_path)
    await running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.end(signal.SIGKILL)


async def test_a_setpoint_just_before_a_kill_is_in_the_records_after_the_next_start(bridge: Bridge) -> None:
    master = await RawMaster.connect(bridge.iec104_port)
    await master.answer(setpoint(20_000.0))
    bridge.end(signal.SIGKILL)
    master.close()
    assert verify(bridge).exit_code == 0  # what was signed before the kill
    await bridge.start()
    live = verify(bridge)
    assert live.exit_code == 0, live.output
    assert bridge.end() == 0
    down = verify(bridge)
    assert down.exit_code == 0, down.output
    assert re.search(r"Head \d+:[0-9a-f]{64}", down.stdout)
    found = rows(bridge)
    (command,) = [row for row in found if row["kind"] == "setpoint_received"]
    assert (command["limit_w"], command["answer"]) == ("20000", "positive")
    assert [row["limit_w"] for row in found if row["kind"] == "limit_changed"][:2] == ["100000", "20000"]
    assert [row["kind"] for row in found].count("service_started") == 2
    assert rows(bridge, "--to", "2020-01-01") == []
    for form, begins in (("html", b"<!doctype html>"), ("pdf", b"%PDF")):
        path = bridge.folder / f"records.{form}"
        assert audit("export", "-c", bridge.config, "--format", form, "-o", path).exit_code == 0
        assert path.read_bytes().startswith(begins)
    page = (bridge.folder / "records.html").read_text()
    assert "1. Limitation of" in page
    assert "20000 W of 100000 W, source: setpoint" in page
    assert audit("export", "-c", bridge.config, "--from", "yesterday").exit_code == 2


async def test_cutting_the_end_off_is_found_running_or_not_by_whoever_knows_the_head(bridge: Bridge) -> None:
    (segment,) = (bridge.folder / "data" / "audit").glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    assert "NOT WHAT IT WAS" in verify(bridge).output
    segment.write_bytes(whole)
    key = bridge.folder / "given-out.pem"
    key.write_text(audit("key", "--config", bridge.config).stdout)
    assert bridge.end() == 0
    stopped = segment.read_bytes()
    of_copy = ("--folder", segment.parent, "--key", key)
    said = audit("verify", *of_copy)
    assert said.exit_code == 0
    assert "cannot be told" in said.stdout  # without a head from elsewhere
    head = said.stdout.split()[-1]
    assert audit("verify", *of_copy, "--head", head).exit_code == 0
    segment.write_bytes(stopped[: stopped.rindex(b"\n", 0, -1) + 1])
    assert audit("verify", *of_copy, "--head", head).exit_code == 1
    assert verify(bridge).exit_code == 1
    export = audit("export", "--config", bridge.config)
    assert export.exit_code == 1
    assert "NOT WHAT THEY WERE" in export.stdout
    await bridge.start()  # the limit comes first: what is left is set aside, and people are told
    status = await bridge.status()
    assert {"alarm": "records_broken", "subject": "Test"} in status["alarms"]
    assert list(segment.parent.glob("aside-*/*.jsonl"))
    assert verify(bridge).exit_code == 0
