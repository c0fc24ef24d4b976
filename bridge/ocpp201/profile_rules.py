"""Which charging profiles a station accepts from its CSMS: the rules of OCPP 2.0.1 K01–K05 in one place; pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from bridge.core.quantities import Millis, Watts
from bridge.ocpp201.charging_schedule import DEFAULT_PHASES, RECURRENCE_MS, ChargingSchedule, read_schedule
from bridge.ocpp201.rpc import Payload

EXTERNAL: Final = "ChargingStationExternalConstraints"
STATION_MAXIMUM: Final = "ChargingStationMaxProfile"
DEFAULT: Final = "TxDefaultProfile"
OF_TRANSACTION: Final = "TxProfile"

GRID_LIMIT_PROFILE_ID: Final = -1  # negative, as K11.FR.06 recommends
OWN_IDS: Final = range(104_000, 105_000)  # what the bridge installs at stations (`charging_profile`)
MAX_PROFILE_BYTES: Final = 8_192
MAX_ADDITIONAL_INFO: Final = 512


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a station says of itself in SmartChargingCtrlr, and its hardware: EVSEs 1 … `evses`, phases, maximum."""

    maximum_w: Watts
    phases: int = DEFAULT_PHASES
    evses: int = 1
    rate_units: tuple[str, ...] = ("W", "A")
    stack_level: int = 9
    periods: int = 96
    entries: int = 32


@dataclass(frozen=True, slots=True)
class Installed:
    """A charging profile that is in place at an EVSE, 0 for the whole station: as received, and read."""

    evse_id: int
    charging_profile: Payload
    schedule: ChargingSchedule

    @property
    def identity(self) -> int:
        """Its id, given by the CSMS."""
        return int(self.charging_profile["id"])

    @property
    def purpose(self) -> str:
        """Its chargingProfilePurpose."""
        return str(self.charging_profile["chargingProfilePurpose"])

    @property
    def stack_level(self) -> int:
        """Its place within the purpose: the higher overrules the lower (K01.FR.17)."""
        return int(self.charging_profile["stackLevel"])

    @property
    def transaction_id(self) -> str | None:
        """The transaction a TxProfile is for."""
        return self.charging_profile.get("transactionId")


class Transaction(NamedTuple):
    """A running transaction: where, and since when (UTC)."""

    evse_id: int
    begun_ms: Millis


class Refusal(NamedTuple):
    """Why a request is refused: a reasonCode of the appendix of OCPP 2.0.1 Part 2, and words."""

    reason: str
    why: str

    def answer(self, status: str = "Rejected") -> Payload:
        """The response with this statusInfo."""
        info = {"reasonCode": self.reason, "additionalInfo": self.why[:MAX_ADDITIONAL_INFO]}
        return {"status": status, "statusInfo": info}


def is_reserved(identity: int) -> bool:
    """Whether an id is not the CSMS's to use: the grid limit's, and those the bridge installs at stations."""
    return identity == GRID_LIMIT_PROFILE_ID or identity in OWN_IDS


def examine(
    abilities: Abilities,
    installed: Collection[Installed],
    transactions: dict[str, Transaction],
    evse_id: int,
    charging_profile: Payload,
) -> Installed | Refusal:
    """Examine a schema-valid charging profile for an EVSE; what is installed keeps its place until replaced."""
    refusals = itertools.chain(
        _misplaced(abilities, evse_id, charging_profile),
        _without_transaction(transactions, evse_id, charging_profile),
        _malformed(abilities, charging_profile),
        _impossible_phases(abilities, charging_profile),
    )
    refusal = next(refusals, None)
    if refusal is not None:
        return refusal
    try:
        schedule = read_schedule(charging_profile, abilities.phases)
    except ValueError as why:
        return Refusal("InvalidProfile", str(why))
    if None not in (schedule.valid_from_ms, schedule.valid_to_ms) and not schedule.overlaps(schedule):
        return Refusal("InvalidProfile", "validTo is not after validFrom")
    wanted = Installed(evse_id, charging_profile, schedule)
    twin = next((other for other in installed if _collide(wanted, other)), None)
    if twin is not None:
        return Refusal("DuplicateProfile", f"charging profile {twin.identity} has this place at the same time")
    return wanted


def _misplaced(abilities: Abilities, evse_id: int, charging_profile: Payload) -> Iterator[Refusal]:
    """Purpose, place and id (K01.FR.16, .22, .28, K04.FR.03)."""
    purpose = charging_profile["chargingProfilePurpose"]
    if purpose == EXTERNAL:
        yield Refusal("InvalidValue", f"{EXTERNAL} is for external systems only (K01.FR.22)")
    if is_reserved(charging_profile["id"]):
        yield Refusal("InvalidValue", f"id {charging_profile['id']} is in use by the station itself")
    if not 0 <= evse_id <= abilities.evses:
        yield Refusal("UnknownEvse", f"EVSEs are 1 to {abilities.evses}")
    if purpose == STATION_MAXIMUM and evse_id != 0:
        yield Refusal("InvalidProfile", f"{STATION_MAXIMUM} is for evseId 0 only (K04.FR.03)")
    if purpose == OF_TRANSACTION and evse_id == 0:
        yield Refusal("InvalidProfile", f"{OF_TRANSACTION} is for one EVSE (K01.FR.16)")
    if not 0 <= charging_profile["stackLevel"] <= abilities.stack_level:
        yield Refusal("InvalidStackLevel", f"stackLevel is 0 to {abilities.stack_level}")


