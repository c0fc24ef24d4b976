"""The source-to-sink test a grid operator signs: every point, every command, the link cut and the step response.

The service itself runs, with its own configuration; an engineer sits beside it, on the telephone with the control
centre. What is shown, heard and measured is written into one dated page. Test values carry SB (substituted), so that
nobody takes them for measurements, and every point is set back to what it was.
"""

from __future__ import annotations

import asyncio
import html as markup
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bridge.app import App
from bridge.core.messages import PointChanged, Reason, SetpointReceived, SwitchReceived
from bridge.core.points import Encoding, Point, PointKind, Quality, Signal
from bridge.iec104.listener import Listener
from bridge.iec104.outstation import ImagePoint
from bridge.iec104.requests import Command
from bridge.timers import system_clock

SAMPLE_S: Final = 0.2
POLL_S: Final = 0.05
_STEP_SHARE: Final = 0.6

Ask = Callable[[str], Awaitable[bool]]
"""Asks the engineer something that is answered by yes or no."""
Tell = Callable[[str], None]


class AcceptanceError(Exception):
    """The test cannot be held; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    chapter: str
    what: str
    expected: str
    seen: str
    passed: bool
    utc_ms: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The site at `after_s` seconds after the setpoint; powers in W, None before the first measurement."""

    after_s: float
    limit_w: int
    worst_case_w: int
    power_w: int | None


@dataclass(slots=True)
class Report:
    """What was tested, in order, and the step response."""

    site: str
    began_utc_ms: int
    checks: list[Check] = field(default_factory=list)
    step: list[Sample] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return bool(self.checks) and all(check.passed for check in self.checks)


