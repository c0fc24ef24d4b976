"""A whole depot on loopback: the bridge as a process of its own, three Series 4 units and a native station."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bridge.lab.charger import SimulatedCharger
from bridge.lab.control_api import ControlApi
from bridge.lab.http_client import HttpError, fetch
from bridge.lab.player import SetUpError, Target
from bridge.lab.scenario_file import Pace
from bridge.lab.series4 import Series4Unit
from bridge.lab.station201 import Station201
from bridge.settings import dso_profile

HOST = "127.0.0.1"
UNITS = ("S4-0001", "S4-0002", "S4-0003")
STATION = "CS-0001"
HOLD_MINUTES = 5
SHORTENED = Pace(minute_s=1.0, silence_s=6.0)
REAL_TIME = Pace()
START_S = 30.0
CONNECT_S = 30.0
STOP_S = 10.0
LOG_TAIL_BYTES = 4_000


class WorldError(SetUpError):
    """The world did not come up; the text says what is missing and ends with what the bridge said last."""


class World:
    """The bridge and its chargers, opened together and closed together.

    At another pace than real time the hold is shortened like the minutes of the scenarios, and the outstation's timers
    so that a silent line is noticed within `pace.silence_s`. `overrides` is merged into the bridge's configuration,
    its `chargers` by their serials; profiles named there are looked for in the folder `profiles` before those shipped.
    With `dashboard` the bridge has one.
    """

    def __init__(
        self,
        pace: Pace = SHORTENED,
        *,
        stack: str = "native",
        overrides: Mapping[str, Any] | None = None,
        profiles: Path | None = None,
        dashboard: bool = False,
    ) -> None:
        self.iec104_port, self.ocpp_port, self.http_port, port = _free_ports(4)
        self.dashboard_port = port if dashboard else None
        self.http_url = f"http://{HOST}:{self.http_port}"
        self.chargers: list[SimulatedCharger] = []
        self._pace = pace
        self._folder = tempfile.TemporaryDirectory(prefix="gridlimit-lab-")
        self.folder = Path(self._folder.name)
        self.log = self.folder / "bridge.log"
        self.configuration = _merged(self._configuration(stack), overrides or {})
        if profiles is not None and profiles.is_dir():
            shutil.copytree(profiles, self.folder / "profiles")
        self._bridge: asyncio.subprocess.Process | None = None
        self._running: list[asyncio.Task[None]] = []
        self._api: ControlApi | None = None

    @property
    def chargers_url(self) -> str:
        """Where the chargers' control API answers."""
        return f"http://{HOST}:{self._api.port if self._api else 0}"

    @property
    def target(self) -> Target:
        """What the player plays against."""
        return Target(HOST, self.iec104_port, (self.chargers_url,), pace=self._pace, bridge=self)

    async def open(self) -> None:
        """Start the bridge, then the chargers, and wait until all are connected. Raises WorldError."""
        try:
            await self.start_bridge()
            url = f"ws://{HOST}:{self.ocpp_port}/"
            self.chargers = [*(Series4Unit(url, serial) for serial in UNITS), Station201(url, STATION)]
            self._running = [asyncio.create_task(charger.run()) for charger in self.chargers]
            self._api = ControlApi(self.chargers)
            await self._api.open()
            await self._wait_for_chargers()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop the chargers, then the bridge, and remove what they wrote."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._api is not None:
            await self._api.close()
        await self.stop_bridge()
        self._folder.cleanup()

    async def start_bridge(self) -> None:
        """Start the bridge's process and wait until it is healthy. Raises WorldError."""
        file = self.folder / "site.yaml"
        file.write_text(yaml.safe_dump(self.configuration, sort_keys=False), encoding="utf-8")
        self._write_dso_profile()
        with self.log.open("ab") as log:
            self._bridge = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge", "run", "--config", str(file)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TZ": "UTC"},  # c104 knows local time only
                start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            )
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                await fetch(f"{self.http_url}/health")
            except HttpError as error:
                if self._bridge.returncode is not None or time.monotonic() > deadline_s:
                    raise WorldError(f"the bridge did not become healthy: {error}\n{self._log_tail()}") from error
            else:
                return
            await asyncio.sleep(0.1)

    async def kill_bridge(self) -> None:
        """End the bridge's process without warning; it is started again by `start_bridge`."""
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.kill()
            await bridge.wait()

    async def stop_bridge(self) -> int | None:
        """Ask the bridge to stop, as a supervisor would; its exit code, None if it never ran."""
        bridge, self._bridge = self._bridge, None
        if bridge is None:
            return None
        if bridge.returncode is None:
            bridge.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(bridge.wait(), STOP_S)
        except TimeoutError:
            bridge.kill()
            return await bridge.wait()

    async def _wait_for_chargers(self) -> None:
        deadline_s = time.monotonic() + CONNECT_S
        while away := [charger.serial for charger in self.chargers if not charger.connected]:
            if time.monotonic() > deadline_s:
                raise WorldError(f"not connected after {CONNECT_S:g} s: {', '.join(away)}\n{self._log_tail()}")
            await asyncio.sleep(0.05)

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def _configuration(self, stack: str) -> dict[str, Any]:
        units = [{"serial": serial, "charger_profile": "series4-ultra"} for serial in UNITS]
        station = {"serial": STATION, "charger_profile": "native-201"}
        real = self._pace.minute_s == REAL_TIME.minute_s
        return {
            "site": {"name": "Depot Nord", "capacity_w": 100_000, "min_limit_w": 6_000, "at_start_w": 100_000},
            "iec104": {
                "host": HOST,
                "port": self.iec104_port,
                "common_address": 1,
                "stack": stack,
                "dso_profile": "default" if real else "lab",
                "limits": {"connections_per_address": 8, "start_stop_per_minute": 6_000},
            },
            "fallback": {
                "hold_s": HOLD_MINUTES * self._pace.minute_s,
                "limit_w": 10_000,
                "on_return": "keep_fallback",
            },
            "ocpp": {"host": HOST, "port": self.ocpp_port},
            "chargers": [entry | {"sample_interval_s": 1} for entry in [*units, station]],
            "http": {"host": HOST, "port": self.http_port, "dashboard_port": self.dashboard_port},
            "data_dir": str(self.folder / "data"),
        }

    def _write_dso_profile(self) -> None:
        """The default point table with timers short enough that a silent line is noticed at this pace."""
        profile = dso_profile("default").model_dump(mode="json")
        t3_s = max(1, int(self._pace.silence_s / 3))
        profile["timers"] |= {"t1_s": max(2, int(self._pace.silence_s) - t3_s - 1), "t2_s": 1, "t3_s": t3_s}
        folder = self.folder / "profiles" / "dso"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lab.yaml").write_text(yaml.safe_dump(profile, sort_keys=False), encoding="utf-8")


def _merged(settings: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in overrides.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            merged[key] = _merged(below, value)
        elif isinstance(below, list) and isinstance(value, Mapping):
            merged[key] = [entry | value.get(entry["serial"], {}) for entry in below]
        else:
            merged[key] = value
    return merged


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on now; all are held until the last is found, so that they differ."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
