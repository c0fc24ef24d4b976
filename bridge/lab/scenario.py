"""`gridlimit scenario`: plays scenario files against the lab's own world, or against a bridge that runs elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum, unique
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bridge.lab import scenario_report
from bridge.lab.control_centre import ControlCentreError
from bridge.lab.judgement import Verdict
from bridge.lab.player import Player, Result, Target
from bridge.lab.scenario_file import Pace, Scenario, ScenarioError, load_all
from bridge.lab.world import REAL_TIME, SHORTENED, World, WorldError

SCENARIOS = Path("scenarios")
PLAIN_WIDTH = 150

scenario_app = typer.Typer(help="Play scenarios and judge what is seen on the wire and at the units.")


@unique
class Stack(StrEnum):
    """Which outstation the lab's own bridge runs."""

    NATIVE = "native"
    C104 = "c104"


@scenario_app.callback()
def scenario() -> None:
    """Play scenarios and judge what is seen on the wire and at the units."""


@scenario_app.command()
def play(
    path: Annotated[Path, typer.Argument(help="A scenario file or a folder of them.")] = SCENARIOS,
    *,
    only: Annotated[list[str] | None, typer.Option(help="Play this test alone, such as t1; may be repeated.")] = None,
    real_time: Annotated[bool, typer.Option(help="Play a minute in 60 s instead of 1 s.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results as JSON.")] = None,
    junit_file: Annotated[Path | None, typer.Option("--junit", help="Write the results as JUnit XML.")] = None,
    target: Annotated[
        str | None, typer.Option(help="HOST:PORT of an outstation that runs already; without it the lab starts one.")
    ] = None,
    chargers_url: Annotated[
        list[str] | None,
        typer.Option(help="Control API of the target's simulated chargers, repeatable; without one you are asked."),
    ] = None,
    proxy_url: Annotated[
        str | None, typer.Option(help="Control API of a fault proxy before the target, which then breaks the link.")
    ] = None,
    minute_s: Annotated[
        float, typer.Option(help="How long a minute lasts with --target: a fifth of the target's hold_s.", min=0.01)
    ] = REAL_TIME.minute_s,
    silence_s: Annotated[
        float, typer.Option(help="In what time the target notices a silent line: its t3 + t1.", min=1.0)
    ] = REAL_TIME.silence_s,
    stack: Annotated[Stack, typer.Option(help="The outstation the lab's own bridge runs.")] = Stack.NATIVE,
) -> None:
    """Play scenarios, print what was measured, and exit 1 if any of them fails."""
    try:
        scenarios = load_all(path, frozenset(only or ()))
        elsewhere = (
            None if target is None else _target(target, chargers_url or (), proxy_url, Pace(minute_s, silence_s))
        )
        pace = elsewhere.pace if elsewhere is not None else REAL_TIME if real_time else SHORTENED
        results = asyncio.run(_play(scenarios, elsewhere, pace, stack.value))
    except (ScenarioError, ControlCentreError, WorldError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    console().print(scenario_report.table(results, pace.minute_s))
    if json_file is not None:
        json_file.write_text(scenario_report.as_json(results), encoding="utf-8")
    if junit_file is not None:
        junit_file.write_text(scenario_report.as_junit(results), encoding="utf-8")
    raise typer.Exit(exit_code(results))


def console() -> Console:
    """A console as wide as the terminal, or wide enough for the table where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH, highlight=False)


def exit_code(results: Sequence[Result]) -> int:
    """1 if any run failed, else 0."""
    return int(any(result.verdict is Verdict.FAILED for result in results))


async def play_all(player: Player, scenarios: Sequence[Scenario], tell: Callable[[str], None]) -> list[Result]:
    """Play every run of every scenario, one after the other."""
    results = []
    for one in scenarios:
        for run in one.runs:
            tell(f"{one.test} – {one.title}{f' ({run.value})' if run.value else ''}: {one.description}")
            results.append(await player.play(one, run))
    return results


async def _play(scenarios: Sequence[Scenario], elsewhere: Target | None, pace: Pace, stack: str) -> list[Result]:
    """Play all against one target, or each run of them that needs the same configuration in a world of its own."""
    results = []
    groups = groupby(scenarios, key=lambda one: None if elsewhere is not None else one.configuration)
    for _, group in groups:
        alike = list(group)
        async with AsyncExitStack() as opened:
            target = elsewhere
            if target is None:
                world = World(pace, stack=stack, overrides=alike[0].configuration, profiles=alike[0].profiles)
                typer.echo("starting the bridge, three Series 4 units and a native station")
                await world.open()
                opened.push_async_callback(world.close)
                target = world.target
            player = Player(target, typer.echo)
            await player.open()
            opened.push_async_callback(player.close)
            results += await play_all(player, alike, typer.echo)
    return results


def _target(text: str, chargers_urls: Sequence[str], proxy_url: str | None, pace: Pace) -> Target:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ScenarioError(f"--target {text}: write HOST:PORT, such as 192.0.2.7:2404")
    urls = tuple(url.rstrip("/") for url in chargers_urls)
    return Target(host, int(port), urls, proxy_url=proxy_url and proxy_url.rstrip("/"), pace=pace)
