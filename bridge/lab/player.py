"""Plays scenarios: a control centre behind a proxy that breaks the link, and somebody who reads the units' meters."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.lab.control_centre import Answer, ControlCentre, ControlCentreError
from bridge.lab.fault_proxy import Fault, FaultProxy
from bridge.lab.http_client import HttpError, fetch
from bridge.lab.judgement import Judgement, Observed, Reading, Verdict, judge
from bridge.lab.replicas import addresses
from bridge.lab.scenario_file import CHARGER_ORDERS, Action, Expectation, Pace, Run, Scenario, SetUp, Step
from bridge.lab.telegrams import Telegram, TypeId

READ_EVERY_S = 0.1
JUDGE_EVERY_S = 0.1
SETTLE_S = 90.0
SETTLE_BY_HAND_S = 900.0
LINK_S = 60.0
SITE_POWER_IOA = 200
CHARGER_POWER_IOA = 1000
CHARGER_STRIDE = 10
_MEASURED = {TypeId.M_ME_NC_1, TypeId.M_ME_TF_1}


class SetUpError(Exception):
    """What a scenario begins with could not be brought about; the text says what is missing."""


class OwnBridge(Protocol):
    """The process of a bridge that is there to be killed."""

    async def kill_bridge(self) -> None:
        """End it without warning."""

    async def start_bridge(self) -> None:
        """Start it again, and wait until it is healthy."""


@dataclass(frozen=True, slots=True)
class Target:
    """The bridge to play against: its outstation, and the control APIs of its simulated chargers if there are any.

    Charger n of a scenario is the nth of them all, in the order in which the APIs are named. `bridge` is there only
    where the player may kill it, and where it was configured as the scenario says. With `proxy_url` the line is broken
    by a fault proxy that stands there, whose control API that is; otherwise by one of the player's own.
    """

    host: str
    port: int
    chargers_urls: tuple[str, ...] = ()
    common_address: int = 1
    proxy_url: str | None = None
    pace: Pace = field(default_factory=Pace)
    bridge: OwnBridge | None = None


@dataclass(slots=True)
class Check:
    """One expectation being judged since `begun_s` (monotonic) and `begun_utc_ms`."""

    expected: Expectation
    begun_s: float
    begun_utc_ms: int
    judgement: Judgement = field(default_factory=lambda: Judgement(Verdict.PENDING, ""))


@dataclass(frozen=True, slots=True)
class Result:
    """What one run of a scenario showed."""

    scenario: Scenario
    run: Run
    verdict: Verdict
    measured: str
    seconds: float
    checks: tuple[Check, ...]


class Player:
    """One control centre at one target; `tell` is given a line for a person at every step."""

    def __init__(self, target: Target, tell: Callable[[str], None]) -> None:
        self.answer: Answer | None = None
        self._target = target
        self._tell = tell
        self._proxy = FaultProxy(target.host, target.port)
        self._apis: list[list[str]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._killed = False

    async def open(self) -> None:
        """Open the proxy and the link through it; ControlCentreError if no outstation answers."""
        await self._proxy.open()
        self.centre = ControlCentre(self._proxy.host, self._proxy.port, self._target.common_address)
        from_units = bool(self._target.chargers_urls)
        self._observed = Observed(self.centre.received, self.centre.link_changes, from_units=from_units)
        self.centre.on_telegram = None if from_units else self._read_telegram
        try:
            await self.centre.connect(LINK_S)
        except ControlCentreError as error:
            await self._proxy.close()
            raise ControlCentreError(f"{self._target.host}:{self._target.port} does not answer: {error}") from error
        self._tasks.append(asyncio.create_task(self._interrogate_on_connect()))
        if from_units:
            self._tasks.append(asyncio.create_task(self._read_units()))

    async def close(self) -> None:
        """Close the link and the proxy."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.centre.close()
        await self._proxy.close()

    async def play(self, scenario: Scenario, run: Run) -> Result:
        """Play one run of a scenario; whatever goes wrong is its result, not an exception."""
        began_s = time.monotonic()
        checks: list[Check] = []
        if (missing := self._missing(scenario)) is not None:
            self._tell(f"  {missing}")
            return Result(scenario, run, Verdict.NOT_JUDGED, missing, 0.0, ())
        try:
            await self._prepare(scenario.set_up)
            await self._steps(scenario, run, checks)
        except (SetUpError, ControlCentreError, HttpError) as error:
            verdict, measured = Verdict.FAILED, str(error)
        else:
            verdict, measured = _summary(checks)
        finally:
            await self._put_right(scenario)
        self._tell(f"  {verdict.value}: {measured}")
        return Result(scenario, run, verdict, measured, time.monotonic() - began_s, tuple(checks))

    def _missing(self, scenario: Scenario) -> str | None:
        """Why this scenario cannot be played against this target, None if it can."""
        actions = {step.action for step in scenario.steps}
        needs = []
        if self._target.bridge is None and actions & {Action.KILL_BRIDGE, Action.START_BRIDGE}:
            needs.append("a bridge that may be killed")
        if self._target.bridge is None and scenario.configuration:
            needs.append(f"a bridge configured with {json.dumps(scenario.configuration)}")
        if not self._target.chargers_urls and actions & CHARGER_ORDERS.keys():
            needs.append("simulated chargers (--chargers-url) that vanish, lie or refuse on order")
        return f"not judged here: it needs {' and '.join(needs)}; without --target the lab has that" if needs else None

    async def _prepare(self, set_up: SetUp) -> None:
        await self.centre.wait_for_link(LINK_S)
        await self._everyone_wants(set_up.demand_w)
        self.answer = await self.centre.set_limit(set_up.limit_w)
        if not self.answer.positive:
            raise SetUpError(f"the limit of {set_up.limit_w:.0f} W was not accepted: {self.answer}")
        self._tell(f"  set up: limit {set_up.limit_w / 1000:g} kW confirmed, waiting until the units draw their share")
        patience_s = SETTLE_S if self._observed.from_units else SETTLE_BY_HAND_S
        deadline_s = time.monotonic() + patience_s
        settled_since_s: float | None = None
        while settled_since_s is None or time.monotonic() - settled_since_s < 1.0:
            power_w = sum(self._observed.readings[-1].powers_w) if self._observed.readings else 0.0
            if not set_up.low_w <= power_w <= set_up.high_w:
                settled_since_s = None
            elif settled_since_s is None:
                settled_since_s = time.monotonic()
            if time.monotonic() > deadline_s:
                wanted = f"{set_up.low_w / 1000:g} to {set_up.high_w / 1000:g} kW"
                raise SetUpError(f"all units draw {power_w / 1000:.2f} kW, not {wanted}, after {patience_s:g} s")
            await asyncio.sleep(JUDGE_EVERY_S)
        await self.centre.interrogate()

    async def _steps(self, scenario: Scenario, run: Run, checks: list[Check]) -> None:
        zero_s = done_s = time.monotonic()
        for step in scenario.steps:
            base_s = done_s if step.at is None else zero_s
            await self._judge_until(base_s + (step.at or step.after).at(self._target.pace, run), checks, run)
            begun_utc_ms = time.time_ns() // 1_000_000
            begun_s = await self._do(step, run)
            checks += [Check(expected, begun_s, begun_utc_ms) for expected in step.then]
            done_s = time.monotonic()
        while any(check.judgement.verdict is Verdict.PENDING for check in checks):
            await self._judge_until(time.monotonic() + JUDGE_EVERY_S, checks, run)

    async def _judge_until(self, moment_s: float, checks: list[Check], run: Run) -> None:
        while True:
            now_s = time.monotonic()
            for check in checks:
                if check.judgement.verdict is not Verdict.PENDING:
                    continue
                check.judgement = judge(
                    check.expected, check.begun_s, check.begun_utc_ms, now_s, self._observed, self._target.pace, run
                )
                if check.judgement.verdict is not Verdict.PENDING:
                    self._tell(f"  {check.expected.text}: {check.judgement.measured} – {check.judgement.verdict.value}")
            if now_s >= moment_s:
                return
            await asyncio.sleep(min(JUDGE_EVERY_S, moment_s - now_s))

    async def _do(self, step: Step, run: Run) -> float:
        """Do what a step says; the monotonic moment it counts from."""
        begun_s = time.monotonic()
        match step.action:
            case Action.SET_LIMIT:
                self._tell(f"  control centre sets {step.power_w / 1000:g} kW")
                self.answer = await self.centre.set_limit(step.power_w)
                return self.answer.sent_s
            case Action.SET_LIMITS_IN_TURN:
                await self._set_in_turn(step, run)
            case Action.INTERROGATE:
                self._tell("  control centre interrogates")
                await self.centre.interrogate()
            case Action.BREAK_LINK:
                await self._break_link(run)
            case Action.RESTORE_LINK:
                self._tell("  the link works again")
                await self._restore_link()
                with contextlib.suppress(ControlCentreError):  # whether it came up is for the scenario to judge
                    await self.centre.wait_for_link(LINK_S / 2)
            case Action.CHARGER_WANTS:
                await self._one_wants(step.charger, step.power_w)
            case Action.KILL_BRIDGE:
                self._tell("  the bridge is killed")
                await self._kill_bridge()
            case Action.START_BRIDGE:
                self._tell("  the bridge is started again")
                await self._start_bridge()
            case Action.WATCH:
                pass
            case _:
                self._tell(f"  {step.action.value.replace('charger', f'charger {step.charger}')}")
                await fetch(await self._url(step.charger), CHARGER_ORDERS[step.action])
        return begun_s

    async def _set_in_turn(self, step: Step, run: Run) -> None:
        """Set one limit after the other, each when its time has come; how long the last one holds is part of it."""
        limits = "and ".join(f"{limit_w / 1000:g} kW " for limit_w in step.limits_w)
        every_s, lasting_s = step.every.at(self._target.pace, run), step.lasting.at(self._target.pace, run)
        self._tell(f"  control centre sets {limits}in turn, one every {every_s:g} s for {lasting_s:g} s")
        begun_s = time.monotonic()
        for count, limit_w in enumerate(itertools.cycle(step.limits_w)):
            moment_s = begun_s + count * every_s
            await asyncio.sleep(moment_s - time.monotonic())
            if moment_s >= begun_s + lasting_s:
                return
            self.answer = await self.centre.set_limit(limit_w)

    async def _kill_bridge(self) -> None:
        assert self._target.bridge is not None  # noqa: S101  such scenarios are not begun without one
        self._killed = True
        await self._target.bridge.kill_bridge()

    async def _start_bridge(self) -> None:
        assert self._target.bridge is not None  # noqa: S101  such scenarios are not begun without one
        await self._target.bridge.start_bridge()
        self._killed = False

    async def _put_right(self, scenario: Scenario) -> None:
        """Let the next scenario begin with a link, a bridge and chargers that work."""
        with contextlib.suppress(HttpError):
            await self._restore_link()
        if self._killed:
            with contextlib.suppress(SetUpError):  # the next set-up says what is missing
                await self._start_bridge()
        if {step.action for step in scenario.steps} & CHARGER_ORDERS.keys():
            with contextlib.suppress(HttpError):
                for url, _ in await self._chargers():
                    await fetch(url, {"behaviour": "obeys", "action": "return"})

    async def _break_link(self, run: Run) -> None:
        self._tell(f"  {run.value or Run.DROP.value}")
        self._observed.link_broken = True
        if not self._observed.from_units:
            self._observed.readings.clear()
        await self._bring(Fault.SILENT if run is Run.SILENCE else Fault.CUT)

    async def _restore_link(self) -> None:
        await self._bring(Fault.NONE)
        self._observed.link_broken = False

    async def _bring(self, fault: Fault) -> None:
        if self._target.proxy_url is None:
            self._proxy.bring(fault)
        else:
            await fetch(f"{self._target.proxy_url}/fault", {"fault": fault.value})

    async def _everyone_wants(self, demand_w: float) -> None:
        if not self._target.chargers_urls:
            self._tell(f"  please let every charger draw {demand_w / 1000:g} kW, as far as its limit lets it")
            return
        for url, _ in await self._chargers():
            await self._order(url, demand_w)

    async def _one_wants(self, number: int, demand_w: float) -> None:
        self._tell(f"  charger {number} wants {demand_w / 1000:g} kW")
        if not self._target.chargers_urls:
            self._tell("  please bring that about at the unit")
            return
        await self._order(await self._url(number), demand_w)

    async def _url(self, number: int) -> str:
        chargers = await self._chargers()
        if number >= len(chargers):
            raise SetUpError(f"there is no charger {number}: {len(chargers)} are simulated")
        return chargers[number][0]

    async def _chargers(self) -> list[tuple[str, dict[str, Any]]]:
        """The URL and the view of every simulated charger."""
        if not self._apis:
            self._apis = [await addresses(url) for url in self._target.chargers_urls]
        found = []
        for replicas in self._apis:
            views = [(url, view) for url in replicas for view in await fetch(f"{url}/chargers")]
            if len(replicas) > 1:
                views.sort(key=lambda one: str(one[1]["serial"]))
            found += [(f"{url}/chargers/{view['serial']}", view) for url, view in views]
        return found

    async def _order(self, url: str, demand_w: float) -> None:
        await fetch(url, {"demand_w": round(demand_w), "charging": True})

    async def _read_units(self) -> None:
        while True:
            with contextlib.suppress(HttpError):
                powers_w = tuple(float(view["power_w"]) for _, view in await self._chargers())
                self._observed.readings.append(Reading(time.monotonic(), powers_w))
            await asyncio.sleep(READ_EVERY_S)

    def _read_telegram(self, telegram: Telegram) -> None:
        """Where nobody stands beside the units, what the bridge reports of them is the reading."""
        charger, rest = divmod(telegram.ioa - CHARGER_POWER_IOA, CHARGER_STRIDE)
        if telegram.type_id not in _MEASURED or charger < 0 or rest or telegram.quality & 0x80:
            return
        readings = self._observed.readings
        powers_w = list(readings[-1].powers_w) if readings else []
        powers_w += [0.0] * (charger + 1 - len(powers_w))
        powers_w[charger] = float(telegram.value or 0.0)
        readings.append(Reading(telegram.at_s, tuple(powers_w)))

    async def _interrogate_on_connect(self) -> None:
        """As every control centre does: after an outage nothing else says what changed meanwhile."""
        was_up = False
        while True:
            is_up = self.centre.link_up
            if is_up and not was_up:
                with contextlib.suppress(ControlCentreError):
                    await self.centre.interrogate()
            was_up = is_up
            await asyncio.sleep(JUDGE_EVERY_S)


def _summary(checks: list[Check]) -> tuple[Verdict, str]:
    failed = [check for check in checks if check.judgement.verdict is Verdict.FAILED]
    if failed:
        return Verdict.FAILED, "; ".join(f"{check.expected.text}: {check.judgement.measured}" for check in failed)
    figures = [check.judgement.measured for check in checks if check.expected.figure]
    unjudged = sum(check.judgement.verdict is Verdict.NOT_JUDGED for check in checks)
    return Verdict.PASSED, "; ".join(figures) + (f" ({unjudged} not judged)" if unjudged else "")
