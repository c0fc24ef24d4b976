"""The log: one line for each transition, with charger, point and limit, each a JSON object where that is asked for."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import yaml
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.iec104.raw_master import RawMaster, setpoint
from tests.test_service import Bridge


async def test_every_line_is_json_and_says_which_charger_which_point_and_which_limit(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path)
    said = yaml.safe_load(bridge.config.read_text()) | {"log_format": "json"}
    said["chargers"] = [{"serial": "CS-0001", "charger_profile": "native-201"}]
    bridge.config.write_text(yaml.safe_dump(said))
    await bridge.start()
    try:
        master = await RawMaster.connect(bridge.iec104_port)
        await master.answer(setpoint(20_000.0))
        url = f"ws://127.0.0.1:{bridge.ocpp_port}/CS-0001"
        async with connect(url, subprotocols=[Subprotocol("ocpp2.0.1")]):
            pass
        master.close()
    finally:
        bridge.end(signal.SIGTERM)
    lines: list[dict[str, Any]] = [json.loads(line) for line in bridge.log.read_text().splitlines()]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in lines)

    def of(event: str) -> dict[str, Any]:
        return next(line for line in lines if line["event"] == event)

    accepted = of("command accepted")
    assert (accepted["kind"], accepted["value"], accepted["point"]) == ("setpoint", 20_000.0, 100)
    assert [line["limit_w"] for line in lines if line["event"] == "limit in force"][:2] == [100_000, 20_000]
    assert of("charger connected")["charger"] == of("charger disconnected")["charger"] == "CS-0001"
    assert of("link supervision")["after"] == "CONNECTED"
    assert not any({"serial", "station"} & line.keys() for line in lines)
