"""The service under test: `python -m bridge run` with a generated site, half Series 4 units, half native stations."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from benchmarks import wire

READY_S = 180.0

# As shipped, but obeying at once, so that a termination is the last answer and not a reaction time.
SERIES4 = """
vendor: Voltex
model: S4-ULTRA
protocol: ocpp1.5
hello: 'S4HELLO SN=<serial> FW=<version>\\r\\n'
phases: 3
minimum_w: 6000
maximum_w: 50000
limit: {method: change_configuration, key: MaxChargingPowerW, unit: W, step: 1, read_back: true}
sampling:
  interval_key: MeterValueSampleInterval
  interval_s: 60
  measurands_key: MeterValuesSampledData
  measurands: [Energy.Active.Import.Register, Power.Active.Import, Voltage, Current.Import]
reaction_s: 0
offline: keeps_limit
"""
NATIVE = """
vendor: any
model: any
protocol: ocpp2.0.1
phases: 3
minimum_w: 4140
maximum_w: 22000
limit: {method: charging_profile, unit: W, step: 1, read_back: false}
sampling: {interval_s: 60}
reaction_s: 0
lease_s: 3600
offline: nameplate
"""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def write_site(folder: Path, chargers: int, **changes: Any) -> Path:
    """A configuration for so many chargers in `folder`, and the charger profiles beside it."""
    profiles = folder / "profiles" / "chargers"
    profiles.mkdir(parents=True, exist_ok=True)
    (profiles / "bench-series4.yaml").write_text(SERIES4)
    (profiles / "bench-native.yaml").write_text(NATIVE)
    iec104, ocpp, http = free_ports(3)
    site: dict[str, Any] = {
        "site": {
            "name": "Bench",
            "capacity_w": max(chargers, 1) * 40_000,
            "min_limit_w": 6_000,
            "at_start_w": max(chargers, 1) * 20_000,
        },
        "iec104": {"port": iec104, "limits": {"commands_per_minute": 10_000_000}},
        "fallback": {"hold_s": 3_600, "limit_w": max(chargers, 1) * 6_000},
        "ocpp": {"port": ocpp},
        "chargers": [_entry(place) for place in range(chargers)],
        "http": {"port": http, "dashboard_port": None},
    }
    for section, values in changes.items():
        site[section] = {**site.get(section, {}), **values}
    path = folder / "site.yaml"
    path.write_text(json.dumps(site))  # JSON is YAML, and this is written and read much faster
    return path


def _entry(place: int) -> dict[str, Any]:
    legacy = place % 2 == 0
    return {
        "serial": wire.serial_of(place, legacy=legacy),
        "charger_profile": "bench-series4" if legacy else "bench-native",
        "sample_interval_s": wire.SAMPLE_INTERVAL_S,
    }


class Service:
    """The process, its ports, and what it costs."""

    def __init__(self, folder: Path, chargers: int, **changes: Any) -> None:
        self.folder = folder
        self.config = write_site(folder, chargers, **changes)
        site = json.loads(self.config.read_text())
        self.iec104_port, self.ocpp_port = site["iec104"]["port"], site["ocpp"]["port"]
        self.http_port = site["http"]["port"]
        self.log = folder / "bridge.log"
        self.process: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGTERM)

    async def start(self, command: list[str] | None = None) -> float:
        """Start it and wait until it is healthy; how long that took, in s."""
        words = command or [sys.executable, "-m", "bridge", "run", "--config", str(self.config)]
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stderr=log, env=os.environ | {"TZ": "UTC"})  # noqa: ASYNC220, S603  our own, and quick
        while not self.healthy():
            assert self.process.poll() is None, self.log.read_text()[-2_000:]
            assert time.monotonic() - began < READY_S, "the service does not become healthy"
            await asyncio.sleep(0.01)
        return time.monotonic() - began

    def healthy(self) -> bool:
        """Whether its listeners are open."""
        try:
            with socket.create_connection(("127.0.0.1", self.http_port), timeout=1):
                pass
            self._get("/health")
        except OSError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        """What its status API says."""
        status: dict[str, Any] = json.loads(self._get("/status"))
        return status

    def _get(self, path: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            body: bytes = answer.read()
            return body

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    def end(self, number: int) -> None:
        """End it by a signal and wait."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cpu_s_of(pid: int) -> float:
    """CPU seconds a process has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9  # of its main thread, which does it all


def rss_bytes_of(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors_of(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
