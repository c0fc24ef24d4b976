"""Units that say a hello, at the listener that counts who connects."""

from __future__ import annotations

import socket

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from bridge.legacy.hello import hello_connection
from bridge.ocpp201.server import MIN_OPENING_PER_ADDRESS
from tests.ocpp201.listening import charger_entry, listening


async def test_units_may_come_and_go_more_often_than_handshakes_may_be_open_at_a_time() -> None:
    entry = charger_entry()
    async with listening([entry], connection_class=hello_connection([r"S4HELLO SN=<serial>\r\n"])) as running:
        for _ in range(2 * MIN_OPENING_PER_ADDRESS):
            link = socket.create_connection(("127.0.0.1", running.server.port))
            link.sendall(b"S4HELLO SN=CS-0001\r\n")
            url = f"ws://127.0.0.1:{running.server.port}/"
            async with connect(url, sock=link, subprotocols=[Subprotocol("ocpp2.0.1")]) as unit:
                assert unit.subprotocol == "ocpp2.0.1"
