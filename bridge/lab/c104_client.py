"""The process c104's client runs in: orders come in as JSON lines, every frame and every link state leaves as one.

It is a process of its own because c104 knows local time only (here TZ is UTC), because it ends its process when another
thread holds Python's lock for more than 100 ms, and because what it returns for a command is not what the wire said.
Run by `bridge.lab.control_centre` as `python -m bridge.lab.c104_client HOST PORT COMMON_ADDRESS`; ends with its input.
No `from __future__ import annotations` here: c104 compares the annotations of its callbacks as text.
"""

import json
import math
import os
import queue
import sys
import threading
import time
from datetime import UTC, datetime

os.environ["TZ"] = "UTC"
time.tzset()

import c104  # noqa: E402  c104 reads the time zone when it is loaded

LINES = 20_000  # told and not yet read by the control centre; beyond that lines are dropped and counted
TICK_S = 0.1
RETRY_S = 1.0
T2_S = 1  # below the t1 of any outstation (IEC 60870-5-104 §5.2: t2 < t1)
MUTED_S = 1.0  # c104 sends STARTDT itself, but not always
_CAUSES = {cause.value: cause for cause in c104.Cot.__members__.values()}


class Teller:
    """Hands lines from c104's threads to the one thread that writes them; never blocks a thread of c104."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue(LINES)
        self._lost = 0
        threading.Thread(target=self._write, daemon=True).start()

    def tell(self, **line: object) -> None:
        """Queue one line with the present monotonic time."""
        try:
            self._lines.put_nowait(json.dumps({"at": time.monotonic(), "lost": self._lost, **line}))
        except queue.Full:
            self._lost += 1

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            try:
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            except OSError:  # nobody listens any more: the end of the input ends the process
                return


class Client:
    """c104's client with one connection to one common address, orders carried out one after the other."""

    def __init__(self, host: str, port: int, common_address: int, teller: Teller) -> None:
        self._teller = teller
        self._client = c104.Client(tick_rate_ms=50, command_timeout_ms=500)
        connection = self._client.add_connection(ip=host, port=port, init=c104.Init.NONE)
        if connection is None:
            raise SystemExit(f"c104 takes no connection to {host}:{port}: an IPv4 address and a port are needed")
        self._connection = connection
        self._common_address = common_address
        connection.protocol_parameters.confirm_interval = T2_S
        station = connection.add_station(common_address=common_address)
        if station is None:
            raise SystemExit(f"c104 takes no common address {common_address}: 1 to 65534 are possible")
        self._station = station
        self._down_since = time.monotonic()
        self._muted_since: float | None = None
        connection.on_receive_raw(callable=self._on_receive_raw)
        connection.on_send_raw(callable=self._on_send_raw)
        connection.on_state_change(callable=self._on_state_change)
        self._client.start()

    def _on_receive_raw(self, connection: c104.Connection, data: bytes) -> None:  # noqa: ARG002  c104 compares the signature
        self._teller.tell(received=data.hex())

    def _on_send_raw(self, connection: c104.Connection, data: bytes) -> None:  # noqa: ARG002  c104 compares the signature
        self._teller.tell(sent=data.hex())

    def _on_state_change(self, connection: c104.Connection, state: c104.ConnectionState) -> None:  # noqa: ARG002  c104 compares the signature
        self._teller.tell(state=state.name)

    def tick(self) -> None:
        """Unmute a connection that stayed muted, dial again where c104 gave up."""
        state = self._connection.state
        if state != c104.ConnectionState.OPEN_MUTED:
            self._muted_since = None
        elif self._muted_since is None:
            self._muted_since = time.monotonic()
        elif time.monotonic() - self._muted_since > MUTED_S:
            self._muted_since = math.inf  # once: every STARTDT starts t1 anew
            self._connection.unmute()
        if state != c104.ConnectionState.CLOSED:
            self._down_since = time.monotonic()
        elif time.monotonic() - self._down_since > RETRY_S:
            self._down_since = time.monotonic()
            self._connection.connect()

    def obey(self, order: dict[str, object]) -> None:
        """Carry out one order; what came of it is on the wire, never in what c104 returns."""
        match order["do"]:
            case "setpoint":
                self._setpoint(int(str(order["ioa"])), float(str(order["value"])), order["tag_ms"], str(order["cause"]))
            case "interrogate":
                self._connection.interrogation(self._common_address, wait_for_response=False)
            case "counters":
                self._connection.counter_interrogation(self._common_address, wait_for_response=False)

    def _setpoint(self, ioa: int, value: float, tag_ms: object, cause: str) -> None:
        wanted = c104.Type.C_SE_NC_1 if tag_ms is None else c104.Type.C_SE_TC_1
        point = self._station.get_point(io_address=ioa)
        if point is not None and point.type != wanted:  # c104 has one type for each address
            self._station.remove_point(io_address=ioa)
            point = None
        if point is None:
            point = self._station.add_point(io_address=ioa, type=wanted)
        if point is None:
            raise ValueError(f"c104 takes no command at address {ioa}")
        recorded_at = None if tag_ms is None else datetime.fromtimestamp(int(str(tag_ms)) / 1000, tz=UTC)
        point.info = c104.ShortCmd(target=value, recorded_at=recorded_at)
        point.transmit(cause=_CAUSES[int(cause)])

    def close(self) -> None:
        """Close the connection."""
        self._client.stop()


def main() -> None:
    """Serve the orders of the standard input until it ends."""
    teller = Teller()
    client = Client(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), teller)
    orders: queue.Queue[str | None] = queue.Queue(1_000)

    def read() -> None:
        for line in sys.stdin:
            orders.put(line)
        orders.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        client.tick()
        try:
            line = orders.get(timeout=TICK_S)
        except queue.Empty:
            continue
        if line is None:
            break
        try:
            client.obey(json.loads(line))
        except (ValueError, KeyError) as error:
            teller.tell(problem=str(error))
    client.close()


if __name__ == "__main__":
    main()
