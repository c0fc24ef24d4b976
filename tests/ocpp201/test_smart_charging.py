"""The wish of the CSMS as time passes, and what of one charger outlives its sessions."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bridge.core.limit import Source
from bridge.core.messages import Event, SetLimit, WishChanged
from bridge.core.quantities import Now
from bridge.ocpp201.central_system import CentralSystem
from bridge.ocpp201.grid_limit import SiteLimit
from bridge.ocpp201.native_profiles import lowered
from bridge.ocpp201.rpc import CallError, Payload
from bridge.ocpp201.schemas import Schemas201
from bridge.ocpp201.smart_charging import SmartCharging
from bridge.ocpp201.timestamps import rfc3339
from tests.ocpp201.listening import charger_entry
from tests.ocpp201.test_profile_engine import FakeShelf


def clock() -> Now:
    return Now(round(time.monotonic() * 1000), round(time.time() * 1000))


class Listener(CentralSystem):
    """A central system that notes what it hears."""

    def __init__(self) -> None:
        super().__init__(frozenset(), clock)
        self.heard: list[tuple[str, Payload]] = []

    def answer(self, serial: str, action: str, payload: Payload) -> Payload | CallError:
        assert Schemas201().problem_in_request(action, payload) is None
        self.heard.append((action, payload))
        return super().answer(serial, action, payload)


def maximum(*limits: tuple[int, float], start_ms: int | None = None) -> Payload:
    schedule = {
        "id": 1,
        "startSchedule": rfc3339(clock().utc_ms if start_ms is None else start_ms),
        "chargingRateUnit": "W",
        "chargingSchedulePeriod": [{"startPeriod": start_s, "limit": limit} for start_s, limit in limits],
    }
    charging_profile = {
        "id": 1,
        "stackLevel": 0,
        "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [schedule],
    }
    return {"evseId": 0, "chargingProfile": charging_profile}


class Bench:
    def __init__(self, shelf: FakeShelf | None = None) -> None:
        self.events: list[Event] = []
        self.above, self.site_limit = Listener(), SiteLimit(Source.SETPOINT)
        self.smart = SmartCharging(charger_entry(), self.events.append, clock, shelf=shelf, site_limit=self.site_limit)

    def set(self, request: Payload) -> None:
        answers: list[Any] = []
        self.smart.answer("SetChargingProfile", request, answers.append)
        assert answers == [{"status": "Accepted"}]

    @property
    def wishes_w(self) -> list[int | None]:
        return [event.limit_w for event in self.events if isinstance(event, WishChanged)]

    def grant(self, order: int, limit_w: int) -> list[str]:
        before = len(self.above.heard)
        self.smart.ordered(SetLimit("CS-0001", order, limit_w))
        self.smart.granted(SetLimit("CS-0001", order, limit_w))
        return [action for action, _ in self.above.heard[before:]]


async def test_the_wish_follows_the_schedule_by_itself() -> None:
    bench = Bench()
    bench.smart.open(bench, bench.above)
    bench.set(maximum((0, 9_000), (1, 8_000), start_ms=clock().utc_ms - 800))
    assert bench.wishes_w == [9_000]
    async with asyncio.timeout(20):
        while bench.wishes_w != [9_000, 8_000]:  # noqa: ASYNC110  the wish is an event, and waited for by nobody else
            await asyncio.sleep(0.01)
    bench.smart.close(bench)


async def test_a_charger_nobody_ever_wished_anything_for_submits_nothing() -> None:
    bench = Bench(FakeShelf())
    bench.smart.open(bench, bench.above)
    assert bench.events == []


async def test_after_a_restart_the_wish_is_said_anew_even_if_it_has_ended_meanwhile() -> None:
    shelf = FakeShelf()
    before = Bench(shelf)
    before.set(maximum((0, 9_000)))
    after = Bench(shelf)
    after.smart.open(after, after.above)
    assert after.wishes_w == [9_000]
    after.smart.answer("ClearChargingProfile", {"chargingProfileId": 1}, lambda _: None)
    assert after.wishes_w == [9_000, None]
    last = Bench(shelf)
    last.smart.open(last, last.above)
    assert last.wishes_w == [None]


async def test_a_grant_as_high_as_the_wish_it_was_ordered_for_is_no_grid_limit() -> None:
    bench = Bench()
    bench.smart.open(bench, bench.above)
    assert bench.grant(1, 22_000) == ["ClearedChargingLimit"]
    bench.set(maximum((0, 9_000)))
    assert bench.grant(2, 9_000) == []
    assert bench.grant(3, 8_000) == ["NotifyChargingLimit"]
    order = SetLimit("CS-0001", 4, 9_000)
    bench.smart.ordered(order)
    bench.smart.answer("ClearChargingProfile", {"chargingProfileId": 1}, lambda _: None)
    before = len(bench.above.heard)
    bench.smart.granted(order)
    assert [action for action, _ in bench.above.heard[before:]] == ["ClearedChargingLimit"]


async def test_a_closed_session_takes_nothing_from_the_one_that_follows_it() -> None:
    bench = Bench()
    first, second = object(), object()
    bench.smart.open(first, bench.above)
    bench.smart.open(second, bench.above)
    bench.smart.close(first)
    assert bench.grant(1, 6_000) == ["NotifyChargingLimit"]
    bench.smart.close(second)
    assert bench.grant(2, 5_000) == []


def schedule(unit: str, *periods: tuple[int, float], phases: int | None = None, duration: int = 600) -> Payload:
    more = {} if phases is None else {"numberPhases": phases}
    return {
        "evseId": 1,
        "duration": duration,
        "scheduleStart": "2026-09-01T10:00:00Z",
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [{"startPeriod": start_s, "limit": limit} | more for start_s, limit in periods],
    }


def test_the_composite_schedule_of_a_station_is_lowered_in_its_own_unit_and_never_raised() -> None:
    cap = schedule("W", (0, 22_000), (60, 6_900))
    in_watts = lowered(schedule("W", (0, 9_000), (120, 4_000)), cap)
    assert (
        in_watts["chargingSchedulePeriod"]
        == schedule("W", (0, 9_000), (60, 6_900), (120, 4_000))["chargingSchedulePeriod"]
    )
    in_amperes = lowered(schedule("A", (0, 16)), cap)
    assert in_amperes["chargingSchedulePeriod"] == schedule("A", (0, 16), (60, 10))["chargingSchedulePeriod"]
    one_phase = lowered(schedule("A", (0, 32), phases=1), cap)
    assert one_phase["chargingSchedulePeriod"] == schedule("A", (0, 32), (60, 30), phases=1)["chargingSchedulePeriod"]
    assert lowered(schedule("A", (0, 5), duration=900), cap)["duration"] == 600
