"""A seeded depot on the wire: the whole service, chargers and a control centre on virtual time, linked in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import tempfile
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from pathlib import Path
from typing import Any, ClassVar

import yaml

from bridge.app import App
from bridge.core.fallback import LinkState
from bridge.lab.charger import Action, Behaviour, SimulatedCharger
from bridge.lab.series4 import Series4Unit
from bridge.lab.station201 import Station201
from bridge.lab.telegrams import ACTIVATION_CON, ACTIVATION_TERMINATION
from bridge.lab.virtual import HOUR_MS, Tally, Violation
from bridge.lab.virtual_network import HOST, OWNER, Clock, VirtualLoop
from bridge.lab.wire_centre import Command, Order, WireCentre
from bridge.settings import load

IEC104_PORT, OCPP_PORT = 2404, 9000
SETPOINT_IOA = 100
CAPACITY_W, MINIMUM_W = 100_000, 6_000
SETPOINTS, CALM_W = (0, 6_000, 12_000, 30_000, 90_000), 60_000
CALM_S = 20 * 60.0  # at the end of a run nothing goes wrong, and the last setpoint must be reached
CHECK_EVERY_S = 0.5
TOLERANCE_W = 200
CONFESSED_S = 10.0  # what a charger that ignored its limit takes to obey it
STOPPED_S = 120.0
RAM = Path("/dev/shm")  # noqa: S108  a folder for this world alone is made there

WIRE_FAULTS: dict[str, float] = {
    "split": 0.3,  # what is written arrives in two pieces
    "twice": 0.002,  # and sometimes twice
    "cut": 0.3,  # a connection is reset from between
    "stall": 0.3,  # nothing comes through in one direction for a while
    "vanish": 0.3,  # a charger is silent without a FIN, and comes back
    "leave": 0.2,
    "reboot": 0.2,
    "forget": 0.2,
    "refuses": 0.2,
    "late": 0.2,
    "never": 0.2,
    "ignores": 0.1,
    "hang_up": 0.3,  # the control centre goes
    "kill": 0.5,
}
"""Every kind of fault, and its highest probability per occasion."""

NETWORK_FAULTS = ("split", "twice", "cut", "stall")
BEHAVIOURS = {"refuses": Behaviour.REFUSES, "late": Behaviour.LATE, "never": Behaviour.NEVER}
ACTIONS = {"vanish": Action.VANISH, "leave": Action.LEAVE, "reboot": Action.REBOOT, "forget": Action.FORGET}


class WireWorld:
    """One seeded depot; `run` plays it and raises `Violation` on the first broken promise, as `virtual.World` does.

    The service is all of `bridge.app` but its web server, on a data folder that outlives its kills. What chargers hold
    and draw is read off them; what was promised to the control centre is what was on its wire.
    """

    kinds: ClassVar = tuple(WIRE_FAULTS)

    def __init__(
        self,
        seed: int,
        hours: float,
        without: frozenset[str] = frozenset(),
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.tally = Tally(seed)
        self._chance = random.Random(seed)
        self._clock = Clock()
        self._born_s = self._clock.now_s
        self._hours, self._trace = hours, trace
        draw = self._chance.random
        self._faults = {kind: draw() * highest if draw() < 0.7 else 0.0 for kind, highest in WIRE_FAULTS.items()}
        for kind in without:
            self._faults[kind] = 0.0
        self._loop = VirtualLoop(self._clock, self._chance)
        self._network = self._loop.network
        self._app: App | None = None
        self._lives = 0
        self._chargers: list[SimulatedCharger] = []
        self._forgotten: set[str] = set()
        self._confesses_s: dict[str, float] = {}
        self._calm = False
        self._possible: list[float] = []
        self._confirmed: float | None = None
        self._reached: set[float] = set()
        self._crashed: list[str] = []

    @property
    def now_ms(self) -> int:
        """How long it has been played."""
        return round((self._clock.now_s - self._born_s) * 1000)

    def run(self) -> Tally:
        """Play to the end."""
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        ram = RAM if os.access(RAM, os.W_OK) else None
        try:
            with (
                tempfile.TemporaryDirectory(prefix="gridlimit-wire-", dir=ram, ignore_cleanup_errors=True) as folder,
                self._clock.everywhere(),
                asyncio.Runner(loop_factory=lambda: self._loop) as runner,
            ):
                runner.run(self._play(Path(folder)))
        finally:
            logging.disable(disabled)
        self.tally.hours = self.now_ms / HOUR_MS
        self.tally.faults.update(self._network.faults)
        return self.tally

    # What is drawn once

    def _configure(self, folder: Path) -> Path:
        draw = self._chance
        chargers: list[dict[str, Any]] = [
            {"serial": f"S4-{number:04d}", "charger_profile": "series4-ultra"} for number in range(draw.randint(1, 3))
        ]
        chargers += [
            {"serial": f"CS-{number:04d}", "charger_profile": "native-201", "floor_w": draw.choice([0, 4_140])}
            for number in range(draw.randint(1, 3))
        ]
        hold_s = draw.choice([None, 0, 60, 300])
        document = {
            "site": {
                "name": "wire",
                "capacity_w": CAPACITY_W,
                "min_limit_w": MINIMUM_W,
                "allow_zero": True,
                "at_start_w": draw.choice([CAPACITY_W, 10_000]),
            },
            "iec104": {"host": HOST, "port": IEC104_PORT, "common_address": 1, "dso_profile": "default"},
            "fallback": {"hold_s": hold_s, "limit_w": draw.choice([0, 10_000, 25_000]), "on_return": "keep_fallback"},
            "ocpp": {"host": HOST, "port": OCPP_PORT},
            "chargers": chargers,
            "http": {"host": HOST, "port": 0},
            "data_dir": "data",
        }
        path = folder / "site.yaml"
        path.write_text(yaml.safe_dump(document))
        url = f"ws://{HOST}:{OCPP_PORT}/"
        makes: dict[str, Callable[[str, str], SimulatedCharger]] = {"S4": Series4Unit, "CS": Station201}
        self._chargers = [makes[each["serial"][:2]](url, each["serial"]) for each in chargers]
        return path

    # Time

    async def _play(self, folder: Path) -> None:
        self._loop.set_exception_handler(self._crash)
        configuration = self._configure(folder)
        if self._faults["split"]:
            self._network.splits = self._faults["split"]
        self._network.repeats = self._faults["twice"]
        await self._start(configuration)
        working: list[Coroutine[Any, Any, None]] = [charger.run() for charger in self._chargers]
        working += [self._charger_trouble(charger) for charger in self._chargers]
        working += [self._control_centre(), self._line_trouble(), self._kills(configuration)]
        tasks = [asyncio.create_task(each) for each in working]
        end_s = self._born_s + self._hours * 3600
        try:
            while self._clock.now_s < end_s:
                await asyncio.sleep(CHECK_EVERY_S)
                for task in tasks:
                    if task.done():
                        task.result()
                self._check()
                if not self._calm and self._clock.now_s >= end_s - CALM_S:
                    self._be_calm()
            self._check_peace()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOPPED_S)
            if self._app is not None:
                await asyncio.wait_for(self._app.stop(), STOPPED_S)

    async def _pause(self, low_s: float, high_s: float) -> None:
        await asyncio.sleep(self._chance.uniform(low_s, high_s))

    def _say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.now_ms / 1000:10.3f} s  {text}")

    def _strikes(self, kind: str) -> bool:
        if self._calm or self._chance.random() >= self._faults[kind]:
            return False
        if kind not in NETWORK_FAULTS:
            self.tally.faults[kind] += 1  # the network counts its own
        self._say(kind)
        return True

    def _crash(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self._app is not None:
            self._crashed.append(f"{context.get('message')}: {context.get('exception')!r}")

    # The service

    async def _start(self, configuration: Path) -> None:
        self._lives += 1
        context = copy_context()
        context.run(OWNER.set, f"service-{self._lives}")
        self._app = await self._loop.create_task(self._serve(configuration), context=context)

    async def _serve(self, configuration: Path) -> App:
        app = App(load(configuration, {}))
        setattr(app, "web", _NoWeb())  # noqa: B010  whose port would be a real one
        await app.start()
        return app

    async def _kills(self, configuration: Path) -> None:
        while True:
            await self._pause(120, 1_800)
            if not self._strikes("kill"):
                continue
            app, self._app = self._app, None
            assert app is not None, "there is one service at a time"  # noqa: S101  a mistake of the world
            for name in ("submit", "flush"):
                setattr(app.engine, name, lambda *_: None)
            await self._loop.kill(f"service-{self._lives}")
            for database in (app._database, app._events_database, app._trace_database):  # noqa: SLF001  a kill frees all
                if database is not None:
                    database.close()
            await self._pause(0.5, 60)
            await self._start(configuration)

    # What goes wrong

    async def _charger_trouble(self, charger: SimulatedCharger) -> None:
        await self._pause(0, 30)
        charger.start_session()
        while True:
            await self._pause(20, 600)
            if self._calm:
                return
            charger.set_demand(self._chance.choice([0, 7_000, 22_000, 50_000]))
            if self._chance.random() < 0.2:
                charger.stop_session()
            else:
                charger.start_session()
            for kind, action in ACTIONS.items():
                keeps_all = isinstance(charger, Series4Unit)  # its limit is in flash, as its charger profile says
                if self._strikes(kind) and not (keeps_all and action is Action.FORGET):
                    charger.act(action)
                    if action is Action.FORGET:
                        charger.booted = False  # the service cannot know before it says so
                        self._forgotten.add(charger.serial)
                    await self._pause(1, 300)
                    charger.act(Action.RETURN)
            for kind, behaviour in BEHAVIOURS.items():
                if self._strikes(kind):
                    await self._misbehave(charger, behaviour)
            if self._strikes("ignores"):
                await self._misbehave(charger, Behaviour.IGNORES)

    async def _misbehave(self, charger: SimulatedCharger, behaviour: Behaviour) -> None:
        charger.behave(behaviour, self._chance.uniform(1, 40))
        await self._pause(30, 300)
        if behaviour is Behaviour.LATE:
            # What it has not done yet it never does: a charger does things in the order it was told.
            charger.act(Action.LEAVE)
            await self._pause(1, 10)
            charger.act(Action.RETURN)
        charger.behave(Behaviour.OBEYS)
        if behaviour is Behaviour.IGNORES:
            self._confesses_s[charger.serial] = self._clock.now_s + CONFESSED_S

    async def _line_trouble(self) -> None:
        while True:
            await self._pause(5, 60)
            ends = list(self._network.ends)
            if ends and self._strikes("cut"):
                self._network.cut(self._chance.choice(ends))
            elif ends and self._strikes("stall"):
                self._network.stall(self._chance.choice(ends), self._chance.uniform(1, 60))

    # The control centre

    async def _control_centre(self) -> None:
        while True:
            centre = WireCentre(HOST, IEC104_PORT)
            with contextlib.suppress(OSError, TimeoutError, EOFError):
                await centre.connect()
                await self._command(centre)
            await centre.close()
            await self._pause(1, 20 if self._calm else 400)

    async def _command(self, centre: WireCentre) -> None:
        while not centre.ended:
            if self._strikes("hang_up"):
                return
            value = float(CALM_W if self._calm else self._chance.choice(SETPOINTS))
            if self._calm and value in self._reached:
                await asyncio.sleep(1.0)
                continue
            self._possible.append(value)
            self._confirmed = None
            self._reached.discard(value)
            self.tally.setpoints += 1
            answer = await centre.ask(Order(Command.FLOAT, SETPOINT_IOA, value).asdu(), within_s=20.0)
            self._say(f"setpoint {value:.0f} W: {answer}")
            # What stood in a stall may be the answer to the command before.
            confirms = answer is not None and answer.cause == ACTIVATION_CON and answer.value == value
            if answer is not None and confirms and not answer.negative:
                self._possible, self._confirmed = [value], value
            over = await centre.seen(lambda it: it.cause == ACTIVATION_TERMINATION, self._chance.uniform(5, 120))
            if over is not None and over.value == value:
                self.tally.terminations += 1
                self._reached.add(value)
            centre.received.clear()

    # What must hold

    def _check(self) -> None:
        app = self._app
        self.tally.steps += 1
        if self._crashed:
            raise Violation(f"nobody caught this: {self._crashed[0]}")
        if app is None:
            return
        if app.failure is not None:
            raise Violation(app.failure)
        site, now_s = app.engine.site, self._clock.now_s
        for charger in self._chargers:
            if charger.booted:
                self._forgotten.discard(charger.serial)
            counted_w = site.chargers[charger.serial].worst_w
            if charger.serial not in self._forgotten and charger.limit_w() > counted_w:
                raise Violation(f"{charger.serial} holds {charger.limit_w()} W and is counted at {counted_w} W")
            lies = charger.behaviour is Behaviour.IGNORES or now_s < self._confesses_s.get(charger.serial, 0.0)
            draws_w = charger.power.power_w(now_s)
            if not lies and charger.serial not in self._forgotten and draws_w > counted_w + TOLERANCE_W:
                raise Violation(f"{charger.serial} draws {draws_w:.0f} W and is counted at {counted_w} W")
        newest = site.commanded.newest
        if self._possible and newest is not None and newest.value not in self._possible:
            raise Violation(f"{newest.value:.0f} W were accepted last, it ought to be one of {self._possible}")
        holds = site.link.state in (LinkState.CONNECTED, LinkState.HOLD)
        if holds and self._confirmed is not None and site.limit.power_w > self._confirmed:
            raise Violation(f"{site.limit} is in force, {self._confirmed:.0f} W were confirmed")

    def _be_calm(self) -> None:
        self._calm = True
        self._network.splits = self._network.repeats = 0.0
        for charger in self._chargers:
            charger.behave(Behaviour.OBEYS)
            charger.act(Action.RETURN)
            charger.start_session()
            charger.set_demand(charger.power.maximum_w)

    def _check_peace(self) -> None:
        assert self._app is not None, "nobody kills in the calm"  # noqa: S101  a mistake of the world
        site, wanted_w = self._app.engine.site, CALM_W
        self.tally.orders = site.orders
        if wanted_w not in self._reached or site.limit.power_w != wanted_w:
            raise Violation(f"no calm: {wanted_w} W were not reached, {site.limit} is in force")
        for charger in self._chargers:
            known = site.chargers[charger.serial]
            if not known.connected or not known.settled(site.plans[charger.serial]) or known.disobeys:
                raise Violation(f"no calm: {known}")
        granted_w = sum(known.grant_w or 0 for known in site.chargers.values())
        if granted_w < min(wanted_w, sum(charger.power.maximum_w for charger in self._chargers)) * 9 // 10:
            raise Violation(f"no calm: {granted_w} W are granted of {wanted_w} W")


class _NoWeb:
    """Stands where the web server does."""

    host, port = HOST, 0

    async def open(self) -> None:
        """Nobody asks."""

    async def close(self) -> None:
        """Nobody asked."""
