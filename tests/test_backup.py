"""Backup and restore: what a running service wrote is whole in the file, and holds again on another machine."""

from __future__ import annotations

import signal
import stat
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.audit_command import audit_app
from bridge.backup import backup, restore
from tests.iec104.raw_master import RawMaster, setpoint
from tests.test_service import Bridge


def command(function: Callable[..., Any], *words: str | Path) -> Result:
    app = typer.Typer()
    app.command()(function)
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Bridge]:
    """A service to which 20 kW were set."""
    (tmp_path / "old").mkdir()
    bridge = Bridge(tmp_path / "old")
    await bridge.start()
    master = await RawMaster.connect(bridge.iec104_port)
    await master.answer(setpoint(20_000.0))
    master.close()
    yield bridge
    if bridge.process is not None and bridge.process.poll() is None:
        bridge.end(signal.SIGKILL)


async def test_a_backup_of_the_running_service_holds_the_limit_on_another_machine(
    limited: Bridge, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar"
    made = command(backup, file, "-c", limited.config)
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list((limited.folder / "data").glob("backup-*"))
    with tarfile.open(file) as archive:
        names = set(archive.getnames())
    assert {"data/bridge.db", "data/events.db", "data/audit/key.pem", "configuration/site.yaml"} <= names
    refused = command(restore, file, "-c", limited.config)
    assert refused.exit_code == 1
    assert "the service runs" in refused.output
    limited.end(signal.SIGKILL)

    (tmp_path / "new").mkdir()
    again = Bridge(tmp_path / "new")
    (again.folder / "data").mkdir()
    (again.folder / "data" / "of before").touch()
    put = command(restore, file, "-c", again.config)
    assert put.exit_code == 0, put.output
    assert len(list(again.folder.glob("data/before-*/of before"))) == 1
    await again.start()
    try:
        assert (await again.status())["limit"] == {"power_w": 20_000, "source": "setpoint"}
        verified = CliRunner().invoke(audit_app, ["verify", "-c", str(again.config)])
        assert verified.exit_code == 0, verified.output
    finally:
        again.end()
    rows = CliRunner().invoke(audit_app, ["export", "-c", str(again.config), "--format", "csv"]).stdout
    assert ",restored," in rows
    assert ",setpoint_received," in rows

    down = command(backup, tmp_path / "second.tar", "-c", again.config)
    assert down.exit_code == 0, down.output
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(b"SQLite format 3") + 40_000] ^= 1
    file.write_bytes(damaged)
    found = command(restore, file, "-c", again.config)
    assert found.exit_code == 1
    assert "damaged" in found.output
    assert (again.folder / "data" / "bridge.db").is_file()


def test_what_is_no_backup_of_ours_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path)
    file = tmp_path / "other.tar"
    with tarfile.open(file, "w") as archive:
        archive.add(bridge.config, "../../etc/passwd")
    said = command(restore, file, "-c", bridge.config)
    assert said.exit_code == 1
    assert "no backup of gridlimit" in said.output
    file.write_bytes(b"x" * 10_000)
    assert command(restore, file, "-c", bridge.config).exit_code == 1
    assert command(backup, tmp_path / "none.tar", "-c", bridge.config).exit_code == 1  # nothing is there yet
    assert not (tmp_path / "none.tar").exists()
