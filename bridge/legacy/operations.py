"""The table of operations: how each one of OCPP 1.5, and each request a CSMS of OCPP 2.0.1 can make, is answered.

The page docs/translation.md is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, TypeAlias

from bridge.legacy import down, inventory, orders, services, triggers, up
from bridge.legacy.down import refusal
from bridge.legacy.record import UnitRecord
from bridge.ocpp201.above import Reply
from bridge.ocpp201.rpc import CallError, Payload

Answering: TypeAlias = Callable[[UnitRecord, Payload, Reply], None]


@unique
class Way(Enum):
    """Which way an operation goes."""

    UP = "from the unit"
    DOWN = "to the unit"
    CSMS = "from the CSMS"


@unique
class How(Enum):
    """How an operation is answered."""

    TRANSLATED = "translated"
    EMULATED = "emulated"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. `by` is the function that does it; `becomes` are the actions it becomes on the other side.

    A request of a CSMS is answered by `by`, called with the unit, the payload and where to reply; one that is refused
    by its `refusal`, always the same: a response in its own words, or a CALLERROR where it has none.
    """

    way: Way
    action: str
    how: How
    becomes: tuple[str, ...]
    by: Callable[..., object] | None
    clauses: str
    remark: str
    refusal: Payload | CallError | None = None


def _up(action: str, becomes: str, by: Callable[..., object], clauses: str, remark: str) -> Operation:
    return Operation(Way.UP, action, How.TRANSLATED, tuple(becomes.split()), by, clauses, remark)


def _down(action: str, causes: str, by: Callable[..., object], clauses: str, remark: str) -> Operation:
    return Operation(Way.DOWN, action, How.TRANSLATED, tuple(causes.split()), by, clauses, remark)


def _csms(action: str, becomes: str, by: Answering, clauses: str, remark: str) -> Operation:
    return Operation(Way.CSMS, action, How.TRANSLATED, tuple(becomes.split()), by, clauses, remark)


def _emulated(action: str, becomes: str, by: Callable[..., object], clauses: str, remark: str) -> Operation:
    return Operation(Way.CSMS, action, How.EMULATED, tuple(becomes.split()), by, clauses, remark)


def _refused(action: str, answer: Payload | CallError, clauses: str, remark: str) -> Operation:
    return Operation(Way.CSMS, action, How.REFUSED, (), None, clauses, remark, answer)


UNSUPPORTED: Final = CallError("NotSupported", "a legacy unit cannot do this")
_NO_CERTIFICATES: Final = "a legacy unit has no certificates"

FROM_UNIT: Final = (
    _up("Authorize", "Authorize", up.authorize, "C01", "idTag by its token table: ISO14443 for a UID, else Central"),
    _up(
        *("BootNotification", "BootNotification", up.boot_notification, "B01–B03"),
        "identity is the serial; reason by what is pending: RemoteReset, ScheduledReset, FirmwareUpdate, PowerUp",
    ),
    _up("DataTransfer", "DataTransfer", up.data_transfer, "P02", "data is text"),
    _up(
        *("DiagnosticsStatusNotification", "LogStatusNotification", up.log_status_notification, "N01.FR.13"),
        "with the requestId of the GetLog; UploadFailed is UploadFailure",
    ),
    _up(
        *("FirmwareStatusNotification", "FirmwareStatusNotification SecurityEventNotification"),
        *(up.firmware_status_notification, "L01.FR.20, L01.FR.31"),
        "with the requestId of the UpdateFirmware; Installed is a security event too",
    ),
    Operation(
        *(Way.UP, "Heartbeat", How.EMULATED, ("Heartbeat",), up.heartbeat, "G02"),
        "answered here at once; the CSMS has its own, on the upstream timer",
    ),
    _up(
        *("MeterValues", "TransactionEvent MeterValues NotifyEvent", up.transaction_updated, "J01, J02.FR.10"),
        "one Updated for each time in it; outside a transaction MeterValues; Temperature is a NotifyEvent",
    ),
    _up(
        *("StartTransaction", "TransactionEvent", up.transaction_started, "E01, E02, F01.FR.25"),
        "Started; the integer is handed out here, the UUID minted here, both durable before the answer",
    ),
    _up(
        *("StatusNotification", "StatusNotification NotifyEvent", up.status_notification, "B04, G01, N07"),
        "an error code is a NotifyEvent of Problem; connector 0 reaches every connector, and is never sent itself",
    ),
    _up(
        *("StopTransaction", "TransactionEvent", up.transaction_ended, "E06–E12, F03.FR.03"),
        "Ended; reason by what was ordered; an unknown integer is matched or recovered, never dropped",
    ),
)

