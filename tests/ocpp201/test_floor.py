"""Leases and the ladder at a native station that is not ours: the floor is found, grants end by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.core.messages import Answer, ChargerBooted, LimitAnswered, SessionChanged, SetFloor, SetLimit
from bridge.core.plan import Way
from bridge.lab.charging_profiles import Abilities
from bridge.lab.power_path import PowerPath
from bridge.lab.station201 import Station201
from tests.ocpp201.listening import Listening, charger_entry, eventually, listening

FLOOR_W = 4_140


@asynccontextmanager
async def charging_station(world: Listening, abilities: Abilities | None = None) -> AsyncIterator[Station201]:
    power = PowerPath(maximum_w=22_000, minimum_w=4_140, demand_w=22_000, reaction_s=0.0, ramp_s=0.01)
    station = Station201(world.url(""), "CS-0001", power=power, abilities=abilities)
    station.start_session()
    running = asyncio.create_task(station.run())
    try:
        await world.submitted(ChargerBooted)
        yield station
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def limit_of(station: Station201) -> int | None:
    limit_w: int | None = station.view()["limit_w"]
    return limit_w


async def answered(world: Listening, order: int) -> LimitAnswered:
    await eventually(lambda: any(isinstance(e, LimitAnswered) and e.order == order for e in world.events))
    return next(e for e in world.events if isinstance(e, LimitAnswered) and e.order == order)


async def test_the_floor_is_accepted_only_once_the_station_reports_it_installed() -> None:
    async with listening([charger_entry()]) as world, charging_station(world) as station:
        world.server.set_floor(SetFloor("CS-0001", 1, FLOOR_W))
        assert (await answered(world, 1)).answer is Answer.ACCEPTED
        assert limit_of(station) == FLOOR_W


async def test_a_grant_above_the_floor_ends_by_itself_and_the_floor_holds_then() -> None:
    async with listening([charger_entry()]) as world, charging_station(world) as station:
        world.server.set_floor(SetFloor("CS-0001", 1, FLOOR_W))
        await answered(world, 1)
        world.server.set_limit(SetLimit("CS-0001", 2, 15_000, valid_ms=1_500))
        assert (await answered(world, 2)).answer is Answer.ACCEPTED
        assert limit_of(station) == 15_000
        await eventually(lambda: limit_of(station) == FLOOR_W)


async def test_a_station_with_one_stack_level_holds_no_lease_and_says_so_by_refusing() -> None:
    abilities = Abilities(stack_level=0)
    async with listening([charger_entry()]) as world, charging_station(world, abilities):
        world.server.set_floor(SetFloor("CS-0001", 1, FLOOR_W))
        await answered(world, 1)
        world.server.set_limit(SetLimit("CS-0001", 2, 15_000, valid_ms=60_000))
        assert (await answered(world, 2)).answer is Answer.REFUSED


async def test_a_charger_without_a_session_cannot_be_given_a_floor() -> None:
    async with listening([charger_entry()]) as world:
        world.server.set_floor(SetFloor("CS-0001", 1, FLOOR_W))
        assert (await answered(world, 1)).answer is Answer.NOT_SENT


@pytest.mark.parametrize("way", [Way.LIMIT, Way.OTHER_UNIT, Way.PER_TRANSACTION])
async def test_every_way_of_telling_a_limit_is_obeyed(way: Way) -> None:
    async with listening([charger_entry()]) as world, charging_station(world) as station:
        world.server.set_limit(SetLimit("CS-0001", 1, 13_800, way))
        assert (await answered(world, 1)).answer is Answer.ACCEPTED
        await eventually(lambda: station.view()["power_w"] <= 13_800)


async def test_a_station_stopped_by_the_ladder_ends_its_transactions_and_is_proven_once_it_is_inoperative() -> None:
    async with listening([charger_entry()]) as world, charging_station(world) as station:
        await world.submitted(SessionChanged)
        world.server.set_limit(SetLimit("CS-0001", 1, 0, Way.STOP))
        assert (await answered(world, 1)).answer is Answer.REFUSED, "Scheduled is no proof"
        await eventually(lambda: station.view()["power_w"] == 0)
        world.server.set_limit(SetLimit("CS-0001", 2, 0, Way.STOP))
        assert (await answered(world, 2)).answer is Answer.ACCEPTED
        assert not station.available
        world.server.set_limit(SetLimit("CS-0001", 3, 11_000))
        await answered(world, 3)
        await eventually(lambda: station.available)
