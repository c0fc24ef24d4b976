"""Claims about the status API, asked over a real socket."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.web import server as web
from bridge.web.api import create_app
from bridge.web.guard import viewing
from bridge.web.people import Tokens
from bridge.web.server import WebServer


class Service:
    """What the web room sees of the service."""

    def __init__(self) -> None:
        self.is_ready = False
        self.status: dict[str, Any] = {"link": "CONNECTED", "limit_w": 20_000}

    def app_at(self, port: int = 0) -> WebServer:
        guard = viewing(Tokens(Path("there are none"), anyone_may_view=True))
        return WebServer(create_app(lambda: self.status, lambda: self.is_ready, guard, 8081), "127.0.0.1", port)


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def server(service: Service) -> AsyncIterator[WebServer]:
    server = service.app_at()
    await server.open()
    yield server
    await server.close()


@pytest.fixture
async def client(server: WebServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as client:
        yield client


async def test_health_is_503_until_ready_and_again_while_stopping(service: Service, client: httpx.AsyncClient) -> None:
    seen = []
    for service.is_ready in (False, True, False):
        answer = await client.get("/health")
        seen.append((answer.status_code, answer.json()))
    assert seen == [(503, {"ready": False}), (200, {"ready": True}), (503, {"ready": False})]


async def test_status_is_asked_anew_each_time(service: Service, client: httpx.AsyncClient) -> None:
    assert (await client.get("/status")).json() == {"link": "CONNECTED", "limit_w": 20_000}
    service.status = {"link": "HOLD", "limit_w": 0}
    assert (await client.get("/status")).json() == {"link": "HOLD", "limit_w": 0}


async def test_what_does_not_exist_is_refused_and_the_interface_describes_itself(client: httpx.AsyncClient) -> None:
    assert (await client.get("/etc/passwd")).status_code == 404
    assert (await client.post("/status", content=b"{}")).status_code == 405
    assert set((await client.get("/openapi.json")).json()["paths"]) == {"/health", "/status"}


async def test_the_door_leads_to_the_dashboard_under_the_name_that_was_asked_for(client: httpx.AsyncClient) -> None:
    for host, leads_to in (("depot:8080", "http://depot:8081/"), ("[::1]:8080", "http://[::1]:8081/")):
        answer = await client.get("/", headers={"Host": host})
        assert (answer.status_code, answer.headers["location"]) == (307, leads_to)


async def test_a_status_that_fails_ends_neither_the_server_nor_the_health(
    service: Service, client: httpx.AsyncClient
) -> None:
    service.status = {"power": float("nan")}
    assert (await client.get("/status")).status_code == 500
    assert (await client.get("/health")).status_code == 503


async def test_the_signals_stay_with_the_service(service: Service) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    server = service.app_at()
    await server.open()
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    await server.close()


async def test_a_taken_port_is_an_oserror_and_a_closed_one_is_free_again(service: Service, server: WebServer) -> None:
    second = service.app_at(server.port)
    with pytest.raises(OSError, match="in use"):
        await second.open()
    await second.close()
    await server.close()
    await second.open()
    await second.close()


@pytest.mark.parametrize(
    "said", [b"\x16\x03\x01\x00\xff", b"GET / HTTP/9\r\n\r\n", b"GET /" + b"a" * 70_000, b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_a_caller_who_speaks_no_http_is_refused_and_the_others_are_served(
    server: WebServer, client: httpx.AsyncClient, said: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")
    writer.close()
    assert (await client.get("/status")).status_code == 200


@pytest.mark.parametrize(
    "said", [b"", b"GET /status HT", b"POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"]
)
async def test_a_caller_who_never_finishes_is_dropped_at_a_deadline(
    service: Service, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(web, "CONNECTION_AGE_S", 0.05)
    monkeypatch.setattr(web, "GRACE_S", 0.05)
    server = service.app_at()
    await server.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 405")
    writer.close()
    await server.close()


async def test_callers_beyond_the_limit_are_turned_away_at_once(
    server: WebServer, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "MAX_CONNECTIONS", 3)
    assert (await client.get("/status")).status_code == 200
    idle = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    assert (await client.get("/status")).status_code == 200
    for _, each in [*idle, (reader, writer)]:
        each.close()


async def test_closing_ends_idle_connections_too(service: Service) -> None:
    server = service.app_at()
    await server.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.sleep(0)
    await asyncio.wait_for(server.close(), 5)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
