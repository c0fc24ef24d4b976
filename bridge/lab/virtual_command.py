"""`gridlimit prove`: seeded worlds on virtual time, and the bugs that they must catch."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from bridge.lab import virtual_compiled, virtual_prove
from bridge.lab.virtual_planted import BUGS
from bridge.lab.virtual_prove import BUG_CPU_S, Failure, Setting, Total

EVER = 10**9
REPORT_EVERY_S = 30.0

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def prove(
    seed: Annotated[int, typer.Argument(help="The first seed.")] = 0,
    seeds: Annotated[int | None, typer.Option(help="How many seeds to play; 1 without --for.")] = None,
    hours: Annotated[float, typer.Option(help="Hours of virtual time for each; the last 25 minutes are calm.")] = 3.0,
    minutes: Annotated[float | None, typer.Option("--for", help="Play seeds for so many minutes.")] = None,
    jobs: Annotated[int, typer.Option(help="On how many cores.")] = 2,
    tally: Annotated[Path | None, typer.Option(help="Add a line of JSON with the figures to this file.")] = None,
    file: Annotated[Path | None, typer.Option(help="Play the world that an earlier failure was written to.")] = None,
    bugs: Annotated[bool, typer.Option("--planted", help="Plant every bug instead: each must be caught.")] = False,
    wire: Annotated[bool, typer.Option("--wire", help="Worlds of the whole service on the wire, in memory.")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="Thrice as fast, as machine code; needs gcc.")] = False,
) -> None:
    """Play seeded worlds on virtual time and check the promises of the limit after every step.

    A world that breaks one is made short, shown, and written to `world-SEED.yaml` for `--file`. With `--compiled` the
    very same sources are compiled first, and the first worlds must come out to the byte as they do uncompiled.
    """
    virtual_prove.quiet()
    if compiled:
        _play_compiled()
    if bugs:
        _plant_all(jobs)
        return
    if file is not None:
        worlds, seeds = iter([virtual_prove.read(file)]), 1
    else:
        seeds = seeds if seeds is not None else 1 if minutes is None else EVER
        worlds = (Setting(number, hours, wire=wire) for number in itertools.islice(itertools.count(seed), seeds))
    proven = virtual_prove.commit() + (", on the wire" if wire else "")
    until_s = None if minutes is None else time.monotonic() + minutes * 60
    total = virtual_prove.play_all(worlds, min(jobs, seeds), until_s, _Progress())
    if tally is not None:
        virtual_prove.keep(total, tally, seed, proven)
    out.print(f"{proven}, from seed {seed}: {total.sentence()}", markup=False, highlight=False)
    if total.failures:
        _explain(total.failures[0])
        raise typer.Exit(1)


class _Progress:
    """Says every half minute how far it is."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + REPORT_EVERY_S

    def __call__(self, total: Total) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s += REPORT_EVERY_S
            out.print(total.sentence(), markup=False, highlight=False)


def _explain(failure: Failure) -> None:
    def say(text: str) -> None:
        err.print(text, style="red", markup=False, highlight=False)

    say(f"seed {failure.world.seed}, {failure.at_s:.3f} s: {failure.why}")
    short = virtual_prove.shorten(failure)
    path = Path(f"world-{short.world.seed}.yaml")
    virtual_prove.write(short, path)
    for line in virtual_prove.history(short)[-40:]:
        out.print(line, markup=False, highlight=False)
    say(f"the shortest found: seed {short.world.seed}, {short.at_s:.3f} s: {short.why}")
    say(f"play it again with: gridlimit prove --file {path}")


def _play_compiled() -> NoReturn:
    try:
        code = virtual_compiled.prove([argument for argument in sys.argv[2:] if argument != "--compiled"])
    except virtual_compiled.Uncompiled as problem:
        err.print(str(problem), style="red", markup=False, highlight=False)
        code = 1
    raise typer.Exit(code)


def _plant_all(jobs: int) -> None:
    missed = 0
    for bug, failure, cpu_s in virtual_prove.catch_all(jobs):
        if failure is None:
            missed += 1
            err.print(f"MISSED {bug.name} in {cpu_s:.0f} s", style="red", markup=False, highlight=False)
        else:
            found = f"caught {bug.name} by seed {failure.world.seed} in {cpu_s:.1f} s: {failure.why}"
            out.print(found, markup=False, highlight=False)
    out.print(
        f"{len(BUGS) - missed} of {len(BUGS)} planted bugs were caught, each within {BUG_CPU_S:.0f} s of CPU time"
    )
    if missed:
        raise typer.Exit(1)
