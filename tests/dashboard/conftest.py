"""The site at hand with a dashboard before it, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
import yaml

from tests.test_service import free_ports
from tests.web.site_at_hand import SiteAtHand

PATIENCE_S = 240.0
Shown: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[SiteAtHand, str]]]


def configuration(folder: Path, http_port: int, dashboard_port: int) -> Path:
    """A file for the dashboard of a service that listens there."""
    file = folder / "site.yaml"
    http = {"port": http_port, "dashboard_port": dashboard_port, "tokens_file": str(folder / "tokens")}
    settings = {
        "site": {"name": "Depot Nord", "capacity_w": 150_000, "min_limit_w": 6_000},
        "iec104": {},
        "fallback": {"limit_w": 10_000},
        "http": http,
    }
    file.write_text(yaml.safe_dump(settings))
    return file


def start_dashboard(config: Path, log: Path) -> subprocess.Popen[bytes]:
    """The dashboard as the service starts it: it ends with its standard input."""
    command = [sys.executable, "-m", "bridge", "dashboard", "--child", "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRIDLIMIT_")}
    with log.open("ab") as file:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment)


async def answers(address: str) -> None:
    """Wait until somebody serves there."""
    async with asyncio.timeout(PATIENCE_S), httpx.AsyncClient(trust_env=False) as client:
        while True:
            try:
                await client.get(address, timeout=10)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    """A context: a site at hand with so many chargers, after what was `before`, and the address of its dashboard."""

    @asynccontextmanager
    async def shown(
        chargers: int = 3, before: Callable[[SiteAtHand], None] | None = None, ago_s: int = 0
    ) -> AsyncIterator[tuple[SiteAtHand, str]]:
        at_hand = SiteAtHand(tmp_path, chargers, utc_ms=time.time_ns() // 1_000_000 - 1000 * ago_s)
        if before is not None:
            before(at_hand)
        at_hand.tokens.write_host_token(tmp_path / "data")
        await at_hand.web.open()
        (port,) = free_ports(1)
        log = tmp_path / "dashboard.log"
        process = start_dashboard(configuration(tmp_path, at_hand.web.port, port), log)
        try:
            await answers(f"http://127.0.0.1:{port}/login")
            yield at_hand, f"http://127.0.0.1:{port}/"
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await asyncio.to_thread(process.wait, PATIENCE_S)
            await at_hand.stream.close()
            await at_hand.web.close()

    return shown


@pytest.fixture
async def at_hand(tmp_path: Path) -> AsyncIterator[SiteAtHand]:
    """A site at hand whose API is open."""
    at_hand = SiteAtHand(tmp_path)
    await at_hand.web.open()
    yield at_hand
    await at_hand.stream.close()
    await at_hand.web.close()
