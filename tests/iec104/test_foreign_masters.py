"""Control centres that are not ours agree with our outstation: c104, icspacket."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from icspacket.proto.iec104.connection import IEC104_Connection, IEC104ProtocolError
from icspacket.proto.iec104.master import IEC104_Master

from bridge.core.points import Quality
from tests.iec104.fake_site import UTC_MS, FakeSite, running, table

AT = datetime.fromtimestamp(UTC_MS / 1000, tz=UTC)


async def test_the_client_of_c104_agrees_with_our_outstation() -> None:
    async with running() as site:
        site.publish(200, 7100.0, report=False)
        site.publish(1004, 123456.0, report=False)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("c104_master.py")),
            str(site.listener.port),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                assert await process.stdout.readline(), "c104 gave up"
                site.publish(202, 7200.0, Quality.NOT_TOPICAL)
                seen = json.loads(await process.stdout.readline())
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
    answers = {
        "interrogation": "ACTIVATION_TERMINATION False",
        "counters": "ACTIVATION_TERMINATION False",
        "clock": "ACTIVATION_CON False",
        "test": "ACTIVATION_CON False",
        "read": "REQUEST False",
        "accepted": "ACTIVATION_CON False",
        "refused": "ACTIVATION_CON True",
        "unknown": "UNKNOWN_IOA True",
        "event": 7200.0,
    }
    assert {name: seen[name] for name in answers} == answers
    assert (seen["power"], seen["energy"]) == (7100.0, "123456")
    assert "Invalid" in seen["alarm_quality"]
    assert "NonTopical" in seen["event_quality"]
    assert datetime.fromisoformat(seen["event_at"]).replace(tzinfo=UTC) == AT
    assert [event.value for event in site.setpoints] == [20000.0, 0.0]


def icspacket_session(port: int) -> dict[str, Any]:
    """A session of icspacket's master; it blocks."""
    events: list[Any] = []
    seen: dict[str, Any] = {"events": events}
    master = IEC104_Master(IEC104_Connection(t1=15, t2=0.1), on_unsolicited=events.append)
    master.connect(("127.0.0.1", port))
    try:
        seen["interrogation"] = list(master.general_interrogation(1, timeout=15))
        seen["counters"] = list(master.counter_interrogation(1, timeout=15))
        seen["read"] = master.read(1, 200, timeout=15)
        seen["clock"] = master.clock_sync(1, AT, timeout=15)
        seen["accepted"] = master.setpoint_command_short(1, 100, 20000.0, timeout=15)
        with pytest.raises(IEC104ProtocolError, match="negative"):
            master.setpoint_command_short(1, 100, 0.0, timeout=15)
        with pytest.raises(TimeoutError):  # it waits for COT 7 and hands the answer, COT 47, to `on_unsolicited`
            master.setpoint_command_short(1, 101, 20000.0, timeout=0.2)
        patience_s = time.monotonic() + 15
        while not any(one.header.cot.cause == 47 for one in events) and time.monotonic() < patience_s:
            time.sleep(0.01)
    finally:
        master.close()
    return seen


async def test_the_master_of_icspacket_agrees_with_our_outstation() -> None:
    async with running(FakeSite(table(60))) as site:
        site.publish(200, 7100.0, report=False)
        site.publish(202, 7200.0, Quality.NOT_TOPICAL)
        seen = await asyncio.to_thread(icspacket_session, site.listener.port)
    objects = [item for one in seen["interrogation"][1:-1] for item in one.decode_objects()]
    assert len(objects) == 5 + 2 * 60
    assert {item.ioa: item.element for item in objects[:1]}[200].value == pytest.approx(7100.0)
    assert seen["interrogation"][0].header.cot.cause == 7
    assert seen["interrogation"][-1].header.cot.cause == 10
    assert sum(len(one.decode_objects()) for one in seen["counters"][1:-1]) == 60
    assert seen["read"].decode_objects()[0].element.value == pytest.approx(7100.0)
    assert seen["clock"].header.cot.cause == seen["accepted"].header.cot.cause == 7
    # A measured value that the site reports by itself may come before or after the answer.
    (unknown,) = [one for one in seen["events"] if one.header.cot.cause == 47]
    assert unknown.header.cot.negative
    event = next(one for one in seen["events"] if one.header.cot.cause == 3).decode_objects()[0]
    assert event.ioa == 202
    assert [one.value for one in site.setpoints] == [20000.0, 0.0]
