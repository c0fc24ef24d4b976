"""`gridlimit prove`: plays seeds, keeps a tally, plants bugs, and makes the history of a failing seed short."""

from __future__ import annotations

import gc
import json
import multiprocessing
import shutil
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import yaml

from bridge.lab.virtual import CALM_MS, HOUR_MS, Tally, Violation, World
from bridge.lab.virtual_planted import BUGS, Bug, planted

if TYPE_CHECKING:
    from bridge.lab.virtual_wire import WireWorld

BUG_CPU_S = 60.0
BUG_HOURS = 2.0
SPIN_CPU_S = 10.0
HISTORY_LINES = 200
NEIGHBOURS = 40  # seeds that are tried for a shorter history
GARBAGE = 100_000
MADE_OF = "MADE_OF"  # in a compiled copy: the commit of its sources
PROVEN = ("bridge/core", "bridge/engine.py", "bridge/lab/virtual*.py")


@dataclass(frozen=True, slots=True)
class Setting:
    """What makes a world, the core's alone or that of the whole service on the wire: again, and the same happens."""

    seed: int
    hours: float
    without: tuple[str, ...] = ()
    wire: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A broken promise: in which world, when (seconds of virtual time), and what."""

    world: Setting
    at_s: float
    why: str


@dataclass(slots=True)
class Total:
    """What many worlds saw."""

    seeds: int = 0
    hours: float = 0.0
    cpu_s: float = 0.0
    steps: int = 0
    orders: int = 0
    setpoints: int = 0
    terminations: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, tally: Tally, cpu_s: float) -> None:
        """Count one more world."""
        self.seeds += 1
        self.cpu_s += cpu_s
        self.faults.update(tally.faults)
        for name in ("hours", "steps", "orders", "setpoints", "terminations"):
            setattr(self, name, getattr(self, name) + getattr(tally, name))

    def sentence(self) -> str:
        """The figures for a person."""
        rate = self.hours / self.cpu_s if self.cpu_s else 0.0
        return (
            f"{self.seeds} seeds, {self.hours:,.0f} site-hours, {self.faults.total():,} faults, {self.orders:,} orders,"
            f" {self.terminations:,} terminations, {len(self.failures)} violations,"
            f" {rate:.1f} site-hours per CPU-second"
        )


def quiet() -> None:
    """Say nothing of what the core logs in worlds that are made to go wrong; collect garbage seldom."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), logger_factory=structlog.ReturnLoggerFactory()
    )
    gc.set_threshold(GARBAGE)


def play(world: Setting, trace: Callable[[str], None] | None = None) -> tuple[Tally, Failure | None]:
    """Play one world to its end, or to the first broken promise."""
    played = None
    try:
        played = _kind(world)(world.seed, world.hours, frozenset(world.without), trace)
        return played.run(), None
    except (Violation, AssertionError) as violation:
        at_s = 0.0 if played is None else played.now_ms / 1000
        tally = Tally(world.seed) if played is None else played.tally
        return tally, Failure(world, at_s, f"{type(violation).__name__}: {violation}")
    except Exception as error:
        error.add_note(f"in {world}")
        raise


def _kind(world: Setting) -> type[World | WireWorld]:
    if not world.wire:
        return World
    from bridge.lab.virtual_wire import WireWorld  # noqa: PLC0415  brings the whole service along

    return WireWorld


def _timed(world: Setting) -> tuple[Tally, Failure | None, float]:
    begun_s = time.process_time()
    tally, failure = play(world)
    if failure is not None:
        tally.hours = failure.at_s / 3600
    return tally, failure, time.process_time() - begun_s


def play_all(
    worlds: Iterator[Setting], jobs: int, until_s: float | None, report: Callable[[Total], None] = lambda _: None
) -> Total:
    """Play these worlds on so many cores until they are over, one fails, or `until_s` on the monotonic clock."""
    total = Total()
    with multiprocessing.Pool(jobs, initializer=quiet) as pool:
        until = worlds if until_s is None else _until(worlds, until_s)
        for tally, failure, cpu_s in pool.imap_unordered(_timed, until):
            total.add(tally, cpu_s)
            if failure is not None:
                total.failures.append(failure)
                pool.terminate()
                break
            report(total)
    return total


def _until(worlds: Iterator[Setting], until_s: float) -> Iterator[Setting]:
    for world in worlds:
        if time.monotonic() >= until_s:
            return
        yield world


