"""The outage: a CSMS that is away while sessions run and the bridge is killed, and whether all of it arrives after."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bridge.lab.charger import stamp, utc_now
from bridge.lab.csms import Csms
from bridge.lab.http_client import HttpError, fetch
from bridge.lab.peer import Payload, Peer
from bridge.lab.series4 import Series4Unit, meter_values, sampled_values

READY_S = 30.0
SETTLE_S = 120.0


class Lost(AssertionError):  # noqa: N818  it says what happened
    """Something a unit was told had been taken is not at the CSMS, or not as it should be; the text says what."""


@dataclass(slots=True)
class Outage:
    """What was played: its figures, for the report."""

    seed: int
    sessions: int = 0
    samples: int = 0
    kills: int = 0
    events: int = 0
    repeated: int = 0
    offline: int = 0
    seconds: float = 0.0


class NotingUnit(Series4Unit):
    """A Series 4 unit that notes which of its samples were taken: (its number of the transaction, time)."""

    def __init__(self, url: str, serial: str) -> None:
        super().__init__(url, serial, back_off_s=0.2)
        self.taken: list[tuple[int, str]] = []
        self.started = 0

    async def _send_meter_values(self, peer: Peer) -> None:
        session = self.open_session
        if session is None or not isinstance(session.transaction, int):
            return
        now = stamp(utc_now())
        values = sampled_values(self.power.reading(self.now_s()), self.flash["MeterValuesSampledData"], self.meter_form)
        said: Payload = {"connectorId": 1, "transactionId": session.transaction}
        number = session.transaction
        if isinstance(await peer.call("MeterValues", said | meter_values(now, values, self.meter_form)), dict):
            self.taken.append((number, now))

    def toggle(self) -> None:
        """Begin a session, or end the one that runs."""
        if self.open_session is not None:
            self.stop_session()
        elif self.start_session():
            self.started += 1


@dataclass(slots=True)
class _Bridge:
    """The service as a process of its own, which can be killed."""

    config: Path
    http_port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    async def start(self) -> None:
        with (self.config.parent / "bridge.log").open("ab") as log:
            command = [sys.executable, "-m", "bridge", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stderr=log, env=os.environ | {"TZ": "UTC"})  # noqa: ASYNC220, S603
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(HttpError):
                    await fetch(f"http://127.0.0.1:{self.http_port}/health")
                    return
                if self.process.poll() is not None:
                    end = (self.config.parent / "bridge.log").read_text()[-2_000:]
                    raise Lost(f"the bridge ended with {self.process.returncode}: {end}")
                await asyncio.sleep(0.05)

    async def waiting(self) -> tuple[int, int]:
        """How many letters wait for the CSMS and how many are dead."""
        csms = (await fetch(f"http://127.0.0.1:{self.http_port}/status", timeout_s=10.0))["csms"]
        return csms["waiting"], csms["dead"]

    async def end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            await asyncio.to_thread(self.process.wait, 30)


async def play(
    folder: Path,
    seed: int,
    *,
    units: int,
    outage_s: float,
    kills: int,
    sample_interval_s: int = 1,
    toggle_s: float = 2.0,
) -> Outage:
    """Play one outage in real time and judge it. Raises Lost.

    `units` Series 4 units charge; the CSMS is away for `outage_s`, meanwhile the bridge is killed `kills` times at
    random moments, and now and then, `toggle_s` apart on average, a session begins or ends.
    """
    chance = random.Random(seed)
    began_s = time.monotonic()
    tally = Outage(seed)
    csms = Csms(pattern=r"S4-\d{4}")
    await csms.open()
    bridge = _configured(folder, csms.port, units, sample_interval_s)
    ocpp = yaml.safe_load(bridge.config.read_text())["ocpp"]["port"]
    chargers = [NotingUnit(f"ws://127.0.0.1:{ocpp}/", f"S4-{number:04}") for number in range(units)]
    try:
        await bridge.start()
        async with _alive(chargers):
            await _until(lambda: len(csms.connected) == units, "every unit appears at the CSMS")
            for charger in chargers:
                charger.toggle()
            await _until(
                lambda: all(len(csms.heard(each.serial, "TransactionEvent")) > 1 for each in chargers), "events"
            )
            await csms.close()
            await _without_csms(bridge, chargers, chance, tally, (outage_s, kills, toggle_s))
            csms.connected.clear()
            await csms.open()
            for charger in chargers:
                charger.stop_session()
            await _until(lambda: not any(each.sessions for each in chargers), "every unit has said all")
            await _drained(bridge)
        judge(csms, chargers, tally)
    finally:
        await bridge.end(signal.SIGTERM)
        await csms.close()
    tally.seconds = round(time.monotonic() - began_s, 1)
    return tally


async def _without_csms(
    bridge: _Bridge,
    chargers: list[NotingUnit],
    chance: random.Random,
    tally: Outage,
    plan: tuple[float, int, float],
) -> None:
    """Let the time without a CSMS pass: kills at random moments, sessions that begin and end."""
    outage_s, kills, toggle_s = plan
    ends_s = time.monotonic() + outage_s
    due = sorted(time.monotonic() + chance.uniform(0.0, outage_s) for _ in range(kills))
    while time.monotonic() < ends_s:
        await asyncio.sleep(min(chance.expovariate(1 / toggle_s), max(0.05, (due or [ends_s])[0] - time.monotonic())))
        if due and time.monotonic() >= due[0]:
            due.pop(0)
            await bridge.end(signal.SIGKILL)
            await bridge.start()
            tally.kills += 1
        else:
            chance.choice(chargers).toggle()


@contextlib.asynccontextmanager
async def _alive(chargers: list[NotingUnit]) -> AsyncIterator[None]:
    lives = [asyncio.create_task(charger.run()) for charger in chargers]
    try:
        yield
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


async def _drained(bridge: _Bridge) -> None:
    async with asyncio.timeout(SETTLE_S):
        while (found := await bridge.waiting()) != (0, 0):
            if found[1]:
                raise Lost(f"{found[1]} dead letters")
            await asyncio.sleep(0.1)


async def _until(true: Any, what: str) -> None:
    try:
        async with asyncio.timeout(SETTLE_S):
            while not true():  # noqa: ASYNC110  what is waited for knows no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Lost(f"not within {SETTLE_S:g} s: {what}") from None


def judge(csms: Csms, chargers: list[NotingUnit], tally: Outage) -> None:
    """Hold what the CSMS took against what the units were told had been taken. Raises Lost."""
    arrived: dict[str, dict[str, list[Payload]]] = defaultdict(lambda: defaultdict(list))
    for told in csms.told:
        if told.action == "TransactionEvent" and isinstance(told.answer, dict):
            arrived[told.identity][told.payload["transactionInfo"]["transactionId"]].append(told.payload)
    for charger in chargers:
        transactions = arrived[charger.serial]
        times = set()
        for transaction, events in transactions.items():
            _judge_transaction(f"{charger.serial} {transaction}", events, tally)
            times |= {each["timestamp"] for event in events for each in event.get("meterValue", ())}
        if len(transactions) != charger.started:
            raise Lost(f"{charger.serial}: {charger.started} sessions, {len(transactions)} transactions at the CSMS")
        missing = [at for _, at in charger.taken if at not in times]
        if missing:
            raise Lost(f"{charger.serial}: {len(missing)} of {len(charger.taken)} samples missing, first {missing[0]}")
        tally.sessions += charger.started
        tally.samples += len(charger.taken)


def _judge_transaction(name: str, events: list[Payload], tally: Outage) -> None:
    """Every event once or again with its own seqNo; in order, without a gap, from Started to Ended."""
    seen: dict[int, Payload] = {}
    for event in events:
        number = event["seqNo"]
        plain = {key: value for key, value in event.items() if key != "offline"}
        if number in seen:
            tally.repeated += 1
            if seen[number] != plain:
                raise Lost(f"{name}: seqNo {number} came twice with different contents")
        elif number != len(seen):
            raise Lost(f"{name}: seqNo {number} where {len(seen)} was due")
        seen[number] = plain
        tally.offline += event.get("offline", False)
    kinds = [seen[number]["eventType"] for number in sorted(seen)]
    if kinds[0] != "Started" or kinds[-1] != "Ended" or set(kinds[1:-1]) - {"Updated"}:
        raise Lost(f"{name}: {', '.join(kinds)}")
    tally.events += len(seen)


def _configured(folder: Path, csms_port: int, units: int, sample_interval_s: int) -> _Bridge:
    ocpp, http, iec104 = _free_ports(3)
    chargers = [
        {"serial": f"S4-{number:04}", "charger_profile": "series4-ultra", "sample_interval_s": sample_interval_s}
        for number in range(units)
    ]
    configuration = {
        "site": {"name": "Outage", "capacity_w": 1_000_000, "min_limit_w": 6_000},
        "iec104": {"port": iec104},
        "fallback": {"hold_s": None, "limit_w": 1_000_000},
        "ocpp": {"port": ocpp},
        "chargers": chargers,
        "csms": {
            "url": f"ws://127.0.0.1:{csms_port}/ocpp",
            "retry_wait_minimum_s": 0.5,
            "retry_random_range_s": 0.5,
            "retry_repeat_times": 2,
        },
        "http": {"port": http, "dashboard_port": None},
    }
    config = folder / "outage.yaml"
    config.write_text(yaml.safe_dump(configuration))
    return _Bridge(config, http)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
