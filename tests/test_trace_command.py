"""What an engineer reads at the first site visit: `gridlimit trace`, service up, killed and started again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from bridge.lab.series4 import Series4Unit
from tests.test_service import Bridge

SERIAL = "S4-0001"


async def trace(*words: str, ends: int = 0) -> str:
    command = [sys.executable, "-m", "bridge", "trace", "--no-follow", *words]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == ends, ended.stderr
    return (ended.stdout or ended.stderr).decode()


async def test_the_conversation_can_be_read_while_the_service_runs_when_it_was_killed_and_after_it_came_back(
    tmp_path: Path,
) -> None:
    bridge = Bridge(tmp_path)
    config, folder = ("--config", str(bridge.config)), ("--data-dir", str(tmp_path / "data"))
    assert "nothing was kept there" in await trace(*config, ends=1)
    await bridge.start()
    unit = Series4Unit(f"ws://127.0.0.1:{bridge.ocpp_port}/", SERIAL)
    life = asyncio.create_task(unit.run())
    async with asyncio.timeout(60):
        while "= BootNotification" not in (said := await trace(*config, "--message", "boot")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert "in use by another process" in await trace(*folder, ends=1)
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    assert said.splitlines()[0] in await trace(*config, "--serial", SERIAL)  # who asks for one charger has all on disk
    bridge.end(signal.SIGKILL)
    assert set(said.splitlines()) <= set((await trace(*config)).splitlines())
    assert set(said.splitlines()) <= set((await trace(*folder, "--serial", SERIAL)).splitlines())
    assert await trace(*folder, "--serial", "S4-9999") == ""
    await bridge.start()
    assert set(said.splitlines()) <= set((await trace(*config)).splitlines())
    assert said.splitlines()[0] in await trace(*config, "--serial", SERIAL)
    assert bridge.end() == 0
