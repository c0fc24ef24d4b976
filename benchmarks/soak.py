"""The long run: setpoints, link cuts and reconnects, and nothing of the service may grow or drift."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.control import Helper
from benchmarks.figures import spread
from benchmarks.master import Master
from benchmarks.rig import ALL_LIMITED_S, HIGHEST_W, LOWEST_W, connect, quiet, tell
from benchmarks.service import Service, cpu_s_of, descriptors_of, rss_bytes_of

LOOK_EVERY_S = 10.0
TELL_EVERY_S = 300.0
SETPOINT_EVERY_S = 7.0
CUT_EVERY_S = 11.0
LINK_CUT_EVERY_S = 61.0
SAMPLE_EVERY_S = 60.0
WARM_UP = 0.25  # of the time, which memory is given to settle
MOST_GROWTH_KIB_PER_H = 20 * 1024
MOST_DRIFT = 2.0


@dataclass(slots=True)
class Look:
    """What was seen at one moment."""

    seconds: float
    rss_kib: float
    descriptors: int
    tasks: int
    cpu_s: float
    confirm_ms: float


@dataclass(slots=True)
class Report:
    """All that was seen, and what is wrong with it."""

    chargers: int
    seconds: float
    setpoints: int = 0
    cuts: int = 0
    link_cuts: int = 0
    looks: list[Look] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def judge(self) -> None:
        """Compare the last quarter with the first after warming up."""
        looks = [look for look in self.looks if look.seconds >= self.seconds * WARM_UP]
        if len(looks) < 8:
            return
        slope = _slope([(look.seconds, look.rss_kib) for look in looks]) * 3600
        if slope > MOST_GROWTH_KIB_PER_H:
            self.problems.append(f"memory grows by {slope:.0f} KiB an hour")
        quarter = len(looks) // 4
        first, last = looks[:quarter], looks[-quarter:]
        if max(look.descriptors for look in last) > max(look.descriptors for look in first) + 20:
            self.problems.append("file descriptors grow")
        if max(look.tasks for look in last) > max(look.tasks for look in first) + 20:
            self.problems.append("tasks grow")
        before, after = (spread([look.confirm_ms for look in part]).p50 for part in (first, last))
        if after > MOST_DRIFT * before + 1:
            self.problems.append(f"confirmations drift from {before:.1f} to {after:.1f} ms")

    def text(self) -> str:
        """The report in words."""
        looks = self.looks[len(self.looks) // 4 :] or self.looks
        slope = _slope([(look.seconds, look.rss_kib) for look in looks]) * 3600 if len(looks) > 1 else 0.0
        confirmed = spread([look.confirm_ms for look in self.looks])
        first, last = self.looks[0], self.looks[-1]
        lines = [f"{self.chargers:,} chargers for {self.seconds:.0f} s: {self.setpoints} setpoints"]
        lines += [f"cut: {self.cuts} connections of chargers, {self.link_cuts} links"]
        lines += [f"memory {first.rss_kib / 1024:.0f} -> {last.rss_kib / 1024:.0f} MiB, {slope / 1024:+.1f} MiB/h"]
        lines += [f"descriptors {first.descriptors} -> {last.descriptors}, tasks {first.tasks} -> {last.tasks}"]
        lines += [f"confirmations p50 {confirmed.p50:.1f}, p99 {confirmed.p99:.1f}, max {confirmed.worst:.1f} ms"]
        lines += [f"CPU {(last.cpu_s - first.cpu_s) / max(1.0, last.seconds - first.seconds):.0%} of a core"]
        return "\n".join(lines + [f"PROBLEM: {problem}" for problem in self.problems])


def _slope(points: list[tuple[float, float]]) -> float:
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x if spread_x else 0.0


async def play(chargers: int, seconds: float) -> Report:
    """Run for so long."""
    report = Report(chargers, seconds)
    with tempfile.TemporaryDirectory(prefix="gridlimit-soak-") as data:
        async with Service(Path(data), chargers) as service, Helper("benchmarks.fleet") as fleet:
            await fleet.ask("expect", finals=chargers, each_once=True)
            await connect(fleet, service.ocpp_port, chargers, ours=True)
            await fleet.ask("wait", within_s=ALL_LIMITED_S)
            await quiet(service)
            await _live(service, fleet, report)
    report.judge()
    return report


def write(report: Report, folder: Path) -> None:
    """Keep the report as text, JSON and, where matplotlib is installed, a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "soak.txt").write_text(report.text() + "\n")
    (folder / "soak.json").write_text(json.dumps(asdict(report)) + "\n")
    _draw(report, folder / "soak.png")


async def _live(service: Service, fleet: Helper, report: Report) -> None:
    draw, began = random.Random(1), time.monotonic()
    master = await Master.connect(service.iec104_port)
    due = {"setpoint": 0.0, "cut": CUT_EVERY_S, "link": LINK_CUT_EVERY_S, "sample": 1.0, "look": 0.0}
    confirm_ms = 0.0
    while (elapsed := time.monotonic() - began) < report.seconds:
        act = min(due, key=lambda name: due[name])
        if due[act] > elapsed:
            await asyncio.sleep(min(due[act] - elapsed, report.seconds - elapsed))
            continue
        if act == "setpoint":
            limit_w = report.chargers * draw.randrange(LOWEST_W, HIGHEST_W)
            sent_ns, confirmed_ns, _ = await master.setpoint(limit_w)
            confirm_ms = (confirmed_ns - sent_ns) / 1e6
            report.setpoints += 1
        elif act == "cut":
            report.cuts += (await fleet.ask("cut", number=max(1, report.chargers // 50)))["cut"]
        elif act == "link":
            master.close()
            await asyncio.sleep(1.0)
            master = await Master.connect(service.iec104_port)
            report.link_cuts += 1
        elif act == "sample":
            await fleet.ask("sample_once")
        else:
            report.looks.append(_look(service, elapsed, confirm_ms))
        due[act] += {
            "setpoint": SETPOINT_EVERY_S,
            "cut": CUT_EVERY_S,
            "link": LINK_CUT_EVERY_S,
            "sample": SAMPLE_EVERY_S,
            "look": LOOK_EVERY_S,
        }[act]
    master.close()


def _look(service: Service, elapsed: float, confirm_ms: float) -> Look:
    pid = service.pid
    seen = Look(
        elapsed,
        rss_bytes_of(pid) / 1024,
        descriptors_of(pid),
        int(service.status().get("process", {}).get("tasks", 0)),
        cpu_s_of(pid),
        confirm_ms,
    )
    if elapsed % TELL_EVERY_S < LOOK_EVERY_S:
        tell(f"{elapsed:.0f} s: {seen.rss_kib / 1024:.0f} MiB, {seen.descriptors} descriptors")
    return seen


def _draw(report: Report, path: Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415  drawn only where it is installed
    except ImportError:
        return
    minutes = [look.seconds / 60 for look in report.looks]
    figure = Figure(figsize=(8, 7), layout="constrained")
    for axes, (name, values) in zip(
        figure.subplots(3, 1, sharex=True),
        (
            ("memory, MiB", [look.rss_kib / 1024 for look in report.looks]),
            ("descriptors", [look.descriptors for look in report.looks]),
            ("confirmation, ms", [look.confirm_ms for look in report.looks]),
        ),
        strict=True,
    ):
        axes.plot(minutes, values)
        axes.set_ylabel(name)
        axes.grid(visible=True, alpha=0.3)
    figure.supxlabel("minutes")
    figure.savefig(path, dpi=120)
