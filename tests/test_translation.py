"""Legacy units of several makes at the running service: what an engineer sees in the status and in the trace."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.test_service import Bridge

BOOT = {"chargePointVendor": "Brenta", "chargePointModel": "Wall 1"}
CHARGERS = [
    {"serial": "BR-0001", "charger_profile": "brenta-wall"},
    {"serial": "CP16-1", "charger_profile": "ocpp16"},
]


class TwoMakes(Bridge):
    """A service for one unit that says a hello and one of OCPP 1.6."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        configuration = yaml.safe_load(self.config.read_text()) | {"chargers": CHARGERS}
        self.config.write_text(yaml.safe_dump(configuration))

    async def dial(self, hello: bytes, path: str, subprotocol: str) -> ClientConnection:
        link = socket.create_connection(("127.0.0.1", self.ocpp_port))
        link.sendall(hello)
        link.setblocking(False)
        uri = f"ws://127.0.0.1:{self.ocpp_port}/{path}"
        return await connect(uri, sock=link, subprotocols=[Subprotocol(subprotocol)], compression=None)

    def trace(self, *words: str) -> list[str]:
        command = [sys.executable, "-m", "bridge", "trace", "--no-follow", "--config", str(self.config), *words]
        return subprocess.run(command, capture_output=True, timeout=60, check=True, text=True).stdout.splitlines()


async def called(websocket: ClientConnection, message_id: str, action: str, payload: dict[str, Any]) -> Any:
    """Send a call and answer the service's calls with CALLERROR until its own answer comes."""
    await websocket.send(json.dumps([2, message_id, action, payload]))
    async with asyncio.timeout(10):
        while True:
            frame = json.loads(await websocket.recv())
            if frame[0] != 2:
                return frame[2]
            await websocket.send(json.dumps([4, frame[1], "NotSupported", "", {}]))


async def test_units_of_two_dialects_are_served_shown_and_traced_without_secrets(tmp_path: Path) -> None:
    bridge = TwoMakes(tmp_path)
    await bridge.start()
    try:
        async with (
            await bridge.dial(b"BRENTA BR-0001\n", "", "ocpp1.5") as brenta,
            await bridge.dial(b"", "CP16-1", "ocpp1.6") as sixteen,
        ):
            assert "heartbeatInterval" in await called(brenta, "b1", "BootNotification", BOOT)
            assert "interval" in await called(sixteen, "s1", "BootNotification", BOOT)
            await called(brenta, "b2", "Authorize", {"idTag": "04A1B2C3D4"})
            async with asyncio.timeout(20):
                while not (await bridge.status())["units"]["BR-0001"]["sampling_problem"]:  # noqa: ASYNC110  in another process
                    await asyncio.sleep(0.05)
            lines = bridge.trace("--serial", "BR-0001", "--message", "authorize")
            assert len(lines) == 2
            assert 'Rx unit Authorize {"idTag":"04***"}' in lines[0]
            assert "04A1B2C3D4" not in "".join(bridge.trace())
            assert any("CP16-1" in line and "Tx unit SetChargingProfile" in line for line in bridge.trace())
    finally:
        bridge.end()
