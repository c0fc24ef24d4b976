"""What an operator does, in a real headless Chromium: `make test-browser` runs these and keeps their screenshots."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.async_api import Browser, Page, async_playwright, expect

from bridge.core.messages import (
    Acted,
    ChargerConnected,
    ChargerDisconnected,
    LinkChanged,
    ManualLimitLifted,
    ManualLimitSet,
    MeterSampled,
    RetryAsked,
    SessionChanged,
    SetpointReceived,
)
from bridge.lab.series4 import Series4Unit
from bridge.web.people import Role
from tests.dashboard.conftest import PATIENCE_S, Shown, answers
from tests.iec104.raw_master import RawMaster, setpoint
from tests.test_service import Bridge, free_ports
from tests.web.site_at_hand import SiteAtHand

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DESK = {"width": 1440, "height": 1100}
PHONE = {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.skipif("BROWSER_TESTS" not in os.environ, reason="run by `make test-browser`"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]

Open = Callable[..., Coroutine[Any, Any, Page]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=1000 * PATIENCE_S)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def look(browser: Browser) -> AsyncIterator[Open]:
    """Open an address in a window of that size and language; nothing may be fetched from elsewhere or go wrong."""
    wrong: list[str] = []

    async def look(address: str, size: dict[str, int] = DESK, language: str = "en-GB") -> Page:
        context = await browser.new_context(viewport=size, locale=language, timezone_id="Europe/Berlin")  # type: ignore[arg-type]
        context.set_default_timeout(1000 * PATIENCE_S)
        page = await context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: wrong.append(asked.url) if "://127.0.0.1:" not in asked.url else None)
        await page.goto(address)
        return page

    yield look
    assert not [each for each in wrong if not each.startswith(("data:", "blob:"))]


async def keep(page: Page, name: str) -> None:
    """Keep a screenshot for docs/, where whoever runs this says so."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        await page.wait_for_timeout(1_500)  # what moves has come to rest
        await page.screenshot(path=Path(folder) / f"{name}.png")


def busy(at_hand: SiteAtHand) -> None:
    """Every charger but the last is connected and charges, some more than others."""
    serials = [plan.serial for plan in at_hand.site.plan.chargers][:-1]
    at_hand.submit(LinkChanged(1), *(ChargerConnected(serial) for serial in serials))
    at_hand.obey()
    at_hand.submit(*(SessionChanged(serial, place % 4 != 3) for place, serial in enumerate(serials)))
    at_hand.obey()
    measure(at_hand)


def an_hour(at_hand: SiteAtHand) -> None:
    """An hour of a depot: vehicles come and go, and the grid operator limits it for a while."""
    busy(at_hand)
    for quarter_minute in range(230):
        number = {40: 1, 120: 2, 180: 3}.get(quarter_minute)
        if number is not None:
            set_by_grid_operator(at_hand, number, {1: 400_000, 2: 90_000, 3: 250_000}[number])
        for place, charger in enumerate(list(at_hand.site.chargers.values())[:-1]):
            is_there = (quarter_minute + 17 * place) % 120 < 95
            if charger.active != is_there:
                at_hand.submit(SessionChanged(charger.serial, is_there))
        at_hand.obey()
        measure(at_hand)
        at_hand.pass_s(max(0, at_hand.begun_utc_ms / 1000 + 15 * quarter_minute - at_hand.now.utc_ms / 1000))


def measure(at_hand: SiteAtHand) -> None:
    """Everybody draws what he may, or what his vehicle wants."""
    at_hand.pass_s(2)
    drawn = []
    for place, charger in enumerate(at_hand.site.chargers.values()):
        if charger.connected:
            power_w = min(charger.grant_w or 0, 9_000 + 2_900 * (place * 7 % 13)) if charger.active else 0
            drawn.append(MeterSampled(charger.serial, at_hand.now.utc_ms, power_w, 230_000, power_w * 1000 // 690))
    at_hand.submit(*drawn)
    at_hand.obey()
    at_hand.recent.sample(at_hand.site)


def set_by_grid_operator(at_hand: SiteAtHand, number: int, limit_w: int) -> None:
    at_hand.submit(SetpointReceived(number, "192.0.2.10:2404", float(limit_w), limit_w))
    at_hand.obey()


async def log_in(page: Page, token: str) -> None:
    await page.get_by_label("Token").fill(token)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name="Log out")).to_be_visible()


