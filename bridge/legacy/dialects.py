"""The dialects of legacy units as tables: which messages there are, what stands in them, and what each word means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import Enum, unique
from functools import cache
from typing import Final, TypeAlias

from bridge.core.quantities import Millis
from bridge.ocpp201.rpc import CallError, Payload
from bridge.ocpp201.timestamps import read_utc_ms

MAX_CONNECTOR: Final = 64
MAX_ID_TOKEN: Final = 36  # of OCPP 2.0.1; 1.5 allows 20, and units send more
MAX_INTEGER: Final = 2**31 - 1
EARLIEST_UTC_MS: Final = 1_451_606_400_000  # 2016-01-01: no unit is older, so an earlier clock was never set
MAX_MAGNITUDE: Final = 15  # powers of ten: beyond any meter
LATEST_AHEAD_MS: Final = 86_400_000  # more than any time zone written without its offset


@unique
class Kind(Enum):
    """What a field holds. A TOKEN must not be cut, a CONNECTOR is 0 to 64; RAW has a reader of its own."""

    TEXT = "text"
    TOKEN = "token"  # noqa: S105  no secret, a kind of text
    INTEGER = "integer"
    CONNECTOR = "connector number"
    INSTANT = "instant"
    CHOICE = "choice"
    RECORD = "record"
    RECORDS = "records"
    TEXTS = "texts"
    RAW = "raw"


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `longest` characters of TEXT or TOKEN, the words of a CHOICE, the fields of a RECORD or of RECORDS.

    `default` repairs a required field that is missing or unreadable (a CONNECTOR only if missing), None says that there
    is no safe one. `spellings` are other names units use for it.
    """

    kind: Kind
    required: bool = False
    longest: int = 0
    words: tuple[str, ...] = ()
    fields: Fields = field(default_factory=dict)
    default: object = None
    spellings: tuple[str, ...] = ()

    def must(self, default: object = None) -> Field:
        """The same field, required."""
        return Field(self.kind, True, self.longest, self.words, self.fields, default, self.spellings)

    def also(self, *spellings: str) -> Field:
        """The same field, found under other names too."""
        return Field(self.kind, self.required, self.longest, self.words, self.fields, self.default, spellings)


