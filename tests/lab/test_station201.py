"""A native station against a central system made of the `ocpp` package's own ChargePoint, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from ocpp import routing  # type: ignore[import-untyped]
from ocpp.messages import unpack  # type: ignore[import-untyped]
from ocpp.v201 import ChargePoint, call, call_result  # type: ignore[import-untyped]
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bridge.lab.charger import Action, Behaviour, stamp, utc_now
from bridge.lab.charging_profiles import Abilities
from bridge.lab.power_path import PowerPath
from bridge.lab.station201 import Station201

DEADLINE_S = 5.0
Handler = Callable[..., Awaitable[Any]]
on: Callable[[str], Callable[[Handler], Handler]] = routing.on


class Station(ChargePoint):  # type: ignore[misc]
    """The other end of one connection: accepts everything and remembers it."""

    def __init__(self, central: Central, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.central = central

    async def route_message(self, raw_msg: str) -> None:
        message = unpack(raw_msg)
        await super().route_message(raw_msg)
        if message.message_type_id == 2:
            async with self.central.news:
                self.central.told.append((message.action, message.payload))
                self.central.news.notify_all()

    @on("BootNotification")
    async def on_boot(self, **_: Any) -> Any:
        return call_result.BootNotification(current_time="2026-01-01T00:00:00Z", interval=300, status="Accepted")

    @on("StatusNotification")
    async def on_status(self, **_: Any) -> Any:
        return call_result.StatusNotification()

    @on("Authorize")
    async def on_authorize(self, **_: Any) -> Any:
        return call_result.Authorize(id_token_info={"status": self.central.tag_status})

    @on("TransactionEvent")
    async def on_event(self, **_: Any) -> Any:
        return call_result.TransactionEvent()

    @on("MeterValues")
    async def on_meter_values(self, **_: Any) -> Any:
        return call_result.MeterValues()

    @on("ReportChargingProfiles")
    async def on_report(self, **_: Any) -> Any:
        return call_result.ReportChargingProfiles()

    @on("NotifyReport")
    async def on_inventory(self, **_: Any) -> Any:
        return call_result.NotifyReport()


class Central:
    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.news = asyncio.Condition()
        self.stations: list[Station] = []
        self.paths: list[str] = []
        self.tag_status = "Accepted"
        self.port = 0

    async def serve(self, websocket: ServerConnection) -> None:
        assert websocket.request is not None
        self.paths.append(websocket.request.path)
        self.stations.append(Station(self, "CS-0001", websocket))
        with contextlib.suppress(ConnectionClosed):
            await self.stations[-1].start()

    async def ask(self, payload: Any, within_s: float = DEADLINE_S) -> Any:
        async with asyncio.timeout(within_s):
            return await self.stations[-1].call(payload, suppress=False)

    def said(self, action: str) -> list[dict[str, Any]]:
        return [payload for said, payload in self.told if said == action]

    async def hears(self, action: str, count: int = 1) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S), self.news:
            await self.news.wait_for(lambda: len(self.said(action)) >= count)
        return self.said(action)[count - 1]


@pytest_asyncio.fixture
async def central() -> AsyncIterator[Central]:
    system = Central()
    async with serve(
        system.serve, "127.0.0.1", 0, subprotocols=[Subprotocol("ocpp2.0.1")], ping_interval=None
    ) as server:
        system.port = server.sockets[0].getsockname()[1]
        yield system


Start = Callable[..., Awaitable[Station201]]


@pytest_asyncio.fixture
async def start(central: Central) -> AsyncIterator[Start]:
    lives: list[asyncio.Task[None]] = []

    async def start_station(**more: Any) -> Station201:
        power = PowerPath(maximum_w=22_000, minimum_w=4_140, reaction_s=0.05, ramp_s=0.05, start_s=Station201.now_s())
        url = f"ws://127.0.0.1:{central.port}"
        station = Station201(url, "CS-0001", power=power, reboot_s=0.1, back_off_s=0.05, **more)
        lives.append(asyncio.create_task(station.run()))
        await central.hears("StatusNotification")
        return station

    yield start_station
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  what is awaited is a state of the simulation, which has no event
            await asyncio.sleep(0.01)


def limit(limit_w: float, *, identity: int = 1, level: int = 0, valid_s: float | None = None, unit: str = "W") -> Any:
    schedule = {
        "id": identity,
        "start_schedule": stamp(utc_now()),
        "charging_rate_unit": unit,
        "charging_schedule_period": [{"start_period": 0, "limit": limit_w}],
    }
    charging_profile = {
        "id": identity,
        "stack_level": level,
        "charging_profile_purpose": "ChargingStationMaxProfile",
        "charging_profile_kind": "Absolute",
        "charging_schedule": [schedule],
    }
    if valid_s is not None:
        charging_profile["valid_to"] = stamp(utc_now() + timedelta(seconds=valid_s))
    return call.SetChargingProfile(evse_id=0, charging_profile=charging_profile)


async def test_a_station_boots_under_its_identity(central: Central, start: Start) -> None:
    await start()
    assert central.paths == ["/CS-0001"]
    boot = await central.hears("BootNotification")
    assert boot["chargingStation"]["serialNumber"] == "CS-0001"
    status = await central.hears("StatusNotification")
    assert (status["evseId"], status["connectorId"], status["connectorStatus"]) == (1, 1, "Available")


async def test_a_limit_in_watts_or_amperes_is_obeyed(central: Central, start: Start) -> None:
    station = await start()
    station.start_session()
    await until(lambda: station.view()["power_w"] == 22_000)
    assert (await central.ask(limit(10_000))).status == "Accepted"
    await until(lambda: station.view()["power_w"] == 10_000)
    assert (await central.ask(limit(10, unit="A"))).status == "Accepted"
    await until(lambda: station.view()["power_w"] == 6_900)


async def test_a_lease_that_ends_falls_back_to_the_floor(central: Central, start: Start) -> None:
    station = await start()
    station.start_session()
    await central.ask(limit(4_140, identity=1))
    await central.ask(limit(11_000, identity=2, level=1, valid_s=0.6))
    await until(lambda: station.view()["power_w"] == 11_000)
    await until(lambda: station.view()["power_w"] == 4_140)


async def test_installed_charging_profiles_are_reported(central: Central, start: Start) -> None:
    await start()
    asked = call.GetChargingProfiles(request_id=5, charging_profile={"charging_profile_id": [1]})
    assert (await central.ask(asked)).status == "NoProfiles"
    await central.ask(limit(10_000))
    assert (await central.ask(asked)).status == "Accepted"
    report = await central.hears("ReportChargingProfiles")
    assert (report["requestId"], report["evseId"], report["chargingProfile"][0]["id"]) == (5, 0, 1)
    composite = await central.ask(call.GetCompositeSchedule(duration=60, evse_id=0))
    assert composite.schedule["charging_schedule_period"][0]["limit"] == 10_000


async def test_clearing_lifts_the_limit(central: Central, start: Start) -> None:
    station = await start()
    assert (await central.ask(call.ClearChargingProfile(charging_profile_id=1))).status == "Unknown"
    await central.ask(limit(10_000))
    assert (await central.ask(call.ClearChargingProfile(charging_profile_id=1))).status == "Accepted"
    assert station.limit_w() == 22_000


async def test_a_session_is_a_transaction_with_numbered_events(central: Central, start: Start) -> None:
    station = await start()
    station.set_demand(7_200)
    interval = {
        "component": {"name": "SampledDataCtrlr"},
        "variable": {"name": "TxUpdatedInterval"},
        "attribute_value": "1",
    }
    result = await central.ask(call.SetVariables(set_variable_data=[interval]))
    assert result.set_variable_result[0]["attribute_status"] == "Accepted"
    station.start_session("TAG1")
    await central.hears("Authorize")
    updated = await central.hears("TransactionEvent", 2)
    station.stop_session()
    ended = await central.hears("TransactionEvent", 3)
    started = central.said("TransactionEvent")[0]
    assert [each["eventType"] for each in (started, updated, ended)] == ["Started", "Updated", "Ended"]
    assert [each["seqNo"] for each in (started, updated, ended)] == [0, 1, 2]
    assert started["idToken"] == {"idToken": "TAG1", "type": "Local"}
    power = [
        value["value"]
        for value in updated["meterValue"][0]["sampledValue"]
        if value["measurand"] == "Power.Active.Import"
    ]
    assert power == [7_200]
    assert ended["transactionInfo"]["stoppedReason"] == "Local"


async def test_without_a_transaction_it_samples_on_the_clock(central: Central, start: Start) -> None:
    await start()
    interval = {"component": {"name": "AlignedDataCtrlr"}, "variable": {"name": "Interval"}, "attribute_value": "1"}
    await central.ask(call.SetVariables(set_variable_data=[interval]))
    payload = await central.hears("MeterValues")
    assert payload["evseId"] == 1


async def test_a_refused_card_draws_nothing(central: Central, start: Start) -> None:
    central.tag_status = "Invalid"
    station = await start()
    station.start_session()
    await until(lambda: not station.charging)
    assert station.view()["energy_wh"] == 0
    assert central.said("TransactionEvent") == []


async def test_a_remote_start_and_stop_carry_their_reasons(central: Central, start: Start) -> None:
    station = await start()
    token = {"id_token": "REMOTE", "type": "Central"}
    answer = await central.ask(call.RequestStartTransaction(id_token=token, remote_start_id=9))
    assert answer.status == "Accepted"
    started = await central.hears("TransactionEvent")
    assert (started["triggerReason"], started["transactionInfo"]["remoteStartId"]) == ("RemoteStart", 9)
    transaction = started["transactionInfo"]["transactionId"]
    assert (await central.ask(call.RequestStopTransaction(transaction_id=transaction))).status == "Accepted"
    ended = await central.hears("TransactionEvent", 2)
    assert ended["transactionInfo"]["stoppedReason"] == "Remote"
    assert not station.charging


async def test_variables_that_are_unknown_or_wrong_are_said_to_be(central: Central, start: Start) -> None:
    await start()
    asked = [
        {"component": {"name": "SmartChargingCtrlr"}, "variable": {"name": "ProfileStackLevel"}},
        {"component": {"name": "SmartChargingCtrlr"}, "variable": {"name": "Colour"}},
        {"component": {"name": "Colour"}, "variable": {"name": "Colour"}},
    ]
    results = (await central.ask(call.GetVariables(get_variable_data=asked))).get_variable_result
    assert [each["attribute_status"] for each in results] == ["Accepted", "UnknownVariable", "UnknownComponent"]
    assert results[0]["attribute_value"] == "8"
    wrong = {**asked[0], "attribute_value": "9"}
    changed = await central.ask(call.SetVariables(set_variable_data=[wrong]))
    assert changed.set_variable_result[0]["attribute_status"] == "Rejected"


async def test_its_whole_device_model_can_be_asked(central: Central, start: Start) -> None:
    await start()
    await central.ask(call.GetBaseReport(request_id=1, report_base="FullInventory"))
    report = await central.hears("NotifyReport", 2)
    assert (report["seqNo"], report["tbc"]) == (1, False)


async def test_one_that_ignores_accepts_and_reports_the_limit_and_keeps_drawing(central: Central, start: Start) -> None:
    station = await start()
    station.start_session()
    await until(lambda: station.view()["power_w"] == 22_000)
    station.behave(Behaviour.IGNORES)
    assert (await central.ask(limit(5_000))).status == "Accepted"
    await asyncio.sleep(0.2)
    assert (station.view()["power_w"], station.view()["limit_w"]) == (22_000, 5_000)
    station.behave(Behaviour.OBEYS)
    await until(lambda: station.view()["power_w"] == 5_000)


async def test_one_that_refuses_says_so(central: Central, start: Start) -> None:
    station = await start()
    station.behave(Behaviour.REFUSES)
    assert (await central.ask(limit(5_000))).status == "Rejected"
    assert station.limit_w() == 22_000


async def test_a_request_against_the_schema_is_a_callerror(central: Central, start: Start) -> None:
    await start()
    station = central.stations[-1]
    with pytest.raises(Exception, match="evseId"):
        await station.call(
            call.SetChargingProfile(evse_id="zero", charging_profile={}), suppress=False, skip_schema_validation=True
        )


async def test_what_it_does_not_do_is_not_supported(central: Central, start: Start) -> None:
    await start()
    with pytest.raises(Exception, match="not supported here"):
        await central.ask(call.CostUpdated(total_cost=1.0, transaction_id="T"))


@pytest.mark.parametrize(("action", "limit_w"), [(Action.REBOOT, 5_000), (Action.FORGET, 22_000)])
async def test_a_reboot_keeps_the_charging_profiles_and_forgetting_loses_them(
    central: Central, start: Start, action: Action, limit_w: int
) -> None:
    station = await start()
    station.start_session()
    await central.ask(limit(5_000))
    await until(lambda: station.view()["power_w"] == 5_000)
    station.act(action)
    assert station.view()["power_w"] == 0
    await central.hears("BootNotification", 2)
    await until(lambda: station.view()["power_w"] == limit_w)
    ended, started = await central.hears("TransactionEvent", 2), await central.hears("TransactionEvent", 3)
    assert (ended["eventType"], started["eventType"], started["offline"]) == ("Ended", "Started", True)


async def test_a_station_may_know_no_stack_levels(central: Central, start: Start) -> None:
    await start(abilities=Abilities(stack_level=0))
    assert (await central.ask(limit(5_000, level=1))).status == "Rejected"


async def test_events_of_a_time_without_connection_come_later_and_say_so(central: Central, start: Start) -> None:
    station = await start()
    station.act(Action.LEAVE)
    await until(lambda: not station.connected)
    station.start_session()
    await until(lambda: station.view()["power_w"] == 22_000)
    station.stop_session()
    station.act(Action.RETURN)
    ended = await central.hears("TransactionEvent", 2)
    assert [each["offline"] for each in central.said("TransactionEvent")] == [True, True]
    assert ended["seqNo"] == 1