async def test_an_operator_watches_a_limitation_arrive_and_pass(shown: Shown, look: Open) -> None:
    async with shown(12, an_hour, ago_s=3_600) as (at_hand, address):
        page = await look(address)
        await expect(page.locator(".gl-limit")).to_have_text("250 kW")
        await expect(page.get_by_text("11 of 12 connected")).to_be_visible()
        for number, limit_w, text in ((4, 400_000, "400 kW"), (5, 120_000, "120 kW"), (6, 5_000, "120 kW")):
            set_by_grid_operator(at_hand, number, limit_w)
            measure(at_hand)
            await expect(page.locator(".gl-limit")).to_have_text(text)
        await expect(page.get_by_text("setpoint of the grid operator")).to_be_visible()
        await expect(page.get_by_text("within the limit", exact=True)).to_be_visible()
        await expect(page.get_by_text("refused · below the minimum profile")).to_be_visible()
        await keep(page, "overview")
        at_hand.submit(LinkChanged(0))
        await expect(page.get_by_text("lost, last limit held")).to_be_visible()
        await expect(page.get_by_text("fallback in 5:00")).to_be_visible()
        at_hand.pass_s(108)
        await expect(page.get_by_text("fallback in 3:12")).to_be_visible()
        at_hand.pass_s(200)
        at_hand.submit()
        at_hand.obey()
        await expect(page.locator(".gl-limit")).to_have_text("10.0 kW")
        await expect(page.get_by_text("lost, in fallback")).to_be_visible()
        await keep(page, "fallback")
        at_hand.submit(LinkChanged(1))
        set_by_grid_operator(at_hand, 7, 400_000)
        await expect(page.locator(".gl-limit")).to_have_text("400 kW")


async def test_an_operator_sets_and_lifts_a_manual_limit_without_a_mouse(shown: Shown, look: Open) -> None:
    async with shown(6) as (at_hand, address):
        busy(at_hand)
        page = await look(address)
        await page.get_by_role("button", name="Manual limit").press("Enter")
        token = at_hand.token("ada", Role.OPERATE)
        await log_in(page, token)
        await page.get_by_role("button", name="Manual limit").press("Enter")
        await page.get_by_role("button", name="Continue").press("Enter")
        await expect(page.get_by_text("a number from 0 on, in kW")).to_be_visible()
        await page.get_by_label("Limit in kW").fill("42,5")
        await page.get_by_label("Reason").fill("Work on the transformer")
        await keep(page, "manual-limit")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Set the limit to 42.5 kW, after 1 hour?")).to_be_visible()
        await page.get_by_role("button", name="Confirm").press("Enter")
        await expect(page.locator(".gl-limit")).to_have_text("42.5 kW")
        await expect(page.get_by_text("set by hand")).to_be_visible()
        assert ManualLimitSet(42_500, "ada", "Work on the transformer", 3_600_000) in at_hand.events
        await page.get_by_role("button", name="Lift manual limit").press("Enter")
        await page.get_by_role("button", name="Cancel").press("Enter")
        await page.get_by_role("button", name="Lift manual limit").press("Enter")
        await page.get_by_role("button", name="Confirm").press("Enter")
        await expect(page.locator(".gl-limit")).to_have_text("300 kW")
        assert [event for event in at_hand.events if isinstance(event, ManualLimitLifted)] == [ManualLimitLifted("ada")]
        assert await page.get_by_role("button", name="Lift manual limit").count() == 0


async def test_who_is_unknown_is_refused_and_who_may_only_look_cannot_act(shown: Shown, look: Open) -> None:
    async with shown() as (at_hand, address):
        token = at_hand.token("grace", Role.VIEW)
        page = await look(address)
        await expect(page.get_by_text("Looking needs a login here.")).to_be_visible()
        await page.get_by_label("Token").fill("gl_guessed")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("This token is not known.")
        await keep(page, "login")
        await log_in(page, token)
        before = len(at_hand.events)
        await page.get_by_role("button", name="Manual limit").click()
        await expect(page.get_by_text("This token may only look.")).to_be_visible()
        assert len(at_hand.events) == before


