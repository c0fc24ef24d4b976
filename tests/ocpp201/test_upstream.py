"""Claims about the connection up to a CSMS: registration, letters, refusals and what is asked from above."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.core.quantities import Now
from bridge.lab.csms import Csms as LabCsms
from bridge.lab.peer import CallError as LabError
from bridge.ocpp201.above import Reply
from bridge.ocpp201.dial import BackOff
from bridge.ocpp201.link import Link, Registration, with_offline
from bridge.ocpp201.rpc import NOT_SENT, CallError, Outcome, Payload, Verbatim
from bridge.ocpp201.trace import UNIT, Trace
from bridge.ocpp201.upstream import Upstream
from bridge.settings import ChargerEntry, ChargerProfile, Csms
from bridge.store.database import Database
from bridge.store.group_commit import GroupCommit
from bridge.store.outbox import Outbox

SERIAL = "S4-0001"
PROFILE: dict[str, Any] = {
    "vendor": "Voltex",
    "model": "S4-ULTRA",
    "minimum_w": 0,
    "maximum_w": 22_000,
}
BOOT = {"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V", "serialNumber": SERIAL}}
TIME = "2026-09-01T10:00:00.000Z"


def clock() -> Now:
    return Now(round(time.monotonic() * 1000), round(time.time() * 1000))


def entry(protocol: str = "ocpp1.5") -> ChargerEntry:
    limit = (
        {"method": "change_configuration", "key": "Max"} if protocol == "ocpp1.5" else {"method": "charging_profile"}
    )
    profile = ChargerProfile.model_validate(PROFILE | {"protocol": protocol, "limit": limit})
    return ChargerEntry.model_validate(
        {"serial": SERIAL, "charger_profile": "x", "profile": profile, "index": 0, "sample_interval_s": 60}
    )


def event(seq_no: int, event_type: str = "Updated", transaction: str = "T1", **more: Any) -> Payload:
    return {
        "eventType": event_type,
        "timestamp": TIME,
        "triggerReason": "MeterValuePeriodic",
        "seqNo": seq_no,
        "transactionInfo": {"transactionId": transaction},
        "evse": {"id": 1, "connectorId": 1},
    } | more


def status(connector: int, connector_status: str) -> Payload:
    return {"timestamp": TIME, "connectorStatus": connector_status, "evseId": connector, "connectorId": 1}


class Below:
    """A charger's session as the upstream sees it, which says yes to all."""

    def __init__(self, serial: str = SERIAL) -> None:
        self.serial = serial
        self.asked: list[tuple[str, Payload]] = []
        self.answer: Payload | CallError = {"status": "Accepted"}

    def from_above(self, action: str, payload: Payload, reply: Reply) -> None:
        self.asked.append((action, payload))
        reply(self.answer)


class World:
    """An upstream with its outbox on disk, the lab's central system above it, and one charger below."""

    def __init__(self, folder: Path, csms: LabCsms, protocol: str, **options: Any) -> None:
        self.csms = csms
        self.database = Database(folder / "bridge.db")
        self.group = GroupCommit(self.database, asyncio.get_running_loop().call_soon)
        self.outbox = Outbox(self.database, self.group)
        quick = {"retry_wait_minimum_s": 0.02, "retry_random_range_s": 0.01, "message_attempt_interval_s": 0.02}
        settings = Csms.model_validate({"url": f"ws://127.0.0.1:{csms.port}/ocpp"} | quick | options)
        self.trace = Trace(clock)
        self.upstream = Upstream(settings, {SERIAL: entry(protocol)}, self.outbox, clock, self.trace)
        self.below = Below()
        self.answers: list[tuple[str, Outcome]] = []

    @property
    def link(self) -> Link:
        return self.upstream.link(SERIAL)

    def say(self, action: str, payload: Payload) -> None:
        self.upstream.request(SERIAL, action, payload, lambda outcome: self.answers.append((action, outcome)))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  nothing to wait on
                await asyncio.sleep(0.002)

    async def booted(self) -> None:
        self.upstream.attach(self.below)
        self.say("BootNotification", BOOT)
        await self.until(lambda: self.link.is_accepted)

    def events(self) -> list[tuple[int, bool]]:
        """The transaction events the CSMS took: seqNo and offline."""
        return [
            (told.payload["seqNo"], told.payload.get("offline", False))
            for told in self.csms.told
            if told.action == "TransactionEvent" and not isinstance(told.answer, LabError)
        ]


