"""A simulated native OCPP 2.0.1 charging station with one EVSE, schema-checked both ways by the `ocpp` package."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import math
import re
import ssl
import uuid
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bridge.lab.charger import Behaviour, Session, SimulatedCharger, stamp, utc_now
from bridge.lab.charging_profiles import Abilities, ChargingProfiles
from bridge.lab.peer import Answer, CallError, Payload, Peer
from bridge.lab.power_path import PowerPath, Reading

log = logging.getLogger(__name__)

BOOT_RETRY_S = 5.0
EVENT_RETRY_S = 5.0
RESET_DELAY_S = 0.1
LONGEST_NAP_S = 5.0
MAX_EVENTS = 1_000
REPORT_ITEMS = 20
EVSE = {"id": 1, "connectorId": 1}
REGISTER = "Energy.Active.Import.Register"
MEASURANDS = (REGISTER, "Power.Active.Import", "Voltage", "Current.Import")
TX_INTERVAL = "SampledDataCtrlr.TxUpdatedInterval"
TX_MEASURANDS = "SampledDataCtrlr.TxUpdatedMeasurands"
CLOCK_INTERVAL = "AlignedDataCtrlr.Interval"
CLOCK_MEASURANDS = "AlignedDataCtrlr.Measurands"
HEARTBEAT = "OCPPCommCtrlr.HeartbeatInterval"
INTEGERS = (TX_INTERVAL, CLOCK_INTERVAL, HEARTBEAT, "SampledDataCtrlr.TxEndedInterval")
LISTS = (
    TX_MEASURANDS,
    CLOCK_MEASURANDS,
    "SampledDataCtrlr.TxStartedMeasurands",
    "SampledDataCtrlr.TxEndedMeasurands",
)

# Why a session ended: triggerReason and stoppedReason of the TransactionEvent.
ENDINGS = {
    "Local": ("StopAuthorized", "Local"),
    "Remote": ("RemoteStop", "Remote"),
    "DeAuthorized": ("Deauthorized", "DeAuthorized"),
    "Reboot": ("ResetCommand", "Reboot"),
}


def sampled_values(reading: Reading, measurands: str, context: str) -> list[Payload]:
    """Write a reading as sampledValue[] for a comma-separated list of measurands; the register where none is known."""
    voltages = [
        {"value": round(voltage_v, 1), "measurand": "Voltage", "phase": f"L{phase}-N", "unitOfMeasure": {"unit": "V"}}
        for phase, voltage_v in enumerate(reading.voltages_v, start=1)
    ]
    currents = [
        {
            "value": round(reading.current_a, 2),
            "measurand": "Current.Import",
            "phase": f"L{phase}",
            "unitOfMeasure": {"unit": "A"},
        }
        for phase in (1, 2, 3)
    ]
    register = {"value": round(reading.energy_wh, 1), "measurand": REGISTER, "unitOfMeasure": {"unit": "Wh"}}
    power = {"value": round(reading.power_w, 1), "measurand": "Power.Active.Import", "unitOfMeasure": {"unit": "W"}}
    known = {REGISTER: [register], "Power.Active.Import": [power], "Voltage": voltages, "Current.Import": currents}
    wanted = [name.strip() for name in measurands.split(",")]
    values = [value for name in wanted for value in known.get(name, [])] or [register]
    return [value | {"context": context} for value in values]


class Station201(SimulatedCharger):
    """One station dialling `url`/`identity` (ws:// or wss://HOST:PORT), with Basic authentication if it has a password.

    `tls` says what it trusts and which certificate it shows (security profiles 2 and 3).

    Installed charging profiles and variables outlive a reboot; it forgets the charging profiles when told to forget.
    Samples are off until somebody sets SampledDataCtrlr.TxUpdatedInterval (in a transaction) or
    AlignedDataCtrlr.Interval (without one). TransactionEvents queue while it has no connection.
    """

    kind = "station201"

    def __init__(
        self,
        url: str,
        identity: str,
        *,
        power: PowerPath | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        abilities: Abilities | None = None,
        reboot_s: float = 2.0,
        back_off_s: float = 1.0,
    ) -> None:
        power = power or PowerPath(maximum_w=22_000, minimum_w=4_140, start_s=self.now_s())
        super().__init__(identity, power, reboot_s=reboot_s, back_off_s=back_off_s, checked=True)
        self.url = f"{url.rstrip('/')}/{identity}"
        self.available = True
        self.charging_profiles = ChargingProfiles(abilities or Abilities())
        self.events: deque[Payload] = deque()
        self.variables = _variables(self.charging_profiles.abilities)
        self._password = password
        self._tls = tls
        self._boot_reason = "PowerUp"
        self._reset_when_idle = False
        self._event_queued = asyncio.Event()
        self._sampling_changed = asyncio.Event()
        self._limit_changed = asyncio.Event()
        self._answers: dict[str, Callable[[Payload], Answer]] = {
            "ChangeAvailability": self._change_availability,
            "ClearCache": lambda _: {"status": "Accepted"},
            "ClearChargingProfile": self._clear_charging_profile,
            "DataTransfer": lambda _: {"status": "UnknownVendorId"},
            "GetBaseReport": self._get_base_report,
            "GetChargingProfiles": self._get_charging_profiles,
            "GetCompositeSchedule": self._get_composite_schedule,
            "GetLocalListVersion": lambda _: {"versionNumber": 0},
            "GetTransactionStatus": self._get_transaction_status,
            "GetVariables": lambda payload: {
                "getVariableResult": [self._get_variable(each) for each in payload["getVariableData"]]
            },
            "RequestStartTransaction": self._request_start,
            "RequestStopTransaction": self._request_stop,
            "Reset": self._reset,
            "SetChargingProfile": self._set_charging_profile,
            "SetVariables": lambda payload: {
                "setVariableResult": [self._set_variable(each) for each in payload["setVariableData"]]
            },
            "TriggerMessage": self._trigger_message,
            "UnlockConnector": self._unlock_connector,
        }

    @property
    def begun(self) -> datetime | None:
        """When the open session began."""
        session = self.open_session
        return session.begun if session else None

    def limit_w(self) -> int:
        """Return the limit that follows from the installed charging profiles now, W; the maximum without any."""
        limit_w = self.charging_profiles.limit_w(utc_now(), self.begun)
        return self.power.maximum_w if limit_w is None else min(math.floor(limit_w), self.power.maximum_w)

    def forget(self) -> None:
        """Lose every charging profile."""
        self.charging_profiles.installed.clear()

    def start_session(self, id_tag: str = "04A1B2C3", reason: str = "", remote_start_id: int | None = None) -> bool:
        """Plug a vehicle in and present a card; the transaction begins once it is authorised, or offline at once."""
        if not super().start_session(id_tag, reason, remote_start_id):
            return False
        session = self.sessions[-1]
        session.transaction = str(uuid.uuid4())
        if not self.connected:
            self._begin(session)
        return True

    def stop_session(self, reason: str = "Local") -> bool:
        """End the session and queue the Ended event; False when there is none."""
        session = self.open_session
        if session is None or not super().stop_session(reason):
            return False
        self.sessions.clear()
        self.charging_profiles.clear_transaction()
        if session.reported:
            trigger, stopped = ENDINGS.get(reason, ("AbnormalCondition", "Other"))
            self._queue_event(session, "Ended", trigger, "Transaction.End", stoppedReason=stopped)
            self.status_changed()
        if self._reset_when_idle:
            self._reset_soon()
        return True

    def obey_limit(self) -> None:
        """Look at the charging profiles again."""
        self._limit_changed.set()

    def status_changed(self) -> None:
        """Queue a StatusNotification of connector 1."""
        status = "Occupied" if self.charging else "Available"
        payload = {
            "timestamp": stamp(utc_now()),
            "connectorStatus": status if self.available or self.charging else "Unavailable",
            "evseId": 1,
            "connectorId": 1,
        }
        self.notify("StatusNotification", payload)

    async def run(self) -> None:
        """Live until cancelled; charging profiles and samples go on without a connection."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(super().run())
            tasks.create_task(self._follow_charging_profiles())
            tasks.create_task(self._every(TX_INTERVAL, self._sample_transaction))

    async def dial(self) -> ClientConnection:
        """Open the WebSocket at url/identity."""
        headers = {}
        if self._password is not None:
            token = base64.b64encode(f"{self.serial}:{self._password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        return await connect(
            self.url,
            subprotocols=[Subprotocol("ocpp2.0.1")],
            additional_headers=headers,
            ssl=self._tls,
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=1,
        )

    async def live(self, peer: Peer) -> None:
        """Boot, tell the status, then report events, samples and heartbeats."""
        for payload in self.events:
            payload["offline"] = True
        interval_s = await self._boot(peer)
        self.booted = True
        self.session_changed.set()
        self.status_changed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heartbeats(peer, interval_s))
            tasks.create_task(self.send_notices(peer))
            tasks.create_task(self._send_events(peer))
            tasks.create_task(self._authorise_sessions(peer))
            tasks.create_task(self._every(CLOCK_INTERVAL, self._sample_idle))

    async def answer(self, action: str, payload: Payload) -> Answer:
        """Answer a request that satisfies its schema; CALLERROR NotSupported for what this station does not do."""
        answer = self._answers.get(action)
        return answer(payload) if answer else CallError("NotSupported", f"{action} is not supported here")

    # Reporting.

    async def _boot(self, peer: Peer) -> float:
        payload = {
            "reason": self._boot_reason,
            "chargingStation": {
                "model": "Lab 201",
                "vendorName": "Lab",
                "serialNumber": self.serial[:25],
                "firmwareVersion": "1.0",
            },
        }
        while True:
            answer = await peer.call("BootNotification", payload)
            if isinstance(answer, dict) and answer["status"] == "Accepted":
                self._boot_reason = "PowerUp"
                return float(answer["interval"] or self.variables[HEARTBEAT])
            log.warning("%s: boot not accepted: %s", self.serial, answer)
            retry_s = answer.get("interval", 0) if isinstance(answer, dict) else 0
            await asyncio.sleep(min(retry_s or BOOT_RETRY_S, BOOT_RETRY_S))

    async def _authorise_sessions(self, peer: Peer) -> None:
        while True:
            session = self.open_session
            if session is not None and not session.reported:
                refused = False
                if session.remote_start_id is None:
                    answer = await peer.call("Authorize", {"idToken": _id_token(session.id_tag)})
                    refused = _refused(answer)
                if refused:
                    log.info("%s: idToken %s refused", self.serial, session.id_tag)
                    self.stop_session("DeAuthorized")
                elif session is self.open_session:
                    self._begin(session)
            await self.wait_for_session(EVENT_RETRY_S)

    def _begin(self, session: Session) -> None:
        session.reported = True
        self.power.close(self.now_s())
        more = {} if session.remote_start_id is None else {"remoteStartId": session.remote_start_id}
        trigger = "Authorized" if session.remote_start_id is None else "RemoteStart"
        self._queue_event(session, "Started", trigger, "Transaction.Begin", **more)
        self.status_changed()
        self._limit_changed.set()

    def _queue_event(self, session: Session, event_type: str, trigger: str, context: str, **info: Any) -> None:
        """Queue a TransactionEvent; seqNo counts from 0 in each transaction. Full, the oldest Updated gives way."""
        if len(self.events) >= MAX_EVENTS:
            expendable = next((each for each in self.events if each["eventType"] == "Updated"), self.events[0])
            self.events.remove(expendable)
        moment = stamp(utc_now())
        measurands = TX_MEASURANDS if event_type == "Updated" else f"SampledDataCtrlr.Tx{event_type}Measurands"
        values = sampled_values(self.power.reading(self.now_s()), self.variables[measurands], context)
        state = "Charging" if self.limit_w() >= self.power.minimum_w else "SuspendedEVSE"
        payload: Payload = {
            "eventType": event_type,
            "timestamp": moment,
            "triggerReason": trigger,
            "seqNo": session.sequence,
            "transactionInfo": {
                "transactionId": session.transaction,
                "chargingState": "Idle" if event_type == "Ended" else state,
                **info,
            },
            "meterValue": [{"timestamp": moment, "sampledValue": values}],
        }
        if event_type == "Started":
            payload |= {"evse": EVSE, "idToken": _id_token(session.id_tag)}
        if not self.connected:
            payload["offline"] = True
        session.sequence += 1
        self.events.append(payload)
        self._event_queued.set()

    async def _send_events(self, peer: Peer) -> None:
        """Send the queue in order; only an answer removes an event, an error removes it with a line in the log."""
        while True:
            while self.events:
                payload = self.events[0]
                answer = await peer.call("TransactionEvent", payload)
                if answer is None:
                    await asyncio.sleep(EVENT_RETRY_S)
                    continue
                if isinstance(answer, CallError):
                    log.warning("%s: TransactionEvent refused: %s %s", self.serial, answer.code, answer.description)
                with contextlib.suppress(ValueError):
                    self.events.remove(payload)
                session = self.open_session
                of_this = session is not None and payload["transactionInfo"]["transactionId"] == session.transaction
                if _refused(answer) and of_this:
                    self.stop_session("DeAuthorized")
            self._event_queued.clear()
            await self._event_queued.wait()

    async def _every(self, variable: str, act: Callable[[], None]) -> None:
        """Do something at the interval a variable holds in seconds; 0 is never."""
        while True:
            interval_s = float(self.variables[variable])
            self._sampling_changed.clear()
            try:
                async with asyncio.timeout(interval_s if interval_s > 0 else None):
                    await self._sampling_changed.wait()
            except TimeoutError:
                act()

    def _sample_transaction(self) -> None:
        session = self.open_session
        if session is not None and session.reported:
            self._queue_event(session, "Updated", "MeterValuePeriodic", "Sample.Periodic")

    def _sample_idle(self) -> None:
        if not self.charging:
            self._send_meter_values("Sample.Clock")

    def _send_meter_values(self, context: str) -> None:
        values = sampled_values(self.power.reading(self.now_s()), self.variables[CLOCK_MEASURANDS], context)
        self.notify(
            "MeterValues", {"evseId": 1, "meterValue": [{"timestamp": stamp(utc_now()), "sampledValue": values}]}
        )

    async def _follow_charging_profiles(self) -> None:
        """Hand every limit that follows from the charging profiles to the power path, when its time has come."""
        while True:
            super().obey_limit()
            self._limit_changed.clear()
            now = utc_now()
            change = self.charging_profiles.next_change(now, self.begun)
            nap_s = LONGEST_NAP_S if change is None else min(LONGEST_NAP_S, (change - now).total_seconds())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(nap_s):
                    await self._limit_changed.wait()

    # Requests of the CSMS.

    def _set_charging_profile(self, payload: Payload) -> Answer:
        if self.behaviour is Behaviour.REFUSES:
            return _rejected("UnsupportedRequest")
        session = self.open_session
        transaction = str(session.transaction) if session else None
        reason = self.charging_profiles.install(payload["evseId"], payload["chargingProfile"], transaction)
        if reason is not None:
            return _rejected(reason)
        self.obey_limit()
        return {"status": "Accepted"}

    def _clear_charging_profile(self, payload: Payload) -> Answer:
        criteria = payload.get("chargingProfileCriteria", {})
        if not self.charging_profiles.clear(payload.get("chargingProfileId"), criteria):
            return {"status": "Unknown"}
        self.obey_limit()
        return {"status": "Accepted"}

    def _get_charging_profiles(self, payload: Payload) -> Answer:
        found = self.charging_profiles.matching(payload.get("evseId"), payload["chargingProfile"])
        evse_ids = sorted({evse_id for evse_id, _ in found})
        for evse_id in evse_ids:
            report = {
                "requestId": payload["requestId"],
                "chargingLimitSource": "CSO",
                "evseId": evse_id,
                "chargingProfile": [each for at_evse, each in found if at_evse == evse_id],
                "tbc": evse_id != evse_ids[-1],
            }
            self.notify("ReportChargingProfiles", report)
        return {"status": "Accepted" if found else "NoProfiles"}

    def _get_composite_schedule(self, payload: Payload) -> Answer:
        unit = payload.get("chargingRateUnit", "W")
        if payload["evseId"] not in (0, 1):
            return _rejected("UnknownEvse")
        if unit not in self.charging_profiles.abilities.rate_units:
            return _rejected("UnsupportedRateUnit")
        now, duration_s = utc_now(), payload["duration"]
        schedule = {
            "evseId": payload["evseId"],
            "duration": duration_s,
            "scheduleStart": stamp(now),
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": self.charging_profiles.composite(
                now, self.begun, max(duration_s, 1), unit, self.power.maximum_w
            ),
        }
        return {"status": "Accepted", "schedule": schedule}

    def _get_variable(self, asked: Payload) -> Payload:
        answer = {"component": asked["component"], "variable": asked["variable"]}
        name = _name(asked)
        if asked.get("attributeType", "Actual") != "Actual":
            return answer | {"attributeStatus": "NotSupportedAttributeType"}
        if name not in self.variables:
            return answer | {"attributeStatus": self._unknown(asked)}
        return answer | {"attributeStatus": "Accepted", "attributeValue": self.variables[name]}

    def _set_variable(self, asked: Payload) -> Payload:
        answer = {"component": asked["component"], "variable": asked["variable"]}
        name, value = _name(asked), asked["attributeValue"]
        if asked.get("attributeType", "Actual") != "Actual":
            return answer | {"attributeStatus": "NotSupportedAttributeType"}
        if name not in self.variables:
            return answer | {"attributeStatus": self._unknown(asked)}
        right = (name in INTEGERS and re.fullmatch(r"[0-9]{1,6}", value) is not None) or (
            name in LISTS and all(each.strip() in MEASURANDS for each in value.split(",") if each.strip())
        )
        if right:
            self.variables[name] = value
            self._sampling_changed.set()
        return answer | {"attributeStatus": "Accepted" if right else "Rejected"}

    def _unknown(self, asked: Payload) -> str:
        component = f"{asked['component']['name']}."
        known = any(name.startswith(component) for name in self.variables)
        return "UnknownVariable" if known else "UnknownComponent"

    def _get_base_report(self, payload: Payload) -> Answer:
        if payload["reportBase"] == "SummaryInventory":
            return {"status": "NotSupported"}
        items = [_report_item(name, value) for name, value in self.variables.items()]
        for number, first in enumerate(range(0, len(items), REPORT_ITEMS)):
            report = {
                "requestId": payload["requestId"],
                "generatedAt": stamp(utc_now()),
                "seqNo": number,
                "tbc": first + REPORT_ITEMS < len(items),
                "reportData": items[first : first + REPORT_ITEMS],
            }
            self.notify("NotifyReport", report)
        return {"status": "Accepted"}

    def _request_start(self, payload: Payload) -> Answer:
        free = self.available and payload.get("evseId", 1) == 1
        if not free or not self.start_session(
            payload["idToken"]["idToken"], remote_start_id=payload["remoteStartId"], reason="RemoteStart"
        ):
            return _rejected("TxInProgress" if self.charging else "UnknownEvse")
        if "chargingProfile" in payload:
            transaction = str(self.sessions[-1].transaction)
            of_transaction = payload["chargingProfile"] | {"transactionId": transaction}
            reason = self.charging_profiles.install(1, of_transaction, transaction)
            if reason is not None:
                self.stop_session("DeAuthorized")
                return _rejected(reason)
            self.obey_limit()
        return {"status": "Accepted"}

    def _request_stop(self, payload: Payload) -> Answer:
        session = self.open_session
        if session is None or session.transaction != payload["transactionId"]:
            return _rejected("TxNotFound")
        self.stop_session("Remote")
        return {"status": "Accepted"}

    def _get_transaction_status(self, payload: Payload) -> Answer:
        answer: Payload = {"messagesInQueue": bool(self.events)}
        session = self.open_session
        if "transactionId" in payload:
            answer["ongoingIndicator"] = session is not None and session.transaction == payload["transactionId"]
        return answer

    def _reset(self, payload: Payload) -> Answer:
        if "evseId" in payload:
            return _rejected("UnsupportedRequest")
        if payload["type"] == "OnIdle" and self.charging:
            self._reset_when_idle = True
            return {"status": "Scheduled"}
        self._reset_soon()
        return {"status": "Accepted"}

    def _reset_soon(self) -> None:
        self._reset_when_idle = False
        self._boot_reason = "RemoteReset"
        asyncio.get_running_loop().call_later(RESET_DELAY_S, self.reboot)

    def _change_availability(self, payload: Payload) -> Answer:
        if payload.get("evse", EVSE)["id"] != 1:
            return _rejected("UnknownEvse")
        self.available = payload["operationalStatus"] == "Operative"
        if self.charging and not self.available:
            return {"status": "Scheduled"}
        self.status_changed()
        return {"status": "Accepted"}

    def _unlock_connector(self, payload: Payload) -> Answer:
        if (payload["evseId"], payload["connectorId"]) != (1, 1):
            return {"status": "UnknownConnector"}
        return {"status": "OngoingAuthorizedTransaction" if self.charging else "Unlocked"}

    def _trigger_message(self, payload: Payload) -> Answer:
        match payload["requestedMessage"]:
            case "StatusNotification":
                self.status_changed()
            case "MeterValues":
                self._send_meter_values("Trigger")
            case "Heartbeat":
                self.notify("Heartbeat", {})
            case "TransactionEvent" if self.open_session is not None and self.open_session.reported:
                self._queue_event(self.open_session, "Updated", "Trigger", "Trigger")
            case "TransactionEvent" | "BootNotification":
                return {"status": "Rejected"}
            case _:
                return {"status": "NotImplemented"}
        return {"status": "Accepted"}


