"""Start after SIGKILL, with a day of journal: until the limit is enforced and the listeners are open."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Row, spread
from benchmarks.rig import tell
from benchmarks.service import Service
from bridge.core import codec
from bridge.core.messages import (
    Alive,
    ChargerBooted,
    ChargerConnected,
    Event,
    LinkChanged,
    MeterSampled,
    SetpointReceived,
)
from bridge.core.quantities import Now
from bridge.engine import SNAPSHOT_EVERY, Engine
from bridge.settings import load, plan
from bridge.store.database import Database
from bridge.store.journal import Journal
from bridge.timers import boot_id, system_clock

ROUNDS = 5
GOAL_S = 2.0
RECORDS_OF_A_DAY = 7_000_000  # of 5,000 chargers that sample every minute; what is written here is said in the row
WRITTEN = 200_000
AT_ONCE = 20_000


async def measure(chargers: int) -> Row:
    """A journal as long as can be written soon, and the longest tail that has no snapshot yet."""
    with tempfile.TemporaryDirectory(prefix="gridlimit-bench-") as folder:
        service = Service(Path(folder), chargers)
        await asyncio.to_thread(_fill, service.config)
        size = sum(file.stat().st_size for file in (service.folder / "data").iterdir())
        tell(f"journal of {size / 2**20:.0f} MiB written")
        took_s, inside_s = [], []
        for _ in range(ROUNDS):
            _keep(service, "aside")
            took_s.append(await service.start())
            status = service.status()
            assert status["limit"] == {"power_w": chargers * 9_000, "source": "setpoint"}, status["limit"]
            service.end(signal.SIGKILL)
            _keep(service, "back")
            inside_s.append(float(re.findall(r"seconds=([\d.]+)", service.log.read_text())[-1]))
            tell(f"ours: {took_s[-1]:.2f} s, of which {inside_s[-1]:.2f} s from its first line on")
        floor = spread(await asyncio.to_thread(_imports_and_rows, service.folder / "data" / "bridge.db")).p50
    ours = spread(took_s)
    note = (
        f"{WRITTEN:,} records, {SNAPSHOT_EVERY - 1:,} of them after the newest snapshot; p50 of its own clock"
        f" {spread(inside_s).p50:.2f} s, the rest is starting Python and reading the configuration; floor: Python,"
        " the same imports, and reading the same rows. How long the journal is matters little: what is older than the"
        " newest snapshot is not read"
    )
    reached = ours.p50 <= GOAL_S
    return Row("restart", chargers, "s", ours, goal=f"≤ {GOAL_S:g} s", reached=reached, floor=floor, note=note)


def _keep(service: Service, where: str) -> None:
    """Let every start find the same tail: set the file aside before a start, and bring it back after it."""
    data, kept = service.folder / "data", service.folder / "kept"
    command = ["cp", "-r", "--reflink=auto", str(data), str(kept)] if where == "aside" else ["mv", str(kept), str(data)]
    if where == "back":
        subprocess.run(["rm", "-rf", str(data)], check=True)  # noqa: S603, S607  our own temporary folder
    subprocess.run(command, check=True)  # noqa: S603  likewise


def _fill(config: Path) -> None:
    settings = load(config, {})
    settings.data_dir.mkdir(exist_ok=True)
    database = Database(settings.data_dir / "bridge.db")
    journal = Journal(database)
    serials = [entry.serial for entry in settings.chargers]
    clock = system_clock()
    for _ in range(WRITTEN // AT_ONCE):
        journal.append([codec.record(event, clock) for event in _samples(serials, AT_ONCE, clock)])
    engine = Engine(_Tail(journal), system_clock, lambda _: None, _failed, lambda _: None)
    engine.start(plan(settings), boot_id())
    first: list[Event] = [LinkChanged(1)]
    first += [event for serial in serials for event in (ChargerConnected(serial), ChargerBooted(serial, "Bench", "1"))]
    first += [SetpointReceived(1, "bench", len(serials) * 9_000.0, len(serials) * 9_000), Alive()]
    for event in (*first, *_samples(serials, len(serials), clock)):
        engine.submit(event)
    engine.flush()
    engine.snapshot()
    for event in _samples(serials, SNAPSHOT_EVERY - 50, clock):
        engine.submit(event)
    engine.flush()
    database.close()


class _Tail(Journal):
    """The same journal, seen by an engine that starts: nothing before it is replayed."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal._database)  # noqa: SLF001  a journal of the benchmark's own
        self._since = self.last_sequence

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        return super().tail(max(after, self._since))


def _failed(why: str) -> None:
    raise RuntimeError(why)


def _samples(serials: list[str], number: int, clock: Now) -> list[Event]:
    return [
        MeterSampled(serials[place % len(serials)], clock.utc_ms + place, 4_000 + place % 900, 230_000, 18_000, place)
        for place in range(number)
    ]


FLOOR = """
import json, sys
import bridge.app, bridge.cli
from bridge.store.database import Database
from pathlib import Path
database = Database(Path(sys.argv[1]))
((after, state),) = database.rows("SELECT sequence, state FROM snapshot ORDER BY sequence DESC LIMIT 1")
json.loads(state)
for (record,) in database.rows("SELECT record FROM journal WHERE sequence > ?", (after,)):
    json.loads(record)
"""


def _imports_and_rows(path: Path) -> list[float]:
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", FLOOR, str(path)], check=True, env=dict(os.environ))  # noqa: S603  our own
        took_s.append(time.monotonic() - began)
    return took_s
