"""A CSMS and a grid limit at one site, over real sockets: no message of the CSMS raises a charger above its share."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.app import App
from bridge.core.limit import Source
from bridge.core.messages import Effect, LimitChanged, LinkChanged, SetLimit, SetpointReceived
from bridge.core.quantities import Now
from bridge.engine import Engine
from bridge.lab.csms import Csms as LabCsms
from bridge.lab.series4 import Series4Unit
from bridge.lab.station201 import Station201
from bridge.legacy.hello import hello_connection
from bridge.legacy.quarantine import Quarantine
from bridge.legacy.transactions import Transactions
from bridge.legacy.unit import Unit
from bridge.ocpp201.above import Below, OnAnswer
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.grid_limit import SiteLimit
from bridge.ocpp201.rpc import UNANSWERED, CallError, Payload
from bridge.ocpp201.schemas import Schemas201
from bridge.ocpp201.server import Server
from bridge.ocpp201.smart_charging import SmartCharging
from bridge.ocpp201.station import Station
from bridge.ocpp201.timestamps import rfc3339
from bridge.settings import ChargerEntry, ChargerProfile, load
from tests.core.bench import charger_plan, site_plan
from tests.legacy.fake_unit import MemoryShelf

PROFILES = Path(__file__).parents[1] / "profiles" / "chargers"
LEGACY, NATIVE = "S4-0001", "CS-0001"
SCHEMAS = Schemas201()


def clock() -> Now:
    return Now(round(time.monotonic() * 1000), round(time.time() * 1000))


def entry(serial: str, make: str, index: int) -> ChargerEntry:
    made = yaml.safe_load((PROFILES / f"{make}.yaml").read_text(encoding="utf-8")) | {"maximum_w": 50_000}
    profile = ChargerProfile.model_validate(made)
    return ChargerEntry.model_validate({"serial": serial, "charger_profile": make, "profile": profile, "index": index})


class Csms(CentralSystem):
    """A CSMS that hears everything and can ask anything, both ways schema-valid."""

    def __init__(self) -> None:
        super().__init__(frozenset(), clock)
        self.sessions: dict[str, Below] = {}
        self.heard: list[tuple[str, str, Payload]] = []
        self.away = False

    def attach(self, session: Below) -> None:
        self.sessions[session.serial] = session

    def answer(self, serial: str, action: str, payload: Payload) -> Payload | CallError:
        assert SCHEMAS.problem_in_request(action, payload) is None, (action, payload)
        if action == "TransactionEvent" or not self.away:
            self.heard.append((serial, action, payload))
        return super().answer(serial, action, payload)

    def request(
        self,
        serial: str,
        action: str,
        payload: Payload,
        on_answer: OnAnswer,
        on_kept: Callable[[bool], None] | None = None,
    ) -> None:
        if self.away and action in ("NotifyChargingLimit", "ClearedChargingLimit"):
            on_answer(UNANSWERED)
        else:
            super().request(serial, action, payload, on_answer, on_kept)

    def of(self, serial: str, action: str) -> list[Payload]:
        return [payload for who, what, payload in self.heard if (who, what) == (serial, action)]

    async def ask(self, serial: str, action: str, payload: Payload) -> Any:
        assert SCHEMAS.problem_in_request(action, payload) is None
        answered: asyncio.Future[Payload | CallError] = asyncio.get_running_loop().create_future()
        self.sessions[serial].from_above(action, payload, answered.set_result)
        async with asyncio.timeout(20):
            outcome = await answered
        assert isinstance(outcome, CallError) or SCHEMAS.problem_in_response(action, outcome) is None
        return outcome


class ForgetfulJournal:
    """A journal that always takes and never gives."""

    last_sequence = 0

    def append(self, records: Sequence[str]) -> None:
        self.last_sequence += len(records)

    def snapshot(self, state: str, sequence: int) -> None:
        pass

    def newest_snapshot(self) -> tuple[int, str] | None:
        return None

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        del after
        return iter(())

    def set_aside(self, sequence: int, why: str) -> None:
        pass


class World:
    """A site of one unit and one station with its engine, its listener and its CSMS."""

    def __init__(self) -> None:
        self.csms, self.shelf, self.site_limit = Csms(), MemoryShelf(), SiteLimit()
        self.orders: list[SetLimit] = []
        self.commands = itertools.count(1)
        self.failures: list[str] = []
        entries = {each.serial: each for each in (entry(LEGACY, "series4-ultra", 0), entry(NATIVE, "native-201", 1))}
        plans = [charger_plan(each.index, serial=each.serial) for each in entries.values()]
        self.engine = Engine(
            ForgetfulJournal(), clock, self.deliver, self.failures.append, asyncio.get_running_loop().call_soon
        )
        self.engine.start(site_plan(*plans, capacity_w=100_000), "boot")
        transactions, quarantine = Transactions(self.shelf), Quarantine(self.shelf)
        submit = self.engine.submit
        self.smart = {
            serial: SmartCharging(each, submit, clock, shelf=self.shelf, site_limit=self.site_limit)
            for serial, each in entries.items()
        }

        def unit(websocket: Any, made: ChargerEntry) -> Unit:
            keywords: Any = {"above": self.csms, "smart_charging": self.smart[LEGACY]}
            return Unit(websocket, made, self.csms, transactions, quarantine, submit, clock, **keywords)

        def station(websocket: Any, made: ChargerEntry) -> Station:
            keywords: Any = {"above": self.csms, "smart_charging": self.smart[NATIVE]}
            return Station(websocket, made, self.csms, submit, clock, **keywords)

        hellos = [str(entries[LEGACY].profile.hello)]
        sessions: Any = {"ocpp1.5": unit, "ocpp2.0.1": station}
        self.server = Server(
            "127.0.0.1", 0, entries, sessions, submit, clock, connection_class=hello_connection(hellos)
        )

    def deliver(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, LimitChanged):
                self.site_limit.source = Source(effect.source)
            if isinstance(effect, SetLimit):
                self.orders.append(effect)
                self.server.set_limit(effect)

    def grid(self, limit_w: int) -> None:
        self.engine.submit(SetpointReceived(next(self.commands), "grid", float(limit_w), limit_w))

    def granted_w(self, serial: str) -> int | None:
        charger = self.engine.site.chargers[serial]
        return charger.grant_w if charger.settled(self.engine.site.plans[serial]) else None

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(15):
            while not true():
                self.engine.flush()
                await asyncio.sleep(0.01)
        assert not self.failures


@asynccontextmanager
async def playing() -> AsyncIterator[tuple[World, Series4Unit, Station201]]:
    world = World()
    await world.server.open()
    url = f"ws://127.0.0.1:{world.server.port}"
    unit = Series4Unit(f"{url}/", LEGACY, back_off_s=0.1)
    station = Station201(url, NATIVE, back_off_s=0.1)
    world.engine.submit(LinkChanged(1))
    world.grid(100_000)
    tasks = [asyncio.create_task(each.run()) for each in (unit, station)]
    try:
        await world.until(lambda: world.granted_w(LEGACY) == 50_000 and world.granted_w(NATIVE) == 50_000)
        yield world, unit, station
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await world.server.close()


def maximum(
    limit_w: float, identity: int = 7, *, stack_level: int = 0, purpose: str = "ChargingStationMaxProfile"
) -> Any:
    schedule = {
        "id": identity,
        "startSchedule": rfc3339(clock().utc_ms - 60_000),
        "chargingRateUnit": "W",
        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit_w}],
    }
    return {
        "evseId": 0,
        "chargingProfile": {
            "id": identity,
            "stackLevel": stack_level,
            "chargingProfilePurpose": purpose,
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [schedule],
        },
    }


BOTH = pytest.mark.parametrize("serial", [LEGACY, NATIVE])
ACCEPTED = {"status": "Accepted"}


@BOTH
async def test_the_wish_of_the_csms_caps_a_charger_and_its_end_gives_back_no_more_than_the_share(serial: str) -> None:
    async with playing() as (world, unit, station):
        world.grid(60_000)
        await world.until(lambda: world.engine.site.ledger.total_w <= 60_000)
        assert await world.csms.ask(serial, "SetChargingProfile", maximum(9_000)) == ACCEPTED
        await world.until(lambda: world.granted_w(serial) == 9_000)
        charger: Any = unit if serial == LEGACY else station
        assert charger.limit_w() <= 9_000
        assert await world.csms.ask(serial, "ClearChargingProfile", {"chargingProfileId": 7}) == ACCEPTED
        await world.until(lambda: (world.granted_w(serial) or 0) > 9_000)
        assert world.engine.site.ledger.total_w <= 60_000


HOSTILE: list[tuple[str, Any]] = [
    ("SetChargingProfile", maximum(1_000_000, 104_001, stack_level=9)),
    ("SetChargingProfile", maximum(1_000_000, 104_000)),
    ("SetChargingProfile", maximum(1_000_000, 1, stack_level=9)),
    ("SetChargingProfile", maximum(1_000_000, 2, purpose="ChargingStationExternalConstraints")),
    ("SetChargingProfile", maximum(1_000_000, 3, stack_level=8, purpose="TxDefaultProfile")),
    ("SetChargingProfile", maximum(1_000_000, 104_001, purpose="TxDefaultProfile")),
    ("ClearChargingProfile", {"chargingProfileId": 104_001}),
    ("ClearChargingProfile", {"chargingProfileId": 104_000}),
    ("ClearChargingProfile", {"chargingProfileId": -1}),
    ("ClearChargingProfile", {}),
    ("ClearChargingProfile", {"chargingProfileCriteria": {}}),
    ("ClearChargingProfile", {"chargingProfileCriteria": {"stackLevel": 1}}),
    ("ClearChargingProfile", {"chargingProfileCriteria": {"stackLevel": 0}}),
    ("ClearChargingProfile", {"chargingProfileCriteria": {"evseId": 0}}),
    ("ClearChargingProfile", {"chargingProfileCriteria": {"chargingProfilePurpose": "ChargingStationMaxProfile"}}),
    (
        "ClearChargingProfile",
        {"chargingProfileCriteria": {"chargingProfilePurpose": "ChargingStationExternalConstraints"}},
    ),
]


@BOTH
async def test_no_message_of_the_csms_raises_a_charger_above_the_grid_limit_and_none_clears_it(serial: str) -> None:
    async with playing() as (world, unit, station):
        world.grid(20_000)
        await world.until(lambda: world.engine.site.ledger.total_w <= 20_000)
        granted_w = world.granted_w(serial)
        charger: Any = unit if serial == LEGACY else station
        assert charger.limit_w() <= 20_000
        for action, payload in HOSTILE:
            await world.csms.ask(serial, action, payload)
            world.engine.flush()
            assert charger.limit_w() <= 20_000, (action, payload)
        await asyncio.sleep(0.2)
        assert world.engine.site.ledger.total_w <= 20_000
        assert charger.limit_w() <= 20_000
        assert granted_w is not None
        assert max(order.limit_w for order in world.orders[-2:]) <= 20_000
        if serial == NATIVE:
            installed = {identity: each for identity, (_, each) in station.charging_profiles.installed.items()}
            assert 104_001 in installed
            purposes = [each["chargingProfilePurpose"] for each in installed.values()]
            assert purposes.count("ChargingStationMaxProfile") == sum(
                identity in (104_000, 104_001) for identity in installed
            )


@BOTH
async def test_the_csms_sees_the_grid_limit_in_notices_reports_and_the_composite_schedule(serial: str) -> None:
    async with playing() as (world, _, _):
        world.grid(20_000)
        await world.until(lambda: world.engine.site.ledger.total_w <= 20_000)
        await world.until(lambda: world.csms.of(serial, "NotifyChargingLimit"))
        notice = world.csms.of(serial, "NotifyChargingLimit")[-1]
        assert notice["chargingLimit"] == {"chargingLimitSource": "SO", "isGridCritical": False}
        limit_w = notice["chargingSchedule"][0]["chargingSchedulePeriod"][0]["limit"]
        assert limit_w == world.granted_w(serial)
        assert await world.csms.ask(serial, "SetChargingProfile", maximum(45_000)) == ACCEPTED
        everything = {"requestId": 5, "chargingProfile": {"chargingLimitSource": ["SO", "CSO"]}}
        assert await world.csms.ask(serial, "GetChargingProfiles", everything) == ACCEPTED
        reports = world.csms.of(serial, "ReportChargingProfiles")
        assert [each["tbc"] for each in reports] == [True] * (len(reports) - 1) + [False]
        assert {each["requestId"] for each in reports} == {5}
        seen = {
            (each["chargingLimitSource"], one["id"], one["chargingProfilePurpose"])
            for each in reports
            for one in each["chargingProfile"]
        }
        assert seen == {("CSO", 7, "ChargingStationMaxProfile"), ("SO", -1, "ChargingStationExternalConstraints")}
        composite = await world.csms.ask(serial, "GetCompositeSchedule", {"evseId": 0, "duration": 600})
        assert composite["status"] == "Accepted"
        unit_w = 690 if composite["schedule"]["chargingRateUnit"] == "A" else 1
        assert all(each["limit"] * unit_w <= limit_w for each in composite["schedule"]["chargingSchedulePeriod"])
        world.grid(100_000)
        await world.until(lambda: world.csms.of(serial, "ClearedChargingLimit")[1:])
        assert await world.csms.ask(serial, "GetChargingProfiles", everything) == ACCEPTED


async def test_a_notice_that_did_not_reach_the_csms_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.ocpp201.smart_charging.TELL_AGAIN_S", 0.2)
    async with playing() as (world, _, _):
        world.csms.away = True
        world.grid(20_000)
        await world.until(lambda: world.engine.site.ledger.total_w <= 20_000)
        assert not world.csms.of(LEGACY, "NotifyChargingLimit")
        world.csms.away = False
        await world.until(lambda: world.csms.of(LEGACY, "NotifyChargingLimit"))


async def test_a_running_transaction_is_told_of_another_rate_and_takes_its_charging_profile_with_it() -> None:
    async with playing() as (world, unit, _):
        unit.start_session()
        await world.until(lambda: world.csms.of(LEGACY, "TransactionEvent"))
        transaction_id = world.csms.of(LEGACY, "TransactionEvent")[0]["transactionInfo"]["transactionId"]
        world.grid(20_000)
        await world.until(
            lambda: any(
                each["triggerReason"] == "ChargingRateChanged" for each in world.csms.of(LEGACY, "TransactionEvent")
            )
        )
        numbers = [each["seqNo"] for each in world.csms.of(LEGACY, "TransactionEvent")]
        assert numbers == list(range(len(numbers)))
        own = maximum(7_000, purpose="TxProfile")
        own["evseId"], own["chargingProfile"]["transactionId"] = 1, transaction_id
        assert await world.csms.ask(LEGACY, "SetChargingProfile", own) == ACCEPTED
        await world.until(lambda: world.granted_w(LEGACY) == 7_000)
        unit.stop_session()
        await world.until(lambda: len(world.smart[LEGACY].profiles) == 0)


async def test_other_purposes_pass_to_a_native_station_and_an_id_that_moves_is_replaced_everywhere() -> None:
    async with playing() as (world, _, station):
        installed = station.charging_profiles.installed
        default = maximum(12_000, purpose="TxDefaultProfile")
        assert await world.csms.ask(NATIVE, "SetChargingProfile", default) == ACCEPTED
        assert 7 in installed
        assert await world.csms.ask(NATIVE, "SetChargingProfile", maximum(11_000)) == ACCEPTED
        await world.until(lambda: 7 not in installed)
        await world.until(lambda: world.granted_w(NATIVE) == 11_000)
        assert await world.csms.ask(NATIVE, "SetChargingProfile", default) == ACCEPTED
        await world.until(lambda: (world.granted_w(NATIVE) or 0) > 11_000)
        assert 7 in installed
        clear = {"chargingProfileCriteria": {"stackLevel": 0}}
        assert await world.csms.ask(NATIVE, "ClearChargingProfile", clear) == ACCEPTED
        assert 7 not in installed
        assert 104_001 in installed
        assert await world.csms.ask(NATIVE, "ClearChargingProfile", clear) == {"status": "Unknown"}


async def test_charging_profiles_of_a_legacy_unit_hold_again_after_a_restart_of_the_bridge() -> None:
    async with playing() as (world, _, _):
        assert await world.csms.ask(LEGACY, "SetChargingProfile", maximum(9_000)) == ACCEPTED
        await world.until(lambda: world.granted_w(LEGACY) == 9_000)
        again = SmartCharging(entry(LEGACY, "series4-ultra", 0), world.engine.submit, clock, shelf=world.shelf)
        assert again.profiles.wish_w(clock().utc_ms) == 9_000


@asynccontextmanager
async def whole_service(folder: Path) -> AsyncIterator[tuple[App, LabCsms, Series4Unit, Station201]]:
    csms = LabCsms(serials=[LEGACY, NATIVE])
    await csms.open()
    chargers = [(LEGACY, "series4-ultra"), (NATIVE, "native-201")]
    configuration = {
        "site": {"name": "Test", "capacity_w": 100_000, "min_limit_w": 6_000},
        "iec104": {"port": 0},
        "fallback": {"hold_s": 300, "limit_w": 10_000},
        "ocpp": {"port": 0},
        "http": {"port": 0},
        "csms": {"url": f"ws://127.0.0.1:{csms.port}"},
        "chargers": [{"serial": serial, "charger_profile": make} for serial, make in chargers],
        "data_dir": str(folder),
    }
    config = folder / "site.yaml"
    config.write_text(yaml.safe_dump(configuration))
    app = App(load(config, {}))
    await app.start()
    url = f"ws://127.0.0.1:{app.chargers.port}"
    unit, station = Series4Unit(f"{url}/", LEGACY, back_off_s=0.1), Station201(url, NATIVE, back_off_s=0.1)
    tasks = [asyncio.create_task(each.run()) for each in (unit, station)]
    app.engine.submit(LinkChanged(1))
    app.engine.submit(SetpointReceived(1, "grid", 100_000.0, 100_000))
    try:
        yield app, csms, unit, station
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await app.stop()
        await csms.close()


async def test_the_whole_service_keeps_the_limit_and_shows_it_to_a_csms_that_dislikes_it(tmp_path: Path) -> None:
    async with whole_service(tmp_path) as (app, csms, unit, station), asyncio.timeout(60):
        for serial in (LEGACY, NATIVE):
            await csms.hears(serial, "BootNotification")
        app.engine.submit(SetpointReceived(2, "grid", 20_000.0, 20_000))
        while app.engine.site.limit.power_w != 20_000 or app.engine.site.ledger.total_w > 20_000:  # noqa: ASYNC110  no event
            await asyncio.sleep(0.05)
        for serial in (LEGACY, NATIVE):
            notice = await csms.hears(serial, "NotifyChargingLimit", within_s=20)
            assert notice["chargingLimit"]["chargingLimitSource"] == "SO"
            for action, payload in HOSTILE:
                answer = await csms.call(serial, action, payload)
                assert isinstance(answer, dict), (action, payload, answer)
                assert unit.limit_w() + station.limit_w() <= 20_000
            everything = {"requestId": 5, "chargingProfile": {"chargingLimitSource": ["SO"]}}
            assert await csms.call(serial, "GetChargingProfiles", everything) == ACCEPTED
            report = await csms.hears(serial, "ReportChargingProfiles")
            assert [each["id"] for each in report["chargingProfile"]] == [-1]
            composite: Any = await csms.call(serial, "GetCompositeSchedule", {"evseId": 0, "duration": 600})
            assert max(each["limit"] for each in composite["schedule"]["chargingSchedulePeriod"]) <= 20_000
        assert app.failure is None
        assert app.engine.site.ledger.total_w <= 20_000
        assert not csms.complaints
