"""The strict central system against stations made of the `ocpp` package's own ChargePoint, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from ocpp import routing  # type: ignore[import-untyped]
from ocpp.exceptions import OCPPError  # type: ignore[import-untyped]
from ocpp.v201 import ChargePoint, call, call_result  # type: ignore[import-untyped]
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bridge.lab.csms import Csms
from bridge.lab.peer import CallError
from bridge.lab.station201 import Station201

DEADLINE_S = 5.0
BOOT = call.BootNotification(
    charging_station={"model": "M", "vendor_name": "V", "serial_number": "S4-0001"}, reason="PowerUp"
)
STATUS = {"timestamp": "2026-01-01T00:00:00Z", "connector_status": "Available"}


class Station(ChargePoint):  # type: ignore[misc]
    @routing.on("Reset")  # type: ignore[untyped-decorator]
    async def on_reset(self, **_: Any) -> Any:
        return call_result.Reset(status="Accepted")


@pytest_asyncio.fixture
async def csms() -> AsyncIterator[Csms]:
    system = Csms(serials=["S4-0001"], pattern=r"CS-\d{4}")
    await system.open()
    yield system
    await system.close()


async def dial(csms: Csms, identity: str, **more: Any) -> ClientConnection:
    offered = {"subprotocols": [Subprotocol("ocpp2.0.1")], **more}
    return await connect(f"ws://127.0.0.1:{csms.port}/{identity}", proxy=None, **offered)


@contextlib.asynccontextmanager
async def station(csms: Csms, identity: str = "S4-0001") -> AsyncIterator[Station]:
    websocket = await dial(csms, identity)
    peer = Station(identity, websocket)
    receiving = asyncio.create_task(peer.start())
    yield peer
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
        await receiving
    await websocket.close()


@pytest.mark.parametrize("identity", ["S4-0002", "", "CS-1", "CS-0001%3Aroot"])
async def test_an_identity_it_does_not_know_is_not_found(csms: Csms, identity: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        await dial(csms, identity)
    assert refusal.value.response.status_code == 404
    assert csms.connected == {}


async def test_another_subprotocol_or_none_is_refused(csms: Csms) -> None:
    for offered in (None, [Subprotocol("ocpp1.6")]):
        with pytest.raises(InvalidStatus) as refusal:
            await dial(csms, "S4-0001", subprotocols=offered)
        assert refusal.value.response.status_code == 400


async def test_a_password_is_asked_for_and_bound_to_the_identity() -> None:
    system = Csms(serials=["CS-0001", "CS-0002"], password="correct-horse-battery")
    await system.open()
    for headers in ({}, {"Authorization": "Basic nonsense"}, {"Authorization": "Basic Q1MtMDAwMTpmYWxzZQ=="}):
        with pytest.raises(InvalidStatus) as refusal:
            await dial(system, "CS-0001", additional_headers=headers)
        assert refusal.value.response.status_code == 401
    genuine = Station201(f"ws://127.0.0.1:{system.port}", "CS-0001", password="correct-horse-battery")
    life = asyncio.create_task(genuine.run())
    await system.hears("CS-0001", "BootNotification")
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)
    await system.close()


async def test_before_its_boot_was_accepted_a_station_may_say_nothing_else(csms: Csms) -> None:
    csms.boot_status = "Pending"
    async with station(csms) as peer:
        with pytest.raises(OCPPError, match="before the boot"):
            await peer.call(call.Heartbeat(), suppress=False)
        assert (await peer.call(BOOT)).status == "Pending"
        with pytest.raises(OCPPError, match="before the boot"):
            await peer.call(call.Heartbeat(), suppress=False)
        csms.boot_status = "Accepted"
        assert (await peer.call(BOOT)).status == "Accepted"
        assert (await peer.call(call.Heartbeat(), suppress=False)).current_time.endswith("Z")


async def test_a_serial_number_that_is_not_the_identity_is_refused(csms: Csms) -> None:
    async with station(csms, "CS-0001") as peer:
        with pytest.raises(OCPPError, match="not the identity"):
            await peer.call(BOOT, suppress=False)


async def test_a_status_of_connector_zero_is_refused_though_its_schema_allows_it(csms: Csms) -> None:
    async with station(csms) as peer:
        await peer.call(BOOT)
        await peer.call(call.StatusNotification(**STATUS, evse_id=1, connector_id=1), suppress=False)
        with pytest.raises(OCPPError, match=r"F06\.FR\.13"):
            await peer.call(call.StatusNotification(**STATUS, evse_id=1, connector_id=0), suppress=False)
    assert len(csms.complaints) == 1


async def raw(csms: Csms, frame: str) -> Any:
    websocket = await dial(csms, "S4-0001")
    await websocket.send(frame)
    async with asyncio.timeout(DEADLINE_S):
        answer = json.loads(await websocket.recv())
    await websocket.close()
    return answer


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('[2,"1","Heartbeat",{"extra":1}]', "FormatViolation"),
        ('[2,"1","BootNotification",{"reason":"PowerUp"}]', "OccurrenceConstraintViolation"),
        ('[2,"1","BootNotification",{"reason":5,"chargingStation":{"model":"M","vendorName":"V"}}]', "TypeConstraint"),
        ('[2,"1","BootNotification",{"reason":"Fun","chargingStation":{"model":"M","vendorName":"V"}}]', "Property"),
        ('[2,"1","Invented",{}]', "NotImplemented"),
        ('[2,"1","../../etc/passwd",{}]', "NotImplemented"),
        ("[2,1]", "RpcFrameworkError"),
        ("{", "RpcFrameworkError"),
        ('[2,"1","Heartbeat",NaN]', "RpcFrameworkError"),
        ("[" * 5_000, "RpcFrameworkError"),
    ],
)
async def test_what_is_ill_formed_is_answered_with_the_code_of_the_standard(csms: Csms, frame: str, code: str) -> None:
    answer = await raw(csms, frame)
    assert answer[0] == 4
    assert answer[2].startswith(code)


async def test_it_can_ask_a_station_anything(csms: Csms) -> None:
    async with station(csms):
        assert await csms.call("S4-0001", "Reset", {"type": "Immediate"}) == {"status": "Accepted"}
        refused = await csms.call("S4-0001", "ClearCache", {})
        assert isinstance(refused, CallError)
        with pytest.raises(ValueError, match="type"):
            await csms.call("S4-0001", "Reset", {})
    assert await csms.call("CS-0404", "ClearCache", {}) is None


async def test_a_second_connection_takes_the_place_of_the_first(csms: Csms) -> None:
    first = await dial(csms, "S4-0001")
    second = await dial(csms, "S4-0001")
    async with asyncio.timeout(DEADLINE_S):
        await first.wait_closed()
    assert list(csms.connected) == ["S4-0001"]
    await second.close()


def event(number: int, event_type: str = "Updated") -> Any:
    return call.TransactionEvent(
        event_type=event_type,
        timestamp="2026-01-01T00:00:00Z",
        trigger_reason="MeterValuePeriodic",
        seq_no=number,
        transaction_info={"transaction_id": "T"},
        evse={"id": 1},
    )


async def test_a_gap_or_a_repetition_in_the_numbers_is_complained_of(csms: Csms) -> None:
    async with station(csms) as peer:
        await peer.call(BOOT)
        for number, event_type in ((0, "Started"), (1, "Updated")):
            await peer.call(event(number, event_type), suppress=False)
        assert not csms.complaints
    async with station(csms) as peer:
        await peer.call(BOOT)
        for number in (1, 4):
            await peer.call(event(number), suppress=False)
    assert [complaint.rpartition(": ")[2] for complaint in csms.complaints] == [
        "seqNo 1 where 2 was due",
        "seqNo 4 where 2 was due",
    ]


async def test_a_simulated_station_gives_it_nothing_to_complain_of(csms: Csms) -> None:
    simulated = Station201(f"ws://127.0.0.1:{csms.port}", "CS-0001")
    life = asyncio.create_task(simulated.run())
    await csms.hears("CS-0001", "StatusNotification")
    simulated.start_session()
    await csms.hears("CS-0001", "TransactionEvent")
    simulated.stop_session()
    ended = await csms.hears("CS-0001", "TransactionEvent", count=2)
    assert ended["eventType"] == "Ended"
    assert not csms.complaints
    life.cancel()
    await asyncio.gather(life, return_exceptions=True)


async def test_a_token_on_its_list_is_invalid(csms: Csms) -> None:
    csms.refused_tags.add("BAD")
    async with station(csms) as peer:
        await peer.call(BOOT)
        answer = await peer.call(call.Authorize(id_token={"id_token": "BAD", "type": "Local"}))
        assert answer.id_token_info == {"status": "Invalid"}
