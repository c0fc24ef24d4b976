"""An OCPP stack that is not ours on both sides of the bridge: mobilityhouse's ChargePoint as station and as CSMS."""

# mypy: disable-error-code="import-untyped, misc, untyped-decorator"

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ocpp.routing import on
from ocpp.v201 import ChargePoint, call, call_result
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from bridge.core.messages import ChargerBooted, Event, LimitAnswered, MeterSampled, SetLimit
from bridge.lab.csms import Csms as LabCsms
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.rpc import WebSocket
from bridge.ocpp201.server import Server
from bridge.ocpp201.station import Station
from bridge.ocpp201.upstream import Upstream
from bridge.settings import ChargerEntry, Csms
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit
from bridge.store.outbox import Outbox
from tests.ocpp201.listening import charger_entry, clock, eventually
from tests.ocpp201.test_independent_station import TIME, IndependentStation, boot, transaction_event

SERIAL = "CS-0001"
EXI = "0123456789abcdef" * 300


class IndependentCsms(ChargePoint):
    """One station as an independent central system sees it."""

    def __init__(self, serial: str, websocket: Any) -> None:
        super().__init__(serial, websocket)
        self.told: list[tuple[str, dict[str, Any]]] = []

    def note(self, action: str, payload: dict[str, Any]) -> None:
        self.told.append((action, payload))

    @on("BootNotification")
    async def on_boot(self, **payload: Any) -> Any:
        self.note("BootNotification", payload)
        return call_result.BootNotification(current_time=TIME, interval=300, status="Accepted")

    @on("Heartbeat")
    async def on_heartbeat(self) -> Any:
        return call_result.Heartbeat(current_time=TIME)

    @on("StatusNotification")
    async def on_status(self, **payload: Any) -> Any:
        self.note("StatusNotification", payload)
        return call_result.StatusNotification()

    @on("Authorize")
    async def on_authorize(self, **payload: Any) -> Any:
        self.note("Authorize", payload)
        return call_result.Authorize(id_token_info={"status": "Accepted"}, certificate_status="Accepted")

    @on("TransactionEvent")
    async def on_transaction(self, **payload: Any) -> Any:
        self.note("TransactionEvent", payload)
        return call_result.TransactionEvent(id_token_info={"status": "Accepted"})

    @on("Get15118EVCertificate")
    async def on_certificate(self, **payload: Any) -> Any:
        self.note("Get15118EVCertificate", payload)
        await asyncio.sleep(0.3)
        return call_result.Get15118EVCertificate(status="Accepted", exi_response=EXI)

    @on("ClearedChargingLimit")
    async def on_cleared(self, **payload: Any) -> Any:
        self.note("ClearedChargingLimit", payload)
        return call_result.ClearedChargingLimit()

    @on("NotifyChargingLimit")
    async def on_limit(self, **payload: Any) -> Any:
        self.note("NotifyChargingLimit", payload)
        return call_result.NotifyChargingLimit()


class MoreIndependentStation(IndependentStation):
    @on("GetVariables")
    async def on_get_variables(self, get_variable_data: list[dict[str, Any]], **_: Any) -> Any:
        results = [each | {"attribute_status": "Accepted", "attribute_value": "7"} for each in get_variable_data]
        return call_result.GetVariables(get_variable_result=results)

    @on("RequestStopTransaction")
    async def on_stop(self, **_: Any) -> Any:
        return call_result.RequestStopTransaction(status="Accepted")


class Between:
    """The bridge between the two of them, and what it submits."""

    def __init__(self, folder: Path, csms_port: int) -> None:
        self.events: list[Event] = []
        self.database = Database(folder / "bridge.db")
        self.outbox = Outbox(self.database, GroupCommit(self.database, asyncio.get_running_loop().call_soon))
        entry = charger_entry(SERIAL)
        settings = Csms(url=f"ws://127.0.0.1:{csms_port}", retry_wait_minimum_s=0.02, retry_random_range_s=0.0)
        self.upstream = Upstream(settings, {SERIAL: entry}, self.outbox, clock)
        self.server = Server("127.0.0.1", 0, {SERIAL: entry}, {"ocpp2.0.1": self.station}, self.events.append, clock)

    def station(self, websocket: WebSocket, entry: ChargerEntry) -> Station:
        central_system = CentralSystem(frozenset(), clock)
        return Station(websocket, entry, central_system, self.events.append, clock, above=self.upstream)


