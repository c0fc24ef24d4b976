"""`gridlimit simulate`: simulated peers that run alone, until they are stopped, and say what happens in plain lines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.lab import replicas
from bridge.lab.charger import SimulatedCharger
from bridge.lab.control_api import ControlApi
from bridge.lab.csms import Csms
from bridge.lab.fault_proxy import FaultProxy
from bridge.lab.power_path import PowerPath
from bridge.lab.proxy_api import ProxyApi
from bridge.lab.series4 import MeterForm, Series4Unit
from bridge.lab.station201 import Station201

log = logging.getLogger(__name__)

MAX_CHARGERS = 10_000
STATUS_EVERY_S = 10.0
STAGGER_S = 0.01

simulate_app = typer.Typer(help="Simulated peers, each talking real protocols.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class Vehicle:
    """The power path of every simulated charger of one command; powers in W, times in s."""

    demand_w: int = 22_000
    charging: bool = True
    reaction_s: float = 1.0
    wobble: float = 0.004


@dataclass(frozen=True, slots=True)
class Control:
    """Where the control API listens; port None for none, 0 for a free one."""

    host: str = "127.0.0.1"
    port: int | None = None


USUAL_VEHICLE = Vehicle()
NO_CONTROL = Control()


def serials(first: str, count: int) -> list[str]:
    """Count serials up from the first, its trailing number keeping its width: S4-0009, S4-0010.

    Raises ValueError when the first has no trailing number or the count makes no sense.
    """
    number = re.search(r"\d+$", first)
    if number is None or not 1 <= count <= MAX_CHARGERS:
        raise ValueError(f"{first!r} must end in a number, and the count {count} be 1 to {MAX_CHARGERS}")
    stem, digits = first[: number.start()], number.group()
    return [f"{stem}{int(digits) + each:0{len(digits)}d}" for each in range(count)]


async def run_units(
    url: str,
    unit_serials: Sequence[str],
    *,
    vehicle: Vehicle = USUAL_VEHICLE,
    control: Control = NO_CONTROL,
    meter_form: MeterForm = MeterForm.A,
    subprotocol: str | None = "ocpp1.5",
) -> None:
    """Run Series 4 units until cancelled."""
    units = [
        Series4Unit(
            url,
            serial,
            power=_power_path(vehicle, maximum_w=50_000, minimum_w=6_000),
            meter_form=meter_form,
            subprotocol=subprotocol,
        )
        for serial in unit_serials
    ]
    await run_chargers(units, vehicle, control)


async def run_station(
    url: str,
    identities: Sequence[str],
    *,
    vehicle: Vehicle = USUAL_VEHICLE,
    control: Control = NO_CONTROL,
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Run native OCPP 2.0.1 stations until cancelled."""
    power = {"maximum_w": 22_000, "minimum_w": 4_140}
    stations = [
        Station201(url, identity, power=_power_path(vehicle, **power), password=password, tls=tls)
        for identity in identities
    ]
    await run_chargers(stations, vehicle, control)


