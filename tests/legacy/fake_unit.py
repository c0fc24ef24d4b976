"""What the tests of the translation layer share: a charger entry, a shelf in memory, the 2.0.1 schemas, a fake unit."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import count
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bridge.core.messages import Event
from bridge.core.quantities import Now
from bridge.legacy.dialects import OCPP15, Dialect
from bridge.legacy.down import Call
from bridge.legacy.hello import hello_connection
from bridge.legacy.quarantine import Quarantine
from bridge.legacy.transactions import Transactions
from bridge.legacy.unit import Unit
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.rpc import CallError, Payload
from bridge.ocpp201.server import Server
from bridge.settings import ChargerEntry, ChargerProfile

SERIAL = "S4-0001"
CALL_ERROR = ["NotImplemented", "unknown action", {}]
RECEIVED_MS = 1_788_256_800_000  # 2026-09-01T10:00:00Z
PROFILE = Path(__file__).parents[2] / "profiles" / "chargers" / "series4-ultra.yaml"
SCHEMAS = files("ocpp").joinpath("v201", "schemas")


class MemoryShelf:
    """A shelf that lasts as long as the test, and remembers how often it was written."""

    def __init__(self) -> None:
        self.rooms: dict[str, dict[str, str]] = {}
        self.writes = 0

    def get(self, room: str, key: str) -> str | None:
        return self.rooms.get(room, {}).get(key)

    def put(self, room: str, key: str, value: str) -> None:
        self.writes += 1
        self.rooms.setdefault(room, {})[key] = value

    def items(self, room: str) -> Iterator[tuple[str, str]]:
        return iter(list(self.rooms.get(room, {}).items()))

    def delete(self, room: str, key: str) -> None:
        self.rooms.get(room, {}).pop(key, None)


def assert_valid(call: Call) -> Call:
    """Hold a translated request against the JSON schema of OCPP 2.0.1, formats included."""
    schema = json.loads(SCHEMAS.joinpath(f"{call.action}Request.json").read_text("utf-8-sig"))
    jsonschema_rs.Draft7Validator(schema, validate_formats=True).validate(json.loads(json.dumps(call.payload)))
    return call


def valid_response(action: str, payload: Payload) -> Payload:
    """Hold a response to a CSMS against the JSON schema of OCPP 2.0.1, formats included."""
    schema = json.loads(SCHEMAS.joinpath(f"{action}Response.json").read_text("utf-8-sig"))
    jsonschema_rs.Draft7Validator(schema, validate_formats=True).validate(json.loads(json.dumps(payload)))
    return payload


class StrictCentralSystem(CentralSystem):
    """The embedded central system, which notes what it was sent and refuses to be sent anything invalid."""

    def __init__(self, clock: Callable[[], Now], id_tags: frozenset[str] = frozenset(), **options: Any) -> None:
        super().__init__(id_tags, clock, **options)
        self.received: list[Call] = []
        self.refuse: str | None = None

    def answer(self, serial: str, action: str, payload: Payload) -> Payload | CallError:
        self.received.append(assert_valid(Call(action, payload)))
        return CallError("InternalError") if action == self.refuse else super().answer(serial, action, payload)

    def of(self, action: str) -> list[Payload]:
        return [call.payload for call in self.received if call.action == action]


class FakeUnit:
    """A unit written for these tests alone: says its hello, sends calls, answers calls from a table.

    An answer is a payload, the rest of a CALLERROR, or None for silence. Without an entry in the table it is CALLERROR.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.configuration = {
            "MaxChargingPowerW": "50000",
            "MeterValueSampleInterval": "900",
            "MeterValuesSampledData": "Energy.Active.Import.Register",
        }
        self.asked: list[tuple[str, Payload]] = []
        self.answers: dict[str, Callable[[Payload], Any]] = {
            "ChangeConfiguration": self.change_configuration,
            "GetConfiguration": self.get_configuration,
        }
        self._numbers = count(1)
        self._open: dict[str, asyncio.Future[list[Any]]] = {}
        self._reader = asyncio.ensure_future(self._read())

    def change_configuration(self, payload: Payload) -> Payload:
        self.configuration[payload["key"]] = payload["value"]
        return {"status": "Accepted"}

    def get_configuration(self, payload: Payload) -> Payload:
        asked = payload.get("key", list(self.configuration))
        known = {key: self.configuration[key] for key in asked if key in self.configuration}
        rows = [{"key": key, "readonly": key == "ChargePointId", "value": value} for key, value in known.items()]
        return {"configurationKey": rows, "unknownKey": [key for key in asked if key not in known]}

    def obey(self) -> None:
        """Accept whatever the fifteen operations of OCPP 1.5 ask."""
        accepted = (
            *("CancelReservation", "ChangeAvailability", "ClearCache", "DataTransfer", "RemoteStartTransaction"),
            *("RemoteStopTransaction", "ReserveNow", "Reset", "SendLocalList", "UnlockConnector"),
        )
        self.answers.update({action: lambda _: {"status": "Accepted"} for action in accepted})
        self.answers["GetDiagnostics"] = lambda _: {"fileName": "S4-0001.log"}
        self.answers["GetLocalListVersion"] = lambda _: {"listVersion": 7}
        self.answers["UpdateFirmware"] = lambda _: {}

    async def call(self, action: str, payload: object, message_id: str | None = None) -> Any:
        message_id = message_id or f"u{next(self._numbers)}"
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._open[message_id] = answered
        await self.websocket.send(json.dumps([2, message_id, action, payload]))
        frame = await asyncio.wait_for(answered, 20)
        return frame[2] if frame[0] == 3 else frame

    async def _read(self) -> None:
        async for text in self.websocket:
            frame = json.loads(text)
            if frame[0] == 2:
                self.asked.append((frame[2], frame[3]))
                answer = self.answers[frame[2]](frame[3]) if frame[2] in self.answers else CALL_ERROR
                if answer is not None:
                    reply = [3, frame[1], answer] if isinstance(answer, dict) else [4, frame[1], *answer]
                    await self.websocket.send(json.dumps(reply))
            elif frame[1] in self._open:
                self._open.pop(frame[1]).set_result(frame)

    async def stop(self) -> None:
        await self.websocket.close()
        self._reader.cancel()