def catch(bug: Bug, cpu_s: float = BUG_CPU_S, first: int | None = None) -> tuple[Failure | None, float]:
    """The first world that catches the bug, beginning with the seed it is known by, and the CPU time it took."""
    begun_s = time.process_time()
    seed = bug.seed if first is None else first
    signal.signal(signal.SIGVTALRM, _spins)
    with planted(bug):
        while time.process_time() - begun_s < cpu_s:
            signal.setitimer(signal.ITIMER_VIRTUAL, SPIN_CPU_S)
            _, failure = play(Setting(seed, BUG_HOURS))
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if failure is not None:
                return failure, time.process_time() - begun_s
            seed += 1
    return None, time.process_time() - begun_s


def _spins(_number: int, _frame: object) -> None:
    raise Violation(f"a world of {BUG_HOURS:g} h takes {SPIN_CPU_S:g} s of computing: the core turns in a circle")


def _catch_place(place: int, first: int | None) -> tuple[int, Failure | None, float]:
    failure, cpu_s = catch(BUGS[place], first=first)
    return place, failure, cpu_s


def catch_all(jobs: int, first: int | None = None) -> Iterator[tuple[Bug, Failure | None, float]]:
    """Plant every bug, one after the other, and say which world caught it and the CPU time that took."""
    with multiprocessing.Pool(jobs, initializer=quiet) as pool:
        for place, failure, cpu_s in pool.imap_unordered(partial(_catch_place, first=first), range(len(BUGS))):
            yield BUGS[place], failure, cpu_s


def shorten(failure: Failure, cpu_s: float = 120.0) -> Failure:
    """The same or another broken promise with fewer kinds of faults and, where a neighbour has one, earlier."""
    begun_s, best = time.process_time(), failure
    for kind in _kind(failure.world).kinds:
        if time.process_time() - begun_s > cpu_s:
            return best
        found = play(replace(best.world, without=(*best.world.without, kind)))[1]
        if found is not None:
            best = found
    for seed in range(failure.world.seed + 1, failure.world.seed + NEIGHBOURS):
        if time.process_time() - begun_s > cpu_s:
            return best
        hours = (best.at_s * 1000 + CALM_MS + 1000) / HOUR_MS if "calm" not in best.why else best.world.hours
        found = play(replace(best.world, seed=seed, hours=hours))[1]
        if found is not None and found.at_s < best.at_s:
            best = found
    return best


def history(failure: Failure) -> list[str]:
    """The last events and effects before the promise was broken, one a line."""
    lines: deque[str] = deque(maxlen=HISTORY_LINES)
    play(failure.world, lines.append)
    return list(lines)


def write(failure: Failure, path: Path) -> None:
    """Keep a failing world in a file that `gridlimit prove --file` plays again."""
    document = {
        "world": asdict(failure.world) | {"without": list(failure.world.without)},
        "violation": {"at_s": failure.at_s, "why": failure.why},
        "history": history(failure),
    }
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=160, allow_unicode=True))


def read(path: Path) -> Setting:
    """The world of such a file. ValueError if it is none."""
    document: Any = yaml.safe_load(path.read_text())
    try:
        world = document["world"]
        return Setting(int(world["seed"]), float(world["hours"]), tuple(world["without"]), bool(world.get("wire")))
    except (KeyError, TypeError) as problem:
        raise ValueError(f"{path} holds no world: {problem!r}") from problem


def commit() -> str:
    """The commit that is proven, with a + where the work tree differs; `unknown` outside a repository."""
    git, here = shutil.which("git"), Path(__file__).parents[2]
    if (here / MADE_OF).exists():
        return (here / MADE_OF).read_text()
    if git is None:
        return "unknown"
    head = subprocess.run([git, "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False)  # noqa: S603  no input
    changed = subprocess.run([git, "diff", "--quiet", "HEAD", "--", *PROVEN], cwd=here, check=False)  # noqa: S603  nor here
    return (head.stdout.strip() or "unknown") + ("+" if changed.returncode else "")


def keep(total: Total, path: Path, first: int, proven: str) -> None:
    """Add a line to the tally: commit, seeds, hours, faults by kind, violations."""
    line = {
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": proven,
        "first_seed": first,
        "seeds": total.seeds,
        "hours": round(total.hours, 1),
        "cpu_s": round(total.cpu_s, 1),
        "steps": total.steps,
        "orders": total.orders,
        "setpoints": total.setpoints,
        "terminations": total.terminations,
        "faults": total.faults.total(),
        "faults_by_kind": dict(sorted(total.faults.items())),
        "violations": [asdict(failure) for failure in total.failures],
    }
    with path.open("a") as tally:
        tally.write(json.dumps(line) + "\n")
