"""A simulated Voltex Series 4 unit: 2016 firmware, a JSON dialect of OCPP 1.5, serial said before the handshake."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from enum import StrEnum, unique
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bridge.lab.charger import Behaviour, Session, SimulatedCharger, stamp, utc_now
from bridge.lab.peer import Answer, CallError, Payload, Peer
from bridge.lab.power_path import PowerPath, Reading

log = logging.getLogger(__name__)

VENDOR = "Voltex"
MODEL = "S4-ULTRA"
FIRMWARE = "4.2.16"
LIMIT_KEY = "MaxChargingPowerW"
INTERVAL_KEY = "MeterValueSampleInterval"
MEASURANDS_KEY = "MeterValuesSampledData"
BOOT_RETRY_S = 5.0
SESSION_RETRY_S = 10.0
RESET_DELAY_S = 0.1
REGISTER = "Energy.Active.Import.Register"
MEASURANDS = (REGISTER, "Power.Active.Import", "Voltage", "Current.Import")


@unique
class MeterForm(StrEnum):
    """The spellings of MeterValues seen under OCPP 1.5 in JSON; none was ever standardised.

    A: `values[].values[]`. B: `values[].value[]`, the WSDL to the letter. C: one flat object a value.
    D: XML attributes beside `$value`. E: `meterValue[].sampledValue[]` as in 1.6, with phases.
    """

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"


def sampled_values(reading: Reading, measurands: str, form: MeterForm, *, kilo: bool = False) -> list[dict[str, str]]:
    """Write a reading as sampled values for a comma-separated list of measurands; others are left out.

    Form E names units as 1.6 does and gives each phase its own value, the others know no phase and give L1.
    `kilo` writes kWh and kW with decimals, as some units do.
    """
    phased = form is MeterForm.E
    volt, amp = ("V", "A") if phased else ("Volt", "Amp")
    energy_kwh, power_kw = reading.energy_wh / 1000, reading.power_w / 1000
    known: dict[str, list[dict[str, str]]] = {
        REGISTER: [{"value": f"{energy_kwh:.3f}", "unit": "kWh"} if kilo else _whole(reading.energy_wh, "Wh")],
        "Power.Active.Import": [{"value": f"{power_kw:.3f}", "unit": "kW"} if kilo else _whole(reading.power_w, "W")],
        "Voltage": [{"value": f"{voltage_v:.1f}", "unit": volt} for voltage_v in reading.voltages_v],
        "Current.Import": [{"value": f"{reading.current_a:.2f}", "unit": amp} for _ in reading.voltages_v],
    }
    values: list[dict[str, str]] = []
    for measurand in (name.strip() for name in measurands.split(",")):
        of_phases = known.get(measurand, [])
        for phase, value in enumerate(of_phases if phased else of_phases[:1], start=1):
            more = {"measurand": measurand, "context": "Sample.Periodic"}
            if len(of_phases) > 1 and phased:
                more["phase"] = f"L{phase}-N" if measurand == "Voltage" else f"L{phase}"
            values.append(value | more)
    return values


def _whole(figure: float, unit: str) -> dict[str, str]:
    return {"value": str(round(figure)), "unit": unit}


def meter_values(timestamp: str, values: list[dict[str, str]], form: MeterForm) -> Payload:
    """Wrap sampled values in one of the spellings: everything of MeterValues but connector and transaction."""
    match form:
        case MeterForm.A:
            return {"values": [{"timestamp": timestamp, "values": values}]}
        case MeterForm.B:
            return {"values": [{"timestamp": timestamp, "value": values}]}
        case MeterForm.C:
            return {"values": [{"timestamp": timestamp, **value} for value in values]}
        case MeterForm.D:
            dressed = [{"$value": value.pop("value"), "attributes": value} for value in map(dict, values)]
            one_or_many: Any = dressed[0] if len(dressed) == 1 else dressed
            return {"values": {"timestamp": timestamp, "value": one_or_many}}
        case MeterForm.E:
            return {"meterValue": [{"timestamp": timestamp, "sampledValue": values}]}


class Series4Unit(SimulatedCharger):
    """One unit with connector 1, dialling `url` (ws://HOST:PORT/).

    `flash` are its configuration keys; they outlive a reboot, and the limit falls to the maximum when it forgets.
    Sampling is off until somebody sets its interval; `samples_when_idle` makes it sample outside a transaction too.
    `subprotocol` None offers none. `hello` is the line sent before the handshake.
    """

    kind = "series4"

    def __init__(
        self,
        url: str,
        serial: str,
        *,
        power: PowerPath | None = None,
        subprotocol: str | None = "ocpp1.5",
        meter_form: MeterForm = MeterForm.A,
        kilo: bool = False,
        samples_when_idle: bool = True,
        reboot_s: float = 2.0,
        back_off_s: float = 1.0,
    ) -> None:
        power = power or PowerPath(maximum_w=50_000, minimum_w=6_000, start_s=self.now_s())
        super().__init__(serial, power, reboot_s=reboot_s, back_off_s=back_off_s, checked=False)
        self.url = url
        self.hello = f"S4HELLO SN={serial} FW={FIRMWARE}\r\n".encode()
        self.meter_form = meter_form
        self.flash = {
            LIMIT_KEY: str(power.maximum_w),
            INTERVAL_KEY: "0",
            MEASURANDS_KEY: REGISTER,
            "HeartBeatInterval": "300",
            "ConnectionTimeOut": "60",
            "ClockAlignedDataInterval": "0",
            "MeterValuesAlignedData": "",
            "StopTxnSampledData": "",
            "StopTxnAlignedData": "",
            "ResetRetries": "3",
            "BlinkRepeat": "2",
            "LightIntensity": "80",
            "ChargePointId": serial,
        }
        self.available = True
        self._subprotocol = subprotocol
        self._kilo = kilo
        self._samples_when_idle = samples_when_idle
        self._sampling_changed = asyncio.Event()
        self._local_list_version = 0
        self._reservation: int | None = None
        self._operations: dict[str, Callable[[Payload], Answer]] = {
            "CancelReservation": self._cancel_reservation,
            "ChangeAvailability": self._change_availability,
            "ChangeConfiguration": self._change_configuration,
            "ClearCache": lambda _: {"status": "Accepted"},
            "DataTransfer": self._data_transfer,
            "GetConfiguration": self._get_configuration,
            "GetDiagnostics": self._get_diagnostics,
            "GetLocalListVersion": lambda _: {"listVersion": self._local_list_version},
            "RemoteStartTransaction": self._remote_start,
            "RemoteStopTransaction": self._remote_stop,
            "ReserveNow": self._reserve_now,
            "Reset": self._reset,
            "SendLocalList": self._send_local_list,
            "UnlockConnector": self._unlock_connector,
            "UpdateFirmware": self._update_firmware,
        }

    def limit_w(self) -> int:
        """Return the limit in flash, W."""
        return int(self.flash[LIMIT_KEY])

    def forget(self) -> None:
        """Fall back to the factory's limit: the maximum."""
        self.flash[LIMIT_KEY] = str(self.power.maximum_w)

    async def dial(self) -> ClientConnection:
        """Connect, say the hello, then open the WebSocket on the same TCP connection."""
        parts = urlsplit(self.url)
        loop = asyncio.get_running_loop()
        port = parts.port or 80
        family, kind, protocol, _, address = (await loop.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM))[0]
        link = socket.socket(family, kind, protocol)
        try:
            link.setblocking(False)
            await loop.sock_connect(link, address)
            await loop.sock_sendall(link, self.hello)
            offered = [Subprotocol(self._subprotocol)] if self._subprotocol else None
            return await connect(
                self.url,
                sock=link,
                subprotocols=offered,
                compression=None,
                ping_interval=None,
                close_timeout=1,
            )
        except BaseException:
            link.close()
            raise

    async def live(self, peer: Peer) -> None:
        """Boot, tell the status, then report sessions, samples and heartbeats."""
        interval_s = await self._boot(peer)
        self.booted = True
        self.session_changed.set()
        self.status_changed()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heartbeats(peer, interval_s))
            tasks.create_task(self.send_notices(peer))
            tasks.create_task(self._report_sessions(peer))
            tasks.create_task(self._sample(peer))

    def status_changed(self) -> None:
        """Queue a StatusNotification of connector 1."""
        status = "Available"
        if not self.available:
            status = "Unavailable"
        elif self.charging:
            status = "Occupied"
        elif self._reservation is not None:
            status = "Reserved"
        payload = {"connectorId": 1, "status": status, "errorCode": "NoError", "timestamp": stamp(utc_now())}
        self.notify("StatusNotification", payload)

    async def answer(self, action: str, payload: Payload) -> Answer:
        """Answer one of the fifteen operations of 1.5; on any other this firmware drops the connection."""
        operation = self._operations.get(action)
        if operation is None:
            log.warning("%s: firmware of 2016 does not know %s and drops the connection", self.serial, action)
            self._hang_up()
            return None
        try:
            return operation(payload)
        except (KeyError, TypeError, ValueError) as problem:
            return CallError("FormationViolation", f"{action}: {problem!r}")

    async def _boot(self, peer: Peer) -> float:
        payload = {
            "chargePointVendor": VENDOR,
            "chargePointModel": MODEL,
            "chargePointSerialNumber": self.serial,
            "chargeBoxSerialNumber": self.serial,
            "firmwareVersion": FIRMWARE,
            "meterType": "S4M",
            "meterSerialNumber": f"M-{self.serial}"[:25],
        }
        while True:
            answer = await peer.call("BootNotification", payload)
            if isinstance(answer, dict) and answer.get("status") == "Accepted":
                interval_s = answer.get("heartbeatInterval")
                return float(interval_s) if isinstance(interval_s, int) else float(self.flash["HeartBeatInterval"])
            log.warning("%s: boot not accepted: %s", self.serial, answer)
            await asyncio.sleep(BOOT_RETRY_S)

    async def _report_sessions(self, peer: Peer) -> None:
        while True:
            while self.sessions and await self._report(peer, self.sessions[0]):
                self.sessions.popleft()
            await self.wait_for_session(SESSION_RETRY_S)

    async def _report(self, peer: Peer, session: Session) -> bool:
        """Say what the central system does not know of a session yet; True when nothing is left to say."""
        if session.transaction is None and not await self._report_start(peer, session):
            return session.reported
        if session.ended is None:
            return False
        stop = {
            "transactionId": session.transaction,
            "idTag": session.id_tag,
            "timestamp": stamp(session.ended),
            "meterStop": session.end_wh,
        }
        session.reported = isinstance(await peer.call("StopTransaction", stop), dict)
        if session.reported:
            self.status_changed()
        return session.reported

    async def _report_start(self, peer: Peer, session: Session) -> bool:
        """Authorise, unless it draws already, and get a transaction id; True when there is one."""
        if session is self.open_session and not self.power.closed:
            authorised = await peer.call("Authorize", {"idTag": session.id_tag})
            if _refused(authorised):
                log.info("%s: idTag %s refused", self.serial, session.id_tag)
                self.stop_session("DeAuthorized")
                session.reported = True
                return False
        start = {
            "connectorId": 1,
            "idTag": session.id_tag,
            "timestamp": stamp(session.begun),
            "meterStart": session.begin_wh,
        }
        answer = await peer.call("StartTransaction", start)
        if not isinstance(answer, dict) or not isinstance(answer.get("transactionId"), int):
            log.warning("%s: StartTransaction without a transaction id: %s", self.serial, answer)
            return False
        session.transaction = int(answer["transactionId"])
        if session is self.open_session:
            if _refused(answer):
                self.stop_session("DeAuthorized")
            else:
                self.power.close(self.now_s())
                self.status_changed()
        return True

    async def _sample(self, peer: Peer) -> None:
        while True:
            interval_s = float(self.flash[INTERVAL_KEY])
            self._sampling_changed.clear()
            try:
                async with asyncio.timeout(interval_s if interval_s > 0 else None):
                    await self._sampling_changed.wait()
            except TimeoutError:
                await self._send_meter_values(peer)

    async def _send_meter_values(self, peer: Peer) -> None:
        session = self.open_session
        if session is None and not self._samples_when_idle:
            return
        reading = self.power.reading(self.now_s())
        values = sampled_values(reading, self.flash[MEASURANDS_KEY], self.meter_form, kilo=self._kilo)
        payload: Payload = {"connectorId": 1}
        if session is not None and session.transaction is not None:
            payload["transactionId"] = session.transaction
        await peer.call("MeterValues", payload | meter_values(stamp(utc_now()), values, self.meter_form))

    # The fifteen operations.

    def _change_configuration(self, payload: Payload) -> Answer:
        key, value = str(payload["key"]), str(payload["value"])
        if key not in self.flash:
            return {"status": "NotSupported"}
        if key == "ChargePointId" or not self._acceptable(key, value):
            return {"status": "Rejected"}
        if key == LIMIT_KEY and self.behaviour is Behaviour.REFUSES:
            return {"status": "Rejected"}
        self.flash[key] = value
        if key == LIMIT_KEY:
            self.obey_limit()
        if key in (INTERVAL_KEY, MEASURANDS_KEY):
            self._sampling_changed.set()
        return {"status": "Accepted"}

    def _acceptable(self, key: str, value: str) -> bool:
        if key in (MEASURANDS_KEY, "MeterValuesAlignedData", "StopTxnSampledData", "StopTxnAlignedData"):
            return all(name.strip() in MEASURANDS for name in value.split(",") if name.strip())
        if not (value.isascii() and value.isdigit()):
            return False
        return key != LIMIT_KEY or int(value) <= self.power.maximum_w

    def _get_configuration(self, payload: Payload) -> Answer:
        asked = [str(key) for key in payload.get("key") or self.flash]
        known = [
            {"key": key, "readonly": key == "ChargePointId", "value": self.flash[key]}
            for key in asked
            if key in self.flash
        ]
        return {"configurationKey": known, "unknownKey": [key for key in asked if key not in self.flash]}

    def _change_availability(self, payload: Payload) -> Answer:
        if int(payload["connectorId"]) not in (0, 1) or payload["type"] not in ("Operative", "Inoperative"):
            return {"status": "Rejected"}
        self.available = payload["type"] == "Operative"
        if self.charging and not self.available:
            return {"status": "Scheduled"}
        self.status_changed()
        return {"status": "Accepted"}

    def _remote_start(self, payload: Payload) -> Answer:
        wanted = int(payload.get("connectorId", 1))
        free = self.available and wanted == 1 and self.start_session(str(payload["idTag"]), "RemoteStart")
        return {"status": "Accepted" if free else "Rejected"}

    def _remote_stop(self, payload: Payload) -> Answer:
        session = self.open_session
        if session is None or session.transaction != int(payload["transactionId"]):
            return {"status": "Rejected"}
        self.stop_session("Remote")
        return {"status": "Accepted"}

    def _reset(self, payload: Payload) -> Answer:
        if payload["type"] not in ("Hard", "Soft"):
            return {"status": "Rejected"}
        if payload["type"] == "Soft":
            self.stop_session("Reboot")
        asyncio.get_running_loop().call_later(RESET_DELAY_S, self.reboot)
        return {"status": "Accepted"}

    def _unlock_connector(self, payload: Payload) -> Answer:
        if int(payload["connectorId"]) != 1:
            return {"status": "Rejected"}
        self.stop_session("UnlockCommand")
        return {"status": "Accepted"}

    def _reserve_now(self, payload: Payload) -> Answer:
        if self.charging:
            return {"status": "Occupied"}
        if not self.available:
            return {"status": "Unavailable"}
        self._reservation = int(payload["reservationId"])
        self.status_changed()
        return {"status": "Accepted"}

    def _cancel_reservation(self, payload: Payload) -> Answer:
        if self._reservation != int(payload["reservationId"]):
            return {"status": "Rejected"}
        self._reservation = None
        self.status_changed()
        return {"status": "Accepted"}

    def _send_local_list(self, payload: Payload) -> Answer:
        if payload["updateType"] == "Differential" and int(payload["listVersion"]) <= self._local_list_version:
            return {"status": "VersionMismatch"}
        self._local_list_version = int(payload["listVersion"])
        return {"status": "Accepted"}

    def _data_transfer(self, payload: Payload) -> Answer:
        return {"status": "UnknownMessageId" if payload["vendorId"] == VENDOR else "UnknownVendorId"}

    def _get_diagnostics(self, payload: Payload) -> Answer:
        if not payload["location"]:
            return {}
        self.notify("DiagnosticsStatusNotification", {"status": "Uploaded"})
        return {"fileName": f"{self.serial}.log"}

    def _update_firmware(self, payload: Payload) -> Answer:
        if payload["location"] and payload["retrieveDate"]:
            self.notify("FirmwareStatusNotification", {"status": "Downloaded"})
            self.notify("FirmwareStatusNotification", {"status": "Installed"})
        return {}


def _refused(answer: Answer) -> bool:
    """Tell whether an idTagInfo in an answer says no; silence and errors say nothing about the tag."""
    tag_info = answer.get("idTagInfo") if isinstance(answer, dict) else None
    return isinstance(tag_info, dict) and tag_info.get("status") != "Accepted"
