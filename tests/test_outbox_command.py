"""What an operator sees and does about messages the CSMS does not take: `gridlimit outbox`, service up and down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from bridge.lab.csms import Csms
from bridge.lab.peer import CallError
from bridge.lab.series4 import Series4Unit
from tests.test_service import Bridge

SERIAL = "S4-0001"
ACCEPTED = {"status": "Accepted"}


@asynccontextmanager
async def below(csms: Csms, folder: Path) -> AsyncIterator[tuple[Bridge, Series4Unit]]:
    bridge = Bridge(folder)
    configuration = yaml.safe_load(bridge.config.read_text())
    await csms.open()
    configuration["csms"] = {"url": f"ws://127.0.0.1:{csms.port}"}
    bridge.config.write_text(yaml.safe_dump(configuration))
    await bridge.start()
    unit = Series4Unit(f"ws://127.0.0.1:{bridge.ocpp_port}/", SERIAL)
    life = asyncio.create_task(unit.run())
    try:
        yield bridge, unit
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        if bridge.process is not None and bridge.process.poll() is None:
            bridge.end()
        await csms.close()


async def outbox(bridge: Bridge, *words: str) -> str:
    command = [sys.executable, "-m", "bridge", "outbox", *words, "--config", str(bridge.config)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.decode()


async def test_an_operator_sees_why_a_message_is_dead_and_sends_it_again(tmp_path: Path) -> None:
    csms = Csms(serials=[SERIAL])
    refusal = CallError("FormatViolation", "we do not like it")
    csms.answers["TransactionEvent"] = lambda _serial, _payload: refusal
    async with below(csms, tmp_path) as (bridge, unit):
        await csms.hears(SERIAL, "BootNotification")
        unit.start_session()
        await csms.hears(SERIAL, "TransactionEvent", count=2)
        async with asyncio.timeout(20):
            while (await bridge.status())["csms"]["dead"] < 2:  # noqa: ASYNC110  it announces itself in no other way
                await asyncio.sleep(0.05)
        listed = await outbox(bridge, "list", "--dead", "--serial", SERIAL)
        assert f"{SERIAL}  TransactionEvent  attempts 0  dead: FormatViolation: we do not like it" in listed
        csms_status = (await bridge.status())["csms"]
        assert csms_status["dead"] >= 1
        alarm = {"alarm": "dead_letters", "subject": "Test"}
        assert alarm in (await bridge.status())["alarms"]
        assert csms_status["chargers"][SERIAL]["registration"] == "Accepted"
        bridge.end()
        assert "dead: FormatViolation" in await outbox(bridge, "list")
        del csms.answers["TransactionEvent"]
        assert "wait again" in await outbox(bridge, "resend", "--all")
        await bridge.start()
        async with asyncio.timeout(20):
            while (await bridge.status())["csms"]["waiting"]:  # noqa: ASYNC110  it announces itself in no other way
                await asyncio.sleep(0.05)
        status = await bridge.status()
        assert status["csms"]["dead"] == 0
        assert alarm not in status["alarms"]
        taken = [
            told.payload["eventType"]
            for told in csms.told
            if "eventType" in told.payload and told.answer == {"idTokenInfo": ACCEPTED}
        ]
        assert taken == ["Started", "Ended"]  # a start the CSMS does not take is no yes for the unit