Fields: TypeAlias = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Message:
    """One operation: the fields of its request and of its response."""

    request: Fields
    response: Fields


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """Everything one dialect says otherwise than OCPP 2.0.1.

    `from_unit` and `to_unit` are its operations by action, in the direction of the request. `heartbeat_key` names the
    heartbeat interval in BootNotification.conf. `connector_status`, `upload_status` and `firmware_status` map its words
    to those of OCPP 2.0.1, `id_tag_status` maps those of OCPP 2.0.1 to its own. `error_codes` spells CALLERROR codes.
    `local_list_key` names the entries of SendLocalList, `boot_statuses` are the words BootNotification.conf may say.
    `charging_states` are the statuses that tell a chargingState, `stopped_reasons` map a reason to stop to the
    stoppedReason and triggerReason of OCPP 2.0.1, `triggers` the messages its units send when asked to.
    """

    subprotocol: str
    from_unit: Mapping[str, Message]
    to_unit: Mapping[str, Message]
    heartbeat_key: str
    connector_status: Mapping[str, str]
    id_tag_status: Mapping[str, str]
    upload_status: Mapping[str, str]
    firmware_status: Mapping[str, str]
    error_codes: Mapping[str, str]
    local_list_key: str = "localAuthorisationList"
    boot_statuses: tuple[str, ...] = ("Accepted", "Rejected")
    charging_states: Mapping[str, str] = field(default_factory=dict)
    stopped_reasons: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    triggers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that has no safe repair: it is quarantined whole."""

    why: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A request as the dialect's table has it, and what was stripped or repaired to make it so."""

    message: Payload
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment; `raw` is what the unit wrote where that was no believable time and the time of receipt stands."""

    utc_ms: Millis
    raw: str | None = None


def text(longest: int) -> Field:
    """A string of at most `longest` characters."""
    return Field(Kind.TEXT, longest=longest)


def choice(*words: str) -> Field:
    """One of these words."""
    return Field(Kind.CHOICE, words=words)


def record(**fields: Field) -> Field:
    """An object."""
    return Field(Kind.RECORD, fields=fields)


def records(**fields: Field) -> Field:
    """A list of objects."""
    return Field(Kind.RECORDS, fields=fields)


INTEGER: Final = Field(Kind.INTEGER)
INSTANT: Final = Field(Kind.INSTANT)
RAW: Final = Field(Kind.RAW)
CONNECTOR: Final = Field(Kind.CONNECTOR)
ID_TAG: Final = Field(Kind.TOKEN, longest=20)
TEXT_MAX: Final = 65_536

ID_TAG_STATUS_15: Final = ("Accepted", "Blocked", "Expired", "Invalid", "ConcurrentTx")
ID_TAG_INFO: Final = record(
    status=choice(*ID_TAG_STATUS_15).must(),
    expiryDate=INSTANT,
    parentIdTag=ID_TAG,
)
METER_VALUES: Final = RAW.also("value", "meterValue", "meterValues", "transactionData")
DATA_TRANSFER: Final = Message(
    {"vendorId": text(255).must(), "messageId": text(50), "data": text(TEXT_MAX)},
    {
        "status": choice("Accepted", "Rejected", "UnknownMessageId", "UnknownVendorId").must(),
        "data": text(TEXT_MAX),
    },
)
ACCEPTED_OR_NOT: Final[Fields] = {"status": choice("Accepted", "Rejected").must()}

FROM_UNIT_15: Final[Mapping[str, Message]] = {
    "Authorize": Message({"idTag": ID_TAG.must()}, {"idTagInfo": ID_TAG_INFO.must()}),
    "BootNotification": Message(
        {
            "chargePointVendor": text(20),
            "chargePointModel": text(20),
            "chargePointSerialNumber": text(25),
            "chargeBoxSerialNumber": text(25),
            "firmwareVersion": text(50),
            "iccid": text(20),
            "imsi": text(20),
            "meterType": text(25),
            "meterSerialNumber": text(25),
        },
        {
            "status": choice("Accepted", "Rejected").must(),
            "currentTime": INSTANT.must(),
            "heartbeatInterval": INTEGER.must(),
        },
    ),
    "DataTransfer": Message({**DATA_TRANSFER.request, "data": RAW}, DATA_TRANSFER.response),
    "DiagnosticsStatusNotification": Message({"status": choice("Uploaded", "UploadFailed").must()}, {}),
    "FirmwareStatusNotification": Message(
        {"status": choice("Downloaded", "DownloadFailed", "InstallationFailed", "Installed").must()}, {}
    ),
    "Heartbeat": Message({}, {"currentTime": INSTANT.must()}),
    "MeterValues": Message(
        {"connectorId": CONNECTOR.must(1), "transactionId": INTEGER, "values": METER_VALUES.must()}, {}
    ),
    "StartTransaction": Message(
        {
            "connectorId": CONNECTOR.must(1),
            "idTag": ID_TAG.must(),
            "timestamp": INSTANT,
            "meterStart": INTEGER,
            "reservationId": INTEGER,
        },
        {"transactionId": INTEGER.must(), "idTagInfo": ID_TAG_INFO.must()},
    ),
    "StatusNotification": Message(
        {
            "connectorId": CONNECTOR.must(1),
            "status": choice(
                *("Available", "Occupied", "Faulted", "Unavailable", "Reserved"),
                # Units with parts of 1.6 in them say these under 1.5 too.
                *("Preparing", "Charging", "SuspendedEVSE", "SuspendedEV", "Finishing"),
            ).must(),
            "errorCode": text(50).must("NoError"),
            "info": text(50),
            "timestamp": INSTANT,
            "vendorId": text(255),
            "vendorErrorCode": text(50),
        },
        {},
    ),
    "StopTransaction": Message(
        {
            "transactionId": INTEGER.must(0),
            "idTag": ID_TAG,
            "timestamp": INSTANT,
            "meterStop": INTEGER,
            "transactionData": RAW.also("values", "meterValue", "meterValues"),
        },
        {"idTagInfo": ID_TAG_INFO},
    ),
}

TO_UNIT_15: Final[Mapping[str, Message]] = {
    "CancelReservation": Message({"reservationId": INTEGER.must()}, ACCEPTED_OR_NOT),
    "ChangeAvailability": Message(
        {"connectorId": CONNECTOR.must(), "type": choice("Inoperative", "Operative").must()},
        {"status": choice("Accepted", "Rejected", "Scheduled").must()},
    ),
    "ChangeConfiguration": Message(
        {"key": text(50).must(), "value": text(500).must()},
        {"status": choice("Accepted", "Rejected", "NotSupported", "RebootRequired").must()},
    ),
    "ClearCache": Message({}, ACCEPTED_OR_NOT),
    "DataTransfer": DATA_TRANSFER,
    "GetConfiguration": Message(
        {"key": Field(Kind.TEXTS, longest=50)},
        {"configurationKey": RAW.also("configurationKeys"), "unknownKey": RAW},
    ),
    "GetDiagnostics": Message(
        {
            "location": text(2_000).must(),
            "startTime": INSTANT,
            "stopTime": INSTANT,
            "retries": INTEGER,
            "retryInterval": INTEGER,
        },
        {"fileName": text(255)},
    ),
    "GetLocalListVersion": Message({}, {"listVersion": INTEGER.must()}),
    "RemoteStartTransaction": Message({"idTag": ID_TAG.must(), "connectorId": CONNECTOR}, ACCEPTED_OR_NOT),
    "RemoteStopTransaction": Message({"transactionId": INTEGER.must()}, ACCEPTED_OR_NOT),
    "ReserveNow": Message(
        {
            "connectorId": CONNECTOR.must(),
            "expiryDate": INSTANT.must(),
            "idTag": ID_TAG.must(),
            "parentIdTag": ID_TAG,
            "reservationId": INTEGER.must(),
        },
        {"status": choice("Accepted", "Faulted", "Occupied", "Rejected", "Unavailable").must()},
    ),
    "Reset": Message({"type": choice("Hard", "Soft").must()}, ACCEPTED_OR_NOT),
    "SendLocalList": Message(
        {
            "updateType": choice("Differential", "Full").must(),
            "listVersion": INTEGER.must(),
            "localAuthorisationList": records(idTag=ID_TAG.must(), idTagInfo=ID_TAG_INFO),
            "hash": text(255),
        },
        {
            "status": choice("Accepted", "Failed", "HashError", "NotSupported", "VersionMismatch").must(),
            "hash": text(255),
        },
    ),
    "UnlockConnector": Message({"connectorId": CONNECTOR.must()}, ACCEPTED_OR_NOT),
    "UpdateFirmware": Message(
        {
            "retrieveDate": INSTANT.must(),
            "location": text(2_000).must(),
            "retries": INTEGER,
            "retryInterval": INTEGER,
        },
        {},
    ),
}

OCPP15: Final = Dialect(
    subprotocol="ocpp1.5",
    from_unit=FROM_UNIT_15,
    to_unit=TO_UNIT_15,
    heartbeat_key="heartbeatInterval",
    connector_status={
        "Available": "Available",
        "Occupied": "Occupied",
        "Reserved": "Reserved",
        "Unavailable": "Unavailable",
        "Faulted": "Faulted",
        "Preparing": "Occupied",
        "Charging": "Occupied",
        "SuspendedEVSE": "Occupied",
        "SuspendedEV": "Occupied",
        "Finishing": "Occupied",
    },
    id_tag_status={
        "Accepted": "Accepted",
        "Blocked": "Blocked",
        "ConcurrentTx": "ConcurrentTx",
        "Expired": "Expired",
        "Invalid": "Invalid",
        "Unknown": "Invalid",
        "NoCredit": "Blocked",
        "NotAllowedTypeEVSE": "Blocked",
        "NotAtThisLocation": "Blocked",
        "NotAtThisTime": "Blocked",
    },
    upload_status={"Uploaded": "Uploaded", "UploadFailed": "UploadFailure"},
    firmware_status={
        "Downloaded": "Downloaded",
        "DownloadFailed": "DownloadFailed",
        "InstallationFailed": "InstallationFailed",
        "Installed": "Installed",
    },
    error_codes={
        "FormatViolation": "FormationViolation",
        "OccurrenceConstraintViolation": "OccurenceConstraintViolation",
        "RpcFrameworkError": "ProtocolError",
        "MessageTypeNotSupported": "ProtocolError",
    },
)


def read(fields: Fields, payload: Payload) -> Reading | Unreadable:
    """Read what a unit sent, tolerantly: unknown fields go, values are brought to their kind, safe defaults stand in.

    Unreadable where a required field has neither a readable value nor a safe default.
    """
    message: Payload = {}
    notes: list[str] = []
    known: set[str] = set()
    for name, wanted in fields.items():
        found = next((spelling for spelling in (name, *wanted.spellings) if payload.get(spelling) is not None), None)
        known.update((name, *wanted.spellings))
        value = None
        if found is not None:
            value = _coerce(wanted, payload[found])
            if value is None:
                notes.append(f"{found} unreadable")
            elif found != name:
                notes.append(f"{found} read as {name}")
        if value is None and wanted.required:
            misnamed = found is not None and wanted.kind is Kind.CONNECTOR
            if wanted.default is None or misnamed:
                return Unreadable(f"{name} missing or unreadable")
            value = wanted.default
            notes.append(f"{name} taken as {value}")
        if value is not None:
            message[name] = value
    notes.extend(f"{name[:50]} unknown" for name in payload if name not in known)
    return Reading(message, tuple(notes))


def problem(fields: Fields, payload: Payload, where: str = "") -> str | None:
    """Say what is wrong with a message of ours by the dialect's own table, strictly; None if nothing is."""
    for name in payload:
        if name not in fields:
            return f"{where}{name} is no field of it"
    for name, wanted in fields.items():
        if name not in payload:
            if wanted.required:
                return f"{where}{name} is missing"
            continue
        wrong = _problem_in_value(wanted, payload[name], f"{where}{name}")
        if wrong is not None:
            return wrong
    return None


