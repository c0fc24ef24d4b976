"""A control centre of a grid operator on c104's client: sets the limit, interrogates, and records all it sees."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.lab.telegrams import (
    ACTIVATION,
    ACTIVATION_CON,
    ACTIVATION_TERMINATION,
    DEACTIVATION_CON,
    Telegram,
    TypeId,
    decode,
    encode_time,
)
from bridge.lab.wire_centre import Command, Order, WireCentre, load, save
from bridge.lab.wire_centre import asdu as wire_asdu

SETPOINT_IOA = 100
RETRY_S = 0.5
CLOSE_S = 5.0
LINE_BYTES = 1 << 20
STATION_INTERROGATION, GENERAL_COUNTERS, FREEZE, REQUEST = 20, 5, 0x40, 5
RECORDED = 50_000  # telegrams kept; the oldest go first
_COMMANDS = {TypeId.C_SE_NC_1, TypeId.C_SE_TC_1}
_ANSWERS = {ACTIVATION_CON, DEACTIVATION_CON, 44, 45, 46, 47}
_MONITORED = range(1, 41)
POINT_NAMES = {
    200: "site active power W",
    201: "setpoint mirror W",
    202: "limit in force W",
    203: "worst case of all chargers W",
    204: "chargers counted at worst case",
    205: "time to reach the last limit s",
    300: "limit active",
    301: "limit reached",
    302: "fallback active",
    303: "common alarm",
}
CHARGER_POINT_NAMES = ("active power W", "voltage V", "current A", "granted limit W", "energy Wh", "connected")


class ControlCentreError(Exception):
    """The control centre could not do what it was asked; the text says what, where and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the outstation said to a command.

    `telegram` is the answer as it stood on the wire, None when none came in time. `sent_s` is the monotonic time at
    which the command left.
    """

    value: float
    sent_s: float
    type_id: int
    ioa: int
    telegram: Telegram | None

    @property
    def positive(self) -> bool:
        """Whether it is an ACTIVATION_CON with P/N=0."""
        return self.telegram is not None and self.telegram.cause == ACTIVATION_CON and not self.telegram.negative

    @property
    def after_s(self) -> float | None:
        """Seconds from command to answer."""
        return None if self.telegram is None else self.telegram.at_s - self.sent_s

    def __str__(self) -> str:
        """One line for a person."""
        if self.telegram is None:
            return "no answer"
        sign = "negative" if self.telegram.negative else "positive"
        return f"{self.telegram.cause_name}, {sign}, after {(self.after_s or 0) * 1000:.0f} ms"


class ControlCentre:
    """One connection of a control centre to one outstation, on one asyncio loop.

    c104 runs in a process of its own (`bridge.lab.c104_client` says why) and dials again whenever the link is lost.
    `received` holds every information object of the monitoring direction and every answer, in order, the newest
    `RECORDED` of them; `latest` the newest monitored one by address; `link_changes` pairs of (monotonic s, up).
    """

    def __init__(self, host: str, port: int, common_address: int = 1, *, setpoint_ioa: int = SETPOINT_IOA) -> None:
        self.received: deque[Telegram] = deque(maxlen=RECORDED)
        self.latest: dict[int, Telegram] = {}
        self.link_changes: deque[tuple[float, bool]] = deque(maxlen=1_000)
        self.link_up = False
        self.lost_lines = 0
        self.on_telegram: Callable[[Telegram], None] | None = None
        self._sent: deque[Telegram] = deque(maxlen=100)
        self._host, self._port, self._common_address = host, port, common_address
        self._setpoint_ioa = setpoint_ioa
        self._waiters: list[tuple[Callable[[Telegram], bool], asyncio.Future[Telegram]]] = []
        self._link = asyncio.Event()
        self._problem = ""
        self._process: asyncio.subprocess.Process | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._closing = False

    async def connect(self, within_s: float = 10.0) -> None:
        """Dial and wait for STARTDT to be confirmed; `ControlCentreError` if that takes longer."""
        self._dialling = asyncio.create_task(self._keep_dialling(await self._resolve()))
        try:
            await self.wait_for_link(within_s)
        except ControlCentreError:
            await self.close()
            raise

    async def wait_for_link(self, within_s: float) -> None:
        """Wait until the link is in STARTDT; `ControlCentreError` if that takes longer."""
        try:
            await asyncio.wait_for(self._link.wait(), within_s)
        except TimeoutError:
            why = self._problem or "is an outstation listening there?"
            raise ControlCentreError(
                f"no IEC 104 link to {self._host}:{self._port} within {within_s:g} s: {why}"
            ) from None

    async def close(self) -> None:
        """Close the link and end c104's process."""
        if self._dialling is None:
            return
        self._closing = True
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(self._dialling, CLOSE_S)
        except TimeoutError:
            if process is not None and process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()
        self._dialling = None

    async def set_limit(
        self,
        value: float,
        *,
        tagged: bool = False,
        tag_utc_ms: int | None = None,
        cause: int = ACTIVATION,
        ioa: int | None = None,
        within_s: float = 3.0,
    ) -> Answer:
        """Send C_SE_NC_1, or C_SE_TC_1 when `tagged`, and wait for its answer.

        `value` is in the unit of the point, W by default; the tag is `tag_utc_ms`, the present time where it is None.
        """
        ioa = self._setpoint_ioa if ioa is None else ioa
        tag_ms = (time.time_ns() // 1_000_000 if tag_utc_ms is None else tag_utc_ms) if tagged else None
        type_id = TypeId.C_SE_TC_1 if tagged else TypeId.C_SE_NC_1
        asked_s = time.monotonic()
        await self._order(do="setpoint", ioa=ioa, value=value, tag_ms=tag_ms, cause=cause)

        def answers(telegram: Telegram) -> bool:
            return telegram.type_id == type_id and telegram.ioa == ioa and telegram.cause in _ANSWERS

        telegram = await self.seen(answers, within_s, since_s=asked_s)
        sent = (t.at_s for t in self._sent if t.type_id == type_id and t.ioa == ioa and t.at_s >= asked_s)
        return Answer(value, next(sent, asked_s), type_id, ioa, telegram)

    async def terminated(self, answer: Answer, within_s: float) -> Telegram | None:
        """Wait for the ACTIVATION_TERMINATION of an answered command; None if it does not come."""

        def terminates(telegram: Telegram) -> bool:
            same = (telegram.type_id, telegram.ioa) == (answer.type_id, answer.ioa)
            return same and telegram.cause == ACTIVATION_TERMINATION

        return await self.seen(terminates, within_s, since_s=answer.sent_s)

    async def interrogate(self, within_s: float = 10.0) -> list[Telegram]:
        """Interrogate the station; everything it answered, `ControlCentreError` unless it came to its end."""
        return await self._interrogation("interrogate", TypeId.C_IC_NA_1, 20, within_s)

    async def interrogate_counters(self, within_s: float = 10.0) -> list[Telegram]:
        """Interrogate the integrated totals; everything it answered, `ControlCentreError` unless it came to its end."""
        return await self._interrogation("counters", TypeId.C_CI_NA_1, 37, within_s)

    async def _interrogation(self, order: str, type_id: int, cause: int, within_s: float) -> list[Telegram]:
        asked_s = time.monotonic()
        await self._order(do=order)
        ends = {ACTIVATION_TERMINATION, 44, 45, 46, 47}

        def ended(telegram: Telegram) -> bool:
            return telegram.type_id == type_id and (telegram.negative or telegram.cause in ends)

        end = await self.seen(ended, within_s, since_s=asked_s)
        if end is None or end.negative or end.cause != ACTIVATION_TERMINATION:
            raise ControlCentreError(f"{TypeId(type_id).name} came to no end within {within_s:g} s: {end or 'silence'}")
        return [telegram for telegram in self.received if telegram.at_s >= asked_s and telegram.cause == cause]

    async def seen(
        self, predicate: Callable[[Telegram], bool], within_s: float, *, since_s: float | None = None
    ) -> Telegram | None:
        """Wait for a received telegram for which `predicate` holds, from `since_s` on; None if none comes in time."""
        if since_s is not None:
            for telegram in self.received:
                if telegram.at_s >= since_s and predicate(telegram):
                    return telegram
        future: asyncio.Future[Telegram] = asyncio.get_running_loop().create_future()
        waiter = (predicate, future)
        self._waiters.append(waiter)
        try:
            return await asyncio.wait_for(future, within_s)
        except TimeoutError:
            return None
        finally:
            self._waiters.remove(waiter)

    async def _resolve(self) -> str:
        """c104 wants an IPv4 address."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, family=socket.AF_INET)
        except OSError as error:
            raise ControlCentreError(f"{self._host} is no host with an IPv4 address: {error}") from error
        return str(found[0][4][0])

    async def _order(self, **order: object) -> None:
        if self._process is None or self._process.stdin is None:
            raise ControlCentreError(
                f"there is no link to {self._host}:{self._port}: {self._problem or 'connect first'}"
            )
        self._process.stdin.write((json.dumps(order) + "\n").encode())
        try:
            await asyncio.wait_for(self._process.stdin.drain(), 2.0)
        except (OSError, TimeoutError) as error:
            raise ControlCentreError("c104's process takes no more orders") from error

    async def _keep_dialling(self, address: str) -> None:
        """Run c104's process, and another whenever it has ended: it does when a peer hangs up at once."""
        environment = {**os.environ, "TZ": "UTC", "PYTHONUNBUFFERED": "1"}
        while not self._closing:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bridge.lab.c104_client", address, str(self._port), str(self._common_address)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us, who then end its input
                limit=LINE_BYTES,
            )
            assert process.stdout is not None  # noqa: S101  opened with a pipe
            self._process = process
            while line := await process.stdout.readline():
                self._heed(json.loads(line))
            self._process = None
            self._problem = f"c104's process ended with {await process.wait()}"
            self._set_link(up=False, at_s=time.monotonic())
            await asyncio.sleep(0 if self._closing else RETRY_S)

    def _heed(self, line: dict[str, Any]) -> None:
        at_s: float = line["at"]
        self.lost_lines = line["lost"]
        if "state" in line:
            self._set_link(up=line["state"] == "OPEN", at_s=at_s)
        elif "received" in line:
            for telegram in decode(bytes.fromhex(line["received"]), at_s, sent=False):
                self._take(telegram)
        elif "sent" in line:
            self._sent.extend(decode(bytes.fromhex(line["sent"]), at_s, sent=True))
        elif "problem" in line:
            self._problem = line["problem"]

    def _set_link(self, *, up: bool, at_s: float) -> None:
        if up == self.link_up:
            return
        self.link_up = up
        self.link_changes.append((at_s, up))
        if up:
            self._link.set()
        else:
            self._link.clear()

    def _take(self, telegram: Telegram) -> None:
        self.received.append(telegram)
        if telegram.type_id in _MONITORED:
            self.latest[telegram.ioa] = telegram
        for predicate, future in self._waiters:
            if not future.done() and predicate(telegram):
                future.set_result(telegram)
        if self.on_telegram is not None:
            self.on_telegram(telegram)