TO_UNIT: Final = (
    _down("CancelReservation", "CancelReservation", down.cancel_reservation, "H02", ""),
    _down("ChangeAvailability", "ChangeAvailability", down.change_availability, "G03, G04", "again after a reboot"),
    _down(
        *("ChangeConfiguration", "SetVariables", down.change_configuration, "B05"),
        "also the limit and the sampling, which are the bridge's own",
    ),
    _down("ClearCache", "ClearCache", down.clear_cache, "C11", ""),
    _down("DataTransfer", "DataTransfer", down.data_transfer, "P01", "also the limit of makes that have it there"),
    _down("GetConfiguration", "GetVariables GetBaseReport GetReport", down.get_configuration, "B06–B08", ""),
    _down("GetDiagnostics", "GetLog", down.get_diagnostics, "N01", ""),
    _down("GetLocalListVersion", "GetLocalListVersion", down.get_local_list_version, "D02", ""),
    _down("RemoteStartTransaction", "RequestStartTransaction", down.remote_start_transaction, "F01, F02", ""),
    _down("RemoteStopTransaction", "RequestStopTransaction", down.remote_stop_transaction, "F03", ""),
    _down("ReserveNow", "ReserveNow", down.reserve_now, "H01", ""),
    _down("Reset", "Reset", down.reset, "B11, B12", ""),
    _down("SendLocalList", "SendLocalList", down.send_local_list, "D01", ""),
    _down("UnlockConnector", "UnlockConnector", down.unlock_connector, "F05", ""),
    _down("UpdateFirmware", "UpdateFirmware", down.update_firmware, "L02", ""),
)

