"""`gridlimit lab`: the whole depot on loopback, T1–T4 played in it, shown live, then left running to be tried."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bridge.lab import scenario_report
from bridge.lab.control_centre import ControlCentreError
from bridge.lab.http_client import HttpError, fetch
from bridge.lab.player import Player, Result
from bridge.lab.scenario import SCENARIOS, console, exit_code, play_all
from bridge.lab.scenario_file import Scenario, ScenarioError, load_all
from bridge.lab.world import SHORTENED, World, WorldError

REFRESH_S = 0.25
LINES = 12
FIRST_FOUR = ("T1", "T2", "T3", "T4")
BAR = 20
UNIT_MAXIMUM_W = 50_000


@unique
class Play(StrEnum):
    """What happens after the scenarios: `once` ends with their result, `stay` leaves the depot running."""

    ONCE = "once"
    STAY = "stay"


def lab(
    *,
    play: Annotated[
        Play, typer.Option(help="once: end with the scenarios' result; stay: run until Ctrl-C.")
    ] = Play.STAY,
    scenarios: Annotated[Path, typer.Option(help="A scenario file or a folder of them.")] = SCENARIOS,
    only: Annotated[
        list[str] | None, typer.Option(help="Play this test of the folder; T1–T4 if none is named.")
    ] = None,
) -> None:
    """Run a whole depot on loopback, play T1–T4 in it, and show it live."""
    try:
        wanted = frozenset(only or (FIRST_FOUR if scenarios.is_dir() else ()))
        code = asyncio.run(_lab(_fitting(load_all(scenarios, wanted)), play))
    except (ScenarioError, ControlCentreError, WorldError) as error:
        typer.echo(str(error), err=True)
        code = 1
    raise typer.Exit(code)


def _fitting(scenarios: list[Scenario]) -> list[Scenario]:
    """The scenarios, none of which needs a bridge that is configured otherwise than the one that is shown."""
    if others := [one.test for one in scenarios if one.configuration]:
        raise ScenarioError(f"{', '.join(others)}: needs a bridge configuration of its own: gridlimit scenario play")
    return scenarios


async def _lab(scenarios: list[Scenario], play: Play) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as opened:
        typer.echo("starting the bridge, three Series 4 units, a native station and a control centre")
        world = World(dashboard=True)
        await world.open()
        opened.push_async_callback(world.close)
        screen = Screen(world, sys.stdout.isatty())
        player = Player(world.target, screen.tell)
        await player.open()
        opened.push_async_callback(player.close)
        screen.player = player
        async with screen.shown():
            results = await _unless_stopped(play_all(player, scenarios, screen.tell), stop)
        if results is None:
            return 130
        console().print(scenario_report.table(results, SHORTENED.minute_s))
        if play is Play.STAY:
            await _stay(world, screen, stop)
        return exit_code(results)


async def _unless_stopped(playing: Any, stop: asyncio.Event) -> list[Result] | None:
    tasks = [asyncio.create_task(playing), asyncio.create_task(stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    played, _ = tasks
    for task in tasks:
        if not task.done():
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return None if played.cancelled() else played.result()


async def _stay(world: World, screen: Screen, stop: asyncio.Event) -> None:
    for line in (
        "the depot stays up until Ctrl-C; from another terminal:",
        f"  gridlimit simulate control-centre --port {world.iec104_port}",
        f"  curl {world.http_url}/status",
        f"  {world.http_url}/ in a browser: the dashboard",
        f"  curl {world.chargers_url}/chargers/S4-0001 -H 'content-type: application/json' -d '{{\"demand_w\": 7200}}'",
        f"  tail -f {world.log}",
    ):
        typer.echo(line)
    async with screen.shown():
        await stop.wait()


class Screen:
    """The live picture: link and limit, every unit against its grant, the last command, and what is being played.

    Without a terminal there is no picture, only what is being played, line by line.
    """

    def __init__(self, world: World, terminal: bool) -> None:
        self.player: Player | None = None
        self._terminal = terminal
        self._world = world
        self._lines: deque[str] = deque(maxlen=LINES)
        self._status: dict[str, Any] = {}
        self._chargers: list[dict[str, Any]] = []

    def tell(self, line: str) -> None:
        """Add a line to what is being played."""
        if self._terminal:
            self._lines.append(line)
        else:
            typer.echo(line)

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the picture on the terminal while entered."""
        if not self._terminal:
            yield
            return
        with Live(self.picture(), refresh_per_second=1 / REFRESH_S) as live:
            showing = asyncio.create_task(self._keep_fresh(live))
            try:
                yield
            finally:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)

    async def _keep_fresh(self, live: Live) -> None:
        while True:
            with suppress(HttpError):
                self._status = await fetch(f"{self._world.http_url}/status")
                self._chargers = await fetch(f"{self._world.chargers_url}/chargers")
            live.update(self.picture())
            await asyncio.sleep(REFRESH_S)

    def picture(self) -> Group:
        """The picture as it is now."""
        answer = self.player.answer if self.player is not None else None
        command = "none yet" if answer is None else f"{answer.value / 1000:g} kW: {answer}"
        return Group(
            Panel(Text(self._headline()), title=str(self._status.get("site", "starting"))),
            self._units(),
            Text(f"last command   {command}"),
            Panel(Text("\n".join(self._lines) or "…"), title="playing"),
        )

    def _headline(self) -> str:
        status = self._status
        if not status:
            return "…"
        link, limit = status["link"], status["limit"]
        change_s = link["next_change_s"]
        change = "" if change_s is None else f", changes in {max(0.0, change_s):.1f} s"
        alarms = ", ".join(f"{alarm['alarm']} {alarm['subject']}" for alarm in status["alarms"]) or "none"
        worst = f"{_kw(status['worst_case_w'])} ({'within' if status['limit_reached'] else 'not yet within'} the limit)"
        return (
            f"link           {link['state']} since {link['since_s']:.0f} s, {link['connections']} connections{change}\n"
            f"limit in force {_kw(limit['power_w'])} ({limit['source']})\n"
            f"worst case     {worst}\n"
            f"alarms         {alarms}"
        )

    def _units(self) -> Table:
        table = Table(expand=True)
        for column in ("Charger", "Power", "", "Granted", "Wants", "Counted at", "Because"):
            table.add_column(column, justify="right" if column in {"Power", "Granted", "Wants"} else "left")
        known = {charger["serial"]: charger for charger in self._status.get("chargers", [])}
        for charger in self._chargers:
            bridge = known.get(charger["serial"], {})
            table.add_row(
                charger["serial"],
                _kw(charger["power_w"]),
                _bar(charger["power_w"], bridge.get("granted_w")),
                _kw(bridge.get("granted_w")),
                _kw(charger["demand_w"] if charger["charging"] else 0),
                _kw(bridge.get("worst_case_w")),
                str(bridge.get("counted_as", "")),
            )
        return table


def _kw(power_w: float | None) -> str:
    return "–" if power_w is None else f"{power_w / 1000:.2f} kW"


def _bar(power_w: float, granted_w: float | None) -> Text:
    """Power as a bar, with a mark where the grant ends."""
    drawn = round(min(power_w, UNIT_MAXIMUM_W) / UNIT_MAXIMUM_W * BAR)
    cells = ["█" if cell < drawn else "·" for cell in range(BAR + 1)]
    if granted_w is not None:
        cells[round(min(granted_w, UNIT_MAXIMUM_W) / UNIT_MAXIMUM_W * BAR)] = "│"
    over = granted_w is not None and power_w > granted_w + 1
    return Text("".join(cells), style="red" if over else "green")
