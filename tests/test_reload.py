"""SIGHUP: the configuration read anew is applied whole, or refused whole with the reason in the log."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.reload import refused
from bridge.settings import load
from tests.iec104.raw_master import RawMaster, setpoint
from tests.test_service import Bridge

WITHIN_S = 20


def configured(folder: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    said: dict[str, Any] = {
        "site": {"capacity_w": 100_000, "min_limit_w": 6_000},
        "iec104": {},
        "fallback": {"limit_w": 10_000},
        "chargers": [{"serial": f"S4-000{number}", "charger_profile": "series4-ultra"} for number in (1, 2)],
    }
    change(said)
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said["site"].update(capacity_w=80_000, allow_zero=True, ramp_w_per_s=500),
        lambda said: said["fallback"].update(limit_w=12_000, hold_s=60, on_return="restore_last", restore_after_s=9),
        lambda said: said["chargers"][0].update(priority=3, out_of_service=True, minimum_w=7_000),
    ],
)
def test_limits_fallback_and_priorities_change_while_it_runs(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    before = load(configured(tmp_path), {})
    assert refused(before, load(configured(tmp_path, change), {})) == []


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda said: said["iec104"].update(port=2_405), "iec104.port: 2404 to 2405 needs a restart"),
        (lambda said: said.update(http={"port": 8_090}), "http.port"),
        (lambda said: said["chargers"].pop(), "chargers.S4-0002"),
        (lambda said: said["chargers"].append({"serial": "x.priority", "charger_profile": "native-201"}), "x.priority"),
        (lambda said: said["chargers"][0].update(maximum_w=40_000), "chargers.S4-0001.maximum_w"),
        (lambda said: said.update(csms={"url": "ws://127.0.0.1:1/ocpp"}), "csms.url"),
        (lambda said: said.update(data_dir="elsewhere"), "data_dir"),
    ],
)
def test_what_needs_a_restart_is_refused_with_a_word_for_each_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], key: str
) -> None:
    before = load(configured(tmp_path), {})
    found = refused(before, load(configured(tmp_path, change), {}))
    assert any(key in sentence for sentence in found), found


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[Bridge]:
    running = Bridge(tmp_path)
    await running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.end(signal.SIGKILL)


def rewrite(bridge: Bridge, section: str, **changes: Any) -> None:
    said = yaml.safe_load(bridge.config.read_text())
    said[section] |= changes
    bridge.config.write_text(yaml.safe_dump(said))
    assert bridge.process is not None
    bridge.process.send_signal(signal.SIGHUP)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


async def logged(bridge: Bridge, words: str) -> None:
    async def holds() -> bool:
        return words in bridge.log.read_text()

    await until(holds)


async def told(bridge: Bridge, key: str, value: Any) -> None:
    async def holds() -> bool:
        return bool((await bridge.status())[key] == value)

    await until(holds)


async def test_a_running_service_goes_by_the_new_file_or_not_at_all(bridge: Bridge) -> None:
    master = await RawMaster.connect(bridge.iec104_port)
    await master.answer(setpoint(20_000.0))
    rewrite(bridge, "fallback", limit_w=12_000)
    await logged(bridge, "the configuration was read anew")
    await told(bridge, "fallback_w", 12_000)
    status = await bridge.status()
    assert status["limit"] == {"power_w": 20_000, "source": "setpoint"}
    assert status["link"]["state"] == "CONNECTED"  # the control centre noticed nothing

    rewrite(bridge, "site", capacity_w=50_000, name="Another")  # one may change, the other not
    await logged(bridge, "site.name: Test to Another needs a restart")
    rewrite(bridge, "site", capacity_w="many", name="Test")
    await logged(bridge, "site.capacity_w")
    assert (await bridge.status())["capacity_w"] == 100_000

    rewrite(bridge, "site", capacity_w=15_000)
    await told(bridge, "limit", {"power_w": 15_000, "source": "capacity"})
    master.close()
    assert bridge.end(signal.SIGKILL) != 0
    await bridge.start()  # the journal has the plan
    status = await bridge.status()
    assert status["limit"] == {"power_w": 15_000, "source": "capacity"}
    assert status["setpoint"]["limit_w"] == 20_000
