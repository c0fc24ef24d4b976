"""A Series 4 unit against a small central system of 1.5 that is written here, on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from bridge.lab.charger import Action, Behaviour
from bridge.lab.power_path import PowerPath
from bridge.lab.series4 import MeterForm, Series4Unit

DEADLINE_S = 5.0


class HelloFirst(ServerConnection):
    """Takes everything up to the first line feed for the hello."""

    hello = b""
    greeted = False

    def data_received(self, data: bytes) -> None:
        if not self.greeted:
            self.hello += data
            line, found, data = self.hello.partition(b"\n")
            if not found:
                return
            self.hello, self.greeted = line + found, True
        super().data_received(data)


class CentralSystem:
    """Accepts everything, remembers it, and sends what a test wants."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.news = asyncio.Condition()
        self.connections: list[ServerConnection] = []
        self.answers: dict[str, dict[str, Any]] = {
            "BootNotification": {"status": "Accepted", "currentTime": "2026-01-01T00:00:00Z", "heartbeatInterval": 300},
            "Authorize": {"idTagInfo": {"status": "Accepted"}},
            "StartTransaction": {"transactionId": 7, "idTagInfo": {"status": "Accepted"}},
        }
        self.waiting: dict[str, asyncio.Future[list[Any]]] = {}
        self.server: Server | None = None

    async def serve(self, websocket: ServerConnection) -> None:
        self.connections.append(websocket)
        try:
            async for frame in websocket:
                parts = json.loads(frame)
                if parts[0] != 2:
                    self.waiting.pop(parts[1]).set_result(parts)
                    continue
                await websocket.send(json.dumps([3, parts[1], self.answers.get(parts[2], {})]))
                async with self.news:
                    self.told.append((parts[2], parts[3]))
                    self.news.notify_all()
        except ConnectionClosed:
            pass

    async def ask(self, action: str, payload: dict[str, Any], within_s: float = DEADLINE_S) -> Any:
        message_id = f"{action}-{len(self.told)}-{len(self.waiting)}"
        self.waiting[message_id] = asyncio.get_running_loop().create_future()
        await self.connections[-1].send(json.dumps([2, message_id, action, payload]))
        async with asyncio.timeout(within_s):
            return (await self.waiting[message_id])[2]

    async def hears(self, action: str, count: int = 1) -> dict[str, Any]:
        """Wait until an action was said `count` times and return its last payload."""
        async with asyncio.timeout(DEADLINE_S), self.news:
            await self.news.wait_for(lambda: self.said(action) >= count)
        return next(payload for said, payload in reversed(self.told) if said == action)

    def said(self, action: str) -> int:
        return sum(1 for said, _ in self.told if said == action)


@pytest_asyncio.fixture
async def central() -> AsyncIterator[CentralSystem]:
    system = CentralSystem()

    def subprotocol(_: ServerConnection, offered: Any) -> Any:
        return offered[0] if offered else None

    async with serve(
        system.serve, "127.0.0.1", 0, create_connection=HelloFirst, select_subprotocol=subprotocol, ping_interval=None
    ) as server:
        system.server = server
        yield system


Start = Callable[..., Awaitable[Series4Unit]]


@pytest_asyncio.fixture
async def start(central: CentralSystem) -> AsyncIterator[Start]:
    lives: list[asyncio.Task[None]] = []

    async def start_unit(**more: Any) -> Series4Unit:
        assert central.server is not None
        port = central.server.sockets[0].getsockname()[1]
        power = PowerPath(maximum_w=50_000, minimum_w=6_000, reaction_s=0.05, ramp_s=0.05, start_s=Series4Unit.now_s())
        unit = Series4Unit(f"ws://127.0.0.1:{port}/", "S4-0001", power=power, reboot_s=0.1, back_off_s=0.05, **more)
        lives.append(asyncio.create_task(unit.run()))
        await central.hears("StatusNotification")
        return unit

    yield start_unit
    for life in lives:
        life.cancel()
    await asyncio.gather(*lives, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110  what is awaited is a state of the simulation, which has no event
            await asyncio.sleep(0.01)


async def test_the_hello_comes_before_the_handshake_and_the_path_is_empty(central: CentralSystem, start: Start) -> None:
    await start()
    connection = central.connections[0]
    assert isinstance(connection, HelloFirst)
    assert connection.hello == b"S4HELLO SN=S4-0001 FW=4.2.16\r\n"
    assert connection.request is not None
    assert connection.request.path == "/"
    assert connection.subprotocol == "ocpp1.5"


async def test_a_unit_may_offer_no_subprotocol(central: CentralSystem, start: Start) -> None:
    await start(subprotocol=None)
    assert central.connections[0].subprotocol is None


async def test_the_boot_says_make_and_serial(central: CentralSystem, start: Start) -> None:
    await start()
    boot = await central.hears("BootNotification")
    assert (boot["chargePointVendor"], boot["chargePointModel"]) == ("Voltex", "S4-ULTRA")
    assert boot["chargeBoxSerialNumber"] == "S4-0001"


async def test_a_limit_is_kept_read_back_and_obeyed(central: CentralSystem, start: Start) -> None:
    unit = await start()
    unit.start_session()
    await until(lambda: unit.view()["power_w"] == 22_000)
    answer = await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "10000"})
    assert answer == {"status": "Accepted"}
    read = await central.ask("GetConfiguration", {"key": ["MaxChargingPowerW", "Nonsense"]})
    assert read["configurationKey"] == [{"key": "MaxChargingPowerW", "readonly": False, "value": "10000"}]
    assert read["unknownKey"] == ["Nonsense"]
    await until(lambda: unit.view()["power_w"] == 10_000)


