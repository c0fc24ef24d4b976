"""The service as a process: what an operator starts, asks, kills and starts again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.iec104.raw_master import RawMaster, setpoint

READY_S = 60


class Bridge:
    """`gridlimit run` as a subprocess, with a configuration and a data folder of its own."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.iec104_port, self.ocpp_port, self.http_port = free_ports(3)
        self.folder = folder
        configuration: dict[str, Any] = {
            "site": {"name": "Test", "capacity_w": 100_000, "min_limit_w": 6_000},
            "iec104": {"port": self.iec104_port},
            "fallback": {"hold_s": 300, "limit_w": 10_000},
            "ocpp": {"port": self.ocpp_port},
            "chargers": [{"serial": "S4-0001", "charger_profile": "series4-ultra"}],
            "http": {"port": self.http_port},
        }
        for section, values in changes.items():
            configuration[section] |= values
        self.config = folder / "site.yaml"
        self.config.write_text(yaml.safe_dump(configuration))
        self.log = folder / "bridge.log"
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self.process = self._spawn()
        async with asyncio.timeout(READY_S):
            while not await self.healthy():
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "bridge", "run", "--config", str(self.config)]
            return subprocess.Popen(command, stderr=log, env=os.environ | {"TZ": "UTC"})

    def try_to(self, command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command of the service that is expected to end by itself."""
        words = [sys.executable, "-m", "bridge", command, "--config", str(self.config)]
        return subprocess.run(words, capture_output=True, timeout=60, check=False)

    async def healthy(self) -> bool:
        try:
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"http://127.0.0.1:{self.http_port}/health", timeout=20)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    async def status(self) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{self.http_port}/status", timeout=20)
        status: dict[str, Any] = answer.json()
        return status

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    running = Bridge(tmp_path)
    await running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.end(signal.SIGKILL)


async def test_it_serves_until_sigterm_and_ends_with_zero(bridge: Bridge) -> None:
    status = await bridge.status()
    assert status["limit"] == {"power_w": 100_000, "source": "at_start"}
    assert bridge.end() == 0
    assert not await bridge.healthy()


async def test_killed_without_warning_it_enforces_the_last_accepted_limit_before_any_listener_opens(
    bridge: Bridge,
) -> None:
    master = await RawMaster.connect(bridge.iec104_port)
    answer = await master.answer(setpoint(20_000.0))
    assert (answer.cause, answer.negative) == (7, False)
    bridge.end(signal.SIGKILL)
    master.close()
    bridge.log.write_bytes(b"")
    await bridge.start()
    status = await bridge.status()
    assert status["limit"] == {"power_w": 20_000, "source": "setpoint"}
    assert status["link"]["state"] == "HOLD"
    lines = bridge.log.read_text().splitlines()
    enforced = next(place for place, line in enumerate(lines) if "limit in force" in line and "20000" in line)
    assert enforced < next(place for place, line in enumerate(lines) if " ready " in line)


async def test_how_many_chargers_are_counted_at_worst_and_how_long_a_limit_took_are_told_to_the_control_centre(
    bridge: Bridge,
) -> None:
    async def interrogated() -> dict[int, tuple[float, int]]:
        objects = [each for seen in await master.interrogate() if seen.type_id == 13 for each in seen.objects(5)]
        return {address: struct.unpack("<fB", octets) for address, octets in objects}

    master = await RawMaster.connect(bridge.iec104_port)
    before = await interrogated()
    assert before[204] == (1.0, 0)  # the one charger was never seen
    assert before[205][1] & 0x80  # no limit was ever reached
    assert (await master.answer(setpoint(60_000.0))).cause == 7
    async with asyncio.timeout(20):
        while (await master.asdu()).cause != 10:
            pass
    taken_s, quality = (await interrogated())[205]
    assert quality == 0
    assert 0.0 <= taken_s < 60.0
    master.close()


async def test_two_sites_run_side_by_side_on_one_machine_and_neither_knows_of_the_other(tmp_path: Path) -> None:
    sites = []
    for name in ("east", "west"):
        (tmp_path / name).mkdir()
        sites.append(Bridge(tmp_path / name, site={"name": name}))
    east, west = sites
    try:
        await asyncio.gather(east.start(), west.start())
        master = await RawMaster.connect(east.iec104_port)
        assert (await master.answer(setpoint(20_000.0))).cause == 7
        master.close()
        told, untold = await asyncio.gather(east.status(), west.status())
        assert told["limit"] == {"power_w": 20_000, "source": "setpoint"}
        assert untold["limit"] == {"power_w": 100_000, "source": "at_start"}
        east.end(signal.SIGKILL)
        assert await west.healthy()
    finally:
        for site in sites:
            if site.process is not None and site.process.poll() is None:
                site.end(signal.SIGKILL)


async def test_a_restart_does_not_start_the_hold_anew(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path, fallback={"hold_s": 3})
    await bridge.start()
    master = await RawMaster.connect(bridge.iec104_port)
    await master.answer(setpoint(20_000.0))
    bridge.end(signal.SIGKILL)
    master.close()
    await asyncio.sleep(3.1)
    await bridge.start()
    try:
        assert (await bridge.status())["limit"] == {"power_w": 10_000, "source": "fallback"}
    finally:
        bridge.end()


async def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path)
    with socket.create_server(("127.0.0.1", bridge.iec104_port)):
        ended = bridge.try_to("run")
    assert ended.returncode == 1
    assert f"{bridge.iec104_port}" in ended.stderr.decode().splitlines()[-1]
    assert "Traceback" not in ended.stderr.decode()


async def test_a_configuration_that_makes_no_sense_is_refused_by_key_file_and_line(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path, site={"min_limt_w": 6_000})
    for command in ("run", "check"):
        ended = bridge.try_to(command)
        assert ended.returncode == 78
        assert "min_limt_w" in ended.stderr.decode()
        assert "site.yaml:" in ended.stderr.decode()


async def test_two_services_never_share_one_journal(bridge: Bridge, tmp_path: Path) -> None:
    other = Bridge(tmp_path)
    ended = other.try_to("run")
    assert ended.returncode == 1
    assert "in use by another process" in ended.stderr.decode()
    assert await bridge.healthy()


def test_running_the_service_needs_no_c104() -> None:
    program = (
        "import sys, json; sys.modules['c104'] = None\n"
        "import bridge.app, bridge.cli; print(json.dumps(sorted(m for m in sys.modules if m == 'c104' or 'lab' in m)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert json.loads(ended.stdout) == ["c104"]