def station_tls(authority: Path, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """TLS of a station that trusts `authority` and shows a certificate if it has one (security profile 3)."""
    context = ssl.create_default_context(cafile=authority)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def csms_tls(certificate: Path, key: Path, client_authority: Path | None) -> ssl.SSLContext:
    """TLS of a central system; with `client_authority` stations must show a certificate (security profile 3)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def run_csms(
    host: str,
    port: int,
    *,
    known: Sequence[str] = (),
    pattern: str | None = None,
    password: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Run a strict central system until cancelled, a line for everything it is told."""
    csms = Csms(host, port, serials=known, pattern=pattern, password=password, tls=tls)
    await csms.open()
    log.info("csms: listening at %s://%s:%s/<identity>", "wss" if tls else "ws", host, csms.port)
    try:
        await asyncio.Event().wait()
    finally:
        await csms.close()


async def run_proxy(target: tuple[str, int], host: str, port: int, control: Control) -> None:
    """Run a fault proxy until cancelled, and its control API."""
    proxy = FaultProxy(*target, host, port)
    api = ProxyApi(proxy, control.host, control.port or 0)
    await proxy.open()
    await api.open()
    log.info("proxy at %s:%s to %s:%s, control at http://%s:%s/fault", host, proxy.port, *target, api.host, api.port)
    try:
        await asyncio.Event().wait()
    finally:
        await api.close()
        await proxy.close()


async def run_chargers(chargers: Sequence[SimulatedCharger], vehicle: Vehicle, control: Control) -> None:
    """Run any simulated chargers until cancelled, with their control API, a status line for each every ten seconds."""
    api = None if control.port is None else ControlApi(chargers, control.host, control.port)
    if api is not None:
        await api.open()
        log.info("control API at http://%s:%s/chargers", control.host, api.port)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_report(chargers))
            for charger in chargers:
                if vehicle.charging:
                    charger.start_session()
                tasks.create_task(charger.run())
                await asyncio.sleep(STAGGER_S)
    finally:
        if api is not None:
            await api.close()


async def _report(chargers: Sequence[SimulatedCharger]) -> None:
    while True:
        await asyncio.sleep(STATUS_EVERY_S)
        for view in (charger.view() for charger in chargers):
            log.info(
                "%s: %.0f W of %d W wanted, limit %d W, %s, %s",
                view["serial"],
                view["power_w"],
                view["demand_w"],
                view["limit_w"],
                "connected" if view["connected"] else "not connected",
                view["behaviour"],
            )


def _power_path(vehicle: Vehicle, *, maximum_w: int, minimum_w: int) -> PowerPath:
    return PowerPath(
        maximum_w=maximum_w,
        minimum_w=minimum_w,
        demand_w=vehicle.demand_w,
        reaction_s=vehicle.reaction_s,
        wobble=vehicle.wobble,
        start_s=SimulatedCharger.now_s(),
    )


