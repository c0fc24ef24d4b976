"""`gridlimit bench`: the figures of the table, ours beside the floor and the stock way, each in one run."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import resource
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import allocate, confirm, dashboard, fan_out, memory, restart, soak, storm, telemetry
from benchmarks.figures import Row, markdown, plot, table

bench_app = typer.Typer(help="Measure, beside the floor and the stock way in the same run.", no_args_is_help=True)
out = Console(soft_wrap=True)

SIZES = (100, 1_000, 5_000)
FLEET = 5_000
TELEMETRY_FLEET = 1_000
WATCHED_FLEET = 500
ALLOCATED = 10_000
SOAK_FLEET = 1_000
DESCRIPTORS = 16_384

Chargers = Annotated[int | None, typer.Option(help="How many chargers; by default as many as the goal names.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the figures there as JSON.")]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", help="Write the figures there as a table, with date and machine.")
]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw the cost over the number of chargers there (PNG).")]


def _sizes(chargers: int | None) -> list[int]:
    return list(SIZES) if chargers is None else [chargers]


def _report(
    command: str, rows: list[Row], json_to: Path | None, markdown_to: Path | None, plot_to: Path | None
) -> None:
    out.print(table(rows))
    for row in rows:
        if row.note:
            out.print(f"{row.what}, {row.chargers:,}: {row.note}", style="dim", highlight=False)
    machine = f"{os.cpu_count()} x {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    measured = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": machine,
        "load": load,
        "command": command,
    }
    if json_to is not None:
        json_to.write_text(json.dumps(measured | {"rows": [row.as_json() for row in rows]}, indent=2) + "\n")
    if markdown_to is not None:
        said = "\n".join(f"- {name}: {value}" for name, value in measured.items())
        markdown_to.write_text(f"{said}\n\n{markdown(rows)}")
    if plot_to is not None and not plot(rows, plot_to):
        out.print("no plot: matplotlib is not installed", style="yellow")


@bench_app.command("fan-out")
def fan_out_command(
    chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None, plot_to: Plot = None
) -> None:
    """One setpoint until all chargers have acknowledged, at 100, 1,000 and 5,000."""
    rows = asyncio.run(fan_out.measure(_sizes(chargers)))
    _report("gridlimit bench fan-out", rows, json_to, markdown_to, plot_to)


@bench_app.command("confirm")
def confirm_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """Setpoint to ACTIVATION_CON, idle and while all chargers answer."""
    rows = asyncio.run(confirm.measure(chargers or FLEET))
    _report("gridlimit bench confirm", rows, json_to, markdown_to, None)


@bench_app.command("dashboard")
def dashboard_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """Setpoint to ACTIVATION_CON with twenty dashboards looking on, beside nobody."""
    rows = [asyncio.run(dashboard.measure(chargers or WATCHED_FLEET))]
    _report("gridlimit bench dashboard", rows, json_to, markdown_to, None)


@bench_app.command("telemetry")
def telemetry_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """Meter samples a second."""
    rows = asyncio.run(telemetry.measure(chargers or TELEMETRY_FLEET))
    _report("gridlimit bench telemetry", rows, json_to, markdown_to, None)


@bench_app.command("storm")
def storm_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """All chargers reconnect at once."""
    _report("gridlimit bench storm", [asyncio.run(storm.measure(chargers or FLEET))], json_to, markdown_to, None)


@bench_app.command("memory")
def memory_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """Memory of a connected charger."""
    _report("gridlimit bench memory", [asyncio.run(memory.measure(chargers or FLEET))], json_to, markdown_to, None)


@bench_app.command("allocate")
def allocate_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """Sharing out among 10,000."""
    _report("gridlimit bench allocate", [allocate.measure(chargers or ALLOCATED)], json_to, markdown_to, None)


@bench_app.command("restart")
def restart_command(chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None) -> None:
    """Start after SIGKILL."""
    _report("gridlimit bench restart", [asyncio.run(restart.measure(chargers or FLEET))], json_to, markdown_to, None)


@bench_app.command("all")
def all_command(
    chargers: Chargers = None, json_to: Json = None, markdown_to: Markdown = None, plot_to: Plot = None
) -> None:
    """Everything. What cannot be measured (nobody answers in time) costs its own rows only, and the exit code is 1."""
    rows = [allocate.measure(chargers or ALLOCATED)]
    failed = []
    for size in _sizes(chargers):
        failed += _gather(rows, fan_out, [size])
    if (growth := fan_out.growth(rows)) is not None:
        rows.append(growth)
    for benchmark, size in (
        (confirm, FLEET),
        (dashboard, WATCHED_FLEET),
        (telemetry, TELEMETRY_FLEET),
        (storm, FLEET),
        (memory, FLEET),
        (restart, FLEET),
    ):
        failed += _gather(rows, benchmark, chargers or size)
        _report("gridlimit bench all", rows, json_to, markdown_to, plot_to)
    if failed:
        out.print("not measured: " + "; ".join(failed), style="red")
        raise typer.Exit(1)


def _gather(rows: list[Row], benchmark: Any, size: int | list[int]) -> list[str]:
    """Add the rows of one benchmark, or say that it failed and why."""
    try:
        found = asyncio.run(benchmark.measure(size))
    except Exception as problem:  # noqa: BLE001  whatever it is, the others are measured
        return [f"{benchmark.__name__} at {size}: {type(problem).__name__} {problem}"]
    rows += found if isinstance(found, list) else [found]
    return []


@bench_app.command("soak")
def soak_command(
    hours: Annotated[float, typer.Option(help="How long, in real time.")] = 1.0,
    chargers: Annotated[int, typer.Option(help="How many chargers.")] = SOAK_FLEET,
    folder: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("soak"),
) -> None:
    """The long run: setpoints, link cuts and reconnects; memory, descriptors and latency must not drift."""
    report = asyncio.run(soak.play(chargers, hours * 3600))
    soak.write(report, folder)
    out.print(report.text(), highlight=False)
    if report.problems:
        raise typer.Exit(1)


@bench_app.callback()
def prepare() -> None:
    """Allow as many descriptors as thousands of connections need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, hard), hard))
