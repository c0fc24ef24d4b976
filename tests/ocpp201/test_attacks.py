"""Attacks and faults at native stations that need more than one message, each under its number in the list of them."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bridge.core.messages import Answer, ChargerConnected, LimitAnswered, SessionChanged, SetFloor, SetLimit
from bridge.core.plan import Way
from tests.ocpp201.listening import BOOT, ask, charger_entry, listening, next_call

TRANSACTION = "7d3f0b7e-0001"


def event(kind: str, sequence: int) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": "2026-09-01T10:00:00Z",
        "triggerReason": "Authorized",
        "seqNo": sequence,
        "transactionInfo": {"transactionId": TRANSACTION},
        "evse": {"id": 1, "connectorId": 1},
    }


def charging_profile(profile_id: int) -> dict[str, Any]:
    return {
        "id": profile_id,
        "stackLevel": 0,
        "chargingProfilePurpose": "TxProfile",
        "chargingProfileKind": "Relative",
        "chargingSchedule": [
            {"id": 1, "chargingRateUnit": "W", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 1.0}]}
        ],
    }


async def test_o34_a_report_of_charging_profiles_without_end_is_given_up_in_time_and_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.ocpp201.floor.REPORT_WITHIN_S", 0.5)
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "BootNotification", BOOT)
        world.server.set_floor(SetFloor("CS-0001", 7, 4_140))
        installing = await next_call(station, "SetChargingProfile")
        await station.send(json.dumps([3, installing[1], {"status": "Accepted"}]))
        asked = await next_call(station, "GetChargingProfiles")
        await station.send(json.dumps([3, asked[1], {"status": "Accepted"}]))

        async def report_for_ever() -> None:
            part = {"requestId": asked[3]["requestId"], "chargingLimitSource": "CSO", "evseId": 1, "tbc": True}
            for number in range(1_000_000):
                profiles = [charging_profile(number + 1) for _ in range(20)]
                call = [2, f"r{number}", "ReportChargingProfiles", part | {"chargingProfile": profiles}]
                await station.send(json.dumps(call))
                await asyncio.sleep(0.01)

        reporting = asyncio.create_task(report_for_ever())
        try:
            (answered,) = await world.submitted(LimitAnswered)
            assert answered == LimitAnswered("CS-0001", 7, Answer.UNANSWERED)
        finally:
            reporting.cancel()
            with suppress(asyncio.CancelledError, ConnectionClosed):
                await reporting
            station.transport.abort()


async def test_o37_a_transaction_that_ends_while_its_limit_is_told_leaves_the_default_of_all_in_force() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "BootNotification", BOOT)
        await ask(station, "TransactionEvent", event("Started", 0))
        await world.submitted(SessionChanged)
        world.server.set_limit(SetLimit("CS-0001", 1, 13_800, Way.PER_TRANSACTION))
        default = await next_call(station, "SetChargingProfile")
        assert default[3]["chargingProfile"]["chargingProfilePurpose"] == "TxDefaultProfile"
        assert default[3]["evseId"] == 0, "it holds for transactions that begin meanwhile, too"
        await ask(station, "TransactionEvent", event("Ended", 1))
        await station.send(json.dumps([3, default[1], {"status": "Accepted"}]))
        assert await world.submitted(LimitAnswered) == [LimitAnswered("CS-0001", 1, Answer.ACCEPTED)]


async def test_o37_a_limit_the_transaction_was_too_late_for_is_no_proof() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "BootNotification", BOOT)
        await ask(station, "TransactionEvent", event("Started", 0))
        await world.submitted(SessionChanged)
        world.server.set_limit(SetLimit("CS-0001", 1, 13_800, Way.PER_TRANSACTION))
        default = await next_call(station, "SetChargingProfile")
        await station.send(json.dumps([3, default[1], {"status": "Accepted"}]))
        of_transaction = await next_call(station, "SetChargingProfile")
        assert of_transaction[3]["chargingProfile"]["transactionId"] == TRANSACTION
        await station.send(json.dumps([3, of_transaction[1], {"status": "Rejected"}]))
        assert await world.submitted(LimitAnswered) == [LimitAnswered("CS-0001", 1, Answer.REFUSED)]


async def test_o40_a_park_that_reconnects_all_at_once_is_let_in_whole() -> None:
    stations = 150
    entries = [charger_entry(f"CS-{number:04d}") for number in range(stations)]
    async with listening(entries) as world:
        for _ in range(2):
            before = len(world.events)
            connections = await asyncio.gather(*(world.connect(entry.serial) for entry in entries))
            await world.submitted(ChargerConnected)
            assert len({event.serial for event in world.events[before:] if isinstance(event, ChargerConnected)}) == len(
                connections
            )
            for connection in connections:
                connection.transport.abort()  # as a switch does that loses its power
