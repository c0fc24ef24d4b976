"""The acceptance test against a control centre that does what it is told, and against one that does not."""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.acceptance import Acceptance, Report, html
from bridge.app import App
from bridge.settings import load
from tests.iec104.raw_master import RawMaster, asdu, ioa, setpoint

SITE = """
site: {name: Depot <Nord>, capacity_w: 100000, min_limit_w: 6000}
iec104: {port: 0, dso_profile: PROFILE, limits: {start_stop_per_minute: 1000}}
ocpp: {port: 0}
http: {port: 0}
fallback: {hold_s: 300, limit_w: 10000}
"""


class ControlCentre:
    """Connects again whenever the link is cut, and sends what it is told to."""

    def __init__(self, port: int, *, obeys: bool = True) -> None:
        self.port, self.obeys = port, obeys
        self.told: list[str] = []
        self.master: RawMaster | None = None
        self.values: dict[int, list[float]] = {}

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError):
                self.master = await RawMaster.connect(self.port)
                while True:
                    seen = await self.master.asdu(60)
                    if seen.type_id == 36:
                        for address, octets in seen.objects(12):
                            self.values.setdefault(address, []).append(struct.unpack_from("<f", octets)[0])
            await asyncio.sleep(0.05)

    def tell(self, line: str) -> None:
        self.told.append(line)
        found = re.search(r"/(\d+)\): have the control centre send (\S+)( \S+)?", line)
        found_step = re.search(r"send (\S+) \S+ to .*/(\d+)\)", line)
        if not self.obeys or self.master is None or not (found or found_step):
            return
        address, what = (int(found[1]), found[2]) if found else (int(found_step[2]), found_step[1])  # type: ignore[index]
        selects = "select" in line
        if what in ("ON", "OFF"):
            on = what == "ON"
            is_double = address == 11
            state = (2 if on else 1) if is_double else int(on)
            for select in (0x80, 0) if selects else (0,):
                body = ioa(address) + bytes((state | select,))
                self.master.send(asdu(46 if is_double else 45, 6, body))
        else:
            self.master.send(setpoint(float(what), address=address))


@asynccontextmanager
async def accepted(folder: Path, profile: str, *, obeys: bool = True) -> AsyncIterator[tuple[ControlCentre, Report]]:
    """A service, a control centre, and the test of the one by the other; where nobody obeys, patience is short."""
    path = folder / "site.yaml"
    path.write_text(SITE.replace("PROFILE", profile), encoding="utf-8")
    app = App(load(path, {}))
    await app.start()
    centre = ControlCentre(app.outstation.port, obeys=obeys)
    task = asyncio.create_task(centre.run())

    async def ask(_question: str) -> bool:
        await asyncio.sleep(0.02)
        return obeys

    try:
        yield centre, await Acceptance(app, ask, centre.tell, patience_s=20 if obeys else 0.3, cut_s=0.2).walk()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await app.stop()


@pytest.mark.parametrize("profile", ["default", "generic-charging-park"])
async def test_a_control_centre_that_does_what_it_is_told_passes_every_check(tmp_path: Path, profile: str) -> None:
    async with accepted(tmp_path, profile) as (centre, report):
        assert [(check.what, check.seen) for check in report.checks if not check.passed] == []
        assert report.passed
        assert {check.chapter for check in report.checks} == {"Points", "Commands", "Link", "Step response"}
        assert report.step
        power = 200 if profile == "default" else 23
        assert centre.values[power][:2] in ([11.0, 22.0], [0.0, 11.0]), "the test values were told"
        page = html(report)
        assert "Depot &lt;Nord&gt;" in page
        assert "polyline" in page
        assert "FAILED" not in page


async def test_a_control_centre_that_does_nothing_fails_every_check_it_is_needed_for(tmp_path: Path) -> None:
    async with accepted(tmp_path, "default", obeys=False) as (_, report):
        assert not report.passed
        failed = {check.chapter for check in report.checks if not check.passed}
        assert failed >= {"Points", "Commands", "Step response"}
        assert "FAILED" in html(report)