def _run(simulation: Coroutine[Any, Any, None]) -> None:
    """Run until SIGINT or SIGTERM; a port that is taken ends it with one line and status 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("websockets").setLevel(logging.WARNING)

    async def until_stopped() -> None:
        task = asyncio.ensure_future(simulation)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    try:
        asyncio.run(until_stopped())
    except OSError as problem:
        typer.echo(f"cannot listen: {problem}; choose another port", err=True)
        raise typer.Exit(1) from None


def _replica() -> int:
    try:
        return replicas.own_number()
    except replicas.ReplicaError as problem:
        raise typer.BadParameter(str(problem), param_hint="--replica") from None


def _serials(first: str, count: int) -> list[str]:
    try:
        return serials(first, count)
    except ValueError as problem:
        raise typer.BadParameter(str(problem)) from None


DemandOption = Annotated[int, typer.Option(min=0, help="Power each vehicle asks for, W.")]
ChargingOption = Annotated[bool, typer.Option(help="Start with a vehicle plugged in.")]
ReactionOption = Annotated[float, typer.Option(min=0.0, help="Seconds until a new limit is obeyed.")]
ControlHostOption = Annotated[str, typer.Option(help="Address of the HTTP control API.")]
ControlPortOption = Annotated[int | None, typer.Option(help="Port of the HTTP control API, 0 for a free one.")]


@simulate_app.command()
def units(
    url: Annotated[str, typer.Option(help="Where the units connect to; nothing in the path.")] = "ws://127.0.0.1:9000/",
    count: Annotated[int, typer.Option(min=1, max=MAX_CHARGERS)] = 3,
    first_serial: Annotated[str, typer.Option(help="Serial of the first; the others count on.")] = "S4-0001",
    replica: Annotated[
        bool, typer.Option(help="One of several containers: its number in compose says from which serial it counts on.")
    ] = False,
    demand_w: DemandOption = 22_000,
    charging: ChargingOption = True,
    reaction_s: ReactionOption = 1.0,
    meter_form: Annotated[MeterForm, typer.Option(help="Spelling of MeterValues.")] = MeterForm.A,
    subprotocol: Annotated[str, typer.Option(help="WebSocket subprotocol offered; empty for none.")] = "ocpp1.5",
    control_host: ControlHostOption = "127.0.0.1",
    control_port: ControlPortOption = None,
) -> None:
    """Run Series 4 units that say their serial before the handshake and speak 1.5 in JSON."""
    vehicle = Vehicle(demand_w, charging, reaction_s)
    control = Control(control_host, control_port)
    unit_serials = _serials(first_serial, count if not replica else count * _replica())[-count:]
    _run(
        run_units(
            url, unit_serials, vehicle=vehicle, control=control, meter_form=meter_form, subprotocol=subprotocol or None
        )
    )


@simulate_app.command()
def station(
    url: Annotated[
        str, typer.Option(help="Where stations connect to; the identity is appended.")
    ] = "ws://127.0.0.1:9000",
    identity: Annotated[str, typer.Option(help="Identity of the first; the others count on.")] = "CS-0001",
    count: Annotated[int, typer.Option(min=1, max=MAX_CHARGERS)] = 1,
    password: Annotated[str | None, typer.Option(help="For HTTP Basic authentication.")] = None,
    ca: Annotated[Path | None, typer.Option(help="For wss: who signs the certificate of the bridge (PEM).")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Its own certificate chain (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    demand_w: DemandOption = 11_000,
    charging: ChargingOption = True,
    reaction_s: ReactionOption = 1.0,
    control_host: ControlHostOption = "127.0.0.1",
    control_port: ControlPortOption = None,
) -> None:
    """Run native OCPP 2.0.1 stations."""
    vehicle = Vehicle(demand_w, charging, reaction_s)
    control = Control(control_host, control_port)
    identities = [identity] if count == 1 else _serials(identity, count)
    if ca is None and (url.startswith("wss:") or certificate is not None):
        raise typer.BadParameter("wss needs --ca: who signs the certificate of the bridge")
    tls = None if ca is None else station_tls(ca, certificate, key)
    _run(run_station(url, identities, vehicle=vehicle, control=control, password=password, tls=tls))


@simulate_app.command("proxy")
def proxy_command(
    target: Annotated[str, typer.Option(help="HOST:PORT where connections go to.")] = "127.0.0.1:2404",
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 12404,
    control_host: ControlHostOption = "127.0.0.1",
    control_port: ControlPortOption = 0,
) -> None:
    """Run a TCP proxy whose line is cut, silenced and healed over HTTP."""
    name, _, number = target.rpartition(":")
    if not name or not number.isdecimal():
        raise typer.BadParameter(f"--target {target}: write HOST:PORT, such as bridge:2404")
    _run(run_proxy((name, int(number)), host, port, Control(control_host, control_port)))


@simulate_app.command("csms")
def csms_command(
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 9001,
    serial: Annotated[list[str] | None, typer.Option(help="An identity that may connect; repeatable.")] = None,
    pattern: Annotated[str | None, typer.Option(help="Regular expression of identities that may connect.")] = None,
    password: Annotated[str | None, typer.Option(help="For HTTP Basic authentication.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="Listen with TLS: certificate chain (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="Who signs the certificates stations must show.")] = None,
) -> None:
    """Run a strict OCPP 2.0.1 central system that prints what it is told."""
    if (certificate is None) != (key is None) or (client_ca is not None and certificate is None):
        raise typer.BadParameter("TLS needs --certificate and --key, and --client-ca needs both")
    tls = None if certificate is None or key is None else csms_tls(certificate, key, client_ca)
    if not serial and pattern is None:
        pattern = r"(S4|CS)-\d{4}"
    _run(run_csms(host, port, known=serial or (), pattern=pattern, password=password, tls=tls))
