"""`gridlimit simulate`: peers that run alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import httpx
import pytest
from typer.testing import CliRunner

from bridge.lab.csms import Csms
from bridge.lab.simulate import Control, Vehicle, run_station, run_units, serials, simulate_app

DEADLINE_S = 20.0


def test_serials_count_up_and_keep_their_width() -> None:
    assert serials("S4-0009", 3) == ["S4-0009", "S4-0010", "S4-0011"]


@pytest.mark.parametrize(("first", "count"), [("S4-", 3), ("S4-0001", 0), ("S4-0001", 10_001)])
def test_serials_that_cannot_be_counted_are_refused(first: str, count: int) -> None:
    with pytest.raises(ValueError, match="must end in a number"):
        serials(first, count)


def test_a_first_serial_without_a_number_is_a_usage_error() -> None:
    result = CliRunner().invoke(simulate_app, ["units", "--first-serial", "S4-"])
    assert result.exit_code == 2


async def test_stations_run_until_cancelled_and_report_to_a_csms() -> None:
    csms = Csms(pattern=r"CS-\d{4}")
    await csms.open()
    url = f"ws://127.0.0.1:{csms.port}"
    running = asyncio.create_task(run_station(url, ["CS-0001", "CS-0002"], vehicle=Vehicle(7_200)))
    for identity in ("CS-0001", "CS-0002"):
        started = await csms.hears(identity, "TransactionEvent")
        assert started["eventType"] == "Started"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await csms.close()


async def test_units_show_themselves_on_the_control_api_even_with_nobody_to_connect_to() -> None:
    port = await free_port()
    control = Control(port=port)
    running = asyncio.create_task(run_units("ws://127.0.0.1:9/", serials("S4-0001", 3), control=control))
    async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(DEADLINE_S):
        while True:
            try:
                chargers = (await client.get(f"http://127.0.0.1:{port}/chargers")).json()
            except httpx.ConnectError:
                await asyncio.sleep(0.02)
                continue
            if all(charger["charging"] for charger in chargers):
                break
    assert [charger["serial"] for charger in chargers] == ["S4-0001", "S4-0002", "S4-0003"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_command_says_where_it_listens_and_ends_on_sigterm() -> None:
    command = "from bridge.lab.simulate import simulate_app; simulate_app()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", command, "csms", "--port", "0", stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE_S):
        line = await process.stderr.readline()
        assert b"listening at ws://127.0.0.1:" in line
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_port_that_is_taken_is_one_line_and_status_1() -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    command = "from bridge.lab.simulate import simulate_app; simulate_app()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", command, "csms", "--port", str(port), stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE_S):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"choose another port" in said
    taken.close()


async def free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port