class DialectSchemas:
    """What a dialect allows, for `ocpp201.rpc`: what units send may pass, what we send is checked strictly."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def problem_in_request(self, action: str, payload: Payload) -> CallError | None:
        """Let every known request of the unit pass (`read` repairs it), check ours."""
        if action in self._dialect.from_unit:
            return None
        message = self._dialect.to_unit.get(action)
        if message is None:
            return CallError("NotImplemented", f"{action[:50]} is no action of {self._dialect.subprotocol}")
        return _as_call_error(problem(message.request, payload))

    def problem_in_response(self, action: str, payload: Payload) -> CallError | None:
        """Let every answer of the unit pass, check ours."""
        message = self._dialect.from_unit.get(action)
        if message is None or action in self._dialect.to_unit:
            return None
        return _as_call_error(problem(message.response, payload))


@cache
def schemas_of(dialect: Dialect) -> DialectSchemas:
    """The schemas of a dialect, the same for all units, so that what is known to be right is known to all."""
    return DialectSchemas(dialect)


def instant(raw: object, received_ms: Millis) -> Instant:
    """Read a time of a unit: ISO 8601 in any of its forms, UTC where no offset stands.

    A time before 2016 or more than a day ahead is a clock that was never set: the time of receipt stands for it.
    """
    if raw is None:
        return Instant(received_ms)
    utc_ms = read_utc_ms(str(raw).strip())
    if utc_ms is None or not EARLIEST_UTC_MS <= utc_ms <= received_ms + LATEST_AHEAD_MS:
        return Instant(received_ms, str(raw)[:64])
    return Instant(utc_ms)


def parse_number(raw: object) -> Decimal | None:
    """Read a number as units write it: JSON number or text, decimal point or comma; None if it is none or infinite."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str | Decimal):
        return None
    written = str(raw).strip()
    if "," in written:
        # Of two different separators the last is the decimal one.
        thousands, decimal = (",", ".") if written.rfind(".") > written.rfind(",") else (".", ",")
        written = written.replace(thousands, "").replace(decimal, ".")
    try:
        number = Decimal(written)
    except InvalidOperation:
        return None
    if number.is_zero():
        return Decimal(0)
    return number if number.is_finite() and abs(number.adjusted()) <= MAX_MAGNITUDE else None


def _coerce(wanted: Field, value: object) -> object:
    """Bring a value to the kind of its field; None if it cannot be."""
    match wanted.kind:
        case Kind.RAW:
            return value
        case Kind.INTEGER:
            number = parse_number(value)
            return int(number) if number is not None and abs(number) <= MAX_INTEGER else None
        case Kind.CONNECTOR:
            number = parse_number(value)
            return int(number) if number is not None and 0 <= number <= MAX_CONNECTOR else None
        case Kind.CHOICE:
            said = str(value).strip().casefold()
            return next((word for word in wanted.words if word.casefold() == said), None)
        case Kind.TEXT | Kind.INSTANT | Kind.TOKEN:
            written = str(value).strip() if isinstance(value, str | int | float) else None
            cut = wanted.kind is Kind.TOKEN and written is not None and len(written) > MAX_ID_TOKEN
            return None if cut else written
        case Kind.RECORD | Kind.RECORDS | Kind.TEXTS:
            return value if isinstance(value, dict | list) else None


def _problem_in_value(wanted: Field, value: object, where: str) -> str | None:
    match wanted.kind:
        case Kind.TEXT | Kind.TOKEN:
            right = isinstance(value, str) and len(value) <= wanted.longest
        case Kind.INTEGER:
            right = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER
        case Kind.CONNECTOR:
            right = isinstance(value, int) and 0 <= value <= MAX_CONNECTOR
        case Kind.INSTANT:
            right = isinstance(value, str) and read_utc_ms(value) is not None
        case Kind.CHOICE:
            right = value in wanted.words
        case Kind.TEXTS:
            right = isinstance(value, list) and all(
                isinstance(item, str) and len(item) <= wanted.longest for item in value
            )
        case Kind.RECORD:
            return problem(wanted.fields, value, f"{where}.") if isinstance(value, dict) else f"{where} is no object"
        case Kind.RECORDS:
            if not isinstance(value, list):
                return f"{where} is no list"
            found = (_problem_in_value(record(**wanted.fields), item, f"{where}[]") for item in value)
            return next((wrong for wrong in found if wrong is not None), None)
        case Kind.RAW:
            right = True
    return None if right else f"{where} is no {wanted.kind.value} that fits"


def _as_call_error(wrong: str | None) -> CallError | None:
    return None if wrong is None else CallError("FormatViolation", wrong)
