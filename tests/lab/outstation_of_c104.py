"""A small whole outstation on c104's server in its own process, for tests of the lab: obeys setpoints from 6 kW on.

Prints its port. No future annotations: c104 compares them as text.
"""

import os
import socket
import sys
import time

os.environ["TZ"] = "UTC"
time.tzset()

import c104  # noqa: E402

GOOD = c104.Quality()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    port = free_port()
    server = c104.Server(ip="127.0.0.1", port=port, tick_rate_ms=50)
    station = server.add_station(common_address=1)
    assert station is not None
    setpoint = station.add_point(io_address=100, type=c104.Type.C_SE_NC_1)
    mirror = station.add_point(io_address=201, type=c104.Type.M_ME_TF_1)
    power = station.add_point(io_address=1000, type=c104.Type.M_ME_TF_1)
    total = station.add_point(io_address=1004, type=c104.Type.M_IT_TB_1)
    assert setpoint is not None
    assert mirror is not None
    assert power is not None
    assert total is not None
    mirror.info = c104.ShortInfo(actual=0.0, quality=c104.Quality.Invalid)
    power.info = c104.ShortInfo(actual=0.0, quality=c104.Quality.Invalid)

    def on_receive(
        point: c104.Point,  # noqa: ARG001  c104 compares the signature
        previous_info: c104.Information,  # noqa: ARG001  likewise
        message: c104.IncomingMessage,
    ) -> c104.ResponseState:
        assert isinstance(message.info, c104.ShortCmd)
        value = message.info.value
        if value < 6000:
            return c104.ResponseState.FAILURE
        mirror.info = c104.ShortInfo(actual=value, quality=GOOD)
        mirror.transmit(c104.Cot.SPONTANEOUS)
        power.info = c104.ShortInfo(actual=value, quality=GOOD)  # the only charger draws what it may
        power.transmit(c104.Cot.SPONTANEOUS)
        return c104.ResponseState.SUCCESS

    setpoint.on_receive(callable=on_receive)
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.stop()


main()
