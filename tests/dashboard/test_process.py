"""Claims about the dashboard as a process: whom it lets in, and what it tells nobody."""

from __future__ import annotations

from pathlib import Path

import httpx

from bridge.web.people import HOST_TOKEN_FILE, Role, new_token
from tests.dashboard.conftest import Shown


async def test_the_dashboard_lets_in_who_may_look_and_tells_no_secret(shown: Shown, tmp_path: Path) -> None:
    async with shown() as (at_hand, address), httpx.AsyncClient(trust_env=False, timeout=60) as browser:
        seen = [await browser.get(address)]
        assert seen[-1].status_code == 200  # without tokens this machine may look
        assert seen[-1].headers["x-frame-options"] == "DENY"
        assert "https://" not in seen[-1].text  # nothing is fetched from elsewhere
        token = at_hand.token("ada", Role.OPERATE)
        seen.append(await browser.get(address))
        assert (seen[-1].status_code, seen[-1].headers["location"]) == (307, "/login")
        seen.append(await browser.post(f"{address}login", data={"token": new_token()}))
        assert (seen[-1].status_code, "set-cookie" in seen[-1].headers) == (401, False)
        seen.append(await browser.post(f"{address}login", data={"token": token}))
        cookie = seen[-1].headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        seen.append(await browser.get(address))
        assert seen[-1].status_code == 200
        assert "Depot Nord" in seen[-1].text
        at_hand.token("grace", Role.VIEW)  # ada's token counts no more
        assert (await browser.get(address)).status_code == 307
    host_token = (tmp_path / "data" / HOST_TOKEN_FILE).read_text()
    told = [answer.text + str(answer.headers) for answer in seen] + [(tmp_path / "dashboard.log").read_text()]
    assert not [text for text in told if token in text or host_token in text]
