"""The load generator: thousands of simulated chargers in one process that answer at once and cost next to nothing.

Half are Series 4 units (write, then read back), half native OCPP 2.0.1 stations (one SetChargingProfile). Frames are
matched by their first bytes; JSON is parsed only for what comes once a connection.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from typing import Any

from benchmarks import wire
from benchmarks.control import Reply, obey, run, say

OPENING_AT_ONCE = 200
REDIAL_S = 1.0
CONNECT_ATTEMPTS = 50
_VALUE = re.compile(rb'"value":"?(\d+)')
_LIMIT = re.compile(rb'"limit":(\d+)')


class Unit(asyncio.Protocol):
    """One charger of either kind; it obeys what it is told at once."""

    __slots__ = (
        "_buffer",
        "_floor",
        "cut",
        "fleet",
        "held_w",
        "legacy",
        "open",
        "place",
        "reports",
        "sent",
        "sent_ns",
        "transport",
    )

    def __init__(self, fleet: Fleet, place: int) -> None:
        self.fleet = fleet
        self.place = place
        self.legacy = place % 2 == 0
        self.open = self.cut = False
        self.held_w = wire.LEGACY_MAXIMUM_W if self.legacy else wire.NATIVE_MAXIMUM_W
        self.sent = self.reports = 0
        self.sent_ns = 0
        self.transport: Any = None
        self._buffer = b""
        self._floor: dict[str, Any] | None = None

    @property
    def serial(self) -> str:
        """Its serial number."""
        return wire.serial_of(self.place, legacy=self.legacy)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        fleet = self.fleet
        protocol = fleet.legacy_protocol if self.legacy else "ocpp2.0.1"
        self.transport.write(wire.opening(self.serial, legacy=self.legacy, hello=fleet.hello, protocol=protocol))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio says why
        if not self.cut:
            self.open = False
            self.fleet.lost += 1
            self.fleet.dial_again(self)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if not self.open:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self.fleet.refused += 1
                self.transport.abort()
                return
            self.open = True
            data = data[end + 4 :]
            if self.fleet.boots:
                boot = wire.LEGACY_BOOT if self.legacy else wire.NATIVE_BOOT
                self.transport.write(wire.text_frame(boot % self.serial.encode()))
            else:
                self.fleet.came()
        at, size = 0, len(data)
        while size - at >= 2:
            length, begin = data[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if size - begin < length:
                break
            self._frame(data[at], data[begin : begin + length])
            at = begin + length
        if at < size:
            self._buffer = data[at:]

    def _frame(self, first: int, payload: bytes) -> None:
        if first == 0x81:
            if payload[1] == 0x32:
                self._called(payload)
            else:
                self._answered(payload)
        elif first == 0x89:
            self.transport.write(wire.pong_frame(payload))

    def _called(self, payload: bytes) -> None:
        begin = payload.index(b'"') + 1
        end = payload.index(b'"', begin)
        message_id, action = payload[begin:end], payload[end + 3 : end + 9]
        if action == b"Change":
            value = _VALUE.search(payload, end)
            if wire.LIMIT_KEY in payload and value is not None:
                self._hold(int(value[1]))
            self._reply(message_id, b'{"status":"Accepted"}')
        elif action == b"GetCon":
            self._configuration(message_id, payload)
        elif action == b"SetCha":
            limit = _LIMIT.search(payload, end)
            assert limit is not None
            self._reply(message_id, b'{"status":"Accepted"}')
            if b'"stackLevel":0' in payload:
                self._floor = json.loads(payload)[3]["chargingProfile"]
            else:
                self._hold(int(limit[1]))
                self.fleet.final(self)
        else:
            self._called_once(message_id, json.loads(payload))

    def _configuration(self, message_id: bytes, payload: bytes) -> None:
        if wire.LIMIT_KEY in payload:
            value = b'{"configurationKey":[{"key":"%s","readonly":false,"value":"%d"}],"unknownKey":[]}'
            self._reply(message_id, value % (wire.LIMIT_KEY, self.held_w))
            self.fleet.final(self)
            return
        kept = {wire.INTERVAL_KEY: b"%d" % wire.SAMPLE_INTERVAL_S, wire.MEASURANDS_KEY: wire.MEASURANDS}
        keys = b",".join(b'{"key":"%s","readonly":false,"value":"%s"}' % each for each in kept.items())
        self._reply(message_id, b'{"configurationKey":[%s],"unknownKey":[]}' % keys)

    def _called_once(self, message_id: bytes, message: list[Any]) -> None:
        action, payload = message[2], message[3]
        if action == "GetChargingProfiles":
            self._reply(message_id, b'{"status":"Accepted"}')
            report = {
                "requestId": payload["requestId"],
                "chargingLimitSource": "CSO",
                "evseId": 0,
                "chargingProfile": [self._floor],
            }
            self.reports += 1
            call = [2, f"r{self.reports}", "ReportChargingProfiles", report]
            self.transport.write(wire.text_frame(json.dumps(call).encode()))
        elif action == "SetVariables":
            results = [
                {"attributeStatus": "Accepted", "component": each["component"], "variable": each["variable"]}
                for each in payload["setVariableData"]
            ]
            self._reply(message_id, json.dumps({"setVariableResult": results}).encode())
        else:
            self.fleet.unknown.add(action)
            self._reply(message_id, b'{"status":"Accepted"}')

    def _reply(self, message_id: bytes, payload: bytes) -> None:
        self.transport.write(wire.text_frame(b'[3,"%s",%s]' % (message_id, payload)))

    def _hold(self, limit_w: int) -> None:
        self.fleet.held(limit_w - self.held_w)
        self.held_w = limit_w

    def _answered(self, payload: bytes) -> None:
        if payload.startswith(b'[3,"s'):
            self.fleet.sampled(self)
        elif payload.startswith(b'[3,"boot"'):
            self.fleet.came()
        elif not payload.startswith(b'[3,"r'):
            self.fleet.errors.append(payload[:200].decode())

    def hang_up(self) -> None:
        """Cut the connection without a word, and do not dial again."""
        self.open, self.cut = False, True
        self.transport.abort()

    def sample(self) -> None:
        """Send the next sample, whose values are all different from the one before."""
        self.sent += 1
        number = self.sent
        form = wire.LEGACY_SAMPLE if self.legacy else wire.NATIVE_SAMPLE
        change = number * 97 % 5_000
        values = (number, self.fleet.timestamp, number * 10, 1_000 + change, 220 + number % 20, change // 100)
        self.sent_ns = time.monotonic_ns()
        self.transport.write(wire.text_frame(form % values))


class Fleet:
    """All chargers, and what is counted of them."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.hello = True
        self.boots = True
        self.legacy_protocol = "ocpp1.5"
        self.port = 0
        self.refused = self.lost = self.arrived = 0
        self.unknown: set[str] = set()
        self.errors: list[str] = []
        self.total_w = self.highest_w = 0
        self.finals = self.wanted = 0
        self.finals_of: set[int] | None = None
        self.last_ns = 0
        self.done = asyncio.Event()
        self.sampling = False
        self.samples = 0
        self.round_trips_ns: list[int] = []
        self.timestamp = b""
        self._gate = asyncio.Semaphore(OPENING_AT_ONCE)
        self._redialling: set[asyncio.Task[None]] = set()

    def came(self) -> None:
        """One more is connected, and booted if it boots."""
        self.arrived += 1

    def held(self, change_w: int) -> None:
        """The limits all units hold, in sum, have changed."""
        self.total_w += change_w
        self.highest_w = max(self.highest_w, self.total_w)

    def final(self, unit: Unit) -> None:
        """A unit has said for the last time that it holds its limit."""
        if self.finals_of is not None:
            if unit.place in self.finals_of:
                return
            self.finals_of.add(unit.place)
        self.finals += 1
        if self.finals == self.wanted:
            self.last_ns = time.monotonic_ns()
            self.done.set()

    def sampled(self, unit: Unit) -> None:
        """A sample was answered: the next follows at once."""
        self.samples += 1
        self.round_trips_ns.append(time.monotonic_ns() - unit.sent_ns)
        if self.sampling:
            unit.sample()

    def dial_again(self, lost: Unit) -> None:
        """A unit whose connection the server ended comes back after a while, as units do."""
        task = asyncio.get_running_loop().create_task(self._redial(lost))
        self._redialling.add(task)
        task.add_done_callback(self._redialling.discard)

    async def _redial(self, lost: Unit) -> None:
        await asyncio.sleep(REDIAL_S)
        self.units[lost.place] = await self._dial(lost.place, lost.held_w, self._gate)

    async def do(self, do: str, given: dict[str, Any]) -> Reply:
        reply: Reply = await getattr(self, f"do_{do}")(**given)
        return reply | {"errors": self.errors[:3], "unknown": sorted(self.unknown), "lost": self.lost}

    async def do_connect(
        self, port: int, chargers: int, *, hello: bool, boots: bool, legacy_protocol: str, at_once: int
    ) -> Reply:
        """Connect all; done when all are connected and booted."""
        self.port, self.hello, self.boots, self.legacy_protocol = port, hello, boots, legacy_protocol
        if len(self.units) != chargers:
            self.units = [Unit(self, place) for place in range(chargers)]
            self.total_w = self.highest_w = sum(unit.held_w for unit in self.units)
        self.arrived = 0
        began = time.monotonic()
        gate = asyncio.Semaphore(at_once or OPENING_AT_ONCE)
        dialled = await asyncio.gather(*(self._dial(unit.place, unit.held_w, gate) for unit in self.units))
        self.units = list(dialled)
        while self.arrived < chargers:
            if time.monotonic() - began > 240:
                raise TimeoutError(f"{self.arrived} of {chargers} came, {self.refused} refused: {self.errors[:3]}")
            await asyncio.sleep(0.01)
        return {"seconds": time.monotonic() - began, "refused": self.refused}

    async def _dial(self, place: int, held_w: int, gate: asyncio.Semaphore) -> Unit:
        loop = asyncio.get_running_loop()
        async with gate:
            for attempt in range(CONNECT_ATTEMPTS):
                unit = Unit(self, place)
                unit.held_w = held_w
                try:
                    await loop.create_connection(lambda: unit, "127.0.0.1", self.port)  # noqa: B023  called at once
                except OSError:
                    if attempt == CONNECT_ATTEMPTS - 1:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    return unit
        raise ConnectionError("unreachable")

    async def do_drop(self) -> Reply:
        """Cut every connection at once, without a word."""
        for unit in self.units:
            unit.hang_up()
        self.lost, self.highest_w = 0, self.total_w
        await asyncio.sleep(0)
        return {"held_w": self.total_w}

    async def do_cut(self, number: int) -> Reply:
        """Cut some connections and let them come back."""
        chosen = self.units[:: max(1, len(self.units) // number)][:number]
        for unit in chosen:
            unit.hang_up()
        for unit in await asyncio.gather(*(self._dial(unit.place, unit.held_w, self._gate) for unit in chosen)):
            self.units[unit.place] = unit
        return {"cut": len(chosen)}

    async def do_expect(self, finals: int, *, each_once: bool = False) -> Reply:
        """Begin to count the units that hold their new limit."""
        self.finals, self.wanted = 0, finals
        self.finals_of = set() if each_once else None
        self.done.clear()
        return {}

    async def do_wait(self, within_s: float) -> Reply:
        """Wait until so many hold it; `last_ns` is when, on the monotonic clock of the machine."""
        try:
            async with asyncio.timeout(within_s):
                await self.done.wait()
        except TimeoutError:
            return {"finals": self.finals, "last_ns": None}
        return {"finals": self.finals, "last_ns": self.last_ns, "held_w": self.total_w, "highest_w": self.highest_w}

    async def do_sample(self, seconds: float, warm_s: float) -> Reply:
        """Every unit sends a sample, and the next when it is answered; counted after the first `warm_s`."""
        self.timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        self.sampling = True
        for unit in self.units:
            unit.sample()
        await asyncio.sleep(warm_s)
        self.samples, self.round_trips_ns = 0, []
        began_ns = time.monotonic_ns()
        await asyncio.sleep(seconds)
        self.sampling, samples, lasted_ns = False, self.samples, time.monotonic_ns() - began_ns
        ordered = sorted(self.round_trips_ns) or [0]
        await asyncio.sleep(2.0)
        places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": len(ordered) - 1}
        return {"samples": samples, "seconds": lasted_ns / 1e9} | {
            f"{name}_ms": ordered[place] / 1e6 for name, place in places.items()
        }

    async def do_sample_once(self) -> Reply:
        """Every unit sends one sample."""
        self.timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
        for unit in self.units:
            if unit.open:
                unit.sample()
        return {}

    async def do_look(self) -> Reply:
        """Say what all hold now."""
        return {"held_w": self.total_w, "highest_w": self.highest_w, "open": sum(unit.open for unit in self.units)}


async def _main() -> None:
    fleet = Fleet()
    say({})
    await obey(fleet.do)


if __name__ == "__main__":
    run(_main)
