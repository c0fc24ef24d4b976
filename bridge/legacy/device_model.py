"""The device model of a legacy unit: configuration keys of OCPP 1.x as components and variables of 2.0.1, pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from bridge.legacy.readings import TEMPERATURE
from bridge.ocpp201.above import OFFLINE_THRESHOLD_S
from bridge.ocpp201.authorization_cache import LIFETIME_MS
from bridge.ocpp201.grid_limit import SIGNIFICANCE_PERCENT
from bridge.ocpp201.profile_rules import Abilities
from bridge.ocpp201.rpc import Payload
from bridge.settings import ChargerProfile, Csms

MAX_KEYS: Final = 500
ITEMS_PER_MESSAGE: Final = 50
BYTES_PER_MESSAGE: Final = 65_536
MAX_VALUE: Final = 2_500
MAX_NAME: Final = 50
CRITERIA_TRUE_IF_ABSENT: Final = ("Active", "Available", "Enabled")
VALUES_OF_CONNECTOR: Final = ("Available", "Occupied", "Reserved", "Unavailable", "Faulted")


class Place(NamedTuple):
    """Where a variable stands: component, variable and its instance; compared without regard to case."""

    component: str
    variable: str
    instance: str = ""

    def folded(self) -> tuple[str, str, str]:
        """The same for all spellings."""
        return self.component.casefold(), self.variable.casefold(), self.instance.casefold()


class Setting(NamedTuple):
    """One configuration key as the unit spells it; `value` is None where it does not say one."""

    key: str
    value: str | None
    readonly: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable with its Actual value; `evse` and `connector` are 0 for the whole station."""

    place: Place
    value: str
    data_type: str = "string"
    mutable: bool = False
    evse: int = 0
    connector: int = 0
    unit: str = ""
    max_limit: float | None = None
    values: str = ""

    def component(self) -> Payload:
        """The ComponentType of OCPP 2.0.1."""
        component: Payload = {"name": self.place.component}
        if self.evse:
            component["evse"] = {"id": self.evse} | ({"connectorId": self.connector} if self.connector else {})
        return component

    def report(self) -> Payload:
        """The ReportDataType of OCPP 2.0.1."""
        characteristics: Payload = {"dataType": self.data_type, "supportsMonitoring": False}
        characteristics |= {"unit": self.unit} if self.unit else {}
        characteristics |= {"maxLimit": self.max_limit} if self.max_limit is not None else {}
        characteristics |= {"valuesList": self.values} if self.values else {}
        instance = {"instance": self.place.instance} if self.place.instance else {}
        attribute = {"value": self.value[:MAX_VALUE], "mutability": "ReadWrite" if self.mutable else "ReadOnly"}
        return {
            "component": self.component(),
            "variable": {"name": self.place.variable, **instance},
            "variableAttribute": [{"type": "Actual", **attribute}],
            "variableCharacteristics": characteristics,
        }


@dataclass(frozen=True, slots=True)
class _Known:
    """A standard key, its other spellings, where it stands, and what it holds."""

    keys: tuple[str, ...]
    place: Place
    data_type: str
    unit: str = ""


def _known(keys: str, component: str, variable: str, data_type: str, unit: str = "", instance: str = "") -> _Known:
    return _Known(tuple(keys.split()), Place(component, variable, instance), data_type, unit)