def point_name(ioa: int) -> str:
    """Name of a point in the default point table."""
    if ioa >= 1000 and ioa % 10 < len(CHARGER_POINT_NAMES):
        return f"charger {(ioa - 1000) // 10} {CHARGER_POINT_NAMES[ioa % 10]}"
    return POINT_NAMES.get(ioa, "")


control_centre_app = typer.Typer(
    help="A control centre: one-shot commands, or a prompt when none is given.", invoke_without_command=True
)


@dataclass(frozen=True, slots=True)
class _Where:
    host: str
    port: int
    common_address: int
    tls: ssl.SSLContext | None


@control_centre_app.callback()
def control_centre(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Where the outstation listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port.")] = 2404,
    common_address: Annotated[int, typer.Option(help="Its common address of ASDU.")] = 1,
    ca: Annotated[Path | None, typer.Option(help="TLS: who signed the outstation's certificate, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Ours, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
) -> None:
    """Talk to an outstation as its control centre, over TLS where `--ca` is given."""
    try:
        context.obj = _Where(host, port, common_address, _tls(ca, certificate, key))
    except OSError as error:  # ssl.SSLError is one
        raise typer.BadParameter(
            f"--ca, --certificate and --key must be PEM files that belong together: {error}"
        ) from error
    if context.invoked_subcommand is None:
        _with(context.obj, _prompt)


def _tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False  # telecontrol certificates name stations, not hosts
    tls.load_verify_locations(cafile=ca)
    if certificate is not None:
        tls.load_cert_chain(certificate, key)
    return tls


@control_centre_app.command()
def setpoint(
    context: typer.Context,
    value_w: Annotated[float, typer.Argument(help="The limit in W.")],
    *,
    tagged: Annotated[bool, typer.Option(help="Send C_SE_TC_1 with the present time.")] = False,
) -> None:
    """Set the limit once; exit 0 if it was confirmed positively, 1 otherwise."""
    if context.obj.tls is not None:
        command(context, Command.FLOAT.value[0], SETPOINT_IOA, value_w, tagged=tagged)

    async def act(centre: ControlCentre) -> int:
        answer = await centre.set_limit(value_w, tagged=tagged)
        typer.echo(f"{value_w:g} W: {answer}")
        return 0 if answer.positive else 1

    _with(context.obj, act)


@control_centre_app.command()
def interrogate(
    context: typer.Context,
    group: Annotated[int, typer.Option(min=0, max=16, help="The group, 0 for the station.")] = 0,
    *,
    freeze: Annotated[bool, typer.Option(help="Freeze the counters before.")] = False,
) -> None:
    """Interrogate station and counters once, or a group of them, and print what they answered; exit 1 if refused."""

    def request(type_id: TypeId, qualifier: int) -> bytes:
        return wire_asdu(type_id, ACTIVATION, 0, bytes((qualifier,)), context.obj.common_address)

    counters = group or GENERAL_COUNTERS
    requests = [request(TypeId.C_IC_NA_1, STATION_INTERROGATION + group)]
    if counters <= GENERAL_COUNTERS:
        requests += [request(TypeId.C_CI_NA_1, FREEZE | counters)] if freeze else []
        requests.append(request(TypeId.C_CI_NA_1, counters))

    async def act(centre: WireCentre) -> int:
        refused = 0
        for each in requests:
            *answered, last = await centre.interrogate(each)
            for telegram in [*answered, last] if last.negative else answered:
                typer.echo(_line(telegram))
            refused += last.negative
        return 1 if refused == len(requests) else 0

    _on_the_wire(context.obj, act)


@control_centre_app.command()
def read(context: typer.Context, ioa: Annotated[int, typer.Argument(help="Information object address.")]) -> None:
    """Read one point; exit 1 if it cannot be read."""

    async def act(centre: WireCentre) -> int:
        sent_s = centre.send(wire_asdu(TypeId.C_RD_NA_1, REQUEST, ioa, b"", context.obj.common_address))
        is_answer = lambda it: it.ioa == ioa and it.at_s >= sent_s and (it.negative or it.cause == REQUEST)  # noqa: E731
        answer = await centre.seen(is_answer, 3.0)
        typer.echo("no answer" if answer is None else _line(answer))
        return 0 if answer is not None and not answer.negative else 1

    _on_the_wire(context.obj, act)


@control_centre_app.command()
def clock(
    context: typer.Context,
    offset_s: Annotated[float, typer.Option(help="How far from our time.")] = 0.0,
) -> None:
    """Set its clock to our time in UTC; exit 1 if it refuses."""

    async def act(centre: WireCentre) -> int:
        tag = encode_time(time.time_ns() // 1_000_000 + round(offset_s * 1000))
        answer = await centre.ask(wire_asdu(TypeId.C_CS_NA_1, ACTIVATION, 0, tag, context.obj.common_address))
        typer.echo("no answer" if answer is None else str(answer))
        return 0 if answer is not None and not answer.negative else 1

    _on_the_wire(context.obj, act)


@control_centre_app.command()
def watch(
    context: typer.Context,
    seconds: Annotated[float, typer.Option(help="How long.")] = 60.0,
) -> None:
    """Print every value as it arrives."""
    if context.obj.tls is not None:
        _on_the_wire(context.obj, lambda centre: _watched(centre, seconds))

    async def act(centre: ControlCentre) -> int:
        await _watch(centre, seconds)
        return 0

    _with(context.obj, act)


@control_centre_app.command()
def command(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="single, double, normalized, scaled or float.")],
    ioa: Annotated[int, typer.Argument(help="Information object address.")],
    value: Annotated[float, typer.Argument(help="single: 0 or 1; double: 1 off, 2 on; else the value on the wire.")],
    *,
    select: Annotated[bool, typer.Option(help="Select, then execute.")] = False,
    cancel: Annotated[bool, typer.Option(help="Deactivate instead of executing.")] = False,
    tagged: Annotated[bool, typer.Option(help="With the present time.")] = False,
    originator: Annotated[int, typer.Option(help="Originator address.")] = 0,
) -> None:
    """Send any command; exit 0 if its last answer was positive, 1 otherwise."""
    known = {each.value[0]: each for each in Command}
    if kind not in known:
        raise typer.BadParameter(f"{kind} is none of {', '.join(known)}")
    tag_ms = time.time_ns() // 1_000_000 if tagged else None
    order = Order(known[kind], ioa, value, context.obj.common_address, originator, tag_utc_ms=tag_ms)

    async def act(centre: WireCentre) -> int:
        answers = await centre.operate(order, select=select, cancel=cancel)
        for answer in answers:
            typer.echo("no answer" if answer is None else str(answer))
        return 0 if answers[-1] is not None and not answers[-1].negative else 1

    _on_the_wire(context.obj, act)


@control_centre_app.command()
def measure(context: typer.Context, count: Annotated[int, typer.Option(help="How many round trips.")] = 1_000) -> None:
    """Measure round trips of the test command, which changes nothing."""

    async def act(centre: WireCentre) -> int:
        took_ms = sorted(1000 * each for each in await centre.measure(context.obj.common_address, count))
        figures = (took_ms[count // 2], took_ms[min(count - 1, count * 99 // 100)], took_ms[-1])
        typer.echo(f"{count} round trips: p50 {figures[0]:.3f} ms, p99 {figures[1]:.3f} ms, worst {figures[2]:.3f} ms")
        return 0

    _on_the_wire(context.obj, act)


@control_centre_app.command()
def record(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The capture to write, JSON lines.")],
    seconds: Annotated[float, typer.Option(help="How long.")] = 60.0,
) -> None:
    """Interrogate, and write down every frame for a while."""

    async def act(centre: WireCentre) -> int:
        centre.send(wire_asdu(TypeId.C_IC_NA_1, ACTIVATION, 0, b"\x14", context.obj.common_address))
        await asyncio.sleep(seconds)
        typer.echo(f"{save(centre.frames, file)} frames in {file}")
        return 0

    _on_the_wire(context.obj, act)


@control_centre_app.command()
def replay(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A capture that was recorded.")],
    speed: Annotated[float, typer.Option(min=0.001, help="How many times faster.")] = 1.0,
) -> None:
    """Send again what the control centre of a capture sent, and print what is answered."""

    async def act(centre: WireCentre) -> int:
        number = await centre.replay(load(file), speed)
        await asyncio.sleep(1.0)
        for telegram in centre.received:
            typer.echo(_line(telegram))
        typer.echo(f"{number} requests replayed, {len(centre.received)} objects came back")
        return 0

    _on_the_wire(context.obj, act)


def _on_the_wire(where: _Where, act: Callable[[WireCentre], Awaitable[int]]) -> None:
    async def run() -> int:
        centre = WireCentre(where.host, where.port, where.tls)
        try:
            await centre.connect()
            return await act(centre)
        except (OSError, TimeoutError, EOFError, ValueError) as error:
            typer.echo(f"{where.host}:{where.port}: {error or type(error).__name__}", err=True)
            return 1
        finally:
            await centre.close()

    raise typer.Exit(asyncio.run(run()))


def _with(where: _Where, act: Callable[[ControlCentre], Awaitable[int]]) -> None:
    if where.tls is not None:
        raise typer.BadParameter("the prompt speaks plain TCP only, as c104's client does: name a command")

    async def run() -> int:
        centre = ControlCentre(where.host, where.port, where.common_address)
        try:
            await centre.connect()
            return await act(centre)
        except ControlCentreError as error:
            typer.echo(str(error), err=True)
            return 1
        finally:
            await centre.close()

    try:
        code = asyncio.run(run())
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


async def _watched(centre: WireCentre, seconds: float) -> int:
    await _watch(centre, seconds)
    return 0


async def _watch(centre: ControlCentre | WireCentre, seconds: float) -> None:
    centre.on_telegram = lambda telegram: typer.echo(_line(telegram))
    try:
        await asyncio.sleep(seconds)
    finally:
        centre.on_telegram = None


async def _prompt(centre: ControlCentre) -> int:
    typer.echo(_HELP)
    lines = _typed_lines()
    while True:
        typer.echo("> ", nl=False)
        line = await lines.get()
        words = (line if line is not None else "quit").split()
        if not words:
            continue
        if words[0] in {"quit", "exit", "q"}:
            return 0
        try:
            await _obey(centre, words[0], words[1:])
        except (ControlCentreError, ValueError) as error:
            typer.echo(str(error))


_HELP = "set WATTS [tagged] · gi · ci · watch [SECONDS] · status · quit"


async def _obey(centre: ControlCentre, word: str, rest: list[str]) -> None:
    match word, rest:
        case "set", [value, *more]:
            typer.echo(str(await centre.set_limit(float(value), tagged=more == ["tagged"])))
        case "gi", []:
            for telegram in await centre.interrogate():
                typer.echo(_line(telegram))
        case "ci", []:
            for telegram in await centre.interrogate_counters():
                typer.echo(_line(telegram))
        case "watch", _:
            await _watch(centre, float(rest[0]) if rest else 10.0)
        case "status", []:
            typer.echo("link up" if centre.link_up else "link down")
            for _, telegram in sorted(centre.latest.items()):
                typer.echo(_line(telegram))
        case _:
            typer.echo(_HELP)


def _line(telegram: Telegram) -> str:
    name = point_name(telegram.ioa) if telegram.type_id in _MONITORED else ""
    return f"{telegram}  {name}".rstrip()


def _typed_lines() -> asyncio.Queue[str | None]:
    """Lines of the standard input, None at its end, read by a thread that does not keep the process alive."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines
