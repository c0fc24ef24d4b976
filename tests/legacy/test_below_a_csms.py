"""Claims about a legacy unit below a CSMS: what it is answered when that agrees, refuses, dawdles or is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.messages import ChargerBooted, MeterSampled
from bridge.lab.csms import Csms as LabCsms
from bridge.legacy.transactions import Transactions
from bridge.legacy.unit import Unit
from bridge.ocpp201.authorization_cache import AuthorizationCache
from bridge.ocpp201.upstream import Upstream
from bridge.settings import ChargerEntry, Csms
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit
from bridge.store.outbox import Outbox
from bridge.store.shelf import Shelf
from tests.legacy.fake_unit import SERIAL, Bench, StrictCentralSystem, s4_entry, until

NOW = "2026-09-01T10:00:00Z"
TAG = "04A1B2C3"
BOOT = {"chargePointVendor": "Voltex", "chargePointModel": "S4-ULTRA", "chargeBoxSerialNumber": SERIAL}
START = {"connectorId": 1, "idTag": TAG, "timestamp": NOW, "meterStart": 1000}
POWER = [{"timestamp": NOW, "values": [{"value": "7,2", "unit": "kW", "measurand": "Power.Active.Import"}]}]
STATUS = {"connectorId": 1, "status": "Available", "errorCode": "NoError"}


class Chain(Bench):
    """A bench whose unit has the lab's strict central system above it, by way of an outbox on disk."""

    def __init__(self, folder: Path, csms: LabCsms, answer_within_s: float) -> None:
        super().__init__(s4_entry(), 5.0)
        self.csms = csms
        self.answer_within_s = answer_within_s
        self.database = Database(folder / "bridge.db")
        group = GroupCommit(self.database, asyncio.get_running_loop().call_soon)
        self.outbox = Outbox(self.database, group)
        self.transactions = Transactions(Shelf(self.database, group))
        settings = Csms(
            url=f"ws://127.0.0.1:{csms.port}",
            retry_wait_minimum_s=0.02,
            retry_random_range_s=0.01,
            message_timeout_s=5.0,
        )
        cache = AuthorizationCache(Shelf(self.database, group), self.clock)
        self.upstream = Upstream(settings, {SERIAL: self.entry}, self.outbox, self.clock, cache=cache)
        self.central_system = StrictCentralSystem(self.clock, known=self.upstream.known)

    def _unit(self, websocket: Any, entry: ChargerEntry) -> Unit:
        unit = Unit(
            websocket,
            entry,
            self.central_system,
            self.transactions,
            self.quarantine,
            self.events.append,
            self.clock,
            above=self.upstream,
            answer_within_s=self.answer_within_s,
        )
        self.units.append(unit)
        return unit

    def heard(self, action: str) -> list[dict[str, Any]]:
        return self.csms.heard(SERIAL, action)

    async def accepted(self) -> None:
        await until(lambda: self.upstream.link(SERIAL).is_accepted)

    async def away(self) -> None:
        await self.csms.close()
        await until(lambda: not self.upstream.link(SERIAL).is_connected)


@asynccontextmanager
async def chain(folder: Path, answer_within_s: float = 5.0) -> AsyncIterator[Chain]:
    csms = LabCsms(serials=[SERIAL])
    await csms.open()
    made = Chain(folder, csms, answer_within_s)
    await made.server.open()
    try:
        yield made
    finally:
        await made.server.close()
        await made.upstream.close()
        await csms.close()
        made.database.close()


async def test_a_session_of_a_unit_is_a_transaction_of_a_station_above(tmp_path: Path) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        assert (await unit.call("BootNotification", BOOT))["status"] == "Accepted"
        await made.accepted()
        assert (await unit.call("Authorize", {"idTag": TAG}))["idTagInfo"]["status"] == "Accepted"
        number = (await unit.call("StartTransaction", START))["transactionId"]
        await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": POWER})
        await unit.call("StatusNotification", STATUS | {"status": "Occupied"})
        await unit.call("StopTransaction", {"transactionId": number, "meterStop": 2000, "timestamp": NOW, "idTag": TAG})
        await until(lambda: len(made.heard("TransactionEvent")) >= 3)
        events = made.heard("TransactionEvent")
        assert [(each["seqNo"], each["eventType"]) for each in events] == [(0, "Started"), (1, "Updated"), (2, "Ended")]
        assert not any(each.get("offline") for each in events)
        assert list(made.csms.complaints) == []
        assert made.of(ChargerBooted)
        assert made.of(MeterSampled)


@pytest.mark.parametrize("action", ["Authorize", "StartTransaction"])
async def test_the_refusal_of_the_csms_is_what_the_unit_hears(tmp_path: Path, action: str) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        made.csms.refused_tags.add(TAG)
        await unit.call("BootNotification", BOOT)
        await made.accepted()
        answer = await unit.call(action, START if action == "StartTransaction" else {"idTag": TAG})
        assert answer["idTagInfo"]["status"] == "Invalid"