def _without_transaction(
    transactions: dict[str, Transaction], evse_id: int, charging_profile: Payload
) -> Iterator[Refusal]:
    """A TxProfile names a transaction that runs on its EVSE (K01.FR.03, .09, .33); no other one names any."""
    transaction_id = charging_profile.get("transactionId")
    if charging_profile["chargingProfilePurpose"] != OF_TRANSACTION:
        if transaction_id is not None:
            yield Refusal("InvalidProfile", f"only {OF_TRANSACTION} has a transactionId")
    elif transaction_id is None:
        yield Refusal("MissingParam", f"{OF_TRANSACTION} needs a transactionId (K01.FR.03)")
    elif transaction_id not in transactions or transactions[transaction_id].evse_id != evse_id:
        yield Refusal("TxNotFound", f"no such transaction runs on EVSE {evse_id}")


def _malformed(abilities: Abilities, charging_profile: Payload) -> Iterator[Refusal]:
    """Kind, schedule, periods and limits (K01.FR.26, .31, .34, .35, .38, .40, .41)."""
    kind, schedules = charging_profile["chargingProfileKind"], charging_profile["chargingSchedule"]
    schedule = schedules[0]
    if len(schedules) > 1:
        yield Refusal("TooManyElements", "more than one schedule is for ISO 15118 only (K01.FR.34)")
    if "salesTariff" in schedule:
        yield Refusal("UnsupportedParam", "salesTariff is for ISO 15118 only")
    if kind == "Relative" and charging_profile["chargingProfilePurpose"] == STATION_MAXIMUM:
        yield Refusal("InvalidProfile", f"{STATION_MAXIMUM} cannot be Relative (K01.FR.38)")
    if kind == "Recurring" and charging_profile.get("recurrencyKind") not in RECURRENCE_MS:
        yield Refusal("InvalidProfile", "Recurring needs a recurrencyKind")
    if (kind == "Relative") == ("startSchedule" in schedule):
        yield Refusal("InvalidSchedule", "Absolute and Recurring need a startSchedule, Relative has none")
    if schedule["chargingRateUnit"] not in abilities.rate_units:
        yield Refusal("UnsupportedRateUnit", f"chargingRateUnit is one of {', '.join(abilities.rate_units)}")
    if schedule.get("duration", 1) <= 0:
        yield Refusal("InvalidSchedule", "duration is not above 0")
    periods = schedule["chargingSchedulePeriod"]
    if len(periods) > abilities.periods:
        yield Refusal("TooManyElements", f"at most {abilities.periods} periods in a schedule")
    starts_s = [period["startPeriod"] for period in periods]
    if starts_s[0] != 0 or any(first >= second for first, second in itertools.pairwise(starts_s)):
        yield Refusal("InvalidSchedule", "startPeriod begins with 0 and ascends (K01.FR.31, .35)")
    if any(period["limit"] < 0 or round(period["limit"], 1) != period["limit"] for period in periods):
        yield Refusal("InvalidSchedule", "a limit is not negative and has at most one decimal")
    if len(json.dumps(charging_profile)) > MAX_PROFILE_BYTES:
        yield Refusal("TooLargeElement", f"at most {MAX_PROFILE_BYTES} bytes")


def _impossible_phases(abilities: Abilities, charging_profile: Payload) -> Iterator[Refusal]:
    """Phases that cannot be kept to (K01.FR.19, .20, .43, .48); nothing here switches phases."""
    for period in charging_profile["chargingSchedule"][0]["chargingSchedulePeriod"]:
        number = period.get("numberPhases", DEFAULT_PHASES)
        if not 1 <= number <= DEFAULT_PHASES or ("phaseToUse" in period and number != 1):
            yield Refusal("InvalidSchedule", "numberPhases is 1 to 3, and 1 with a phaseToUse (K01.FR.19)")
        if "phaseToUse" in period:
            yield Refusal("UnsupportedParam", "the phase cannot be chosen (K01.FR.48)")
        if number < abilities.phases:
            yield Refusal("UnsupportedParam", f"{number} of {abilities.phases} phases cannot be ensured (K01.FR.43)")


def _collide(wanted: Installed, other: Installed) -> bool:
    """Whether two of different ids stand in the same place (K01.FR.06, .39, .52, .53)."""
    same = wanted.purpose == other.purpose and wanted.stack_level == other.stack_level
    if wanted.identity == other.identity or not same:
        return False
    if wanted.purpose == OF_TRANSACTION:
        return wanted.transaction_id == other.transaction_id
    if wanted.purpose == DEFAULT and (wanted.evse_id == 0) != (other.evse_id == 0):
        return True
    return wanted.evse_id == other.evse_id and wanted.schedule.overlaps(other.schedule)