async def test_an_operator_acknowledges_an_alarm_and_retries_a_charger(shown: Shown, look: Open) -> None:
    async with shown(4) as (at_hand, address):
        busy(at_hand)
        token = at_hand.token("ada", Role.OPERATE)
        page = await look(address)
        await log_in(page, token)
        await page.get_by_role("button", name="Acknowledge").click()
        await expect(page.get_by_text("Acknowledge charger offline of S4-0003?")).to_be_visible()
        await page.get_by_role("button", name="Confirm").click()
        await expect(page.get_by_text("seen by ada")).to_be_visible()
        assert Acted("ada", "acknowledged charger_offline", "S4-0003") in at_hand.events
        await page.locator(".ag-row").filter(has_text="S4-0001").locator(".ag-cell").first.click()
        await expect(page.get_by_text("holds its grant")).to_be_visible()
        await page.get_by_role("button", name="Retry").click()
        await page.get_by_role("button", name="Confirm").click()
        await expect(page.get_by_text("ada asked S4-0001 to be told again")).to_be_visible()
        assert RetryAsked("S4-0001", "ada") in at_hand.events


async def test_five_hundred_chargers_are_shown_as_far_as_they_can_be_seen(shown: Shown, look: Open) -> None:
    async with shown(500) as (at_hand, address):
        busy(at_hand)
        set_by_grid_operator(at_hand, 1, 6_000_000)
        measure(at_hand)
        page = await look(address, {"width": 1280, "height": 1500})
        await expect(page.get_by_text("499 of 500 connected")).to_be_visible()
        await expect(page.locator(".ag-row").filter(has_text="S4-0000")).to_have_count(1)
        assert await page.locator(".ag-row").count() < 60
        await keep(page, "500-chargers")
        at_hand.submit(ChargerDisconnected("S4-0002"))
        await expect(page.locator(".ag-row").filter(has_text="S4-0002")).to_contain_text("offline")
        await page.locator(".ag-body-viewport").evaluate("table => { table.scrollTop = table.scrollHeight }")
        await expect(page.locator(".ag-row").filter(has_text="S4-0499")).to_have_count(1)


async def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_words_are_german(shown: Shown, look: Open) -> None:
    async with shown(6) as (at_hand, address):
        busy(at_hand)
        set_by_grid_operator(at_hand, 1, 80_000)
        measure(at_hand)
        page = await look(address, PHONE, "de-DE")
        await expect(page.get_by_text("Geltende Grenze")).to_be_visible()
        await expect(page.locator(".gl-limit")).to_have_text("80,0 kW")
        assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        await keep(page, "phone")
        await page.get_by_role("link", name="English").click()
        await expect(page.get_by_role("heading", name="Limit in force")).to_be_visible()


async def test_values_that_no_longer_come_are_said_to_be_old(shown: Shown, look: Open) -> None:
    async with shown() as (at_hand, address):
        page = await look(address)
        await expect(page.get_by_text("1 of 3 connected")).to_be_visible()
        await at_hand.stream.close()
        await at_hand.web.close()
        await expect(page.get_by_role("alert").filter(has_text="the service does not answer")).to_be_visible()


async def test_over_all_wires_a_setpoint_reaches_the_page(
    look: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRIDLIMIT_HTTP__DASHBOARD_PORT", raising=False)
    bridge = Bridge(tmp_path)
    (port,) = free_ports(1)
    settings = yaml.safe_load(bridge.config.read_text())
    settings["http"]["dashboard_port"] = port
    settings["chargers"] = [{"serial": f"S4-{each:04}", "charger_profile": "series4-ultra"} for each in range(1, 4)]
    bridge.config.write_text(yaml.safe_dump(settings))
    await bridge.start()
    url = f"ws://127.0.0.1:{bridge.ocpp_port}/"
    lives = [asyncio.create_task(Series4Unit(url, entry["serial"]).run()) for entry in settings["chargers"]]
    try:
        await answers(f"http://127.0.0.1:{port}/login")
        page = await look(f"http://127.0.0.1:{bridge.http_port}/")
        await expect(page.get_by_text("3 of 3 connected")).to_be_visible()
        for setpoint_w, limit in ((60_000.0, "60.0 kW"), (2_000.0, "60.0 kW")):
            master = await RawMaster.connect(bridge.iec104_port)
            await asyncio.wait_for(master.answer(setpoint(setpoint_w)), PATIENCE_S)
            await expect(page.locator(".gl-limit")).to_have_text(limit)
            master.close()
        await expect(page.get_by_text("refused · below the minimum profile")).to_be_visible()
        await expect(page.get_by_text("lost, last limit held")).to_be_visible()
        await expect(page.get_by_text("within the limit", exact=True)).to_be_visible()
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        bridge.end()
