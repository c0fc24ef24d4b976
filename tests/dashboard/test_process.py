"""Claims about the dashboard as a process: whom it lets in, what it tells nobody, and that it goes with the service."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest
import yaml

from bridge.web.people import HOST_TOKEN_FILE, Person, Role, digest_of, new_token, write_tokens
from tests.dashboard.conftest import PATIENCE_S, answers
from tests.test_service import Bridge, free_ports


async def gone(port: int) -> None:
    """Wait until nobody listens there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.1)


async def lets_in(address: str, tokens_file: Path) -> list[httpx.Response]:
    """Knock with and without tokens; everything that was answered."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as browser:
        seen = [await browser.get(address)]
        assert seen[-1].status_code == 200  # without tokens this machine may look
        assert seen[-1].headers["x-frame-options"] == "DENY"
        assert "https://" not in seen[-1].text  # nothing is fetched from elsewhere
        token = new_token()
        write_tokens(tokens_file, {digest_of(token): Person("ada", Role.OPERATE)})
        seen.append(await browser.get(address))
        assert (seen[-1].status_code, seen[-1].headers["location"]) == (307, "/login")
        seen.append(await browser.post(f"{address}login", data={"token": new_token()}))
        assert (seen[-1].status_code, "set-cookie" in seen[-1].headers) == (401, False)
        seen.append(await browser.post(f"{address}login", data={"token": token}))
        cookie = seen[-1].headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        seen.append(await browser.get(address))
        assert (seen[-1].status_code, "<title>Test</title>" in seen[-1].text) == (200, True)
        write_tokens(tokens_file, {digest_of(new_token()): Person("grace", Role.VIEW)})  # ada's counts no more
        assert (await browser.get(address)).status_code == 307
    assert not [answer for answer in seen if token in answer.text + str(answer.headers)]
    return seen


async def test_the_dashboard_lets_in_who_may_look_and_goes_with_the_service_even_if_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRIDLIMIT_HTTP__DASHBOARD_PORT", raising=False)
    bridge = Bridge(tmp_path)
    (port,) = free_ports(1)
    settings = yaml.safe_load(bridge.config.read_text())
    settings["http"]["dashboard_port"] = port
    bridge.config.write_text(yaml.safe_dump(settings))
    await bridge.start()
    try:
        await answers(f"http://127.0.0.1:{port}/login")
        host_token = (tmp_path / "data" / HOST_TOKEN_FILE).read_text()
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as browser:
            door = await browser.get(f"http://127.0.0.1:{bridge.http_port}/")
        assert door.headers["location"] == f"http://127.0.0.1:{port}/"
        seen = await lets_in(door.headers["location"], tmp_path / "data" / "tokens")
    finally:
        bridge.end(signal.SIGKILL)
    await gone(port)
    told = [answer.text for answer in seen] + [bridge.log.read_text()]
    assert not [text for text in told if host_token in text]
