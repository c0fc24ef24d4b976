"""The control API of simulated chargers, asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from bridge.lab.control_api import ControlApi
from bridge.lab.series4 import Series4Unit


@pytest_asyncio.fixture
async def unit() -> Series4Unit:
    return Series4Unit("ws://127.0.0.1:9/", "S4-0001")


@pytest_asyncio.fixture
async def client(unit: Series4Unit) -> AsyncIterator[httpx.AsyncClient]:
    api = ControlApi([unit])
    await api.open()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api.port}", trust_env=False) as asking:
        yield asking
    await api.close()


async def test_the_list_shows_every_charger(client: httpx.AsyncClient) -> None:
    assert (await client.get("/chargers")).json() == [
        {
            "serial": "S4-0001",
            "kind": "series4",
            "power_w": 0.0,
            "demand_w": 22000,
            "limit_w": 50000,
            "connected": False,
            "charging": False,
            "energy_wh": 0,
            "behaviour": "obeys",
        }
    ]


async def test_an_order_changes_what_it_names_and_nothing_else(client: httpx.AsyncClient, unit: Series4Unit) -> None:
    answer = await client.post("/chargers/S4-0001", json={"demand_w": 7200, "charging": True})
    assert answer.status_code == 200
    assert (answer.json()["demand_w"], answer.json()["charging"], answer.json()["behaviour"]) == (7200, True, "obeys")
    answer = await client.post("/chargers/S4-0001", json={"behaviour": "late", "answer_delay_s": 3})
    assert (answer.json()["demand_w"], answer.json()["behaviour"]) == (7200, "late")
    assert unit.answer_delay_s == 3


async def test_forgetting_takes_the_limit_away(client: httpx.AsyncClient, unit: Series4Unit) -> None:
    unit.flash["MaxChargingPowerW"] = "7000"
    assert (await client.post("/chargers/S4-0001", json={"action": "forget"})).json()["limit_w"] == 50000


@pytest.mark.parametrize("order", [{"demand_w": -1}, {"demand_w": "much"}, {"behaviour": "nice"}, {"colour": "red"}])
async def test_an_order_that_makes_no_sense_is_refused(client: httpx.AsyncClient, order: dict[str, Any]) -> None:
    assert (await client.post("/chargers/S4-0001", json=order)).status_code == 422


async def test_a_charger_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await client.post("/chargers/S4-0009", json={})
    assert answer.status_code == 404
    assert "S4-0009" in answer.json()["detail"]