@pytest.mark.parametrize("value", ["-1", "50001", "6000.5", "", "NaN", "٣"])
async def test_a_limit_that_makes_no_sense_is_rejected(central: CentralSystem, start: Start, value: str) -> None:
    unit = await start()
    assert await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": value}) == {
        "status": "Rejected"
    }
    assert unit.limit_w() == 50_000


async def test_a_session_is_authorised_started_and_stopped_with_the_register(
    central: CentralSystem, start: Start
) -> None:
    unit = await start()
    unit.set_demand(50_000)
    assert unit.start_session("TAG1")
    started = await central.hears("StartTransaction")
    assert await central.hears("Authorize") == {"idTag": "TAG1"}
    assert (started["connectorId"], started["idTag"], started["meterStart"]) == (1, "TAG1", 0)
    await until(lambda: unit.view()["energy_wh"] >= 2)
    unit.stop_session()
    stopped = await central.hears("StopTransaction")
    assert stopped["transactionId"] == 7
    assert stopped["meterStop"] >= 2
    assert unit.view()["power_w"] == 0


async def test_a_refused_card_draws_nothing(central: CentralSystem, start: Start) -> None:
    central.answers["Authorize"] = {"idTagInfo": {"status": "Invalid"}}
    unit = await start()
    unit.start_session()
    await until(lambda: not unit.charging)
    assert central.said("StartTransaction") == 0
    assert unit.view()["energy_wh"] == 0


EVERYTHING = "Energy.Active.Import.Register,Power.Active.Import,Voltage,Current.Import"


def spelled(payload: dict[str, Any], form: MeterForm) -> list[dict[str, str]]:
    match form:
        case MeterForm.A:
            return list(payload["values"][0]["values"])
        case MeterForm.B:
            return list(payload["values"][0]["value"])
        case MeterForm.C:
            return list(payload["values"])
        case MeterForm.D:
            return [{"value": value["$value"], **value["attributes"]} for value in payload["values"]["value"]]
        case MeterForm.E:
            return list(payload["meterValue"][0]["sampledValue"])


@pytest.mark.parametrize("form", list(MeterForm))
async def test_every_spelling_of_meter_values_carries_the_true_power(
    central: CentralSystem, start: Start, form: MeterForm
) -> None:
    unit = await start(meter_form=form)
    unit.set_demand(7_200)
    unit.start_session()
    await until(lambda: unit.view()["power_w"] == 7_200)
    await central.ask("ChangeConfiguration", {"key": "MeterValuesSampledData", "value": EVERYTHING})
    await central.ask("ChangeConfiguration", {"key": "MeterValueSampleInterval", "value": "1"})
    payload = await central.hears("MeterValues")
    assert payload["transactionId"] == 7
    values = spelled(payload, form)
    power = next(value for value in values if value["measurand"] == "Power.Active.Import")
    assert (power["value"], power["unit"]) == ("7200", "W")
    amperes = next(value for value in values if value["measurand"] == "Current.Import")
    assert amperes["value"] == "10.43"


async def test_without_an_interval_no_meter_value_is_sent(central: CentralSystem, start: Start) -> None:
    unit = await start()
    unit.start_session()
    await central.hears("StartTransaction")
    await asyncio.sleep(0.2)
    assert central.said("MeterValues") == 0


async def test_one_that_ignores_accepts_and_keeps_drawing_until_it_obeys_again(
    central: CentralSystem, start: Start
) -> None:
    unit = await start()
    unit.start_session()
    await until(lambda: unit.view()["power_w"] == 22_000)
    unit.behave(Behaviour.IGNORES)
    answer = await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "7000"})
    assert answer == {"status": "Accepted"}
    await asyncio.sleep(0.2)
    assert unit.view()["power_w"] == 22_000
    assert unit.view()["limit_w"] == 7_000
    unit.behave(Behaviour.OBEYS)
    await until(lambda: unit.view()["power_w"] == 7_000)


async def test_one_that_refuses_says_so_and_keeps_its_limit(central: CentralSystem, start: Start) -> None:
    unit = await start()
    unit.behave(Behaviour.REFUSES)
    answer = await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "7000"})
    assert answer == {"status": "Rejected"}
    assert unit.limit_w() == 50_000