INTERVAL_KEY: Final = "MeterValueSampleInterval"
MEASURANDS_KEY: Final = "MeterValuesSampledData"
KNOWN: Final = (
    _known("HeartBeatInterval HeartbeatInterval", "OCPPCommCtrlr", "HeartbeatInterval", "integer", "s"),
    _known("ConnectionTimeOut", "TxCtrlr", "EVConnectionTimeOut", "integer", "s"),
    _known("ResetRetries", "OCPPCommCtrlr", "ResetRetries", "integer"),
    _known(INTERVAL_KEY, "SampledDataCtrlr", "TxUpdatedInterval", "integer", "s"),
    _known(MEASURANDS_KEY, "SampledDataCtrlr", "TxUpdatedMeasurands", "MemberList"),
    _known("ClockAlignedDataInterval", "AlignedDataCtrlr", "Interval", "integer", "s"),
    _known("MeterValuesAlignedData", "AlignedDataCtrlr", "Measurands", "MemberList"),
    _known("StopTxnSampledData", "SampledDataCtrlr", "TxEndedMeasurands", "MemberList"),
    _known("StopTxnAlignedData", "AlignedDataCtrlr", "TxEndedMeasurands", "MemberList"),
    _known("LocalAuthListEnabled", "LocalAuthListCtrlr", "Enabled", "boolean"),
    _known("LocalPreAuthorize", "AuthCtrlr", "LocalPreAuthorize", "boolean"),
    _known("LocalAuthorizeOffline", "AuthCtrlr", "LocalAuthorizeOffline", "boolean"),
    _known("AllowOfflineTxForUnknownId", "AuthCtrlr", "OfflineTxForUnknownIdEnabled", "boolean"),
    _known("StopTransactionOnInvalidId", "TxCtrlr", "StopTxOnInvalidId", "boolean"),
    _known("AuthorizeRemoteTxRequests", "AuthCtrlr", "AuthorizeRemoteStart", "boolean"),
    _known("TransactionMessageAttempts", "OCPPCommCtrlr", "MessageAttempts", "integer", "", "TransactionEvent"),
    _known(
        *("TransactionMessageRetryInterval", "OCPPCommCtrlr", "MessageAttemptInterval"),
        *("integer", "s", "TransactionEvent"),
    ),
    _known("WebSocketPingInterval", "OCPPCommCtrlr", "WebSocketPingInterval", "integer", "s"),
)


def settings_of(answer: Payload) -> list[Setting]:
    """Read GetConfiguration.conf, tolerantly; at most 500 keys."""
    rows = answer.get("configurationKey", answer.get("configurationKeys", []))
    found = []
    for row in [rows] if isinstance(rows, dict) else rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and isinstance(row.get("key"), str) and row["key"].strip():
            value = row.get("value")
            text = str(value).strip() if isinstance(value, str | int | float) else None
            readonly = str(row.get("readonly", row.get("readOnly", False))).casefold() == "true"
            found.append(Setting(row["key"].strip(), text, readonly))
    return found[:MAX_KEYS]


def vendor_component(profile: ChargerProfile) -> str:
    """The component of the keys no standard knows, such as `VoltexCtrlr`."""
    return f"{re.sub('[^A-Za-z0-9]', '', profile.vendor) or 'Vendor'}Ctrlr"


def keys_of(profile: ChargerProfile, place: Place) -> list[str]:
    """The configuration keys a variable can stand for, as this make spells them; none where it stands for none."""
    if place.component.casefold() == vendor_component(profile).casefold() and not place.instance:
        return [place.variable]
    row = next((row for row in KNOWN if row.place.folded() == place.folded()), None)
    return [] if row is None else _spellings(profile, row)


def _spellings(profile: ChargerProfile, row: _Known) -> list[str]:
    sampling, own = profile.sampling, profile.quirks.standard_keys
    if row.keys[0] == INTERVAL_KEY:
        return [sampling.interval_key] if sampling.interval_key else []
    if row.keys[0] == MEASURANDS_KEY:
        return [sampling.measurands_key] if sampling.measurands_key else []
    named = next((own[key] for key in row.keys if key in own), None)
    return list(row.keys) if named is None else [named]


