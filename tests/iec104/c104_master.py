"""A control centre on c104's client, in a process of its own: it talks to PORT and prints what it saw as JSON.

No `from __future__ import annotations`: c104 compares the annotations of its callbacks as text.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["TZ"] = "UTC"
time.tzset()

import c104  # noqa: E402  c104 reads the time zone when it is loaded

PATIENCE_S = 5.0
OVER = "ACTIVATION_TERMINATION"
ANSWERS = {"REQUEST", "ACTIVATION_CON", "UNKNOWN_IOA"}
told: list[tuple[str, str, bool]] = []


def on_receive_raw(connection: c104.Connection, data: bytes) -> None:  # noqa: ARG001  c104 compares the signature
    """Note type, cause and P/N as c104 reads them."""
    read = c104.explain_bytes_dict(apdu=data)
    if read["format"] == "I":
        told.append((read["type"].name, read["cot"].name, read["negative"]))


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def answered(request: Callable[[], object], type_name: str, cause: str = "") -> str:
    """What the outstation says to a request; c104 itself returns False when the answer outruns its waiting."""
    mark = len(told)
    request()

    def answers() -> list[tuple[str, str, bool]]:
        causes = {cause} if cause else ANSWERS
        return [one for one in told[mark:] if one[0] == type_name and one[1] in causes]

    eventually(lambda: bool(answers()))
    return " ".join(str(part) for part in answers()[0][1:]) if answers() else "nothing"


def main(port: int) -> None:
    """Connect, interrogate, command, and wait for one event on 202."""
    client = c104.Client(tick_rate_ms=50, command_timeout_ms=500)
    connection = client.add_connection(ip="127.0.0.1", port=port, init=c104.Init.NONE)
    assert connection is not None
    connection.on_receive_raw(callable=on_receive_raw)
    station = connection.add_station(common_address=1)
    assert station is not None
    power = station.add_point(io_address=200, type=c104.Type.M_ME_NC_1)
    alarm = station.add_point(io_address=303, type=c104.Type.M_SP_NA_1)
    energy = station.add_point(io_address=1004, type=c104.Type.M_IT_NA_1)
    event = station.add_point(io_address=202, type=c104.Type.M_ME_TF_1)
    limit = station.add_point(io_address=100, type=c104.Type.C_SE_NC_1)
    stranger = station.add_point(io_address=101, type=c104.Type.C_SE_NC_1)
    assert power and alarm and energy and event and limit and stranger  # noqa: PT018  all of them
    client.start()
    assert eventually(lambda: bool(connection.is_connected)), "not connected"
    connection.unmute()
    assert eventually(lambda: connection.state == c104.ConnectionState.OPEN), "still muted"

    asked: Any = {"common_address": 1, "wait_for_response": False}
    seen: dict[str, object] = {
        "interrogation": answered(lambda: connection.interrogation(**asked), "C_IC_NA_1", OVER),
        "counters": answered(lambda: connection.counter_interrogation(**asked), "C_CI_NA_1", OVER),
        "clock": answered(lambda: connection.clock_sync(**asked), "C_CS_NA_1"),
        "test": answered(lambda: connection.test(**asked), "C_TS_TA_1"),
        "power": power.value,
        "alarm_quality": str(alarm.quality),
        "energy": str(energy.value),
        "read": answered(power.read, "M_ME_NC_1", "REQUEST"),
    }
    for name, point, value in (("accepted", limit, 20000.0), ("refused", limit, 0.0), ("unknown", stranger, 20000.0)):
        point.value = value
        seen[name] = answered(lambda point=point: point.transmit(cause=c104.Cot.ACTIVATION), "C_SE_NC_1")  # type: ignore[misc]
    print(json.dumps({"waiting": True}), flush=True)  # noqa: T201  the test reads it
    eventually(lambda: event.value == 7200.0)
    seen |= {"event": event.value, "event_quality": str(event.quality), "event_at": str(event.recorded_at)}
    print(json.dumps(seen), flush=True)  # noqa: T201  the test reads it
    client.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
