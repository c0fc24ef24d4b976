"""Claims about the feed of the dashboard, against the real API."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bridge.core.messages import ChargerConnected, ManualLimitSet, MeterSampled
from bridge.dashboard import feed as feeding
from bridge.dashboard.feed import Feed, Known
from bridge.web import stream as live
from bridge.web.people import Role
from bridge.web.server import WebServer
from tests.web.site_at_hand import UTC_MS, SiteAtHand

PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _at_a_quick_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY_S", 0.05)
    monkeypatch.setattr(feeding, "RETRY_S", 0.05)


class Seen:
    """What the feed told of changes."""

    def __init__(self) -> None:
        self.wholes = 0
        self.changed: set[str] = set()

    async def changed_now(self, serials: list[str], whole: bool) -> None:
        self.wholes += whole
        self.changed |= set(serials) if not whole else set()

    async def until(self, wholes: int, changed: set[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.wholes < wholes or not changed <= self.changed:  # noqa: ASYNC110  nothing else announces it
                await asyncio.sleep(0.01)


async def test_the_feed_follows_what_changes_and_comes_back_after_the_service(tmp_path: Path) -> None:
    at_hand = SiteAtHand(tmp_path)
    await at_hand.web.open()
    feed, seen = Feed(f"http://127.0.0.1:{at_hand.web.port}", tmp_path), Seen()
    following = asyncio.create_task(feed.run(seen.changed_now))
    try:
        await seen.until(1, set())
        assert list(feed.known.chargers) == ["S4-0000", "S4-0001", "S4-0002"]
        assert [power_w for _, power_w, _, _ in feed.known.hour] == [7_200]
        at_hand.submit(ChargerConnected("S4-0001"))
        at_hand.submit(MeterSampled("S4-0001", UTC_MS, power_w=5_000))
        await seen.until(1, {"S4-0001"})
        assert "S4-0002" not in seen.changed
        await at_hand.stream.close()
        await at_hand.web.close()
        at_hand.web = WebServer(at_hand.app, "127.0.0.1", at_hand.web.port)
        await at_hand.web.open()
        await seen.until(2, set())
        assert feed.known.chargers["S4-0001"]["connected"]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await at_hand.stream.close()
        await at_hand.web.close()


async def test_an_act_is_done_by_the_bearer_of_the_token_or_said_why_not(at_hand: SiteAtHand, tmp_path: Path) -> None:
    feed = Feed(f"http://127.0.0.1:{at_hand.web.port}", tmp_path)
    token = at_hand.token("ada", Role.OPERATE)
    wanted = {"limit_w": 9_000, "reason": "a test", "duration_s": None}
    assert (await feed.act(token, "POST", "manual-limit", wanted)).ok
    assert at_hand.events[-1] == ManualLimitSet(9_000, "ada", "a test")
    refused = await feed.act(token, "POST", "manual-limit", wanted | {"limit_w": -1})
    assert (refused.ok, "limit_w" in refused.said) == (False, True)
    refused = await feed.act(token, "POST", "chargers/nobody/retry")
    assert (refused.ok, refused.said) == (False, "there is no such charger")
    assert not (await feed.act("gl_nobody", "DELETE", "manual-limit")).ok
    await at_hand.web.close()
    assert "does not answer" in (await feed.act(token, "DELETE", "manual-limit")).said


def test_the_chart_goes_on_every_five_seconds_and_every_minute() -> None:
    known = Known()
    new_points = []
    for second in range(121):
        known.status = {
            "utc_ms": UTC_MS + 1000 * second,
            "power_w": second,
            "limit": {"power_w": 9},
            "worst_case_w": 10,
        }
        new_points.append(known.sampled())
    assert sum(hour for hour, _ in new_points) == len(known.hour) == 25
    assert sum(day for _, day in new_points) == len(known.day) == 3