def _variables(abilities: Abilities) -> dict[str, str]:
    """The device model: `Component.Variable[instance]` and its actual value."""
    return {
        "AlignedDataCtrlr.Interval": "0",
        "AlignedDataCtrlr.Measurands": ",".join(MEASURANDS),
        "AuthCtrlr.AuthorizeRemoteStart": "false",
        "ChargingStation.AvailabilityState": "Available",
        "ChargingStation.SupplyPhases": "3",
        "DeviceDataCtrlr.ItemsPerMessage[GetVariables]": "20",
        "DeviceDataCtrlr.ItemsPerMessage[SetVariables]": "20",
        "EVSE.SupplyPhases": "3",
        HEARTBEAT: "300",
        "SampledDataCtrlr.TxEndedInterval": "0",
        "SampledDataCtrlr.TxEndedMeasurands": REGISTER,
        "SampledDataCtrlr.TxStartedMeasurands": REGISTER,
        "SampledDataCtrlr.TxUpdatedInterval": "0",
        "SampledDataCtrlr.TxUpdatedMeasurands": ",".join(MEASURANDS),
        "SmartChargingCtrlr.Enabled": "true",
        "SmartChargingCtrlr.LimitChangeSignificance": "1",
        "SmartChargingCtrlr.PeriodsPerSchedule": str(abilities.periods),
        "SmartChargingCtrlr.ProfileStackLevel": str(abilities.stack_level),
        "SmartChargingCtrlr.RateUnit": ",".join(abilities.rate_units),
        "TxCtrlr.TxStartPoint": "Authorized",
        "TxCtrlr.TxStopPoint": "Authorized",
    }


