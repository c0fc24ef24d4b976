"""OCPP 1.6 as a table of deltas over the dialect of 1.5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from bridge.legacy.dialects import (
    ACCEPTED_OR_NOT,
    CONNECTOR,
    FROM_UNIT_15,
    ID_TAG,
    ID_TAG_INFO,
    INSTANT,
    INTEGER,
    OCPP15,
    RAW,
    TO_UNIT_15,
    Dialect,
    Field,
    Message,
    choice,
    record,
    records,
    text,
)

LIMIT: Final = RAW  # a number with a fraction; formed by us alone
RATE_UNIT: Final = choice("A", "W")
SCHEDULE: Final = record(
    duration=INTEGER,
    startSchedule=INSTANT,
    chargingRateUnit=RATE_UNIT.must(),
    chargingSchedulePeriod=records(startPeriod=INTEGER.must(), limit=LIMIT.must(), numberPhases=INTEGER).must(),
    minChargingRate=RAW,
)
CHARGING_PROFILE: Final = record(
    chargingProfileId=INTEGER.must(),
    transactionId=INTEGER,
    stackLevel=INTEGER.must(),
    chargingProfilePurpose=choice("ChargePointMaxProfile", "TxDefaultProfile", "TxProfile").must(),
    chargingProfileKind=choice("Absolute", "Recurring", "Relative").must(),
    recurrencyKind=choice("Daily", "Weekly"),
    validFrom=INSTANT,
    validTo=INSTANT,
    chargingSchedule=SCHEDULE.must(),
)


def _with(message: Message, request: Mapping[str, Field], response: Mapping[str, Field] | None = None) -> Message:
    """The message of 1.5 with what 1.6 adds or says otherwise."""
    return Message({**message.request, **request}, {**message.response, **(response or {})})


FROM_UNIT_16: Final[Mapping[str, Message]] = {
    **FROM_UNIT_15,
    "BootNotification": Message(
        FROM_UNIT_15["BootNotification"].request,
        {
            "status": choice("Accepted", "Pending", "Rejected").must(),
            "currentTime": INSTANT.must(),
            "interval": INTEGER.must(),
        },
    ),
    "DiagnosticsStatusNotification": Message(
        {"status": choice("Idle", "Uploaded", "UploadFailed", "Uploading").must()}, {}
    ),
    "FirmwareStatusNotification": Message(
        {
            "status": choice(
                *("Downloaded", "DownloadFailed", "Downloading", "Idle"),
                *("InstallationFailed", "Installing", "Installed"),
            ).must()
        },
        {},
    ),
    "StopTransaction": _with(FROM_UNIT_15["StopTransaction"], {"reason": text(50)}),
}

_LOCAL_LIST: Final = Message(
    {
        "updateType": choice("Differential", "Full").must(),
        "listVersion": INTEGER.must(),
        "localAuthorizationList": records(idTag=ID_TAG.must(), idTagInfo=ID_TAG_INFO),
    },
    {"status": choice("Accepted", "Failed", "NotSupported", "VersionMismatch").must()},
)

TO_UNIT_16: Final[Mapping[str, Message]] = {
    **TO_UNIT_15,
    "ClearChargingProfile": Message(
        {"id": INTEGER, "connectorId": CONNECTOR, "chargingProfilePurpose": text(50), "stackLevel": INTEGER},
        {"status": choice("Accepted", "Unknown").must()},
    ),
    "GetCompositeSchedule": Message(
        {"connectorId": CONNECTOR.must(), "duration": INTEGER.must(), "chargingRateUnit": RATE_UNIT},
        ACCEPTED_OR_NOT,
    ),
    "SendLocalList": _LOCAL_LIST,
    "SetChargingProfile": Message(
        {"connectorId": CONNECTOR.must(), "csChargingProfiles": CHARGING_PROFILE.must()},
        {"status": choice("Accepted", "Rejected", "NotSupported").must()},
    ),
    "TriggerMessage": Message(
        {"requestedMessage": text(50).must(), "connectorId": CONNECTOR},
        {"status": choice("Accepted", "Rejected", "NotImplemented").must()},
    ),
    "UnlockConnector": Message(
        {"connectorId": CONNECTOR.must()},
        {"status": choice("Unlocked", "UnlockFailed", "NotSupported").must()},
    ),
}

OCPP16: Final[Dialect] = replace(
    OCPP15,
    subprotocol="ocpp1.6",
    from_unit=FROM_UNIT_16,
    to_unit=TO_UNIT_16,
    heartbeat_key="interval",
    boot_statuses=("Accepted", "Pending", "Rejected"),
    local_list_key="localAuthorizationList",
    upload_status={**OCPP15.upload_status, "Idle": "Idle", "Uploading": "Uploading"},
    firmware_status={
        **OCPP15.firmware_status,
        "Downloading": "Downloading",
        "Idle": "Idle",
        "Installing": "Installing",
    },
    charging_states={
        "Charging": "Charging",
        "SuspendedEVSE": "SuspendedEVSE",
        "SuspendedEV": "SuspendedEV",
        "Finishing": "EVConnected",
    },
    stopped_reasons={
        "DeAuthorized": ("DeAuthorized", "Deauthorized"),
        "EmergencyStop": ("EmergencyStop", "AbnormalCondition"),
        "EVDisconnected": ("EVDisconnected", "EVDeparted"),
        "HardReset": ("ImmediateReset", "ResetCommand"),
        "Local": ("Local", "StopAuthorized"),
        "Other": ("Other", "AbnormalCondition"),
        "PowerLoss": ("PowerLoss", "AbnormalCondition"),
        "Reboot": ("Reboot", "ResetCommand"),
        "Remote": ("Remote", "RemoteStop"),
        "SoftReset": ("ImmediateReset", "ResetCommand"),
        "UnlockCommand": ("Other", "UnlockCommand"),
    },
    triggers={
        "BootNotification": "BootNotification",
        "FirmwareStatusNotification": "FirmwareStatusNotification",
        "LogStatusNotification": "DiagnosticsStatusNotification",
        "Heartbeat": "Heartbeat",
        "MeterValues": "MeterValues",
        "StatusNotification": "StatusNotification",
    },
)