FROM_CSMS: Final = (
    _csms("CancelReservation", "CancelReservation", orders.cancel_reservation, "H02", "1:1"),
    _refused(
        *("CertificateSigned", refusal("Rejected", "UnsupportedRequest", _NO_CERTIFICATES), "A02"),
        "the certificate towards the CSMS is the bridge's own: with `csms.certificates_dir` its link takes it",
    ),
    _csms(
        *("ChangeAvailability", "ChangeAvailability", orders.change_availability, "G03, G04"),
        "kept and set again after a reboot (G03.FR.08); Scheduled while a transaction runs (G03.FR.05)",
    ),
    _csms("ClearCache", "ClearCache", services.clear_cache, "C11", "1:1"),
    _emulated(
        *("ClearChargingProfile", "", orders.clear_charging_profile, "K10"),
        "the bridge is the profile engine; the grid limit cannot be cleared: Unknown (K10.FR.08)",
    ),
    _refused("ClearDisplayMessage", UNSUPPORTED, "O05", "no display"),
    _refused("ClearVariableMonitoring", UNSUPPORTED, "N06", ""),
    _refused("CostUpdated", UNSUPPORTED, "I02", "its response has no status to refuse with"),
    _emulated(
        *("CustomerInformation", "", services.customer_information, "N09, N10"),
        "what the bridge keeps of an idToken, told and forgotten; Invalid for no customer or several (N09.FR.09)",
    ),
    _csms("DataTransfer", "DataTransfer", services.data_transfer, "P01", "data as compact JSON; never the limit"),
    _refused("DeleteCertificate", refusal("NotFound", "NotFound", _NO_CERTIFICATES), "M04", ""),
    _emulated(
        *("GetBaseReport", "GetConfiguration", inventory.get_base_report, "B07"),
        "NotifyReport of all keys and the static model; no summary: NotSupported; Rejected while the unit is silent",
    ),
    _emulated(
        *("GetChargingProfiles", "", orders.get_charging_profiles, "K09"),
        "with the grid limit as ChargingStationExternalConstraints",
    ),
    _emulated(
        *("GetCompositeSchedule", "", orders.get_composite_schedule, "K08"),
        "the lowest of all purposes and the grid limit",
    ),
    _refused("GetDisplayMessages", UNSUPPORTED, "O03, O04", "no display"),
    _refused("GetInstalledCertificateIds", refusal("NotFound", "NotFound", _NO_CERTIFICATES), "M03", ""),
    _csms(
        *("GetLocalListVersion", "GetLocalListVersion", services.get_local_list_version, "D02"),
        "0 where the unit has no list or says less (D02.FR.03)",
    ),
    _csms(
        *("GetLog", "GetDiagnostics", services.get_log, "N01"),
        "the diagnostics log, to one of FileTransferProtocols, else Rejected; Uploading follows (N01.FR.08)",
    ),
    _refused("GetMonitoringReport", refusal("NotSupported", "UnsupportedRequest", "no monitoring"), "N02", ""),
    _emulated("GetReport", "GetConfiguration", inventory.get_report, "B08", "EmptyResultSet where nothing fits"),
    _emulated("GetTransactionStatus", "", services.get_transaction_status, "E14", "from the outbox"),
    _csms(
        *("GetVariables", "GetConfiguration", inventory.get_variables, "B06"),
        "a result for each item; keys of the vendor are in a component of the vendor",
    ),
    _refused("InstallCertificate", refusal("Rejected", "UnsupportedRequest", _NO_CERTIFICATES), "M05", ""),
    _refused("PublishFirmware", UNSUPPORTED, "L03", "of local controllers only"),
    _csms(
        *("RequestStartTransaction", "RemoteStartTransaction", orders.request_start, "F01, F02"),
        "refused here where it cannot be (F01.FR.07, FR.21–FR.24); a long idToken goes by an alias of 20 characters",
    ),
    _csms(
        *("RequestStopTransaction", "RemoteStopTransaction", orders.request_stop, "F03"),
        "with the integer the unit knows; UnknownTxId for another",
    ),
    _csms(
        *("ReserveNow", "ReserveNow", orders.reserve_now, "H01, H03, H04"),
        "for one EVSE (H01.FR.19); its end by itself is told with ReservationStatusUpdate (H01.FR.16, FR.17)",
    ),
    _csms(
        *("Reset", "Reset", orders.reset, "B11, B12"),
        "Immediate is Hard; OnIdle waits here for the last transaction: Scheduled; of one EVSE: Rejected (B11.FR.09)",
    ),
    _csms(
        *("SendLocalList", "SendLocalList", services.send_local_list, "D01"),
        "all of it or Failed with a reason, never a part",
    ),
    _emulated(
        *("SetChargingProfile", "", orders.set_charging_profile, "K01–K04"),
        "the bridge is the profile engine; the outcome is a cap beside the grid limit, and raises nothing",
    ),
    _refused("SetDisplayMessage", UNSUPPORTED, "O01, O02", "no display"),
    _refused("SetMonitoringBase", refusal("NotSupported", "UnsupportedRequest", "no monitoring"), "N03", ""),
    _refused("SetMonitoringLevel", refusal("Rejected", "UnsupportedRequest", "no monitoring"), "N05", ""),
    _refused(
        *("SetNetworkProfile", refusal("Rejected", "NotEnabled", "the link of a unit is set in the bridge")),
        *("B09", "the bridge's own link is managed by its configuration"),
    ),
    _refused("SetVariableMonitoring", UNSUPPORTED, "N04", ""),
    _csms(
        *("SetVariables", "ChangeConfiguration", inventory.set_variables, "B05"),
        "a result for each item; the key of the limit is read-only, and sampling may not become rarer than owed",
    ),
    _emulated(
        *("TriggerMessage", "", triggers.trigger_message, "F06"),
        "told from what the unit last said, while it is current; the response goes first (F06.FR.04)",
    ),
    _csms(
        *("UnlockConnector", "UnlockConnector", orders.unlock_connector, "F05"),
        "never during a transaction: OngoingAuthorizedTransaction (F05.FR.02)",
    ),
    _refused("UnpublishFirmware", UNSUPPORTED, "L04", "of local controllers only"),
    _csms(
        *("UpdateFirmware", "UpdateFirmware", services.update_firmware, "L02"),
        "Rejected: a signature, a time to install at, an address the unit cannot reach: it could honour none",
    ),
)

