"""The embedded central system: answers what an OCPP 2.0.1 station asks, for native and translated units alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bridge.core.quantities import Now
from bridge.ocpp201.above import Below, OnAnswer
from bridge.ocpp201.rpc import CallError, Payload
from bridge.ocpp201.timestamps import rfc3339

# Nothing to say but that it came: OCPP 2.0.1 Part 2 leaves these responses empty.
_ACKNOWLEDGED: Final = frozenset(
    {
        "ClearedChargingLimit",
        "FirmwareStatusNotification",
        "LogStatusNotification",
        "MeterValues",
        "NotifyChargingLimit",
        "NotifyCustomerInformation",
        "NotifyDisplayMessages",
        "NotifyEvent",
        "NotifyMonitoringReport",
        "NotifyReport",
        "PublishFirmwareStatusNotification",
        "ReportChargingProfiles",
        "ReservationStatusUpdate",
        "SecurityEventNotification",
        "StatusNotification",
    }
)
_CONTRACT: Final = frozenset({"certificate", "iso15118CertificateHashData"})  # of an Authorize by plug and charge
# Refused in the words the message has for it; where it has none, or needs more than a status, by CALLERROR.
_REFUSED: Final[dict[str, str]] = {
    "DataTransfer": "UnknownVendorId",
    "GetCertificateStatus": "Failed",
    "NotifyEVChargingNeeds": "Rejected",
    "NotifyEVChargingSchedule": "Rejected",
    "SignCertificate": "Rejected",
}


class CentralSystem:
    """Answers requests with payloads that are valid against the schemas; keeps no state of a station.

    It is what stands above the chargers (`bridge.ocpp201.above.Above`) where there is no CSMS, and what the bridge goes
    by in the place of a CSMS that is away.

    `id_tags` are the identifiers that may charge, without regard to case; empty means all of them. `known` says what a
    CSMS said of an idToken of a serial before, None for nothing: that comes first (OCPP 2.0.1 C12).
    `heartbeat_s` is the interval handed out at boot.
    """

    def __init__(
        self,
        id_tags: frozenset[str],
        clock: Callable[[], Now],
        heartbeat_s: int = 300,
        known: Callable[[str, Payload], Payload | None] | None = None,
    ) -> None:
        self._id_tags = frozenset(tag.casefold() for tag in id_tags)
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._known = known

    def attach(self, session: Below) -> None:
        """Do nothing: this central system asks nothing of a station."""

    def detach(self, session: Below) -> None:
        """Do nothing."""

    def request(
        self,
        serial: str,
        action: str,
        payload: Payload,
        on_answer: OnAnswer,
        on_kept: Callable[[bool], None] | None = None,
    ) -> None:
        """Answer at once."""
        outcome = self.answer(serial, action, payload)
        if on_kept is not None:
            on_kept(True)
        on_answer(outcome)

    def answer(self, serial: str, action: str, payload: Payload) -> Payload | CallError:
        """Answer one schema-valid request of the station `serial`.

        CALLERROR NotSupported for what this central system cannot do (OCPP 2.0.1 Part 4 §4.3); whether the action
        exists at all was decided by the schemas before.
        """
        if action in _ACKNOWLEDGED:
            return {}
        if action in _REFUSED:
            return {"status": _REFUSED[action]}
        if action in ("Authorize", "TransactionEvent"):
            return self._authorize(serial, action, payload) if "idToken" in payload else {}
        if action == "Heartbeat":
            return {"currentTime": rfc3339(self._clock().utc_ms)}
        if action == "BootNotification":
            now = rfc3339(self._clock().utc_ms)
            return {"currentTime": now, "interval": self._heartbeat_s, "status": "Accepted"}
        return CallError("NotSupported", f"{action} is not for this central system ({serial})")

    def _authorize(self, serial: str, action: str, payload: Payload) -> Payload:
        if action == "Authorize" and self._id_tags and _CONTRACT & payload.keys():
            # Nobody here can check a contract, and an identifier that is listed proves nothing beside a forged one.
            return {"idTokenInfo": {"status": "Invalid"}, "certificateStatus": "NoCertificateAvailable"}
        id_token = payload["idToken"]
        known = None if self._known is None else self._known(serial, id_token)
        if known is not None:
            return {"idTokenInfo": known}
        is_listed = not self._id_tags or str(id_token["idToken"]).casefold() in self._id_tags
        return {"idTokenInfo": {"status": "Accepted" if is_listed else "Unknown"}}
