"""The command line: `gridlimit run`, `check` and whatever else an engineer or a developer asks for."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import structlog
import typer

from bridge import __version__
from bridge.audit_command import audit_app
from bridge.backup import backup, restore
from bridge.doctor import doctor
from bridge.service_client import EXIT_CONFIG, ConfigOption, ask_service, err, out, read_settings
from bridge.settings import SHIPPED_PROFILES, ConfigError, Settings, load, minimum_limit_w, plan, warnings
from bridge.settings import charger_profile as read_charger_profile
from bridge.web.people import (
    Person,
    Role,
    TokenFileError,
    digest_of,
    new_token,
    read_tokens,
    write_tokens,
)

if TYPE_CHECKING:
    from bridge.store.outbox import Outbox

app = typer.Typer(
    name="gridlimit",
    help="Carries a grid operator's power limit over IEC 60870-5-104 to a park of EV chargers, and never exceeds it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
TRACE_EVERY_S = 0.5
LAB_FREE = {"run", "check", "signals", "acceptance", "trace", "outbox", "audit", "replay", "version"}
LAB_FREE |= {"token", "dashboard", "doctor", "backup", "restore"}


def set_up_logging(*, as_json: bool) -> None:
    """One line for each transition, to standard error: for a person, or as JSON."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if as_json else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command()