OPERATIONS: Final = (*FROM_UNIT, *TO_UNIT, *FROM_CSMS)
_ANSWERED: Final = {row.action: row for row in FROM_CSMS}


def from_above(unit: UnitRecord, action: str, payload: Payload, reply: Reply) -> None:
    """Answer a request of the CSMS by its row. One no CSMS sends is NotSupported (part 4 §4.3)."""
    row = _ANSWERED.get(action)
    if row is None:
        reply(CallError("NotSupported", f"{action} is for a charging station to send"))
    elif row.refusal is not None:
        reply(row.refusal if isinstance(row.refusal, CallError) else dict(row.refusal))
    elif row.by is not None:
        row.by(unit, payload, reply)


_INTRODUCTION: Final = """# How operations are translated

A legacy unit is a full OCPP 2.0.1 charging station to its CSMS. This page is made from the table in
`bridge/legacy/operations.py`; a test compares the two, and each row has a test that drives it.

Two general rules. A request of the CSMS whose response has a fitting status is refused with that status and a reason;
where it has none, with CALLERROR NotSupported; an action outside OCPP 2.0.1 is NotImplemented. A unit that does not
answer, or answers with a CALLERROR, refuses.

Units of OCPP 1.6 go by the same table. What differs stands in `bridge/legacy/ocpp16.py`: statuses tell the charging
state, StopTransaction says why, TriggerMessage is asked of the unit, and its limit may be a charging profile."""


def page() -> str:
    """The page docs/translation.md."""
    parts = [_INTRODUCTION]
    for title, rows, becomes in (
        ("The 10 operations of a unit", FROM_UNIT, "OCPP 2.0.1"),
        ("The 15 operations to a unit", TO_UNIT, "caused by"),
        ("The 40 requests of a CSMS", FROM_CSMS, "asked of the unit"),
    ):
        parts += [
            "",
            f"## {title}",
            "",
            f"| Operation | How | {becomes} | By | Clauses | Remark |",
            "|---|---|---|---|---|---|",
        ]
        parts += [_line(row) for row in rows]
    return "\n".join(parts) + "\n"


def _line(row: Operation) -> str:
    cells = [
        row.action,
        f"{row.how.value}{_refusal_text(row.refusal)}",
        ", ".join(row.becomes) or "–",
        "–" if row.by is None else f"`{row.by.__module__.removeprefix('bridge.')}.{row.by.__qualname__}`",
        row.clauses,
        row.remark or "–",
    ]
    return f"| {' | '.join(cells)} |"


def _refusal_text(answer: Payload | CallError | None) -> str:
    if answer is None:
        return ""
    return f": CALLERROR {answer.code}" if isinstance(answer, CallError) else f": {answer['status']}"


def rows_of(way: Way, rows: Iterable[Operation] = OPERATIONS) -> dict[str, Operation]:
    """The rows that go one way, by action."""
    return {row.action: row for row in rows if row.way is way}
