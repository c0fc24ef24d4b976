"""A native station as a session: its messages as events, limits as charging profiles."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from bridge.core.messages import Answer, ChargerBooted, LimitAnswered, MeterSampled, SessionChanged
from bridge.ocpp201.timestamps import read_utc_ms, rfc3339
from tests.ocpp201.listening import BOOT, ask, charger_entry, listening, next_call

READ_BACK: dict[str, Any] = {"limit": {"method": "charging_profile", "read_back": True}}


async def answer(websocket: ClientConnection, call: Any, payload: dict[str, Any]) -> None:
    await websocket.send(json.dumps([3, call[1], payload]))


def meter_value(power_w: float, timestamp: str = "") -> list[dict[str, Any]]:
    return [
        {
            "timestamp": timestamp or "1970-01-01T00:00:00Z",
            "sampledValue": [{"value": power_w, "measurand": "Power.Active.Import"}],
        }
    ]


def transaction(kind: str, seq: int, transaction_id: str = "t1", **more: Any) -> dict[str, Any]:
    return {
        "eventType": kind,
        "timestamp": "2026-09-01T10:00:00Z",
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq,
        "transactionInfo": {"transactionId": transaction_id},
        **more,
    }


async def test_a_boot_is_accepted_reported_and_followed_by_the_sampling_of_the_charger_profile() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        response = (await ask(station, "BootNotification", BOOT))[2]
        assert response["status"] == "Accepted"
        assert read_utc_ms(response["currentTime"]) is not None
        assert await world.submitted(ChargerBooted) == [ChargerBooted("CS-0001", "M1", "1.2")]
        set_variables = await next_call(station, "SetVariables")
        wanted = {
            (item["component"]["name"], item["variable"]["name"]): item["attributeValue"]
            for item in set_variables[3]["setVariableData"]
        }
        assert wanted == {
            ("SampledDataCtrlr", "TxUpdatedInterval"): "60",
            ("SampledDataCtrlr", "TxUpdatedMeasurands"): "Energy.Active.Import.Register,Power.Active.Import",
            ("AlignedDataCtrlr", "Interval"): "60",
            ("AlignedDataCtrlr", "Measurands"): "Energy.Active.Import.Register,Power.Active.Import",
        }


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ([3, {"status": "Accepted"}], Answer.ACCEPTED),
        ([3, {"status": "Rejected", "statusInfo": {"reasonCode": "InvalidProfile"}}], Answer.REFUSED),
        ([4, "NotImplemented", "", {}], Answer.REFUSED),
        ([3, {"status": "Perhaps"}], Answer.REFUSED),
    ],
)
async def test_o35_only_accepted_is_a_claim_of_obedience(response: list[Any], expected: Answer) -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "Heartbeat", {})
        world.order(20_000, order=5)
        call = await next_call(station, "SetChargingProfile")
        assert call[3]["evseId"] == 0
        schedule = call[3]["chargingProfile"]["chargingSchedule"][0]
        assert schedule["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 20_000}]
        await station.send(json.dumps([response[0], call[1], *response[1:]]))
        assert await world.submitted(LimitAnswered) == [LimitAnswered("CS-0001", 5, expected)]


async def test_an_order_without_answer_is_unanswered_and_without_connection_not_sent() -> None:
    async with listening([charger_entry()], call_timeout_s=0.05) as world:
        async with world.connect() as station:
            await ask(station, "Heartbeat", {})
            world.order(20_000, order=1)
            await world.submitted(LimitAnswered)
        world.order(20_000, "nobody", order=2)
        assert await world.submitted(LimitAnswered, 2) == [
            LimitAnswered("CS-0001", 1, Answer.UNANSWERED),
            LimitAnswered("nobody", 2, Answer.NOT_SENT),
        ]


async def test_of_orders_that_wait_only_the_newest_is_sent() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "Heartbeat", {})
        for order, limit_w in enumerate((30_000, 20_000, 10_000)):
            world.order(limit_w, order=order)
        limits = []
        for _ in range(2):
            call = await next_call(station, "SetChargingProfile")
            limits.append(call[3]["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0]["limit"])
            await answer(station, call, {"status": "Accepted"})
        assert limits == [30_000, 10_000]
        answered = {event.order: event.answer for event in await world.submitted(LimitAnswered, 3)}
        assert answered == {0: Answer.ACCEPTED, 1: Answer.NOT_SENT, 2: Answer.ACCEPTED}


async def test_a_connection_that_ends_leaves_no_order_open() -> None:
    async with listening([charger_entry()]) as world:
        async with world.connect() as station:
            await ask(station, "Heartbeat", {})
            world.order(30_000, order=1)
            world.order(20_000, order=2)
            await next_call(station, "SetChargingProfile")
        answered = {event.order: event.answer for event in await world.submitted(LimitAnswered, 2)}
        assert answered == {1: Answer.UNANSWERED, 2: Answer.NOT_SENT}


@pytest.mark.parametrize(
    ("limit", "expected", "read_back_w"),
    [(20_000, Answer.ACCEPTED, 20_000), (22_000, Answer.ACCEPTED, 22_000), (-1, Answer.UNANSWERED, None)],
)
async def test_where_it_can_be_read_back_an_accepted_limit_is_proven_by_the_composite_schedule(
    limit: float, expected: Answer, read_back_w: int | None
) -> None:
    async with listening([charger_entry(**READ_BACK)]) as world, world.connect() as station:
        await ask(station, "Heartbeat", {})
        world.order(20_000)
        await answer(station, await next_call(station, "SetChargingProfile"), {"status": "Accepted"})
        schedule = {
            "evseId": 0,
            "duration": 300,
            "scheduleStart": "2026-09-01T10:00:00Z",
            "chargingRateUnit": "W",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit}],
        }
        composite = await next_call(station, "GetCompositeSchedule")
        await answer(station, composite, {"status": "Accepted", "schedule": schedule})
        assert await world.submitted(LimitAnswered) == [LimitAnswered("CS-0001", 1, expected, read_back_w)]


async def test_a_new_order_takes_the_place_of_the_read_back_of_the_last() -> None:
    async with listening([charger_entry(**READ_BACK)]) as world, world.connect() as station:
        await ask(station, "Heartbeat", {})
        world.order(20_000, order=1)
        world.order(10_000, order=2)
        await answer(station, await next_call(station, "SetChargingProfile"), {"status": "Accepted"})
        call = await next_call(station, "GetCompositeSchedule")
        await station.send(json.dumps([4, call[1], "NotSupported", "", {}]))
        await answer(station, await next_call(station, "SetChargingProfile"), {"status": "Rejected"})
        answered = {event.order: event.answer for event in await world.submitted(LimitAnswered, 2)}
        assert answered == {1: Answer.UNANSWERED, 2: Answer.REFUSED}


async def test_a_unit_of_amperes_is_told_amperes() -> None:
    entry = charger_entry(limit={"method": "charging_profile", "unit": "A"}, phases=1)
    async with listening([entry]) as world, world.connect() as station:
        await ask(station, "Heartbeat", {})
        world.order(4_200)
        schedule = (await next_call(station, "SetChargingProfile"))[3]["chargingProfile"]["chargingSchedule"][0]
        assert schedule["chargingRateUnit"] == "A"
        assert schedule["chargingSchedulePeriod"] == [{"startPeriod": 0, "limit": 18, "numberPhases": 1}]


async def test_samples_leave_from_meter_values_and_from_transaction_events() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "MeterValues", {"evseId": 1, "meterValue": meter_value(7_200)})
        await ask(station, "TransactionEvent", transaction("Started", 0, meterValue=meter_value(7_300)))
        assert [sample.power_w for sample in await world.submitted(MeterSampled, 2)] == [7_200, 7_300]


async def test_evses_of_one_station_are_added_up_until_their_transaction_ends() -> None:
    def metered(evse_id: int, power_w: float, kind: str = "Updated") -> dict[str, Any]:
        return transaction(kind, 0, f"t{evse_id}", evse={"id": evse_id}, meterValue=meter_value(power_w))

    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "TransactionEvent", metered(1, 7_000))
        await ask(station, "TransactionEvent", metered(2, 4_000))
        await ask(station, "TransactionEvent", transaction("Updated", 1, "t2", meterValue=meter_value(3_000)))
        await ask(station, "TransactionEvent", metered(1, 0, "Ended"))
        await ask(station, "TransactionEvent", metered(2, 2_000))
        powers = [sample.power_w for sample in await world.submitted(MeterSampled, 5)]
        assert powers == [7_000, 11_000, 10_000, 3_000, 2_000]


async def test_what_a_station_kept_while_offline_is_reported_with_its_own_time_and_not_added_up() -> None:
    kept = rfc3339(1_788_000_000_000)
    async with listening([charger_entry()]) as world, world.connect() as station:
        await ask(station, "MeterValues", {"evseId": 2, "meterValue": meter_value(4_000)})
        event = transaction("Updated", 3, evse={"id": 1}, offline=True, meterValue=meter_value(7_000, kept))
        await ask(station, "TransactionEvent", event)
        sample = (await world.submitted(MeterSampled, 2))[1]
        assert (sample.power_w, sample.utc_ms) == (7_000, 1_788_000_000_000)


async def test_a_session_is_active_while_any_transaction_is_open_and_repeats_change_nothing() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        for number, (kind, transaction_id) in enumerate(
            [("Started", "a"), ("Started", "a"), ("Updated", "b"), ("Ended", "a"), ("Ended", "b"), ("Ended", "b")]
        ):
            await ask(station, "TransactionEvent", transaction(kind, number, transaction_id))
        assert await world.submitted(SessionChanged, 2) == [
            SessionChanged("CS-0001", True),
            SessionChanged("CS-0001", False),
        ]


async def test_o25_open_transactions_without_end_are_bounded() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        for number in range(100):
            await ask(station, "TransactionEvent", transaction("Started", 0, f"t{number}"))
        session = world.server._live["CS-0001"].session
        assert len(getattr(session, "_transactions")) == 64  # noqa: B009  of the session's own kind


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("StatusNotification", {"evseId": 0, "connectorId": 1}),
        ("StatusNotification", {"evseId": 999, "connectorId": 1}),
        ("StatusNotification", {"evseId": 1, "connectorId": -1}),
        ("MeterValues", {"evseId": -1, "meterValue": meter_value(7_200)}),
        ("MeterValues", {"evseId": 10**15, "meterValue": meter_value(7_200)}),
        ("TransactionEvent", transaction("Started", 0, evse={"id": 0}, meterValue=meter_value(7_200))),
    ],
)
async def test_o28_evses_that_cannot_be_are_a_callerror_and_change_nothing(
    action: str, payload: dict[str, Any]
) -> None:
    if action == "StatusNotification":
        payload = payload | {"timestamp": "2026-09-01T10:00:00Z", "connectorStatus": "Available"}
    async with listening([charger_entry()]) as world, world.connect() as station:
        before = len(world.events)
        assert (await ask(station, action, payload))[2] == "PropertyConstraintViolation"
        assert len(world.events) == max(before, 1)  # ChargerConnected alone


async def test_o31_a_storm_of_boots_is_answered_and_reported_each_time() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        for _ in range(20):
            await ask(station, "BootNotification", BOOT)
        assert len(await world.submitted(ChargerBooted, 20)) == 20


async def test_o32_a_partial_boot_notification_is_a_callerror_and_no_boot() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        assert (await ask(station, "BootNotification", {}))[2] == "OccurrenceConstraintViolation"
        assert (await ask(station, "BootNotification", BOOT))[2]["status"] == "Accepted"
        assert len(await world.submitted(ChargerBooted)) == 1


async def test_o33_a_limit_of_someone_else_is_acknowledged_and_raises_nothing() -> None:
    notice = {"chargingLimit": {"chargingLimitSource": "EMS"}}
    async with listening([charger_entry()]) as world, world.connect() as station:
        assert (await ask(station, "NotifyChargingLimit", notice))[2] == {}
        assert (await ask(station, "ClearedChargingLimit", {"chargingLimitSource": "EMS"}))[2] == {}
        assert len(world.events) == 1
