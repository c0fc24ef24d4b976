"""The running service with TLS: native stations over wss beside Series 4 units on a plain listener of their own."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from bridge.lab.series4 import Series4Unit
from bridge.lab.station201 import Station201
from tests.iec104.pki import Authority
from tests.test_service import Bridge, free_ports

PASSWORD = "correct horse battery"
OCPP201: Final = Subprotocol("ocpp2.0.1")


async def test_stations_over_wss_and_units_in_the_clear_are_served_by_one_bridge(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("localhost")
    (plain_port,) = free_ports(1)
    bridge = Bridge(tmp_path)
    configuration: dict[str, Any] = yaml.safe_load(bridge.config.read_text())
    configuration["ocpp"] |= {
        "tls": {"certificate": str(certificate), "key": str(key), "client_ca": "authority/ca.pem"},
        "legacy": {"port": plain_port},
    }
    configuration["chargers"] += [
        {"serial": "CS-0001", "charger_profile": "native-201"},
        {"serial": "CS-0002", "charger_profile": "native-201", "password_file": "password"},
    ]
    bridge.config.write_text(yaml.safe_dump(configuration))
    (tmp_path / "password").write_text(PASSWORD)
    trusting = ssl.create_default_context(cafile=authority.certificate)
    known = ssl.create_default_context(cafile=authority.certificate)
    known.load_cert_chain(*authority.issue("CS-0001"))
    url = f"wss://localhost:{bridge.ocpp_port}"
    chargers = [
        Series4Unit(f"ws://127.0.0.1:{plain_port}/", "S4-0001"),
        Station201(url, "CS-0001", tls=known),
        Station201(url, "CS-0002", tls=trusting, password=PASSWORD),
    ]
    await bridge.start()
    lives = [asyncio.create_task(charger.run()) for charger in chargers]
    try:
        async with asyncio.timeout(60):
            while [each for each in (await bridge.status())["chargers"] if not each["connected"]]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        guess = {"Authorization": f"Basic {b64encode(b'CS-0002:a guess').decode()}"}
        with pytest.raises(InvalidStatus):
            await connect(f"{url}/CS-0002", subprotocols=[OCPP201], ssl=trusting, additional_headers=guess)
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{plain_port}/S4-0001", local_addr=("127.0.0.2", 0))
        alarms = (await bridge.status())["alarms"]
        assert {"alarm": "authentication_failed", "subject": "CS-0002"} in alarms
        assert {"alarm": "duplicate_id", "subject": "S4-0001"} in alarms
        checked = bridge.try_to("check")
        assert f"with TLS, without TLS 127.0.0.1:{plain_port}" in checked.stdout.decode()
        assert "CS-0001" in checked.stdout.decode()
        assert "security profile 3" in checked.stdout.decode()
        assert "chmod 0400" in checked.stdout.decode()
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        assert bridge.end() == 0
