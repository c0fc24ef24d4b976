"""Who may connect, who gives way, and what a hostile peer costs."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from bridge.core.messages import ChargerConnected, ChargerDisconnected, LimitAnswered
from bridge.ocpp201 import server as server_module
from bridge.ocpp201.rpc import WebSocket
from bridge.ocpp201.server import Server
from bridge.settings import ChargerEntry
from tests.ocpp201.listening import ask, charger_entry, clock, eventually, listening, mute_peer, next_call

OTHER_ADDRESS: dict[str, Any] = {"local_addr": ("127.0.0.2", 0)}
LEGACY: dict[str, Any] = {"protocol": "ocpp1.5", "limit": {"method": "change_configuration", "key": "X"}}


class Silent:
    """A session that only waits for the end."""

    def __init__(self, websocket: WebSocket, entry: ChargerEntry) -> None:
        self.serial = entry.serial
        self._websocket = websocket

    async def serve(self) -> None:
        await self._websocket.wait_closed()

    def set_floor(self, effect: object) -> None:
        raise NotImplementedError

    def set_limit(self, effect: object) -> None:
        raise NotImplementedError

    async def is_alive(self, within_s: float) -> bool:
        return within_s > 0

    async def close(self, code: int, reason: str) -> None:
        await self._websocket.close(code, reason)


class Hello(ServerConnection):
    """A connection that said its serial before the handshake."""

    hello_serial = "S4-0001"


async def refusal(connecting: object) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connecting  # type: ignore[misc]  # a connect of websockets
    return refused.value.response.status_code


async def test_a_known_station_connects_under_its_protocol_and_both_ends_are_reported() -> None:
    async with listening([charger_entry()]) as world:
        async with world.connect() as station:
            assert station.subprotocol == "ocpp2.0.1"
            assert await world.submitted(ChargerConnected) == [ChargerConnected("CS-0001")]
        assert await world.submitted(ChargerDisconnected) == [ChargerDisconnected("CS-0001")]
        assert not world.server._live


@pytest.mark.parametrize("path", ["CS-0001", "ocpp/CS-0001", "CS%2D0001", "CS-0001?token=x"])
async def test_the_identity_is_the_last_segment_of_the_path(path: str) -> None:
    async with listening([charger_entry()]) as world, world.connect(path):
        await world.submitted(ChargerConnected)


async def test_the_serial_of_the_hello_is_the_identity_whatever_the_path() -> None:
    async with (
        listening([charger_entry("S4-0001", **LEGACY)], Hello, {"ocpp1.5": Silent}) as world,
        world.connect("", "ocpp1.5") as unit,
    ):
        assert unit.subprotocol == "ocpp1.5"
        assert await world.submitted(ChargerConnected) == [ChargerConnected("S4-0001")]


async def test_a_legacy_unit_may_offer_no_subprotocol() -> None:
    async with (
        listening([charger_entry("S4-0001", **LEGACY)], Hello, {"ocpp1.5": Silent}) as world,
        world.connect("", None) as unit,
    ):
        assert unit.subprotocol is None
        await world.submitted(ChargerConnected)


async def test_an_unknown_serial_is_not_found_and_one_out_of_service_forbidden() -> None:
    async with listening([charger_entry(), charger_entry("CS-0002", out_of_service=True)]) as world:
        assert await refusal(world.connect("CS-9999")) == HTTPStatus.NOT_FOUND
        assert await refusal(world.connect("")) == HTTPStatus.NOT_FOUND
        assert await refusal(world.connect("CS-0002")) == HTTPStatus.FORBIDDEN
        assert world.events == []


@pytest.mark.parametrize("protocol", ["ocpp1.6", "ocpp1.5", "ocpp2.1", None])
async def test_o6_a_wrong_or_absent_subprotocol_is_refused_for_a_native_station(protocol: str | None) -> None:
    async with listening([charger_entry()]) as world:
        assert await refusal(world.connect("CS-0001", protocol)) == HTTPStatus.BAD_REQUEST
        assert world.events == []


async def test_o6_a_protocol_nobody_serves_is_refused() -> None:
    async with listening([charger_entry(**LEGACY)]) as world:
        assert await refusal(world.connect("CS-0001", "ocpp1.5")) == HTTPStatus.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    "path", ["..%2fCS-0001", "CS-0001%0a", "CS-0001%00", "%D0%A1S-0001", "%ff", "CS-0001/", "a" * 49, "CS-0001%20"]
)
async def test_o39_tricks_in_the_path_are_no_identity(path: str) -> None:
    async with listening([charger_entry()]) as world:
        assert await refusal(world.connect(path)) == HTTPStatus.NOT_FOUND
        assert world.events == []


async def test_o39_an_endless_url_is_refused() -> None:
    async with listening([charger_entry()]) as world:
        assert await refusal(world.connect("a" * 20_000)) == HTTPStatus.REQUEST_URI_TOO_LONG


async def test_o3_a_second_connection_from_elsewhere_is_refused_while_the_first_is_alive() -> None:
    async with listening([charger_entry()]) as world, world.connect() as first:
        await world.submitted(ChargerConnected)
        assert await refusal(world.connect(**OTHER_ADDRESS)) == HTTPStatus.CONFLICT
        assert (await ask(first, "Heartbeat", {}))[0] == 3
        assert world.events == [ChargerConnected("CS-0001")]


async def test_o3_a_second_connection_from_the_same_address_takes_the_place_of_the_first() -> None:
    async with listening([charger_entry()]) as world, world.connect() as first:
        await world.submitted(ChargerConnected)
        async with world.connect() as second:
            await world.submitted(ChargerConnected, 2)
            assert world.events == [
                ChargerConnected("CS-0001"),
                ChargerDisconnected("CS-0001"),
                ChargerConnected("CS-0001"),
            ]
            assert (await ask(second, "Heartbeat", {}))[0] == 3
            world.order(20_000)
            call = await next_call(second, "SetChargingProfile")
            await second.send(json.dumps([3, call[1], {"status": "Accepted"}]))
            await world.submitted(LimitAnswered)
            with pytest.raises(ConnectionClosed):
                await first.recv()
            assert first.close_code == 1008


async def test_o3_a_dead_connection_gives_way_even_to_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "PROBE_TIMEOUT_S", 0.1)
    async with listening([charger_entry()]) as world:
        dead = await mute_peer(world.server.port, "CS-0001")
        await world.submitted(ChargerConnected)
        async with world.connect(**OTHER_ADDRESS) as second:
            await world.submitted(ChargerConnected, 2)
            assert (await ask(second, "Heartbeat", {}))[0] == 3
        dead.close()


async def test_o4_a_flapping_serial_is_refused_after_three_swaps_a_minute_and_the_last_one_serves_on() -> None:
    async with listening([charger_entry()]) as world, AsyncExitStack() as stack:
        for _ in range(4):
            last = await stack.enter_async_context(world.connect())
            assert (await ask(last, "Heartbeat", {}))[0] == 3
        for _ in range(3):
            assert await refusal(world.connect()) == HTTPStatus.CONFLICT
        assert (await ask(last, "Heartbeat", {}))[0] == 3
        assert len(await world.submitted(ChargerConnected, 4)) == 4


async def test_o4_while_one_newcomer_is_decided_on_the_others_are_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_module, "PROBE_TIMEOUT_S", 60.0)
    async with listening([charger_entry()]) as world:
        dead = await mute_peer(world.server.port, "CS-0001")
        await world.submitted(ChargerConnected)
        attempts = [asyncio.ensure_future(refusal(world.connect(**OTHER_ADDRESS))) for _ in range(10)]
        await eventually(lambda: sum(attempt.done() for attempt in attempts) == 9)
        assert [attempt.result() for attempt in attempts if attempt.done()] == [HTTPStatus.CONFLICT] * 9
        for attempt in attempts:
            attempt.cancel()
        dead.close()


async def test_o5_sockets_that_never_finish_their_handshake_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "OPEN_TIMEOUT_S", 1.0)
    async with listening([charger_entry()]) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        writer.write(b"GET /CS-0001 HTTP/1.1\r\nHost")
        assert await reader.read() == b""
        writer.close()
        async with world.connect() as station:
            assert (await ask(station, "Heartbeat", {}))[0] == 3


async def test_o5_one_address_cannot_hold_more_unfinished_handshakes_than_allowed() -> None:
    async with listening([charger_entry()], max_opening_per_address=5) as world:
        idle = [await asyncio.open_connection("127.0.0.1", world.server.port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        async with world.connect(**OTHER_ADDRESS) as station:
            assert (await ask(station, "Heartbeat", {}))[0] == 3
        for _, still in (*idle, (reader, writer)):
            still.close()
        await world.submitted(ChargerDisconnected)


async def test_o5_the_number_of_connections_is_bounded_and_every_ended_one_makes_room() -> None:
    async with listening([charger_entry()], max_connections=3) as world:
        idle = [await asyncio.open_connection("127.0.0.1", world.server.port) for _ in range(3)]
        with pytest.raises((OSError, InvalidMessage)):
            await world.connect()
        for _, writer in idle:
            writer.close()
            await writer.wait_closed()
        await eventually(lambda: not world.server._connections)
        assert not world.server._opening
        async with world.connect() as station:
            assert (await ask(station, "Heartbeat", {}))[0] == 3


async def test_o7_a_frame_beyond_64_kib_closes_with_1009() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await station.send("x" * 65_537)
        with pytest.raises(ConnectionClosed):
            await station.recv()
        assert station.close_code == 1009


async def test_o8_endless_fragments_close_with_1009() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        with suppress(ConnectionClosed):
            await station.send("x" for _ in range(5_000))
        with pytest.raises(ConnectionClosed):
            await station.recv()
        assert station.close_code == 1009


async def test_o9_compression_is_never_agreed_to() -> None:
    async with listening([charger_entry()]) as world, world.connect(compression="deflate") as station:
        assert station.response is not None
        assert "Sec-WebSocket-Extensions" not in station.response.headers


async def test_o41_a_peer_that_stops_answering_is_offline_after_ping_and_close_timeouts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PING_INTERVAL_S", "PING_TIMEOUT_S", "CLOSE_TIMEOUT_S"):
        monkeypatch.setattr(server_module, name, 0.1)
    async with listening([charger_entry()]) as world:
        dead = await mute_peer(world.server.port, "CS-0001")
        assert await world.submitted(ChargerDisconnected) == [ChargerDisconnected("CS-0001")]
        dead.close()


def test_o41_a_dead_peer_is_offline_within_fifteen_seconds() -> None:
    assert server_module.PING_INTERVAL_S + server_module.PING_TIMEOUT_S + server_module.CLOSE_TIMEOUT_S <= 15


async def test_closing_the_listener_ends_every_connection_even_unfinished_ones() -> None:
    async with listening([charger_entry()]) as world, world.connect() as station:
        await world.submitted(ChargerConnected)
        reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        await asyncio.sleep(0.01)
        await world.server.close()
        with pytest.raises(ConnectionClosed):
            await station.recv()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert world.events[-1] == ChargerDisconnected("CS-0001")


async def test_a_taken_port_is_an_error_of_the_operating_system() -> None:
    async with listening([charger_entry()]) as world:
        other = Server("127.0.0.1", world.server.port, {}, {}, world.submit, clock)
        with pytest.raises(OSError, match="in use"):
            await other.open()


async def test_a_session_that_fails_ends_its_own_connection_alone() -> None:
    class Broken(Silent):
        async def serve(self) -> None:
            raise RuntimeError("bug")

    entries = [charger_entry(), charger_entry("S4-0001", **LEGACY)]
    async with listening(entries, more_sessions={"ocpp1.5": Broken}) as world, world.connect() as station:
        async with world.connect("S4-0001", "ocpp1.5"):
            assert await world.submitted(ChargerDisconnected) == [ChargerDisconnected("S4-0001")]
        assert (await ask(station, "Heartbeat", {}))[0] == 3


async def test_what_is_no_websocket_handshake_is_refused() -> None:
    async with listening([charger_entry()]) as world:
        for request in (b"GET /CS-0001 HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"\x00" * 64, b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
            writer.write(request)
            writer.write_eof()
            assert b"101" not in await reader.read()
            writer.close()
        assert world.events == []