def _name(asked: Payload) -> str:
    instance = asked["variable"].get("instance")
    return f"{asked['component']['name']}.{asked['variable']['name']}" + (f"[{instance}]" if instance else "")


def _report_item(name: str, value: str) -> Payload:
    component, _, variable = name.partition(".")
    variable, _, instance = variable.rstrip("]").partition("[")
    described = {"name": variable, "instance": instance} if instance else {"name": variable}
    mutability = "ReadWrite" if name in INTEGERS or name in LISTS else "ReadOnly"
    return {
        "component": {"name": component},
        "variable": described,
        "variableAttribute": [{"value": value, "mutability": mutability}],
    }


def _id_token(id_tag: str) -> Payload:
    """Type the token by its looks: 4 or 7 bytes in hex are a card, anything else is the site's own."""
    is_card = re.fullmatch(r"[0-9A-Fa-f]{8}|[0-9A-Fa-f]{14}", id_tag) is not None
    return {"idToken": id_tag, "type": "ISO14443" if is_card else "Local"}


def _refused(answer: Answer) -> bool:
    """Tell whether an idTokenInfo in an answer says no; silence and errors say nothing about the token."""
    return isinstance(answer, dict) and answer.get("idTokenInfo", {}).get("status", "Accepted") != "Accepted"


def _rejected(reason: str) -> Payload:
    return {"status": "Rejected", "statusInfo": {"reasonCode": reason}}