async def test_a_late_one_obeys_and_answers_when_its_time_has_come(central: CentralSystem, start: Start) -> None:
    unit = await start()
    unit.behave(Behaviour.LATE, answer_delay_s=0.3)
    with pytest.raises(TimeoutError):
        await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "7000"}, within_s=0.1)
    assert unit.limit_w() == 50_000
    await until(lambda: unit.limit_w() == 7_000)


async def test_one_that_never_answers_does_nothing_either(central: CentralSystem, start: Start) -> None:
    unit = await start()
    unit.behave(Behaviour.NEVER)
    with pytest.raises(TimeoutError):
        await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "7000"}, within_s=0.2)
    assert unit.limit_w() == 50_000


@pytest.mark.parametrize(("action", "limit_w"), [(Action.REBOOT, 7_000), (Action.FORGET, 50_000)])
async def test_a_reboot_keeps_the_flash_and_forgetting_loses_it(
    central: CentralSystem, start: Start, action: Action, limit_w: int
) -> None:
    unit = await start()
    unit.start_session()
    await until(lambda: unit.view()["power_w"] == 22_000)
    await central.ask("ChangeConfiguration", {"key": "MaxChargingPowerW", "value": "7000"})
    unit.act(action)
    assert unit.view()["power_w"] == 0
    await central.hears("BootNotification", count=2)
    assert unit.limit_w() == limit_w
    await until(lambda: unit.view()["power_w"] == min(22_000, limit_w))
    await central.hears("StopTransaction")
    await central.hears("StartTransaction", count=2)


async def test_one_that_vanished_leaves_an_open_connection_that_says_nothing(
    central: CentralSystem, start: Start
) -> None:
    unit = await start()
    unit.act(Action.VANISH)
    ponged = await central.connections[0].ping()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await ponged
    assert not unit.view()["connected"]
    assert len(central.connections) == 1
    unit.act(Action.RETURN)
    await central.hears("BootNotification", count=2)


async def test_one_that_left_closes_its_connection_and_comes_back_when_told(
    central: CentralSystem, start: Start
) -> None:
    unit = await start()
    unit.act(Action.LEAVE)
    async with asyncio.timeout(DEADLINE_S):
        await central.connections[0].wait_closed()
    assert central.connections[0].close_code == 1000
    unit.act(Action.RETURN)
    await central.hears("BootNotification", count=2)


async def test_an_unknown_action_makes_the_firmware_drop_the_connection_and_dial_again(
    central: CentralSystem, start: Start
) -> None:
    await start()
    with pytest.raises(TimeoutError):
        await central.ask("SetChargingProfile", {}, within_s=0.2)
    await central.hears("BootNotification", count=2)


async def test_a_session_begun_without_a_connection_is_reported_afterwards(
    central: CentralSystem, start: Start
) -> None:
    unit = await start()
    unit.act(Action.LEAVE)
    await until(lambda: not unit.connected)
    unit.start_session()
    await until(lambda: unit.view()["power_w"] == 22_000)
    unit.stop_session()
    unit.act(Action.RETURN)
    await central.hears("StopTransaction")
    assert central.said("Authorize") == 0


async def test_a_request_without_its_fields_is_answered_in_the_spelling_of_the_time(
    central: CentralSystem, start: Start
) -> None:
    await start()
    assert await central.ask("ChangeConfiguration", {}) == "FormationViolation"


@pytest.mark.parametrize(
    ("action", "payload", "answer"),
    [
        ("CancelReservation", {"reservationId": 1}, {"status": "Rejected"}),
        ("ChangeAvailability", {"connectorId": 0, "type": "Inoperative"}, {"status": "Accepted"}),
        ("ClearCache", {}, {"status": "Accepted"}),
        ("DataTransfer", {"vendorId": "Other"}, {"status": "UnknownVendorId"}),
        ("GetDiagnostics", {"location": "ftp://files/"}, {"fileName": "S4-0001.log"}),
        ("GetLocalListVersion", {}, {"listVersion": 0}),
        ("RemoteStartTransaction", {"idTag": "T"}, {"status": "Accepted"}),
        ("RemoteStopTransaction", {"transactionId": 9}, {"status": "Rejected"}),
        ("ReserveNow", {"connectorId": 1, "reservationId": 1}, {"status": "Accepted"}),
        ("Reset", {"type": "Hard"}, {"status": "Accepted"}),
        ("SendLocalList", {"updateType": "Full", "listVersion": 3}, {"status": "Accepted"}),
        ("UnlockConnector", {"connectorId": 1}, {"status": "Accepted"}),
        ("UpdateFirmware", {"location": "ftp://f", "retrieveDate": "2026-01-01T00:00:00Z"}, {}),
    ],
)
async def test_every_operation_of_1_5_is_answered(
    central: CentralSystem, start: Start, action: str, payload: dict[str, Any], answer: dict[str, Any]
) -> None:
    await start()
    assert await central.ask(action, payload) == answer
