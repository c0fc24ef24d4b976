"""Two outstations to compare with: one that mirrors a setpoint as its confirmation and does nothing, and c104's."""

import asyncio
import socket
import struct
import sys
from typing import Any

from benchmarks.control import Reply, obey, run, say
from benchmarks.master import ACTIVATION, C_SE_NC_1, CONFIRMED, LIMIT_IOA, STARTDT, STARTDT_CON


class Mirror(asyncio.Protocol):
    """Confirms whatever comes."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.sent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(STARTDT):
            self.transport.write(STARTDT_CON)
        elif len(data) > 12 and data[6] == C_SE_NC_1 and data[8] == ACTIVATION:
            head = struct.pack("<BBHH", 0x68, data[1], self.sent << 1, self.sent + 1 << 1)
            self.sent = (self.sent + 1) % 32768
            self.transport.write(head + data[6:8] + bytes((CONFIRMED,)) + data[9:])


async def _nothing(_do: str, _given: dict[str, Any]) -> Reply:
    return {}


async def _raw() -> None:
    server = await asyncio.get_running_loop().create_server(Mirror, "127.0.0.1", 0)
    say({"port": next(iter(server.sockets)).getsockname()[1]})
    await obey(_nothing)


async def _c104() -> None:
    import c104  # noqa: PLC0415  only here: it is an extra

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = c104.Server(ip="127.0.0.1", port=port)
    station = server.add_station(common_address=1)
    assert station is not None
    point = station.add_point(io_address=LIMIT_IOA, type=c104.Type.C_SE_NC_1)
    assert point is not None

    # c104 looks at names and annotations of what it calls.
    def received(
        point: c104.Point,  # noqa: ARG001
        previous_info: c104.Information,  # noqa: ARG001
        message: c104.IncomingMessage,  # noqa: ARG001
    ) -> c104.ResponseState:
        return c104.ResponseState.SUCCESS

    point.on_receive(callable=received)
    server.start()
    say({"port": port})
    await obey(_nothing)
    server.stop()


if __name__ == "__main__":
    run(_raw if sys.argv[1] == "raw" else _c104)