@asynccontextmanager
async def both_sides(folder: Path) -> AsyncIterator[tuple[MoreIndependentStation, IndependentCsms, Between]]:
    above: asyncio.Future[IndependentCsms] = asyncio.get_running_loop().create_future()

    async def serve_one(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        peer = IndependentCsms(websocket.request.path.rpartition("/")[2], websocket)
        above.set_result(peer)
        with contextlib.suppress(Exception):
            await peer.start()

    async with serve(serve_one, "127.0.0.1", 0, subprotocols=[Subprotocol("ocpp2.0.1")], close_timeout=1) as csms:
        between = Between(folder, csms.sockets[0].getsockname()[1])
        await between.server.open()
        url = f"ws://127.0.0.1:{between.server.port}/{SERIAL}"
        try:
            async with connect(url, subprotocols=[Subprotocol("ocpp2.0.1")]) as websocket:
                station = MoreIndependentStation(SERIAL, websocket)
                running = asyncio.create_task(station.start())
                yield station, await asyncio.wait_for(above, 20), between
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        finally:
            await between.server.close()
            await between.upstream.close()
            between.database.close()


async def test_an_independent_station_and_an_independent_csms_understand_each_other_through_the_bridge(
    tmp_path: Path,
) -> None:
    async with both_sides(tmp_path) as (station, csms, between):
        assert csms.id == SERIAL
        answer = await station.call(boot(), suppress=False)
        assert (answer.status, answer.interval) == ("Accepted", 300)
        await station.call(call.StatusNotification(TIME, "Available", 1, 1), suppress=False)
        token = {"id_token": "04A1B2C3", "type": "ISO14443"}
        authorized = await station.call(call.Authorize(id_token=token, certificate="MIIB"), suppress=False)
        assert authorized.certificate_status == "Accepted"
        for number, kind in enumerate(["Started", "Updated", "Ended"]):
            said = await station.call(transaction_event(kind, number, 7_200.5), suppress=False)
            assert said.id_token_info["status"] == "Accepted"
        certificate = call.Get15118EVCertificate("urn:iso:15118:2:2013:MsgDef", "Install", EXI)
        assert (await station.call(certificate, suppress=False)).exi_response == EXI
        await eventually(lambda: len([1 for action, _ in csms.told if action == "TransactionEvent"]) == 3)
        events = [payload for action, payload in csms.told if action == "TransactionEvent"]
        assert [(event["event_type"], event["seq_no"]) for event in events] == [
            ("Started", 0),
            ("Updated", 1),
            ("Ended", 2),
        ]
        assert events[0]["meter_value"][0]["sampled_value"][0]["value"] == 7_200.5
        assert any(isinstance(event, ChargerBooted) for event in between.events)
        assert any(isinstance(event, MeterSampled) and event.power_w == 7_200 for event in between.events)


async def test_requests_of_an_independent_csms_reach_the_station_but_for_what_the_bridge_holds(tmp_path: Path) -> None:
    async with both_sides(tmp_path) as (station, csms, between):
        await station.call(boot(), suppress=False)
        data = [{"component": {"name": "ClockCtrlr"}, "variable": {"name": "DateTime"}}]
        read = await csms.call(call.GetVariables(data), suppress=False)
        assert read.get_variable_result[0]["attribute_value"] == "7"
        connection = {
            "ocpp_version": "OCPP20",
            "ocpp_transport": "JSON",
            "ocpp_csms_url": "wss://elsewhere",
            "message_timeout": 30,
            "security_profile": 1,
            "ocpp_interface": "Wired0",
        }
        refused = await csms.call(call.SetNetworkProfile(1, connection), suppress=False)
        assert refused.status == "Rejected"
        installed = await csms.call(call.InstallCertificate("CSMSRootCertificate", "MIIB"), suppress=False)
        assert installed.status == "Rejected"
        between.server.set_limit(SetLimit(SERIAL, 1, 11_000))
        await eventually(lambda: any(isinstance(event, LimitAnswered) for event in between.events))
        period = {"start_period": 0, "limit": 22_000.0}
        schedule = {"id": 1, "charging_rate_unit": "W", "charging_schedule_period": [period], "start_schedule": TIME}
        maximum = {
            "id": 1,
            "stack_level": 9,
            "charging_profile_purpose": "ChargingStationMaxProfile",
            "charging_profile_kind": "Absolute",
            "charging_schedule": [schedule],
        }
        accepted = await csms.call(call.SetChargingProfile(0, maximum), suppress=False)
        assert accepted.status == "Accepted"
        assert station.limits_w == [11_000]


async def test_a_native_station_goes_on_while_the_csms_is_away_and_its_events_arrive_later(tmp_path: Path) -> None:
    above = LabCsms(serials=[SERIAL])
    await above.open()
    between = Between(tmp_path, above.port)
    await between.server.open()
    url = f"ws://127.0.0.1:{between.server.port}/{SERIAL}"
    try:
        async with connect(url, subprotocols=[Subprotocol("ocpp2.0.1")]) as websocket:
            station = MoreIndependentStation(SERIAL, websocket)
            running = asyncio.create_task(station.start())
            assert (await station.call(boot(), suppress=False)).status == "Accepted"
            await above.close()
            for number, kind in enumerate(["Started", "Updated", "Ended"]):
                said = await station.call(transaction_event(kind, number, 7_200.5), suppress=False)
                assert said.id_token_info["status"] == "Accepted"
            await above.open()
            await eventually(lambda: between.outbox.depth() == 0)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        taken = [told.payload for told in above.told if "seqNo" in told.payload and isinstance(told.answer, dict)]
        assert [(event["seqNo"], event["offline"]) for event in taken] == [(0, True), (1, True), (2, True)]
    finally:
        await between.server.close()
        await between.upstream.close()
        await above.close()
        between.database.close()