def run(
    config: ConfigOption = None,
    log_json: Annotated[bool, typer.Option(help="Log JSON lines, whatever `log_format` says.")] = False,
) -> None:
    """Serve until SIGTERM; SIGHUP reads the configuration anew, to be applied whole or refused whole."""
    settings = read_settings(config)
    set_up_logging(as_json=log_json or settings.log_format == "json")
    dashboard_command = [sys.executable, "-m", "bridge", "dashboard", "--child"]
    dashboard_command += [] if config is None else ["--config", str(config)]
    from bridge.app import run as serve  # noqa: PLC0415  `check` needs none of the rooms
    from bridge.store.database import StoreError  # noqa: PLC0415

    try:
        import uvloop  # noqa: PLC0415  present where it can be built

        code = uvloop.run(serve(settings, dashboard_command, partial(load, config)))
    except ImportError:
        code = asyncio.run(serve(settings, dashboard_command, partial(load, config)))
    except (OSError, StoreError, RuntimeError) as error:
        err.print(f"cannot start: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    raise typer.Exit(code)


@app.command()
def check(
    config: ConfigOption = None,
    capture: Annotated[Path | None, typer.Option(help="A recorded conversation of a unit, as JSON lines.")] = None,
    charger_profile: Annotated[str, typer.Option(help="The charger profile to hold it against.")] = "series4-ultra",
) -> None:
    """Say what is wrong with a configuration or will run, or what a charger profile understands of a recording."""
    if capture is not None:
        _check_capture(capture, charger_profile, config)
        return
    settings = read_settings(config)
    site, fallback, iec104, csms = settings.site, settings.fallback, settings.iec104, settings.csms
    hold_ms = plan(settings).hold_ms
    hold = "for ever" if hold_ms is None else f"for {hold_ms / 1000:g} s"
    lines = [
        f"site        {site.name}: connection {site.capacity_w} W, setpoints from {minimum_limit_w(settings)} W"
        + (" and exactly 0 W" if site.allow_zero else ", 0 W refused"),
        f"start       {site.at_start_w} W until the first setpoint ever",
        f"fallback    hold the last limit {hold}, then {fallback.limit_w} W; on return: {fallback.on_return.value}",
        f"iec104      {iec104.host}:{iec104.port}, common address {iec104.common_address}",
        f"            stack {iec104.stack}, DSO profile {iec104.dso_profile}",
        f"ocpp        {_charger_listeners(settings)}, {len(settings.chargers)} chargers",
        *(
            f"  charger   {entry.serial}: {entry.charger_profile}, {entry.minimum_w}-{entry.maximum_w} W, points from"
            f" {1000 + 10 * entry.index}"
            + (f", security profile {entry.security_profile}" if entry.security_profile else "")
            + (", out of service" if entry.out_of_service else "")
            for entry in settings.chargers
        ),
        f"csms        {csms.url or 'none: the bridge is the central system itself'}"
        + (f", security profile {csms.security_profile}" if csms.url else ""),
        f"http        http://{settings.http.host}:{settings.http.port}/"
        + ("" if settings.http.dashboard_port else ", no dashboard"),
        f"data        {settings.data_dir}",
    ]
    for line in lines:
        out.print(line, markup=False, highlight=False)
    for warning in warnings(settings):
        out.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def _charger_listeners(settings: Settings) -> str:
    ocpp = settings.ocpp
    if ocpp.tls is None:
        return f"{ocpp.host}:{ocpp.port}"
    plain = "" if ocpp.legacy is None else f", without TLS {ocpp.legacy.host}:{ocpp.legacy.port}"
    return f"{ocpp.host}:{ocpp.port} with TLS{plain}"


def _check_capture(capture: Path, charger_profile: str, config: Path | None) -> None:
    from bridge.legacy.capture import check_capture  # noqa: PLC0415  `check` of a configuration needs no rooms

    own = (Path() if config is None else config.parent) / "profiles"
    folder = own if (own / "chargers" / f"{charger_profile}.yaml").is_file() else SHIPPED_PROFILES
    try:
        with capture.open(encoding="utf-8", errors="replace") as lines:
            report = check_capture(lines, read_charger_profile(charger_profile, folder))
    except (OSError, ConfigError, ValueError) as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(EXIT_CONFIG) from None
    for sentence in report.understood:
        out.print(f"understood      {sentence}", markup=False, highlight=False)
    for sentence in report.not_understood:
        out.print(f"not understood  {sentence}", style="yellow", markup=False, highlight=False)
    raise typer.Exit(1 if report.not_understood else 0)


@app.command()
def trace(
    config: ConfigOption = None,
    data_dir: Annotated[Path | None, typer.Option(help="Read what was kept in this folder; ask no service.")] = None,
    serial: Annotated[str, typer.Option(help="Of one charger only.")] = "",
    message: Annotated[str, typer.Option(help="Of actions with this in their names only.")] = "",
    follow: Annotated[bool, typer.Option(help="Go on as it happens, until interrupted.")] = True,
) -> None:
    """Show what was said with the chargers and with the CSMS, each request with what it caused; secrets are masked.

    Asks the running service; where it is down, or a folder is named, reads what was kept there.
    """
    if data_dir is not None:
        _print_kept(data_dir, serial, message)
        return
    settings, after = read_settings(config), 0
    while True:
        query = urlencode({"after": after, "serial": serial, "message": message})
        said = ask_service(settings, "GET", f"/trace?{query}")
        if said is None:
            if after:
                err.print("the service is down", style="red", markup=False, highlight=False)
                raise typer.Exit(1)
            _print_kept(settings.data_dir, serial, message)
            return
        after = said["last"]
        for line in said["lines"]:
            out.print(line, markup=False, highlight=False)
        if not follow:
            return
        time.sleep(TRACE_EVERY_S)


def _print_kept(data_dir: Path, serial: str, message: str) -> None:
    """Print the conversation that a service, which is down, has kept."""
    from bridge.store.conversation import KEPT_AT_MOST, Conversation  # noqa: PLC0415  only while the service is down
    from bridge.store.database import Database, StoreError  # noqa: PLC0415

    path = data_dir / "trace.db"
    if not path.is_file():
        err.print(f"{path}: nothing was kept there, and no service runs", style="red", markup=False, highlight=False)
        raise typer.Exit(1)
    try:
        database = Database(path)
        kept = Conversation(database, lambda _delay_s, _call: None).newest(serial, message, KEPT_AT_MOST, KEPT_AT_MOST)
        database.close()
    except StoreError as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    for said in kept:
        out.print(said.line(), markup=False, highlight=False)


class ListFormat(Enum):
    """What the papers can be written as."""

    HTML = "html"
    CSV = "csv"
    XLSX = "xlsx"


@app.command()
def signals(
    config: ConfigOption = None,
    form: Annotated[ListFormat, typer.Option("--format", help="html, csv or xlsx.")] = ListFormat.HTML,
    interoperability: Annotated[bool, typer.Option(help="The interoperability list of the standard instead.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file; else standard output.")] = None,
) -> None:
    """Write the signal list for the grid operator, or the interoperability list, from the very table that is run."""
    from bridge.iec104 import signal_list  # noqa: PLC0415  `run` needs no papers

    settings = read_settings(config)
    if interoperability:
        name = "Interoperability list"
        columns, table = signal_list.table_of(signal_list.sections(settings))
    else:
        name, columns, table = "Signal list", signal_list.COLUMNS, signal_list.rows(settings)
    if form is ListFormat.XLSX:
        written = signal_list.xlsx(name, columns, table)
    elif form is ListFormat.CSV:
        written = signal_list.csv_text(columns, table).encode()
    else:
        title = f"{name} of {settings.site.name}, IEC 60870-5-104, DSO profile {settings.iec104.dso_profile}"
        written = signal_list.html(title, columns, table).encode()
    if output is not None:
        output.write_bytes(written)
    elif form is ListFormat.XLSX and sys.stdout.isatty():
        err.print("a workbook is no text: name a file with --output", style="red")
        raise typer.Exit(2)
    else:
        sys.stdout.buffer.write(written)


@app.command()
def acceptance(
    config: ConfigOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to sign.")] = Path("acceptance.html"),
    patience_s: Annotated[float, typer.Option(help="How long the control centre has for each step.")] = 300.0,
    cut_s: Annotated[float, typer.Option(help="How long the link is cut.")] = 60.0,
) -> None:
    """Walk through the source-to-sink test with the grid operator; the service must be stopped, this runs it."""
    set_up_logging(as_json=False)
    settings = read_settings(config)
    from bridge import acceptance as test  # noqa: PLC0415  `run` needs no test
    from bridge.app import App  # noqa: PLC0415
    from bridge.store.database import StoreError  # noqa: PLC0415

    async def ask(question: str) -> bool:
        return await asyncio.to_thread(typer.confirm, question)

    async def walk() -> test.Report:
        service = App(settings)
        try:
            await service.start()
            return await test.Acceptance(service, ask, out.print, patience_s, cut_s).walk()
        finally:
            await service.stop()

    try:
        report = asyncio.run(walk())
    except (OSError, StoreError, test.AcceptanceError) as error:
        err.print(f"cannot be tested: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    output.write_text(test.html(report), encoding="utf-8")
    out.print(f"{'passed' if report.passed else 'FAILED'}: {len(report.checks)} checks, {output}", highlight=False)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def replay(
    journal: Annotated[Path, typer.Argument(help="The file bridge.db of a service, or a copy of it.", exists=True)],
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the digest, no line for each event.")] = False,
) -> None:
    """Play a recorded journal again: show what followed from each event, and check it against every kept state.

    A copy is played, so a service may go on running. The same journal always gives the same digest.
    """
    from bridge.replay import ReplayError, replay as play  # noqa: I001, PLC0415  `run` needs none of it
    from bridge.store.database import Database, StoreError  # noqa: PLC0415
    from bridge.store.journal import Journal  # noqa: PLC0415
    from bridge.upgrade import upgrade  # noqa: PLC0415

    def show(line: str) -> None:
        if not quiet:
            out.print(line, markup=False, highlight=False)

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / journal.name
        try:
            for part in journal.parent.glob(f"{journal.name}*"):
                shutil.copy(part, copy.parent)
            database = Database(copy)
            recorded = Journal(database)
            if recorded.written is not None and (why := upgrade(recorded)) is not None:
                err.print(why, style="red", markup=False, highlight=False)
            kept, first = recorded.snapshots(), recorded.first_sequence
            # Where the oldest records are gone, the oldest state that all later ones follow begins the play.
            begin = None if first == 1 else min((number for number in kept if number >= first - 1), default=0)
            state = None if begin is None or begin not in kept else (begin, kept[begin])
            done = play(recorded.tail(begin or 0), state, kept, show)
            database.close()
        except (OSError, StoreError, ReplayError) as problem:
            err.print(f"{journal}: {problem}", style="red", markup=False, highlight=False)
            raise typer.Exit(1) from None
    words = f"{done.records} records gave {done.effects} effects and led to {done.kept} of {len(kept)} kept states"
    out.print(f"{words}\nsha256 {done.digest}", markup=False, highlight=False)


@app.command()
def soak(
    hours: Annotated[float, typer.Option(help="How long the CSMS is away.")] = 2.0,
    pace: Annotated[
        float, typer.Option(min=1, max=60, help="How much faster than real time; at 60 a minute lasts a second.")
    ] = 60.0,
    sessions: Annotated[int, typer.Option(help="How many units charge.")] = 50,
    kills: Annotated[int, typer.Option(help="How often the service is killed meanwhile.")] = 20,
    seed: Annotated[int, typer.Option(help="Chance, to be played again.")] = 1,
) -> None:
    """Play an outage of the CSMS, with kills, and check that nothing a unit was told is lost.

    The outage and the units' sampling, once a minute, are played at `pace`; connections, back-off and retries are real.
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from bridge.lab.outage import Lost, play  # noqa: PLC0415  the lab is no part of the service

    logging.getLogger("bridge.lab").setLevel(logging.ERROR)
    with TemporaryDirectory() as folder:
        playing = play(
            Path(folder),
            seed,
            units=sessions,
            outage_s=hours * 3600 / pace,
            kills=kills,
            sample_interval_s=max(1, round(60 / pace)),
            toggle_s=max(1.0, hours * 3600 / pace / 200),
        )
        try:
            out.print(str(asyncio.run(playing)), markup=False, highlight=False)
        except Lost as lost:
            err.print(f"seed {seed}: {lost}", style="red", markup=False, highlight=False)
            raise typer.Exit(1) from None


app.add_typer(audit_app, name="audit")
app.command()(doctor)
app.command()(backup)
app.command()(restore)
outbox_app = typer.Typer(help="What waits for the CSMS, and what it does not take.", no_args_is_help=True)
app.add_typer(outbox_app, name="outbox")


@contextlib.contextmanager
def _outbox_on_disk(settings: Settings) -> Iterator[Outbox]:
    """The outbox of a service that is down."""
    from bridge.store.database import Database, StoreError  # noqa: PLC0415  only while the service is down
    from bridge.store.group_commit import GroupCommit  # noqa: PLC0415
    from bridge.store.outbox import Outbox  # noqa: PLC0415

    try:
        database = Database(settings.data_dir / "bridge.db")
        group = GroupCommit(database, lambda _: None)
        yield Outbox(database, group)
        group.flush()
        database.close()
    except StoreError as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None


@outbox_app.command("list")
def list_outbox(
    config: ConfigOption = None,
    serial: Annotated[str | None, typer.Option(help="Of one charger only.")] = None,
    dead: Annotated[bool, typer.Option(help="Only what the CSMS does not take.")] = False,
) -> None:
    """List what waits for the CSMS, dead letters first with the reason; asks the service, or the file if it is down."""
    settings = read_settings(config)
    query = {"dead": str(dead).lower()} | ({} if serial is None else {"serial": serial})
    rows = ask_service(settings, "GET", f"/outbox?{urlencode(query)}")
    if rows is None:
        with _outbox_on_disk(settings) as outbox:
            rows = outbox.listed(only_dead=dead, serial=serial)
    for row in rows:
        kept_at = datetime.fromtimestamp(row["utc_ms"] / 1000, UTC).isoformat(timespec="seconds")
        state = "waits" if row["dead"] is None else f"dead: {row['dead']}"
        line = f"{row['number']:>8}  {kept_at}  {row['serial']}  {row['action']}  attempts {row['attempts']}  {state}"
        out.print(line, markup=False, highlight=False)
    dead_rows = sum(row["dead"] is not None for row in rows)
    out.print(f"{len(rows)} listed, {dead_rows} of them dead", markup=False, highlight=False)


@outbox_app.command()
def resend(
    numbers: Annotated[list[int] | None, typer.Argument(help="Which dead letters, by number.")] = None,
    config: ConfigOption = None,
    every: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
) -> None:
    """Let dead letters wait again, in their old places."""
    if bool(numbers) == every:
        err.print("say which: numbers of `gridlimit outbox list --dead`, or --all", style="red", highlight=False)
        raise typer.Exit(2)
    settings, wanted = read_settings(config), None if every else numbers
    answer = ask_service(settings, "POST", "/api/v1/outbox/resend", {"numbers": wanted})
    if answer is None:
        with _outbox_on_disk(settings) as outbox:
            answer = {"resent": len(outbox.resend(wanted))}
    out.print(f"{answer['resent']} letters wait again", markup=False, highlight=False)


@app.command()
def dashboard(
    config: ConfigOption = None,
    child: Annotated[bool, typer.Option("--child", hidden=True, help="End with the standard input.")] = False,
) -> None:
    """Serve the dashboard; `gridlimit run` does so by itself where `http.dashboard_port` says a port."""
    settings = read_settings(config)
    set_up_logging(as_json=settings.log_format == "json")
    from bridge.dashboard.main import run as serve  # noqa: PLC0415  `run` needs no NiceGUI

    if settings.http.dashboard_port is None:
        err.print("http.dashboard_port: null: there is to be no dashboard", style="red", markup=False, highlight=False)
        raise typer.Exit(EXIT_CONFIG)
    serve(settings, settings.http.dashboard_port, until_stdin_ends=child)


token_app = typer.Typer(help="Who may look and who may act, over HTTP and in the dashboard.", no_args_is_help=True)
app.add_typer(token_app, name="token")


def _tokens_file(config: Path | None) -> tuple[Path, dict[str, Person]]:
    path = read_settings(config).http.tokens_file
    assert path is not None  # noqa: S101  `load` names one
    try:
        return path, read_tokens(path) if path.exists() else {}
    except (TokenFileError, OSError) as error:
        err.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(EXIT_CONFIG) from None


@token_app.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="Whose it is: stands in the journal with everything done with it.")],
    role: Annotated[Role, typer.Option(help="view: may look; operate: may act, too.")] = Role.VIEW,
    config: ConfigOption = None,
) -> None:
    """Make a token for a person and show it, once: only its hash is kept. A running service knows it at once."""
    path, people = _tokens_file(config)
    if not name.isprintable() or len(name.split()) != 1 or name.startswith("#"):
        err.print("a name is one word, such as ada or control-room", style="red", highlight=False)
        raise typer.Exit(2)
    token = new_token()
    write_tokens(path, people | {digest_of(token): Person(name, role)})
    err.print(f"{name} may {role.value}; kept in {path} as a hash. The token, shown this once:", highlight=False)
    typer.echo(token)


@token_app.command("list")
def list_tokens(config: ConfigOption = None) -> None:
    """List who has a token."""
    for person in _tokens_file(config)[1].values():
        out.print(f"{person.role.value:<8} {person.name}", markup=False, highlight=False)


@token_app.command("remove")
def remove_token(name: Annotated[str, typer.Argument(help="Whose tokens.")], config: ConfigOption = None) -> None:
    """Let all tokens of a name count no more, at once."""
    path, people = _tokens_file(config)
    left = {digest: person for digest, person in people.items() if person.name != name}
    if len(left) == len(people):
        err.print(f"nobody is called {name}", style="red", markup=False, highlight=False)
        raise typer.Exit(1)
    write_tokens(path, left)
    out.print(f"{len(people) - len(left)} removed", highlight=False)


@app.command()
def version() -> None:
    """Print the version."""
    out.print(__version__, highlight=False)


def mount_lab() -> None:
    """Add the commands that play the rest of the world; what they need of the extra `lab` is not needed to run."""
    from bridge.lab.control_centre import control_centre_app  # noqa: PLC0415
    from bridge.lab.lab import lab  # noqa: PLC0415
    from bridge.lab.scenario import scenario_app  # noqa: PLC0415
    from bridge.lab.simulate import simulate_app  # noqa: PLC0415
    from bridge.lab.virtual_command import prove  # noqa: PLC0415

    simulate_app.add_typer(control_centre_app, name="control-centre")
    app.add_typer(simulate_app, name="simulate")
    app.add_typer(scenario_app, name="scenario")
    app.command()(lab)
    app.command()(prove)


def _mount_bench() -> None:
    """Add the benchmarks, which live beside the package in the repository and are not installed with it."""
    folder = Path(__file__).resolve().parent.parent
    if (folder / "benchmarks" / "main.py").is_file():
        sys.path.insert(0, str(folder))
        app.add_typer(importlib.import_module("benchmarks.main").bench_app, name="bench")


def main() -> None:
    """Run the command line."""
    if "bench" in sys.argv[1:2]:
        _mount_bench()
    if len(sys.argv) < 2 or sys.argv[1] not in LAB_FREE:  # noqa: PLR2004  the first word
        mount_lab()
    app()
