"""Rows of the fault list that a legacy unit can play: lies, floods and nonsense, each with its id in its name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.core.messages import Answer, ChargerBooted, LimitAnswered, MeterSampled, SetLimit
from bridge.legacy.readings import MAX_READINGS
from bridge.legacy.transactions import MAX_OPEN
from bridge.ocpp201.rpc import CallError, Payload
from tests.legacy.fake_unit import RECEIVED_MS, SERIAL, Bench, FakeUnit, running, until

NOW = "2026-09-01T10:00:00Z"
BOOT: Payload = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA"}
START: Payload = {"connectorId": 1, "idTag": "04A1B2C3", "timestamp": NOW, "meterStart": 1000}


def sample(value: object, **more: Any) -> Payload:
    return {"connectorId": 1, "values": [{"timestamp": NOW, "values": [{"value": value, **more}]}]}


async def begun(unit: FakeUnit, **changes: Any) -> int:
    unit.obey()
    await unit.call("BootNotification", BOOT)
    return int((await unit.call("StartTransaction", {**START, **changes}))["transactionId"])


def events(bench: Bench) -> list[Payload]:
    return bench.central_system.of("TransactionEvent")


async def test_o20_a_late_acceptance_of_a_limit_proves_nothing() -> None:
    async with running(call_timeout_s=0.05) as bench, bench.unit() as unit:
        unit.answers["ChangeConfiguration"] = lambda _: None
        bench.server.set_limit(SetLimit(SERIAL, 1, 20_000))
        await until(lambda: bench.of(LimitAnswered))
        assert bench.of(LimitAnswered) == [LimitAnswered(SERIAL, 1, Answer.UNANSWERED, None)]


async def test_o22_a_unit_that_accepts_and_holds_another_limit_is_refused_with_what_it_holds() -> None:
    async with running() as bench, bench.unit() as unit:
        unit.answers["ChangeConfiguration"] = lambda _: {"status": "Accepted"}
        bench.server.set_limit(SetLimit(SERIAL, 1, 20_000))
        await until(lambda: bench.of(LimitAnswered))
        assert bench.of(LimitAnswered) == [LimitAnswered(SERIAL, 1, Answer.REFUSED, 50_000)]


async def test_o25_a_flood_of_values_in_one_message_is_read_up_to_a_bound() -> None:
    values = [{"timestamp": NOW, "value": "1"} for _ in range(MAX_READINGS + 200)]
    async with running() as bench, bench.unit() as unit:
        assert await unit.call("MeterValues", {"connectorId": 1, "values": values}) == {}
        (told,) = bench.central_system.of("MeterValues")
        assert sum(len(each["sampledValue"]) for each in told["meterValue"]) == MAX_READINGS
        assert bench.quarantine.counts[SERIAL] == 1


async def test_o25_transactions_without_end_are_bounded() -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        for number in range(MAX_OPEN + 6):
            await unit.call(
                "MeterValues", {**sample("1"), "connectorId": number % 60 + 1, "transactionId": 5_000 + number}
            )
        assert len(bench.transactions.open_of(SERIAL)) <= MAX_OPEN


@pytest.mark.parametrize(
    ("value", "more"),
    [
        ("-900", {"measurand": "Power.Active.Import"}),
        ("99000000", {"measurand": "Power.Active.Import"}),
        ("-5000", {}),
    ],
)
async def test_o26_a_value_that_cannot_be_is_never_used_for_control(value: str, more: Payload) -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("MeterValues", sample(value, **more))
        (taken,) = bench.of(MeterSampled)
        assert not taken.valid
        assert (taken.power_w, taken.energy_wh) == (None, None)


async def test_o26_a_value_in_a_foreign_unit_is_quarantined_whole() -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("MeterValues", sample("7", measurand="Voltage", unit="W"))
        assert bench.of(MeterSampled) == []
        assert "unit W is none of Voltage" in bench.quarantine.newest[0].why


async def test_o26_a_register_that_runs_backwards_is_kept_and_flagged() -> None:
    async with running() as bench, bench.unit() as unit:
        number = await begun(unit)
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 400})
        ended = events(bench)[-1]
        assert ended["meterValue"][-1]["sampledValue"][0]["value"] == 400
        assert ended["customData"]["meterStart"] == 1000


@pytest.mark.parametrize(
    "said", ["1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z", "2026-09-03T10:00:00Z", "", "soon", "2015-12-31T23:59:60Z"]
)
async def test_o27_a_clock_that_cannot_be_right_is_replaced_and_kept_beside(said: str) -> None:
    async with running() as bench, bench.unit() as unit:
        number = await begun(unit, timestamp=said)
        await unit.call("MeterValues", {"transactionId": number, **sample("1200") | {"connectorId": 1}})
        first = events(bench)[0]
        assert first["timestamp"] == "2026-09-01T10:00:00.000Z"
        assert first.get("customData", {}).get("unitTimestamp", "") == said[:64]
        assert all(abs(each.utc_ms - RECEIVED_MS) < 1000 for each in bench.of(MeterSampled))


async def test_o27_a_time_without_a_zone_is_utc() -> None:
    async with running() as bench, bench.unit() as unit:
        await begun(unit, timestamp="2026-09-01T09:59:30")
        assert events(bench)[0]["timestamp"] == "2026-09-01T09:59:30.000Z"


@pytest.mark.parametrize("connector", [-1, 65, 999, "x"])
async def test_o28_a_connector_that_cannot_be_changes_nothing_and_is_quarantined(connector: object) -> None:
    async with running() as bench, bench.unit() as unit:
        for action, payload in (
            ("StatusNotification", {"connectorId": connector, "status": "Faulted", "errorCode": "NoError"}),
            ("StartTransaction", {**START, "connectorId": connector}),
            ("MeterValues", {**sample("1"), "connectorId": connector}),
        ):
            assert isinstance(await unit.call(action, payload), dict)
        assert bench.central_system.received == []
        assert bench.quarantine.counts[SERIAL] == 3


async def test_o29_a_unit_cannot_touch_the_transaction_of_another_by_its_number() -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        other = bench.transactions.start("S4-9999", 1, "TAG", 0, NOW)
        assert other is not None
        number = other.transaction.number
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 1})
        assert bench.transactions.open_of("S4-9999") == [other.transaction]
        answer = await bench.ask("RequestStopTransaction", {"transactionId": other.transaction.transaction_id})
        assert answer["statusInfo"]["reasonCode"] == "UnknownTxId"
        assert unit.asked == []


async def test_o30_a_start_and_a_stop_played_again_make_no_second_event() -> None:
    async with running() as bench, bench.unit() as unit:
        number = await begun(unit)
        stop = {"transactionId": number, "timestamp": NOW, "meterStop": 2000}
        for _ in range(3):
            assert (await unit.call("StartTransaction", START))["transactionId"] == number
            assert await unit.call("StopTransaction", stop) == {}
        assert [event["eventType"] for event in events(bench)] == ["Started", "Ended"]


async def test_o31_every_boot_of_a_storm_is_answered_and_each_makes_the_limit_unproven() -> None:
    async with running() as bench, bench.unit() as unit:
        for _ in range(20):
            assert (await unit.call("BootNotification", BOOT))["status"] == "Accepted"
        assert len(bench.of(ChargerBooted)) == 20


async def test_o32_an_empty_boot_is_that_of_its_charger_profile_and_of_no_other_serial() -> None:
    async with running() as bench, bench.unit() as unit:
        assert (await unit.call("BootNotification", {}))["status"] == "Accepted"
        (boot,) = bench.central_system.of("BootNotification")
        assert boot["chargingStation"]["serialNumber"] == SERIAL
        refused = await unit.call("BootNotification", [])
        assert refused[2] == "FormationViolation"


async def test_o38_hostile_text_in_vendor_fields_is_cut_and_stays_text() -> None:
    hostile = "<script>\n\x1b[31m2026-01-01 level=error " + "x" * 5_000
    async with running() as bench, bench.unit() as unit:
        await unit.call("BootNotification", {**BOOT, "firmwareVersion": hostile, "iccid": hostile})
        await unit.call(
            "StatusNotification",
            {"connectorId": 1, "status": "Faulted", "errorCode": hostile, "info": hostile, "vendorErrorCode": hostile},
        )
        (boot,) = bench.central_system.of("BootNotification")
        assert len(boot["chargingStation"]["firmwareVersion"]) <= 50
        (event,) = bench.central_system.of("NotifyEvent")
        assert len(event["eventData"][0]["techInfo"]) <= 500


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<soap:Envelope xmlns:soap="x"><soap:Body/></soap:Envelope>', "ProtocolError"),
        (json.dumps([2, "m1", "SetChargingProfile", {}]), "NotImplemented"),
        (json.dumps([2, "m1", "Reset", {"type": "Hard"}]), "NotSupported"),
    ],
)
async def test_o43_what_is_not_of_the_dialect_is_refused_in_its_words(text: str, code: str) -> None:
    async with running() as bench, bench.unit() as unit:
        unit._reader.cancel()
        await unit.websocket.send(text)
        frame = json.loads(await unit.websocket.recv())
        assert (frame[0], frame[2]) == (4, code)
        assert bench.central_system.received == []


async def test_o43_a_missing_connector_is_the_first_one() -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        started = {name: value for name, value in START.items() if name != "connectorId"}
        await unit.call("StartTransaction", started)
        assert events(bench)[0]["evse"] == {"id": 1, "connectorId": 1}


async def test_o43_a_start_whose_stop_never_comes_ends_with_the_next_one() -> None:
    async with running() as bench, bench.unit() as unit:
        await begun(unit)
        await unit.call("StartTransaction", {**START, "meterStart": 5000})
        assert [event["eventType"] for event in events(bench)] == ["Started", "Ended", "Started"]
        assert len(bench.transactions.open_of(SERIAL)) == 1


@pytest.mark.parametrize(
    ("action", "payload"),
    [
        ("RequestStopTransaction", {"transactionId": "{tx}"}),
        ("ChangeAvailability", {"operationalStatus": "Inoperative"}),
    ],
)
async def test_o44_a_unit_that_ignores_an_order_is_never_said_to_have_obeyed(action: str, payload: Payload) -> None:
    async with running(call_timeout_s=0.05) as bench, bench.unit() as unit:
        await begun(unit)
        unit.answers = {"RemoteStopTransaction": lambda _: None, "ChangeAvailability": lambda _: None}
        transaction_id = events(bench)[0]["transactionInfo"]["transactionId"]
        said = {name: transaction_id if value == "{tx}" else value for name, value in payload.items()}
        answer = await bench.ask(action, said)
        assert not isinstance(answer, CallError)
        assert answer["status"] == "Rejected"
        assert len(bench.transactions.open_of(SERIAL)) == 1
        assert bench.units[-1].record.pending.inoperative == []