class Acceptance:
    """Walks through the test at a running service. `patience_s` is how long the control centre has for each step."""

    def __init__(self, app: App, ask: Ask, tell: Tell, patience_s: float = 300.0, cut_s: float = 5.0) -> None:
        if not isinstance(app.outstation, Listener):
            raise AcceptanceError("iec104.stack: c104 cannot be examined: use iec104.stack: native")
        self._app, self._ask, self._tell = app, ask, tell
        self._patience_s, self._cut_s = patience_s, cut_s
        self._listener = app.outstation
        self._outstation = app.outstation.outstation
        self._decided: asyncio.Queue[tuple[Command, Reason | None]] = asyncio.Queue()
        self.report = Report(app.engine.site.plan.name, system_clock().utc_ms)

    async def walk(self) -> Report:
        """All chapters in order."""
        self._outstation.watch = lambda command, reason: self._decided.put_nowait((command, reason))
        try:
            self._tell("waiting for the control centre to start data transfer")
            if not await self._until(lambda: bool(self._outstation.started)):
                raise AcceptanceError(f"no control centre within {self._patience_s:g} s: is it allowed to connect?")
            await self._points()
            await self._commands()
            await self._link_cut()
            await self._step_response()
        finally:
            self._outstation.watch = None
        return self.report

    async def _points(self) -> None:
        """Set each monitored point to two values and ask whether the control centre sees them."""
        for image in [each for each in self._outstation.image.values() if not each.point.kind.is_command]:
            before, seen = (image.value, image.quality, image.utc_ms), True
            for value, shown in _test_values(image):
                self._publish(image.point, value, Quality.SUBSTITUTED)
                seen = await self._ask(f"{_named(image.point)}: does the control centre show {shown}, substituted?")
                if not seen:
                    break
            self._publish(image.point, before[0], before[1])
            self._note("Points", _named(image.point), "both test values shown", "yes" if seen else "no", seen)

    async def _commands(self) -> None:
        """Have the control centre send every command, what is to be refused among it, and judge what arrives."""
        for image in [each for each in self._outstation.image.values() if each.point.kind.is_command]:
            for what, wanted, accepted in self._cases(image.point):
                how = " (select, then execute)" if image.point.select_before_operate else ""
                self._tell(f"{_named(image.point)}: have the control centre send {what}{how}")
                decided = await self._decision(image.point, wanted)
                expected = "confirmed" if accepted else "refused"
                if decided is None:
                    self._note("Commands", f"{_named(image.point)}: {what}", expected, "nothing came in time", False)
                    continue
                command, reason = decided
                seen = "confirmed" if reason is None else f"refused: {reason.value}"
                self._note(
                    "Commands", f"{_named(image.point)}: {what}", expected,
                    f"{seen}, from {command.event.master}", (reason is None) is accepted,
                )  # fmt: skip

    def _cases(self, point: Point) -> Iterator[tuple[str, Callable[[SetpointReceived | SwitchReceived], bool], bool]]:
        """What to send, how it is recognized, and whether it must be confirmed."""
        plan = self._app.engine.site.plan
        if point.kind is PointKind.COMMAND:
            is_enable = point.signal is Signal.LIMIT_ENABLE
            for on in (False, True) if is_enable else (True, False):
                name = "ON" if on else "OFF"
                yield name, lambda event, on=on: isinstance(event, SwitchReceived) and event.on is on, True  # type: ignore[misc]
            return
        for limit_w, accepted in ((round(plan.capacity_w * _STEP_SHARE), True), (plan.min_limit_w // 2, False)):
            value = _wire_value(point, limit_w)
            about = point.per_unit * 1e-3 if point.wire_encoding is Encoding.NORMALIZED else max(1.0, limit_w * 1e-5)

            def recognized(
                event: SetpointReceived | SwitchReceived, limit_w: int = limit_w, about: float = about
            ) -> bool:
                is_setpoint = isinstance(event, SetpointReceived) and event.limit_w is not None
                return is_setpoint and abs((event.limit_w or 0) - limit_w) <= about  # type: ignore[union-attr]

            if not (limit_w == 0 and plan.allow_zero):
                yield f"{value:g} {point.unit}".strip(), recognized, accepted

    async def _link_cut(self) -> None:
        """End the link, record an event meanwhile, and see it acknowledged when the control centre is back."""
        self._tell(f"the link is cut now for {self._cut_s:g} s; the control centre should alarm and connect again")
        image = next(each for each in self._outstation.image.values() if not each.point.kind.is_command)
        engine = self._app.engine
        await self._until(lambda: not engine.due(system_clock()))  # what was commanded last is in force
        held = engine.site.limit
        began = time.monotonic()
        for link in list(self._listener.links):
            link.close("cut for the acceptance test")
        self._publish(image.point, image.value, image.quality)
        self._outstation.flush()
        sequence = self._outstation.events.last_sequence
        while time.monotonic() < began + self._cut_s:
            for link in list(self._listener.links):
                link.close("cut for the acceptance test")
            await asyncio.sleep(POLL_S)
        is_back = await self._until(lambda: bool(self._outstation.started))
        back_s = time.monotonic() - began
        seen = f"back after {back_s:.1f} s" if is_back else "not back in time"
        self._note("Link", "the control centre connects again", f"within {self._patience_s:g} s", seen, is_back)

        def is_delivered() -> bool:
            return any(session.acknowledged >= sequence for session in self._outstation.started)

        delivered = is_back and await self._until(is_delivered)
        what = "the event recorded while the link was cut is delivered"
        self._note("Link", what, "acknowledged", "acknowledged" if delivered else "not acknowledged", delivered)
        now_holds = engine.site.limit
        seen = f"{now_holds.power_w} W by {now_holds.source.value}"
        expected = f"{held.power_w} W held"
        self._note("Link", "the limit over the cut", expected, seen, now_holds.power_w <= held.power_w)

    async def _step_response(self) -> None:
        """Sample the site from a setpoint until the limit is reached."""
        plan = self._app.engine.site.plan
        points = [each.point for each in self._outstation.image.values() if each.point.kind is PointKind.SETPOINT]
        if not points:
            return
        limit_w = max(plan.min_limit_w, plan.capacity_w // 2)
        value = f"{_wire_value(points[0], limit_w):g} {points[0].unit}".strip()
        self._tell(f"step response: have the control centre send {value} to {_named(points[0])}")
        decided = await self._decision(points[0], lambda event: isinstance(event, SetpointReceived))
        began = time.monotonic()
        if decided is None or decided[1] is not None:
            self._note("Step response", value, "confirmed", "nothing was confirmed in time", False)
            return
        while (after_s := time.monotonic() - began) < self._patience_s:
            status = self._app.status()
            sample = Sample(after_s, status["limit"]["power_w"], status["worst_case_w"], status["power_w"])
            self.report.step.append(sample)
            if sample.worst_case_w <= sample.limit_w:
                break
            await asyncio.sleep(SAMPLE_S)
        last = self.report.step[-1]
        reached = last.worst_case_w <= last.limit_w
        seen = f"{last.worst_case_w} W after {last.after_s:.1f} s"
        self._note("Step response", value, f"at most {last.limit_w} W, proven", seen, reached)

    async def _decision(
        self, point: Point, wanted: Callable[[SetpointReceived | SwitchReceived], bool]
    ) -> tuple[Command, Reason | None] | None:
        """The next decision on a command to this point that is wanted, None if none comes in time."""
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    command, reason = await self._decided.get()
                    if command.address == point.address and wanted(command.event):
                        return command, reason
                    self._tell(f"  another command came: {command.event}")
        except TimeoutError:
            return None

    async def _until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + self._patience_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def _publish(self, point: Point, value: float, quality: Quality) -> None:
        self._listener.publish(PointChanged(point, value, quality, system_clock().utc_ms, report=True))

    def _note(self, chapter: str, what: str, expected: str, seen: str, passed: bool) -> None:
        self.report.checks.append(Check(chapter, what, expected, seen, passed, system_clock().utc_ms))
        self._tell(f"  {'passed' if passed else 'FAILED'}: {what}: {seen}")


def _named(point: Point) -> str:
    return f"{point.name or point.signal.value} ({point.address.common_address}/{point.address.ioa})"


def _wire_value(point: Point, limit_w: int) -> float:
    value = limit_w / point.per_unit
    return round(value) if point.wire_encoding is Encoding.SCALED else value


def _test_values(image: ImagePoint) -> list[tuple[float, str]]:
    """Two values of the core that can be told from each other, and how the control centre shows them."""
    point = image.point
    if point.kind is PointKind.SINGLE:
        return [(1.0, "ON"), (0.0, "OFF")]
    unit = 1.0 if point.signal is Signal.SETPOINT_MIRROR else point.per_unit
    shares = (0.25, 0.5) if point.wire_encoding is Encoding.NORMALIZED else (11, 22)
    return [(share * unit, f"{share:g} {point.unit}".strip()) for share in shares]


def html(report: Report) -> str:
    """The page to sign: verdict, every check, the step response as a plot, nothing from outside."""
    began = datetime.fromtimestamp(report.began_utc_ms / 1000, tz=UTC)
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td>{markup.escape(cell)}</td>" for cell in (_clock(check.utc_ms), check.chapter, check.what))
        + "".join(f"<td>{markup.escape(cell)}</td>" for cell in (check.expected, check.seen))
        + f'<td class="{"good" if check.passed else "bad"}">{"passed" if check.passed else "FAILED"}</td></tr>'
        for check in report.checks
    )
    failed = sum(not check.passed for check in report.checks)
    verdict = "passed" if report.passed else f"{failed} of {len(report.checks)} checks FAILED"
    title = markup.escape(f"Acceptance of {report.site}, {began:%Y-%m-%d}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body{font:10pt sans-serif}table{border-collapse:collapse}th,td{border:1px solid #999;padding:2px 6px;"
        "text-align:left}.good{background:#dfd}.bad{background:#fdd}svg{border:1px solid #999}</style></head>\n"
        f"<body><h1>{title}</h1>\n<p>Begun {began:%Y-%m-%d %H:%M:%S} UTC. Result: <b>{verdict}</b>.</p>\n"
        "<table><tr><th>UTC</th><th>Chapter</th><th>What</th><th>Expected</th><th>Seen</th><th>Result</th></tr>\n"
        f"{rows}\n</table>\n{_plot(report.step)}"
        "<p>Control centre: ____________________ &nbsp; Site: ____________________</p></body></html>\n"
    )


def _clock(utc_ms: int) -> str:
    return f"{datetime.fromtimestamp(utc_ms / 1000, tz=UTC):%H:%M:%S}"


def _plot(samples: list[Sample]) -> str:
    """Limit, worst case and measured power over time."""
    if not samples:
        return ""
    width, height = 720, 260
    longest_s = max(samples[-1].after_s, 1e-3)
    highest_w = max(1, *(max(each.limit_w, each.worst_case_w, each.power_w or 0) for each in samples))

    def line(colour: str, values: list[int | None]) -> str:
        places = [
            f"{each.after_s / longest_s * width:.1f},{height - value / highest_w * (height - 10):.1f}"
            for each, value in zip(samples, values, strict=True)
            if value is not None
        ]
        return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(places)}"/>'

    return (
        f'<h2>Step response</h2>\n<svg width="{width}" height="{height}" role="img">'
        + line("#c00", [each.limit_w for each in samples])
        + line("#06c", [each.worst_case_w for each in samples])
        + line("#090", [each.power_w for each in samples])
        + f"</svg>\n<p>0 to {longest_s:.1f} s, 0 to {highest_w} W. Red: limit in force. Blue: the most all chargers may"
        " draw. Green: measured.</p>\n"
    )
