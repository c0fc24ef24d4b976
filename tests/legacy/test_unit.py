"""A unit over a real WebSocket: boot, session, samples, limit with read-back, and everything it does wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bridge.core.messages import (
    Answer,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    LimitAnswered,
    MeterSampled,
    SessionChanged,
    SetLimit,
)
from bridge.legacy import unit as unit_module
from bridge.legacy.dialects import OCPP15
from tests.legacy.fake_unit import SERIAL, Bench, FakeUnit, running, s4_entry, until

NOW = "2026-09-01T10:00:00Z"
BOOT = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA", "chargeBoxSerialNumber": SERIAL}
START = {"connectorId": 1, "idTag": "04A1B2C3", "timestamp": NOW, "meterStart": 1000}
POWER = [{"timestamp": NOW, "values": [{"value": "7,2", "unit": "kW", "measurand": "Power.Active.Import"}]}]


async def started(unit: FakeUnit) -> int:
    await unit.call("BootNotification", BOOT)
    return int((await unit.call("StartTransaction", START))["transactionId"])


async def ordered(bench: Bench, limit_w: int, order: int = 1) -> LimitAnswered:
    """Order a limit and wait for what becomes of it."""
    bench.server.set_limit(SetLimit(SERIAL, order, limit_w))
    await until(lambda: any(answered.order == order for answered in bench.of(LimitAnswered)))
    (answered,) = [answered for answered in bench.of(LimitAnswered) if answered.order == order]
    return answered  # type: ignore[no-any-return]


async def test_hello_boot_limit_and_meter_values_go_through() -> None:
    async with running() as bench, bench.unit() as unit:
        boot = await unit.call("BootNotification", BOOT)
        assert (boot["status"], boot["heartbeatInterval"]) == ("Accepted", 300)
        assert await ordered(bench, 20_000) == LimitAnswered(SERIAL, 1, Answer.ACCEPTED, 20_000)
        assert unit.configuration["MaxChargingPowerW"] == "20000"
        assert await unit.call("MeterValues", {"connectorId": 1, "values": POWER}) == {}
        assert bench.events[:2] == [ChargerConnected(SERIAL), ChargerBooted(SERIAL, "S4-ULTRA", "2016.1")]
        assert bench.of(MeterSampled) == [MeterSampled(SERIAL, bench.clock().utc_ms, power_w=7200)]
        assert bench.central_system.of("BootNotification") == [
            {
                "reason": "PowerUp",
                "chargingStation": {"model": "S4-ULTRA", "vendorName": "Voltex", "serialNumber": SERIAL},
            }
        ]
    await until(lambda: ChargerDisconnected(SERIAL) in bench.events)


async def test_a_session_is_one_transaction_with_sequence_numbers_without_gaps() -> None:
    async with running() as bench, bench.unit() as unit:
        number = await started(unit)
        for _ in range(3):
            await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": POWER})
        stop = {"transactionId": number, "idTag": "04A1B2C3", "timestamp": NOW, "meterStop": 2000}
        assert await unit.call("StopTransaction", stop) == {"idTagInfo": {"status": "Accepted"}}
        events = bench.central_system.of("TransactionEvent")
        assert [event["eventType"] for event in events] == ["Started", "Updated", "Updated", "Updated", "Ended"]
        assert [event["seqNo"] for event in events] == [0, 1, 2, 3, 4]
        assert len({event["transactionInfo"]["transactionId"] for event in events}) == 1
        assert bench.of(SessionChanged) == [SessionChanged(SERIAL, True), SessionChanged(SERIAL, False)]
        assert [sample.energy_wh for sample in bench.of(MeterSampled)] == [1000, None, None, None, 2000]


async def test_a_start_sent_three_times_is_one_transaction_with_one_integer() -> None:
    async with running() as bench, bench.unit() as unit:
        numbers = [await started(unit) for _ in range(3)]
        assert len(set(numbers)) == 1
        assert len(bench.central_system.of("TransactionEvent")) == 1


async def test_a_retried_stop_is_answered_and_makes_no_second_end() -> None:
    async with running() as bench, bench.unit() as unit:
        stop = {"transactionId": await started(unit), "timestamp": NOW, "meterStop": 2000}
        assert [await unit.call("StopTransaction", stop) for _ in range(2)] == [{}, {}]
        assert [event["eventType"] for event in bench.central_system.of("TransactionEvent")] == ["Started", "Ended"]
        assert not bench.quarantine.counts
        await unit.call("StopTransaction", {**stop, "meterStop": 2500})
        assert bench.quarantine.counts[SERIAL] == 1


@pytest.mark.parametrize("number", [-1, 0, 4711, "none"])
async def test_a_stop_with_an_unknown_integer_ends_the_only_open_transaction(number: Any) -> None:
    async with running() as bench, bench.unit() as unit:
        await started(unit)
        await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        events = bench.central_system.of("TransactionEvent")
        assert [event["eventType"] for event in events] == ["Started", "Ended"]


@pytest.mark.parametrize("number", [-1, 0, 4711])
async def test_a_stop_whose_start_never_came_is_recovered_as_a_pair_once(number: int) -> None:
    async with running() as bench, bench.unit() as unit:
        stop = {"transactionId": number, "idTag": "04A1B2C3", "timestamp": NOW, "meterStop": 2000}
        answers = [await unit.call("StopTransaction", stop) for _ in range(2)]
        assert answers == [{"idTagInfo": {"status": "Accepted"}}, {}]
        events = bench.central_system.of("TransactionEvent")
        assert [(event["eventType"], event["offline"], event["seqNo"]) for event in events] == [
            ("Started", True, 0),
            ("Ended", True, 1),
        ]
        assert {event["triggerReason"] for event in events} == {"AbnormalCondition"}


async def test_a_second_start_on_a_connector_ends_what_was_left_open() -> None:
    async with running() as bench, bench.unit() as unit:
        await started(unit)
        await unit.call("StartTransaction", {**START, "meterStart": 5000})
        kinds = [event["eventType"] for event in bench.central_system.of("TransactionEvent")]
        assert kinds == ["Started", "Ended", "Started"]


async def test_samples_of_an_unknown_transaction_are_recovered_and_those_without_one_belong_to_the_connector() -> None:
    async with running() as bench, bench.unit() as unit:
        for number in (-1, 0):
            await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": POWER})
        assert len(bench.central_system.of("MeterValues")) == 2
        for _ in range(2):
            await unit.call("MeterValues", {"connectorId": 1, "transactionId": 812, "values": POWER})
        await unit.call("MeterValues", {"connectorId": 1, "values": POWER})
        events = bench.central_system.of("TransactionEvent")
        assert [event["eventType"] for event in events] == ["Started", "Updated", "Updated", "Updated"]
        await unit.call("StopTransaction", {"transactionId": 812, "timestamp": NOW, "meterStop": 1})
        assert [event["seqNo"] for event in bench.central_system.of("TransactionEvent")] == [0, 1, 2, 3, 4]


async def test_a_session_survives_the_loss_of_its_connection() -> None:
    async with running() as bench:
        async with bench.unit() as unit:
            number = await started(unit)
        async with bench.unit() as unit:
            await until(lambda: bench.of(SessionChanged)[-1:] == [SessionChanged(SERIAL, True)])
            await unit.call("StopTransaction", {"transactionId": number, "timestamp": NOW, "meterStop": 2000})
        assert [event["seqNo"] for event in bench.central_system.of("TransactionEvent")] == [0, 1]
        assert bench.of(SessionChanged)[-1] == SessionChanged(SERIAL, False)


async def test_available_without_a_stop_ends_the_transaction_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as bench, bench.unit() as unit:
        await started(unit)
        await unit.call("StatusNotification", {"connectorId": 1, "status": "Available", "errorCode": "NoError"})
        assert bench.units[-1]._missing_stops
        await unit.call("StatusNotification", {"connectorId": 1, "status": "Occupied", "errorCode": "NoError"})
        assert not bench.units[-1]._missing_stops
        monkeypatch.setattr(unit_module, "STOP_MAY_FOLLOW_S", 0.05)
        await unit.call("StatusNotification", {"connectorId": 1, "status": "Available", "errorCode": "NoError"})
        await until(lambda: len(bench.central_system.of("TransactionEvent")) == 2)
        assert bench.central_system.of("TransactionEvent")[-1]["triggerReason"] == "AbnormalCondition"


async def test_the_samples_of_two_connectors_are_added_up() -> None:
    async with running() as bench, bench.unit() as unit:
        for connector in (1, 2, 0):
            await unit.call("MeterValues", {"connectorId": connector, "values": POWER})
        assert [sample.power_w for sample in bench.of(MeterSampled)] == [7200, 14400, 7200]


async def test_the_unit_is_configured_to_sample_after_boot_and_flash_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0.01)
    async with running() as bench, bench.unit() as unit:
        await unit.call("BootNotification", BOOT)
        await until(lambda: len(unit.asked) == 4)
        assert [action for action, _ in unit.asked] == [
            "GetConfiguration",
            "ChangeConfiguration",
            "ChangeConfiguration",
            "GetConfiguration",
        ]
        assert unit.configuration["MeterValueSampleInterval"] == "60"
        assert "Voltage" in unit.configuration["MeterValuesSampledData"]
        await unit.call("BootNotification", BOOT)
        await until(lambda: len(unit.asked) == 5)
        await ordered(bench, 10_000)
        assert [action for action, _ in unit.asked[5:]] == ["ChangeConfiguration", "GetConfiguration"]
        assert [boot["reason"] for boot in bench.central_system.of("BootNotification")] == ["PowerUp", "Unknown"]


@pytest.mark.parametrize(
    ("answers", "answer", "held_w"),
    [
        ({"ChangeConfiguration": lambda _: {"status": "Rejected"}}, Answer.REFUSED, None),
        ({"ChangeConfiguration": lambda _: {"status": "NotSupported"}}, Answer.REFUSED, None),
        ({"ChangeConfiguration": lambda _: {"status": "RebootRequired"}}, Answer.REFUSED, None),
        ({"ChangeConfiguration": lambda _: ["InternalError", "", "text, no object"]}, Answer.REFUSED, None),
        ({"ChangeConfiguration": lambda _: {"status": "Accepted"}}, Answer.REFUSED, 50_000),
        ({"GetConfiguration": lambda _: {"unknownKey": ["MaxChargingPowerW"]}}, Answer.REFUSED, None),
        ({"GetConfiguration": lambda _: ["NotSupported"]}, Answer.REFUSED, None),
        ({"ChangeConfiguration": lambda _: None}, Answer.UNANSWERED, None),
        ({"GetConfiguration": lambda _: None}, Answer.UNANSWERED, None),
    ],
)
async def test_only_a_limit_that_reads_back_as_written_is_accepted(
    answers: dict[str, Any], answer: Answer, held_w: int | None
) -> None:
    silent = answer is Answer.UNANSWERED
    async with running(call_timeout_s=0.1 if silent else 10.0) as bench, bench.unit() as unit:
        unit.answers.update(answers)
        assert await ordered(bench, 20_000) == LimitAnswered(SERIAL, 1, answer, held_w)


async def test_without_read_back_an_accepted_limit_proves_no_value() -> None:
    limit = {"method": "change_configuration", "key": "MaxChargingPowerW", "read_back": False}
    async with running(s4_entry(limit=limit)) as bench, bench.unit() as unit:
        assert await ordered(bench, 20_000) == LimitAnswered(SERIAL, 1, Answer.ACCEPTED, None)
        assert [action for action, _ in unit.asked] == ["ChangeConfiguration"]


async def test_amperes_are_written_where_the_make_wants_them_and_read_back_in_watts() -> None:
    limit = {"method": "change_configuration", "key": "MaxCurrent", "unit": "A", "read_back": True}
    async with running(s4_entry(limit=limit)) as bench, bench.unit() as unit:
        assert await ordered(bench, 20_500) == LimitAnswered(SERIAL, 1, Answer.ACCEPTED, 29 * 690)
        assert unit.configuration["MaxCurrent"] == "29"


async def test_the_newest_order_wins_and_the_superseded_one_was_never_sent() -> None:
    async with running() as bench, bench.unit() as unit:
        for order, limit_w in ((1, 30_000), (2, 20_000), (3, 10_000)):
            bench.server.set_limit(SetLimit(SERIAL, order, limit_w))
        await until(lambda: len(bench.of(LimitAnswered)) == 3)
        assert {answered.order: answered.answer for answered in bench.of(LimitAnswered)} == {
            1: Answer.ACCEPTED,
            2: Answer.NOT_SENT,
            3: Answer.ACCEPTED,
        }
        written = [payload["value"] for action, payload in unit.asked if action == "ChangeConfiguration"]
        assert written == ["30000", "10000"]


async def test_orders_are_answered_when_the_connection_ends() -> None:
    async with running() as bench:
        async with bench.unit() as unit:
            unit.answers["ChangeConfiguration"] = lambda _: None
            for order in (1, 2):
                bench.server.set_limit(SetLimit(SERIAL, order, 20_000))
            await until(lambda: unit.asked)
        await until(lambda: len(bench.of(LimitAnswered)) == 2)
        answers = {answered.order: answered.answer for answered in bench.of(LimitAnswered)}
        assert answers == {1: Answer.UNANSWERED, 2: Answer.NOT_SENT}


async def test_a_boot_with_another_serial_is_rejected_and_the_connection_closed() -> None:
    async with running() as bench, bench.unit() as unit:
        boot = await unit.call("BootNotification", {**BOOT, "chargeBoxSerialNumber": "S4-9999"})
        assert boot["status"] == "Rejected"
        await asyncio.wait_for(unit.websocket.wait_closed(), 20)
        assert unit.websocket.close_code == 1008
        assert bench.of(ChargerBooted) == []
        assert "S4-9999" in bench.quarantine.newest[0].why


async def test_only_the_actions_of_its_dialect_are_ever_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_module, "CONFIGURE_AFTER_S", 0)
    async with running() as bench, bench.unit() as unit:
        await started(unit)
        await ordered(bench, 20_000)
        assert {action for action, _ in unit.asked} <= set(OCPP15.to_unit)


@pytest.mark.parametrize(
    ("action", "payload", "answer"),
    [
        ("StatusNotification", {"connectorId": 1, "status": "Dancing"}, {}),
        ("MeterValues", {"connectorId": 1, "values": [{"value": "OCMF|x", "format": "SignedData"}]}, {}),
        ("Authorize", {}, {"idTagInfo": {"status": "Invalid"}}),
        ("StartTransaction", {"idTag": "X" * 99}, {"transactionId": 0, "idTagInfo": {"status": "Invalid"}}),
        ("DataTransfer", {}, {"status": "Rejected"}),
        ("StopTransaction", {"transactionId": 3, "transactionData": {"a": 1}}, {}),
    ],
)
async def test_what_cannot_be_read_is_quarantined_whole_and_answered(action: str, payload: Any, answer: Any) -> None:
    async with running() as bench, bench.unit() as unit:
        assert await unit.call(action, {**payload, "extra": "kept"}) == answer
        (kept,) = bench.quarantine.newest
        assert json.loads(kept.frame) == [action, {**payload, "extra": "kept"}]
        assert len(bench.shelf.rooms["quarantine"]) == 1


async def test_unreadable_values_do_not_take_the_readable_ones_with_them() -> None:
    async with running() as bench, bench.unit() as unit:
        await unit.call("MeterValues", {"connectorId": 1, "values": [*POWER, {"timestamp": NOW, "value": "?"}]})
        assert [sample.power_w for sample in bench.of(MeterSampled)] == [7200]
        assert bench.quarantine.counts[SERIAL] == 1


async def test_actions_outside_the_dialect_are_refused_in_its_own_spelling() -> None:
    async with running() as bench, bench.unit() as unit:
        assert (await unit.call("Teleport", {}))[2] == "NotImplemented"
        assert (await unit.call("Reset", {"type": "Hard"}))[2] == "NotSupported"
        assert (await unit.call("Heartbeat", []))[2] == "FormationViolation"
        assert bench.quarantine.counts[SERIAL] == 2


async def test_a_central_system_that_refuses_never_becomes_a_yes() -> None:
    async with running() as bench, bench.unit() as unit:
        for action, refused, payload in (
            ("BootNotification", "BootNotification", BOOT),
            ("Authorize", "Authorize", {"idTag": "A"}),
            ("StartTransaction", "TransactionEvent", START),
        ):
            bench.central_system.refuse = refused
            assert "Accepted" not in str(await unit.call(action, payload))
        bench.central_system.refuse = "Heartbeat"
        assert "currentTime" in await unit.call("Heartbeat", {})
        assert bench.quarantine.counts[SERIAL] == 4


async def test_all_ten_messages_of_a_unit_have_an_answer() -> None:
    said: dict[str, dict[str, Any]] = {
        "Authorize": {"idTag": "A"},
        "BootNotification": {},
        "DataTransfer": {"vendorId": "Voltex"},
        "DiagnosticsStatusNotification": {"status": "Uploaded"},
        "FirmwareStatusNotification": {"status": "Installed"},
        "Heartbeat": {},
        "MeterValues": {"values": POWER},
        "StartTransaction": START,
        "StatusNotification": {"status": "Available"},
        "StopTransaction": {"transactionId": 1},
    }
    assert said.keys() == OCPP15.from_unit.keys()
    async with running() as bench, bench.unit() as unit:
        for action, payload in said.items():
            assert isinstance(await unit.call(action, payload), dict), action
        assert not bench.quarantine.counts