def variable_of(profile: ChargerProfile, setting: Setting) -> Variable:
    """The variable a configuration key is. The key of the limit is read-only for everybody but the bridge."""
    key = setting.key.casefold()
    row = next((row for row in KNOWN if key in [name.casefold() for name in _spellings(profile, row)]), None)
    value = setting.value or ""
    if row is None:
        place = Place(vendor_component(profile), setting.key[:MAX_NAME])
        return Variable(place, value, mutable=not (setting.readonly or is_limit_key(profile, setting.key)))
    if row.data_type == "MemberList":
        value = ",".join(name for part in value.split(",") if (name := part.strip()) and name != TEMPERATURE)
    return Variable(row.place, value, row.data_type, not setting.readonly, unit=row.unit)


def is_limit_key(profile: ChargerProfile, key: str) -> bool:
    """Whether a configuration key is the one that limits the unit, which no CSMS may write."""
    return key.strip().casefold() == (profile.limit.key or "").casefold() != ""


def static_variables(
    profile: ChargerProfile, statuses: Mapping[int, str], problems: Collection[int], now: str
) -> list[Variable]:
    """What the unit has no keys for.

    `statuses` are the words of OCPP 2.0.1 by connector, empty if not known; `problems` are the connectors with one.
    """
    worst = _station_status(statuses.values())
    yes, phases = "true", str(profile.phases)
    found = [
        _static("ChargingStation", "AvailabilityState", worst, "OptionList", values=",".join(VALUES_OF_CONNECTOR)),
        _static("ChargingStation", "Available", yes, "boolean"),
        _static("ChargingStation", "SupplyPhases", phases, "integer"),
        _static("ChargingStation", "Model", profile.model),
        _static("ChargingStation", "VendorName", profile.vendor),
        _static("ClockCtrlr", "DateTime", now, "dateTime"),
        _static("ClockCtrlr", "TimeSource", "Heartbeat", "SequenceList"),
        *(
            _static("DeviceDataCtrlr", variable, str(number), "integer", instance=action)
            for action in ("GetReport", "GetVariables", "SetVariables")
            for variable, number in (("ItemsPerMessage", ITEMS_PER_MESSAGE), ("BytesPerMessage", BYTES_PER_MESSAGE))
        ),
        _static("OCPPCommCtrlr", "FileTransferProtocols", ",".join(profile.file_transfer).upper(), "MemberList"),
        _static("OCPPCommCtrlr", "UnlockOnEVSideDisconnect", "false", "boolean"),
        _static("LocalAuthListCtrlr", "Available", str(profile.local_list_entries > 0).lower(), "boolean"),
        _static("LocalAuthListCtrlr", "ItemsPerMessage", str(profile.local_list_entries), "integer"),
        _static("LocalAuthListCtrlr", "BytesPerMessage", str(BYTES_PER_MESSAGE), "integer"),
        _static("ReservationCtrlr", "Available", yes, "boolean"),
        _static("ReservationCtrlr", "Enabled", yes, "boolean"),
        _static("ReservationCtrlr", "NonEvseSpecific", "false", "boolean"),
        _static("SampledDataCtrlr", "Available", str(bool(profile.sampling.interval_key)).lower(), "boolean"),
        _static("SampledDataCtrlr", "TxStartedMeasurands", "Energy.Active.Import.Register", "MemberList"),
        _static("SampledDataCtrlr", "TxEndedInterval", "0", "integer", unit="s"),
        _static("TxCtrlr", "StopTxOnEVSideDisconnect", yes, "boolean"),
        _static("TxCtrlr", "TxStartPoint", "PowerPathClosed", "MemberList"),
        _static("TxCtrlr", "TxStopPoint", "EVConnected,Authorized", "MemberList"),
    ]
    for number, status in statuses.items():
        found += _connector_variables(profile, number, status)
        problem = str(number in problems or 0 in problems).lower()
        found.append(_static("Connector", "Problem", problem, "boolean", evse=number, connector=1))
    return found