@asynccontextmanager
async def world(folder: Path, protocol: str = "ocpp1.5", **options: Any) -> AsyncIterator[World]:
    csms = LabCsms(serials=[SERIAL])
    await csms.open()
    made = World(folder, csms, protocol, **options)
    try:
        yield made
    finally:
        await made.upstream.close()
        await csms.close()
        made.database.close()


async def test_a_charger_appears_above_under_its_serial_once_the_boot_is_accepted(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        assert both.csms.heard(SERIAL, "BootNotification") == [BOOT]
        assert both.answers[0][0] == "BootNotification"
        both.say("StatusNotification", status(1, "Available"))
        both.say("Authorize", {"idToken": {"idToken": "TAG", "type": "Central"}})
        await both.csms.hears(SERIAL, "StatusNotification")
        await both.until(lambda: ("Authorize", {"idTokenInfo": {"status": "Accepted"}}) in both.answers)
        assert list(both.csms.complaints) == []


@pytest.mark.parametrize("registration", ["Pending", "Rejected"])
async def test_before_the_boot_is_accepted_nothing_leaks_and_then_all_of_it_comes_in_order(
    tmp_path: Path, registration: str
) -> None:
    async with world(tmp_path) as both:
        both.csms.boot_status = registration
        both.csms.answers["BootNotification"] = lambda _serial, _payload: {
            "status": both.csms.boot_status,
            "currentTime": TIME,
            "interval": 1,
        }
        both.upstream.attach(both.below)
        both.say("BootNotification", BOOT)
        await both.until(lambda: both.link.registration.value == registration)
        for seq_no, event_type in enumerate(["Started", "Updated", "Ended"]):
            both.say("TransactionEvent", event(seq_no, event_type))
        both.say("StatusNotification", status(1, "Occupied"))
        both.say("Authorize", {"idToken": {"idToken": "TAG", "type": "Central"}})
        await both.until(lambda: both.outbox.waiting(SERIAL) == 4)
        both.say("BootNotification", BOOT)
        assert ("Authorize", NOT_SENT) in both.answers
        outcome = both.answers[-1][1]
        assert isinstance(outcome, dict)
        assert outcome["status"] == registration
        assert {told.action for told in both.csms.told} == {"BootNotification"}
        assert len(both.csms.told) == 1
        both.csms.boot_status = "Accepted"
        await both.csms.hears(SERIAL, "StatusNotification")
        assert both.events() == [(0, False), (1, False), (2, False)]
        assert list(both.csms.complaints) == []


async def test_b03_fr_08_requests_of_a_csms_that_rejected_the_boot_are_a_security_error(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        both.csms.boot_status = "Rejected"
        both.upstream.attach(both.below)
        both.say("BootNotification", BOOT)
        await both.until(lambda: both.link.registration is Registration.REJECTED)
        answer = await both.csms.call(SERIAL, "GetVariables", {"getVariableData": [_variable()]})
        assert isinstance(answer, LabError)
        assert answer.code == "SecurityError"
        assert both.below.asked == []


async def test_b02_while_pending_the_csms_may_configure_and_trigger_but_not_start(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        both.csms.boot_status = "Pending"
        both.upstream.attach(both.below)
        both.say("BootNotification", BOOT)
        await both.until(lambda: both.link.registration is Registration.PENDING)
        both.csms.connected[SERIAL].accepted = True  # what it triggers it takes
        start = {"idToken": {"idToken": "TAG", "type": "Central"}, "remoteStartId": 1}
        assert await both.csms.call(SERIAL, "RequestStartTransaction", start) == {"status": "Rejected"}
        both.say("StatusNotification", status(1, "Available"))
        both.say("StatusNotification", status(2, "Available"))
        trigger = {"requestedMessage": "StatusNotification", "evse": {"id": 1, "connectorId": 1}}
        assert await both.csms.call(SERIAL, "TriggerMessage", trigger) == {"status": "Accepted"}
        both.link.wanted()
        await both.until(lambda: len(both.csms.told) == 2)
        assert [told.action for told in both.csms.told] == ["BootNotification", "StatusNotification"]
        both.csms.boot_status = "Accepted"
        trigger = {"requestedMessage": "BootNotification"}
        assert await both.csms.call(SERIAL, "TriggerMessage", trigger) == {"status": "Accepted"}
        await both.until(lambda: both.link.is_accepted)


async def test_e04_fr_03_what_waits_when_the_connection_goes_comes_later_in_order_and_offline(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        both.say("TransactionEvent", event(0, "Started"))
        await both.csms.hears(SERIAL, "TransactionEvent")
        port = both.csms.port
        await both.csms.close()
        for seq_no in range(1, 5):
            both.say("TransactionEvent", event(seq_no))
        await both.until(lambda: both.outbox.waiting(SERIAL) == 4)
        told = both.csms.told
        both.csms = LabCsms(serials=[SERIAL], port=port)
        both.csms.told.extend(told)
        await both.csms.open()
        await both.until(lambda: both.outbox.waiting(SERIAL) == 0)
        assert both.events() == [(0, False), (1, True), (2, True), (3, True), (4, True)]


async def test_an_event_of_an_outage_is_traced_to_what_the_unit_said_not_to_what_it_says_now(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        said = both.trace.observer(SERIAL, UNIT)
        said("Rx", True, "u1", "StartTransaction", {"idTag": "TAG"})
        both.say("TransactionEvent", event(0, "Started"))
        await both.until(lambda: both.outbox.waiting(SERIAL) == 1)
        said("Rx", True, "u2", "Heartbeat", {})
        await both.booted()
        await both.until(lambda: both.outbox.waiting(SERIAL) == 0)
        told = next(each for each in both.trace.since() if (each.way, each.action) == ("Tx", "TransactionEvent"))
        assert (told.exchange, told.cause) == (1, "Rx unit StartTransaction")


async def test_letters_of_a_charger_that_is_gone_are_delivered_and_then_the_connection_ends(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        both.say("TransactionEvent", event(0, "Started"))
        await both.csms.hears(SERIAL, "TransactionEvent")
        await both.until(lambda: not both.csms.connected)
        assert both.csms.heard(SERIAL, "BootNotification")[0]["chargingStation"]["serialNumber"] == SERIAL


async def test_a_letter_refused_for_its_own_sake_is_dead_at_once_and_holds_up_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        refuse = LabError("FormatViolation", "no such thing")
        both.csms.answers["TransactionEvent"] = lambda _, payload: refuse if payload["seqNo"] == 1 else {}
        for seq_no in range(3):
            both.say("TransactionEvent", event(seq_no))
        await both.until(lambda: both.outbox.dead == 1 and len(both.events()) == 2)
        assert [row["dead"] for row in both.outbox.listed(only_dead=True)] == ["FormatViolation: no such thing"]
        assert both.events() == [(0, False), (2, False)]
        del both.csms.answers["TransactionEvent"]
        both.outbox.resend()
        both.upstream.resent(SERIAL)
        await both.until(lambda: both.events()[-1] == (1, True))
        await both.until(lambda: both.outbox.listed() == [])


async def test_e13_a_letter_the_csms_fails_on_is_tried_as_often_as_said_and_then_dead(tmp_path: Path) -> None:
    async with world(tmp_path, message_attempts=3) as both:
        await both.booted()
        both.csms.answers["TransactionEvent"] = lambda _serial, _payload: LabError("InternalError", "database down")
        both.say("TransactionEvent", event(0, "Started"))
        await both.until(lambda: both.outbox.dead == 1)
        assert len(both.csms.heard(SERIAL, "TransactionEvent")) == 3


async def test_a_csms_that_forgot_the_station_is_told_its_boot_again_and_loses_no_letter(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        both.csms.connected[SERIAL].accepted = False
        both.say("TransactionEvent", event(0, "Started"))
        await both.until(lambda: both.events() == [(0, False)])
        assert len(both.csms.heard(SERIAL, "BootNotification")) == 2


async def test_a_unit_that_boots_anew_on_every_connection_is_not_announced_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        both.say("BootNotification", BOOT)
        outcome = both.answers[-1][1]
        assert isinstance(outcome, dict)
        assert outcome["status"] == "Accepted"
        assert len(both.csms.heard(SERIAL, "BootNotification")) == 1


async def test_every_boot_of_a_native_station_is_passed_on(tmp_path: Path) -> None:
    async with world(tmp_path, "ocpp2.0.1") as both:
        await both.booted()
        both.say("BootNotification", BOOT)
        await both.csms.hears(SERIAL, "BootNotification", count=2)


async def test_requests_of_the_csms_reach_the_charger_and_its_answer_comes_back(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        assert await both.csms.call(SERIAL, "ClearCache", {}) == {"status": "Accepted"}
        assert both.below.asked == [("ClearCache", {})]
        both.below.answer = CallError("NotSupported", "no")
        answer = await both.csms.call(SERIAL, "ClearCache", {})
        assert isinstance(answer, LabError)
        assert answer.code == "NotSupported"


async def test_g02_the_heartbeat_follows_the_interval_a_charger_accepts_and_no_other(tmp_path: Path) -> None:
    variable = {"component": {"name": "OCPPCommCtrlr"}, "variable": {"name": "HeartbeatInterval"}}
    async with world(tmp_path) as both:
        await both.booted()
        intervals = [
            ("Rejected", "1", 300),
            ("Accepted", "none", 300),
            ("Accepted", "1e999", 86_400),
            ("Accepted", "1", 1),
        ]
        for status, interval, follows_s in intervals:
            both.below.answer = {"setVariableResult": [{"attributeStatus": status} | variable]}
            wanted = {"setVariableData": [{"attributeValue": interval} | variable]}
            assert await both.csms.call(SERIAL, "SetVariables", wanted) == both.below.answer
            assert both.link._heartbeat_s == follows_s
        await both.csms.hears(SERIAL, "Heartbeat", count=2, within_s=20)


async def test_a_connection_that_is_accepted_and_dropped_at_once_is_none_and_backs_off(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        dropped = 0
        serve = both.csms._serve

        async def drop(websocket: Any) -> None:
            nonlocal dropped
            dropped += 1
            await (websocket.close() if dropped <= 3 else serve(websocket))

        both.csms._serve = drop  # type: ignore[method-assign]
        await both.csms.close()
        await both.csms.open()
        both.upstream.attach(both.below)
        both.say("TransactionEvent", event(0, "Started"))
        both.say("BootNotification", BOOT)
        await both.until(lambda: both.link.is_accepted)
        assert dropped == 4


async def test_security_profile_1_shows_the_password_of_the_serial(tmp_path: Path) -> None:
    (tmp_path / "passwords").mkdir()
    (tmp_path / "passwords" / SERIAL).write_text("0123456789abcdef\n")
    async with world(tmp_path, passwords_dir=tmp_path / "passwords") as both:
        both.csms._password = "0123456789abcdef"
        await both.booted()


async def test_a01_a_password_the_csms_has_set_is_shown_from_the_next_connection_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.ocpp201.link.TAKE_OVER_S", 0.02)
    (tmp_path / "passwords").mkdir()
    kept = tmp_path / "passwords" / SERIAL
    kept.write_text("0123456789abcdef\n")
    password = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    other = {"component": {"name": "TxCtrlr"}, "variable": {"name": "StopTxOnInvalidId"}}
    async with world(tmp_path, passwords_dir=tmp_path / "passwords") as both:
        both.csms._password = "0123456789abcdef"
        await both.booted()
        both.below.answer = {"setVariableResult": [{"attributeStatus": "RebootRequired"} | other]}

        async def ask(value: str) -> Any:
            wanted = [{"attributeValue": value} | password, {"attributeValue": "true"} | other]
            answer = await both.csms.call(SERIAL, "SetVariables", {"setVariableData": wanted})
            assert isinstance(answer, dict)
            return [each["attributeStatus"] for each in answer["setVariableResult"]]

        for bad in ("short", "x" * 41, "with a trailing space ", "with a\nline of its own"):
            assert await ask(bad) == ["Rejected", "RebootRequired"]
        assert kept.read_text() == "0123456789abcdef\n"
        both.csms._password = "fedcba9876543210"
        assert await ask("fedcba9876543210") == ["Accepted", "RebootRequired"]
        assert {action for action, payload in both.below.asked if "BasicAuth" not in str(payload)} == {"SetVariables"}
        await both.csms.hears(SERIAL, "Heartbeat", within_s=20)  # on the next connection, which shows the new one
        assert kept.read_text() == "fedcba9876543210\n"
        assert kept.with_name(f"{SERIAL}.before").read_text() == "0123456789abcdef\n"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


async def test_a_password_for_all_chargers_is_not_for_the_csms_of_one_to_change(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("0123456789abcdef\n")
    password = {"component": {"name": "SecurityCtrlr"}, "variable": {"name": "BasicAuthPassword"}}
    async with world(tmp_path, password_file=tmp_path / "password") as both:
        both.csms._password = "0123456789abcdef"
        await both.booted()
        both.below.answer = {"setVariableResult": [{"attributeStatus": "Rejected"} | password]}
        wanted = {"setVariableData": [{"attributeValue": "fedcba9876543210"} | password]}
        assert await both.csms.call(SERIAL, "SetVariables", wanted) == both.below.answer


async def test_wrong_credentials_raise_one_security_event_and_lose_nothing(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong")
    async with world(tmp_path, password_file=password) as both:
        both.csms._password = "right"
        both.upstream.attach(both.below)
        both.say("BootNotification", BOOT)
        both.say("TransactionEvent", event(0, "Started"))
        await both.until(lambda: both.outbox.waiting(SERIAL) == 2)
        await asyncio.sleep(0.1)
        password.write_text("right")
        await both.csms.hears(SERIAL, "SecurityEventNotification")
        assert [each["type"] for each in both.csms.heard(SERIAL, "SecurityEventNotification")] == [
            "FailedToAuthenticateAtCsms"
        ]
        assert both.events() == [(0, True)]


async def test_a_letter_goes_up_in_the_octets_it_came_in(tmp_path: Path) -> None:
    signed = '{"signedMeterData":"T0NNRnw=","signingMethod":"","encodingMethod":"OCMF","publicKey":"a\\/b"}'
    text = (
        '{"eventType":"Updated", "timestamp":"' + TIME + '","triggerReason":"MeterValuePeriodic","seqNo":1,'
        '"transactionInfo":{"transactionId":"T1"},"meterValue":[{"timestamp":"' + TIME + '","sampledValue":'
        '[{"value":12.10,"signedMeterValue":' + signed + '},{"value":0.1234567890123456789}]}]}'
    )
    async with world(tmp_path, "ocpp2.0.1") as both:
        frames: list[Any] = []
        await both.booted()
        websocket = both.csms.connected[SERIAL].peer.websocket
        recv = websocket.recv

        async def noting() -> Any:
            frame = await recv()
            frames.append(frame)
            return frame

        setattr(websocket, "recv", noting)  # noqa: B010  from the frame after the next
        both.say("StatusNotification", status(1, "Available"))
        both.say("TransactionEvent", Verbatim(json.loads(text), text.encode()))
        await both.csms.hears(SERIAL, "TransactionEvent")
        assert any(frame.endswith(text + "]") for frame in frames)


async def test_a_letter_kept_while_the_service_stops_waits_for_the_next_one(tmp_path: Path) -> None:
    async with world(tmp_path) as both:
        await both.booted()
        await both.upstream.close()
        both.say("TransactionEvent", event(0, "Started"))
        both.group.flush()
        await asyncio.sleep(0.05)
        assert both.outbox.waiting(SERIAL) == 1
        assert not both.csms.connected
        assert both.events() == []


def test_only_the_flag_is_written_into_a_letter_that_goes_offline() -> None:
    text = b'{"seqNo":1,"meterValue":[{"value":12.10,"x":1e2}],"offline":false}'
    assert with_offline(text) == b'{"seqNo":1,"meterValue":[{"value":12.10,"x":1e2}],"offline":true}'


def test_the_waits_double_as_often_as_said_and_carry_their_part_of_chance() -> None:
    back_off = BackOff(10, 6, 2)
    assert [back_off.next_s(0.5) for _ in range(4)] == [13, 23, 43, 43]
    back_off.reset()
    assert back_off.next_s(0) == 10


def _variable() -> Payload:
    return {"component": {"name": "ClockCtrlr"}, "variable": {"name": "DateTime"}}