async def test_e05_a_refusal_that_comes_too_late_stops_the_transaction(tmp_path: Path) -> None:
    async with chain(tmp_path, answer_within_s=0.05) as made, made.unit() as unit:
        unit.answers["RemoteStopTransaction"] = lambda _: {"status": "Accepted"}
        made.csms.refused_tags.add(TAG)
        await unit.call("BootNotification", BOOT)
        await made.accepted()
        made.csms._answer = _slowly(made.csms._answer)  # type: ignore[method-assign]
        answer = await unit.call("StartTransaction", START)
        assert answer["idTagInfo"]["status"] == "Accepted"
        await until(lambda: "RemoteStopTransaction" in [action for action, _ in unit.asked])
        stop = {"transactionId": answer["transactionId"], "meterStop": 1001, "timestamp": NOW}
        await unit.call("StopTransaction", stop)
        await until(lambda: len(made.heard("TransactionEvent")) == 2)
        ended = made.heard("TransactionEvent")[1]
        assert (ended["triggerReason"], ended["transactionInfo"]["stoppedReason"]) == ("Deauthorized", "DeAuthorized")


def _slowly(answer: Any) -> Any:
    async def slow(*arguments: Any) -> Any:
        await asyncio.sleep(0.2)
        return await answer(*arguments)

    return slow


async def test_c12_with_the_csms_away_a_driver_is_who_it_last_said_he_is(tmp_path: Path) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        unit.obey()
        await unit.call("BootNotification", BOOT)
        await made.accepted()
        made.csms.refused_tags.add(TAG)
        assert (await unit.call("Authorize", {"idTag": TAG}))["idTagInfo"]["status"] == "Invalid"
        assert (await unit.call("Authorize", {"idTag": "OTHER"}))["idTagInfo"]["status"] == "Accepted"
        await made.away()
        assert (await unit.call("Authorize", {"idTag": TAG}))["idTagInfo"]["status"] == "Invalid"
        assert (await unit.call("Authorize", {"idTag": "OTHER"}))["idTagInfo"]["status"] == "Accepted"
        assert (await unit.call("Authorize", {"idTag": "NEVER SEEN"}))["idTagInfo"]["status"] == "Accepted"


async def test_with_the_csms_away_the_unit_goes_on_and_all_of_it_arrives_later(tmp_path: Path) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        await unit.call("BootNotification", BOOT)
        await made.accepted()
        await made.away()
        assert (await unit.call("Authorize", {"idTag": TAG}))["idTagInfo"]["status"] == "Accepted"
        answer = await unit.call("StartTransaction", START)
        assert answer["idTagInfo"]["status"] == "Accepted"
        assert (await unit.call("StartTransaction", START))["transactionId"] == answer["transactionId"]
        number = answer["transactionId"]
        await unit.call("MeterValues", {"connectorId": 1, "transactionId": number, "values": POWER})
        await unit.call("StopTransaction", {"transactionId": number, "meterStop": 2000, "timestamp": NOW})
        await made.csms.open()
        await until(lambda: len(made.heard("TransactionEvent")) >= 3 and made.outbox.depth() == 0)
        told = [each for each in made.csms.told if each.action == "TransactionEvent" and isinstance(each.answer, dict)]
        events = [each.payload for each in told]
        assert [(each["seqNo"], each["eventType"], each["offline"]) for each in events] == [
            (0, "Started", True),
            (1, "Updated", True),
            (2, "Ended", True),
        ]


@pytest.mark.parametrize("registration", ["Pending", "Rejected"])
async def test_a_boot_the_csms_does_not_accept_is_accepted_here_and_everything_kept(
    tmp_path: Path, registration: str
) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        made.csms.boot_status = registration
        assert (await unit.call("BootNotification", BOOT))["status"] == "Accepted"
        await until(lambda: made.upstream.link(SERIAL).registration.value == registration)
        number = (await unit.call("StartTransaction", START))["transactionId"]
        assert number > 0
        assert await unit.call("StatusNotification", STATUS) == {}
        assert made.outbox.waiting(SERIAL) == 2
        assert {each.action for each in made.csms.told} == {"BootNotification"}


async def test_a_unit_with_another_serial_number_is_refused_and_the_csms_told(tmp_path: Path) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        answer = await unit.call("BootNotification", BOOT | {"chargeBoxSerialNumber": "S4-9999"})
        assert answer["status"] == "Rejected"
        await made.csms.hears(SERIAL, "SecurityEventNotification")
        (event,) = made.heard("SecurityEventNotification")
        assert event["type"] == "IdentityMismatch"
        assert "S4-9999" in event["techInfo"]


async def test_a_start_is_not_answered_before_it_is_on_disk(tmp_path: Path) -> None:
    async with chain(tmp_path) as made, made.unit() as unit:
        await unit.call("BootNotification", BOOT)
        made.database.connection.execute("PRAGMA query_only = 1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(unit.call("StartTransaction", START), 0.3)
        assert made.outbox.depth() == 0
