"""Control centres and decoders that are not ours agree with our outstation: c104, icspacket, scapy."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from icspacket.proto.iec104.connection import IEC104_Connection, IEC104ProtocolError
from icspacket.proto.iec104.master import IEC104_Master
from scapy.contrib.scada.iec104 import IEC104_APDU

from bridge.core.points import Quality
from bridge.iec104.asdu import encode_time
from tests.iec104.fake_site import UTC_MS, FakeSite, running, table
from tests.iec104.raw_master import TESTFR, RawMaster, asdu, interrogation, ioa, setpoint

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
    master = IEC104_Master(IEC104_Connection(t1=5, t2=0.1), on_unsolicited=events.append)
    master.connect(("127.0.0.1", port))
    try:
        seen["interrogation"] = list(master.general_interrogation(1, timeout=5))
        seen["counters"] = list(master.counter_interrogation(1, timeout=5))
        seen["read"] = master.read(1, 200, timeout=5)
        seen["clock"] = master.clock_sync(1, AT, timeout=5)
        seen["accepted"] = master.setpoint_command_short(1, 100, 20000.0, timeout=5)
        with pytest.raises(IEC104ProtocolError, match="negative"):
            master.setpoint_command_short(1, 100, 0.0, timeout=5)
        with pytest.raises(TimeoutError):  # it waits for COT 7 and hands the answer, COT 47, to `on_unsolicited`
            master.setpoint_command_short(1, 101, 20000.0, timeout=0.2)
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


async def everything_we_send() -> list[bytes]:
    """A session in which the outstation says every kind of thing it can say, as frames."""
    async with running(FakeSite(t1_s=2, t2_s=0.05, t3_s=0.3)) as site:
        master = await RawMaster.connect(site.listener.port)
        await master.asdu()
        for octets in (
            setpoint(20000.0, originator=9),
            setpoint(0.0),
            asdu(63, 6, ioa(100) + struct.pack("<fB", 7000.0, 0) + encode_time(UTC_MS)),
            asdu(50, 6, ioa(101) + bytes(5)),
            asdu(50, 6, ioa(100) + bytes(5), common_address=9),
            asdu(50, 5, ioa(100) + bytes(5)),
            asdu(103, 6, ioa(0) + encode_time(UTC_MS)),
            asdu(107, 6, ioa(0) + b"\xaa\x55" + encode_time(UTC_MS)),
            asdu(102, 5, ioa(200)),
        ):
            await master.answer(octets)
        site.publish(200, 7200.0, Quality.NOT_TOPICAL)
        site.publish(202, 7300.0, Quality.OVERFLOW)
        site.publish(300, 1.0, Quality.BLOCKED)
        site.publish(1004, 123456.0)
        site.listener.outstation.flush()
        await master.interrogate()
        await master.interrogate(asdu(101, 6, ioa(0) + b"\x05"))
        await master.answer(interrogation(qualifier=21))
        for _ in range(8):
            master.send(asdu(36, 0x6C, bytes(15)))
        master.writer.write(TESTFR)
        await master.stop()
        return master.octets


async def test_scapys_decoder_agrees_with_every_frame_we_send() -> None:
    frames = await everything_we_send()
    decoder: Any = IEC104_APDU
    decoded = [(frame, decoder.dispatch_hook(frame)(frame)) for frame in frames]
    assert {type(packet).__name__ for _, packet in decoded} == {
        "IEC104_I_Message_SingleIOA",
        "IEC104_S_Message",
        "IEC104_U_Message",
    }
    told = [packet for _, packet in decoded if type(packet).__name__ == "IEC104_I_Message_SingleIOA"]
    for number, packet in enumerate(told):
        assert packet.tx_seq_num == number
        assert len(packet.io) == packet.num_io > 0
        assert not packet.haslayer("Raw"), "octets that scapy has no meaning for"
        assert bytes(packet) == next(frame for frame, other in decoded if other is packet)
    assert {packet.type_id for packet in told} == {1, 13, 15, 30, 36, 37, 50, 63, 70, 100, 101, 103, 107}
    assert [(p.cot, p.ack) for p in told if p.type_id == 50] == [
        (7, 0),
        (10, 0),
        (7, 1),
        (47, 1),
        (46, 1),
        (45, 1),
    ]
    power, limit = next(p for p in told if p.type_id == 36).io
    assert (power.information_object_address, power.scaled_value) == (
        200,
        7200.0,
    )
    assert (power.nt, power.iv, limit.ov) == (1, 0, 1)
    tag = (
        power.year + 2000,
        power.month,
        power.day_of_month,
        power.hours,
        power.minutes,
        power.sec_milli,
        power.su,
        power.iv_time,
    )
    assert tag == (AT.year, AT.month, AT.day, AT.hour, AT.minute, AT.second * 1000 + AT.microsecond // 1000, 0, 0)
    single = next(p for p in told if p.type_id == 30).io[0]
    assert (int(single.spi_value), single.bl) == (1, 1)
    assert next(p for p in told if p.type_id == 37).io[0].counter_value == 123456