def smart_charging_variables(abilities: Abilities, entries: int) -> list[Variable]:
    """SmartChargingCtrlr: the layer is the profile engine; `entries` charging profiles are installed."""
    name, yes = "SmartChargingCtrlr", "true"
    return [
        _static(name, "Available", yes, "boolean"),
        _static(name, "Enabled", yes, "boolean"),
        _static(name, "ACPhaseSwitchingSupported", "false", "boolean"),
        _static(name, "Entries", str(entries), "integer", instance="ChargingProfiles", max_limit=abilities.entries),
        _static(name, "ExternalControlSignalsEnabled", yes, "boolean"),
        _static(name, "LimitChangeSignificance", str(SIGNIFICANCE_PERCENT), "decimal", unit="Percent"),
        _static(name, "NotifyChargingLimitWithSchedules", yes, "boolean"),
        _static(name, "PeriodsPerSchedule", str(abilities.periods), "integer"),
        _static(name, "Phases3to1", "false", "boolean"),
        _static(name, "ProfileStackLevel", str(abilities.stack_level), "integer"),
        _static(name, "RateUnit", ",".join(abilities.rate_units), "MemberList", values="A,W"),
    ]


def link_variables(csms: Csms) -> list[Variable]:
    """What belongs to the link to the CSMS, which is the bridge's own and set in its configuration."""
    comm, kept = "OCPPCommCtrlr", "TransactionEvent"
    security = 1 if csms.url is None or csms.url.startswith("ws:") else 2 if csms.certificates_dir is None else 3
    return [
        _static("AuthCacheCtrlr", "Available", "true", "boolean"),
        _static("AuthCacheCtrlr", "Enabled", "true", "boolean"),
        _static("AuthCacheCtrlr", "LifeTime", str(LIFETIME_MS // 1000), "integer", unit="s"),
        _static(comm, "MessageTimeout", f"{csms.message_timeout_s:.0f}", "integer", instance="Default", unit="s"),
        _static(comm, "MessageAttempts", str(csms.message_attempts), "integer", instance=kept),
        _static(
            *(comm, "MessageAttemptInterval", f"{csms.message_attempt_interval_s:.0f}", "integer"),
            instance=kept,
            unit="s",
        ),
        _static(comm, "RetryBackOffWaitMinimum", f"{csms.retry_wait_minimum_s:.0f}", "integer", unit="s"),
        _static(comm, "RetryBackOffRandomRange", f"{csms.retry_random_range_s:.0f}", "integer", unit="s"),
        _static(comm, "RetryBackOffRepeatTimes", str(csms.retry_repeat_times), "integer"),
        _static(comm, "NetworkConfigurationPriority", "1", "SequenceList", values="1"),
        _static(comm, "NetworkProfileConnectionAttempts", "0", "integer"),
        _static(comm, "OfflineThreshold", f"{OFFLINE_THRESHOLD_S:.0f}", "integer", unit="s"),
        _static("SecurityCtrlr", "SecurityProfile", str(security), "integer"),
        _static("SecurityCtrlr", "CertificateEntries", str(int(csms.certificates_dir is not None)), "integer"),
        _static("SecurityCtrlr", "OrganizationName", ""),
        _static("TxCtrlr", "StopTxOnInvalidId", str(csms.stop_tx_on_invalid_id).lower(), "boolean"),
    ]


def meter_variables(meter: Mapping[str, str]) -> list[Variable]:
    """What the unit says of its meter when it boots: custom variables of FiscalMetering."""
    return [_static("FiscalMetering", name[:1].upper() + name[1:], value) for name, value in meter.items()]


def _connector_variables(profile: ChargerProfile, number: int, status: str) -> list[Variable]:
    states = ",".join(VALUES_OF_CONNECTOR)
    phases, limit_w = str(profile.phases), float(profile.maximum_w)
    return [
        _static("EVSE", "AllowReset", "false", "boolean", evse=number),
        _static("EVSE", "AvailabilityState", status, "OptionList", evse=number, values=states),
        _static("EVSE", "Available", "true", "boolean", evse=number),
        _static("EVSE", "Power", "", "decimal", evse=number, unit="W", max_limit=limit_w),
        _static("EVSE", "SupplyPhases", phases, "integer", evse=number),
        _static("Connector", "AvailabilityState", status, "OptionList", evse=number, connector=1, values=states),
        _static("Connector", "Available", "true", "boolean", evse=number, connector=1),
        _static("Connector", "ConnectorType", profile.connector_type, evse=number, connector=1),
        _static("Connector", "SupplyPhases", phases, "integer", evse=number, connector=1),
    ]


def _static(
    component: str,
    variable: str,
    value: str,
    data_type: str = "string",
    *,
    instance: str = "",
    evse: int = 0,
    connector: int = 0,
    unit: str = "",
    max_limit: float | None = None,
    values: str = "",
) -> Variable:
    place = Place(component, variable, instance)
    return Variable(place, value, data_type, False, evse, connector, unit, max_limit, values)


def _station_status(statuses: Iterable[str]) -> str:
    """The state of the whole: as good as its best connector."""
    known = set(statuses)
    return next((status for status in VALUES_OF_CONNECTOR if status in known), "")


def place_asked(item: Payload) -> tuple[Place, int, int]:
    """The place a GetVariableData, SetVariableData or ComponentVariable names, with its EVSE and connector."""
    component, variable = item["component"], item.get("variable", {})
    evse = component.get("evse", {})
    place = Place(component["name"], variable.get("name", ""), variable.get("instance", ""))
    return place, evse.get("id", 0), evse.get("connectorId", 0)


def find(variables: Iterable[Variable], item: Payload) -> Variable | None:
    """The variable an item of a request names."""
    place, evse, connector = place_asked(item)
    if "instance" in item["component"]:
        return None
    return next(
        (
            each
            for each in variables
            if each.place.folded() == place.folded() and (each.evse, each.connector) == (evse, connector)
        ),
        None,
    )


def has_component(profile: ChargerProfile, variables: Iterable[Variable], item: Payload) -> bool:
    """Whether there is a component as the item names it, whatever variable it asks for."""
    place, evse, connector = place_asked(item)
    name = place.component.casefold()
    if any(
        (each.place.component.casefold(), each.evse, each.connector) == (name, evse, connector) for each in variables
    ):
        return True
    standard = {row.place.component.casefold() for row in KNOWN} | {vendor_component(profile).casefold()}
    return name in standard and not evse


def selected(variables: Iterable[Variable], request: Payload) -> list[Variable]:
    """What GetReport asks for (B08): by component and variable, each absent part meaning all, and by criteria."""
    known = list(variables)
    wanted = request.get("componentVariable")
    chosen = [each for each in known if wanted is None or any(_matches(each, item) for item in wanted)]
    criteria = request.get("componentCriteria")
    if criteria is None:
        return chosen
    return [each for each in chosen if any(_meets(known, each, criterion) for criterion in criteria)]


def _matches(variable: Variable, item: Payload) -> bool:
    place, evse, connector = place_asked(item)
    if place.component.casefold() != variable.place.component.casefold() or "instance" in item["component"]:
        return False
    named = not place.variable or place.variable.casefold() == variable.place.variable.casefold()
    instance = not place.instance or place.instance.casefold() == variable.place.instance.casefold()
    return named and instance and evse in (0, variable.evse) and connector in (0, variable.connector)


def _meets(known: list[Variable], variable: Variable, criterion: str) -> bool:
    """Whether the component of a variable is Active, Available or Enabled, or has a Problem."""
    here = (variable.place.component, variable.evse, variable.connector)
    said = [
        each.value.casefold() == "true"
        for each in known
        if (each.place.component, each.evse, each.connector) == here and each.place.variable == criterion
    ]
    return said[0] if said else criterion in CRITERIA_TRUE_IF_ABSENT