class Bench:
    """A real listener with one unit's serial on its list, and everything it submits."""

    def __init__(self, entry: ChargerEntry, call_timeout_s: float, dialect: Dialect = OCPP15) -> None:
        self.entry = entry
        self.dialect = dialect
        self.events: list[Event] = []
        self.moved_ms = 0
        self.shelf = MemoryShelf()
        self.central_system = StrictCentralSystem(self.clock)
        self.transactions = Transactions(self.shelf)
        self.quarantine = Quarantine(self.shelf)
        self.call_timeout_s = call_timeout_s
        self.units: list[Unit] = []
        self.failures: list[object] = []
        hellos = [entry.profile.hello] if entry.profile.hello else []
        self.server = Server(
            "127.0.0.1",
            0,
            {entry.serial: entry},
            {dialect.subprotocol: self._unit},
            self.events.append,
            self.clock,
            hello_connection(hellos, deadline_s=2),
        )

    def clock(self) -> Now:
        return Now(RECEIVED_MS + self.moved_ms, RECEIVED_MS + self.moved_ms)

    def _unit(self, websocket: Any, entry: ChargerEntry) -> Unit:
        unit = Unit(
            websocket,
            entry,
            self.central_system,
            self.transactions,
            self.quarantine,
            self.events.append,
            self.clock,
            dialect=self.dialect,
            call_timeout_s=self.call_timeout_s,
        )
        self.units.append(unit)
        unit._rpc._answer = self._noting_failures(unit._rpc._answer)
        return unit

    def _noting_failures(self, answer: Callable[[str, Payload], Any]) -> Callable[[str, Payload], Any]:
        """An exception in an answer becomes InternalError on the wire; here it must fail the test."""

        def noting(action: str, payload: Payload) -> Any:
            try:
                return answer(action, payload)
            except Exception as failure:
                self.failures.append((failure, action, payload))
                raise

        return noting

    async def ask(self, action: str, payload: Payload) -> Any:
        """Ask the connected unit what its CSMS asks; the answer is checked against the schemas of OCPP 2.0.1."""
        assert_valid(Call(action, payload))
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.units[-1].from_above(action, payload, answered.set_result)
        answer = await asyncio.wait_for(answered, 20)
        return answer if isinstance(answer, CallError) else valid_response(action, answer)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @asynccontextmanager
    async def unit(self, hello: bytes | None = None) -> AsyncIterator[FakeUnit]:
        pattern = self.entry.profile.hello or ""
        said = pattern.replace("<serial>", self.entry.serial).replace("<version>", "2016.1")
        hello = said.encode().decode("unicode_escape").encode() if hello is None else hello
        link = socket.create_connection(("127.0.0.1", self.server.port))
        link.sendall(hello)
        link.setblocking(False)
        uri = f"ws://127.0.0.1:{self.server.port}/{'' if hello else self.entry.serial}"
        subprotocols = [Subprotocol(self.dialect.subprotocol)]
        websocket = await connect(uri, sock=link, subprotocols=subprotocols, compression=None)
        unit = FakeUnit(websocket)
        try:
            yield unit
        finally:
            await unit.stop()


async def until(true: Callable[[], object]) -> None:
    """Wait until something is so, at most twenty seconds."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  what is waited for knows no event
            await asyncio.sleep(0.005)


def s4_profile() -> ChargerProfile:
    return ChargerProfile.model_validate(yaml.safe_load(PROFILE.read_text()))


def s4_entry(**changes: Any) -> ChargerEntry:
    """Series 4 unit S4-0001; `changes` replace keys of its charger profile."""
    profile = ChargerProfile.model_validate(yaml.safe_load(PROFILE.read_text()) | changes)
    said = {"serial": SERIAL, "charger_profile": "series4-ultra", "profile": profile, "index": 0}
    return ChargerEntry.model_validate(said)


@asynccontextmanager
async def running(
    entry: ChargerEntry | None = None, call_timeout_s: float = 5.0, dialect: Dialect = OCPP15
) -> AsyncIterator[Bench]:
    bench = Bench(entry or s4_entry(), call_timeout_s, dialect)
    await bench.server.open()
    try:
        yield bench
        assert bench.failures == []
    finally:
        await bench.server.close()
