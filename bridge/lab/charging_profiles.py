"""The charging profiles a simulated OCPP 2.0.1 station has installed, and the limit that follows from them; pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bridge.lab.peer import Payload

VOLTAGE_V = 230
DEFAULT_PHASES = 3
MAX_INSTALLED = 16
MAX_COMPOSITE_PERIODS = 100
EXTERNAL = "ChargingStationExternalConstraints"
STATION_MAXIMUM = "ChargingStationMaxProfile"
OF_TRANSACTION = "TxProfile"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the station says of itself in SmartChargingCtrlr: ProfileStackLevel, PeriodsPerSchedule, RateUnit."""

    stack_level: int = 8
    periods: int = 24
    rate_units: tuple[str, ...] = ("A", "W")


@dataclass(slots=True)
class ChargingProfiles:
    """Installed charging profiles of a station with the single EVSE 1, by id: (evseId, charging profile as received).

    Moments are aware datetimes, handed in. `begun` is when the open transaction began, None without one.
    """

    abilities: Abilities = field(default_factory=Abilities)
    installed: dict[int, tuple[int, Payload]] = field(default_factory=dict)

    def install(self, evse_id: int, charging_profile: Payload, transaction: str | None) -> str | None:
        """Install or replace by id (K01.FR.05); the reasonCode of the refusal, None when installed."""
        refusal = self._refusal(evse_id, charging_profile, transaction)
        if refusal is None:
            self.installed[charging_profile["id"]] = (evse_id, charging_profile)
        return refusal

    def clear(self, identity: int | None, criteria: Payload) -> bool:
        """Remove what matches the id or, without one, all criteria (K10); whether anything did."""
        if identity is not None:
            return self.installed.pop(identity, None) is not None
        matching = self.matching(criteria.get("evseId"), criteria)
        for _, charging_profile in matching:
            del self.installed[charging_profile["id"]]
        return bool(matching)

    def clear_transaction(self) -> None:
        """Remove the charging profiles of a transaction that has ended (K02.FR.05)."""
        self.clear(None, {"chargingProfilePurpose": OF_TRANSACTION})

    def matching(self, evse_id: int | None, criteria: Payload) -> list[tuple[int, Payload]]:
        """Return (evseId, charging profile) of all that match: an EVSE, purpose, stackLevel, ids, limit sources."""

        def matches(at_evse: int, charging_profile: Payload) -> bool:
            return (
                evse_id in (None, at_evse)
                and criteria.get("chargingProfilePurpose") in (None, charging_profile["chargingProfilePurpose"])
                and criteria.get("stackLevel") in (None, charging_profile["stackLevel"])
                and charging_profile["id"] in criteria.get("chargingProfileId", [charging_profile["id"]])
                and "CSO" in criteria.get("chargingLimitSource", ["CSO"])
            )

        return [(at_evse, each) for at_evse, each in self.installed.values() if matches(at_evse, each)]

    def limit_w(self, now: datetime, begun: datetime | None) -> float | None:
        """Return the lowest limit of all purposes in W (K08), None when nothing limits.

        Within a purpose the highest stackLevel that has something to say now overrules the others (K01.FR.17).
        A transaction's own charging profile overrules the default one.
        """
        by_purpose: dict[str, tuple[int, float]] = {}
        for _, charging_profile in self.installed.values():
            limit_w = _limit_w(charging_profile, now, begun)
            purpose, level = charging_profile["chargingProfilePurpose"], charging_profile["stackLevel"]
            if limit_w is not None and (purpose not in by_purpose or by_purpose[purpose][0] < level):
                by_purpose[purpose] = (level, limit_w)
        if OF_TRANSACTION in by_purpose:
            by_purpose.pop("TxDefaultProfile", None)
        return min((limit_w for _, limit_w in by_purpose.values()), default=None)

    def next_change(self, now: datetime, begun: datetime | None) -> datetime | None:
        """Return the next moment after `now` at which the limit may change by itself."""
        moments = (moment for _, each in self.installed.values() for moment in _moments(each, begun))
        return min((moment for moment in moments if moment > now), default=None)

    def composite(
        self, now: datetime, begun: datetime | None, duration_s: int, unit: str, maximum_w: int
    ) -> list[dict[str, Any]]:
        """Return the chargingSchedulePeriods of the next `duration_s` in W or A, `maximum_w` where nothing limits."""
        periods: list[dict[str, Any]] = []
        moment: datetime | None = now
        end = now + timedelta(seconds=duration_s)
        while moment is not None and moment < end and len(periods) < MAX_COMPOSITE_PERIODS:
            limit_w = self.limit_w(moment, begun)
            limit = min(limit_w if limit_w is not None else maximum_w, maximum_w)
            if unit == "A":
                limit /= VOLTAGE_V * DEFAULT_PHASES
            start_s = int((moment - now).total_seconds())
            periods.append({"startPeriod": start_s, "limit": int(limit * 10) / 10, "numberPhases": DEFAULT_PHASES})
            moment = self.next_change(moment, begun)
        return periods

    def _refusal(self, evse_id: int, charging_profile: Payload, transaction: str | None) -> str | None:
        purpose = charging_profile["chargingProfilePurpose"]
        misplaced = (purpose == STATION_MAXIMUM and evse_id != 0) or (purpose == OF_TRANSACTION and evse_id == 0)
        foreign = purpose == OF_TRANSACTION and charging_profile.get("transactionId") != (transaction or "")
        rules = (
            (purpose == EXTERNAL, "InvalidValue"),
            (evse_id not in (0, 1), "UnknownEvse"),
            (misplaced, "InvalidProfile"),
            (foreign, "TxNotFound"),
            (not 0 <= charging_profile["stackLevel"] <= self.abilities.stack_level, "InvalidStackLevel"),
            (not _readable(charging_profile), "InvalidValue"),
        )
        refusal = next((reason for broken, reason in rules if broken), None) or self._schedule_refusal(charging_profile)
        if refusal is None and self._duplicates(evse_id, charging_profile):
            return "DuplicateProfile"
        if refusal is None and len(self.installed) >= MAX_INSTALLED and charging_profile["id"] not in self.installed:
            return "OutOfMemory"
        return refusal

    def _schedule_refusal(self, charging_profile: Payload) -> str | None:
        kind = charging_profile["chargingProfileKind"]
        schedule = charging_profile["chargingSchedule"][0]
        starts = [period["startPeriod"] for period in schedule["chargingSchedulePeriod"]]
        limits = [period["limit"] for period in schedule["chargingSchedulePeriod"]]
        if kind == "Recurring" or (
            kind == "Relative" and charging_profile["chargingProfilePurpose"] == STATION_MAXIMUM
        ):
            return "InvalidProfile"
        if schedule["chargingRateUnit"] not in self.abilities.rate_units:
            return "UnsupportedRateUnit"
        if (
            len(charging_profile["chargingSchedule"]) != 1
            or len(starts) > self.abilities.periods
            or starts[0] != 0
            or any(first >= second for first, second in itertools.pairwise(starts))
            or any(limit < 0 or round(limit, 1) != limit for limit in limits)
            or (kind == "Absolute") != ("startSchedule" in schedule)
        ):
            return "InvalidSchedule"
        return None

    def _duplicates(self, evse_id: int, charging_profile: Payload) -> bool:
        """Tell whether another id has the same place at an overlapping time (K01.FR.06/.39)."""
        valid_from, valid_to = _valid(charging_profile)
        for at_evse, other in self.installed.values():
            other_from, other_to = _valid(other)
            if (
                other["id"] != charging_profile["id"]
                and at_evse == evse_id
                and all(
                    other.get(name) == charging_profile.get(name)
                    for name in ("chargingProfilePurpose", "stackLevel", "transactionId")
                )
                and (other_to is None or valid_from is None or valid_from < other_to)
                and (valid_to is None or other_from is None or other_from < valid_to)
            ):
                return True
        return False


def _moment(text: str | None) -> datetime | None:
    """Read an RFC 3339 moment; ValueError for one without a time zone."""
    if text is None:
        return None
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def _valid(charging_profile: Payload) -> tuple[datetime | None, datetime | None]:
    _moment(charging_profile["chargingSchedule"][0].get("startSchedule"))
    return _moment(charging_profile.get("validFrom")), _moment(charging_profile.get("validTo"))


def _readable(charging_profile: Payload) -> bool:
    """Tell whether every moment in it can be read."""
    try:
        _valid(charging_profile)
    except ValueError:
        return False
    return True


def _start(charging_profile: Payload, begun: datetime | None) -> datetime | None:
    if charging_profile["chargingProfileKind"] == "Relative":
        return begun
    return _moment(charging_profile["chargingSchedule"][0]["startSchedule"])


def _limit_w(charging_profile: Payload, now: datetime, begun: datetime | None) -> float | None:
    """Return what one charging profile allows now, in W; None when it has nothing to say."""
    valid_from, valid_to = _valid(charging_profile)
    start = _start(charging_profile, begun)
    if (valid_from and now < valid_from) or (valid_to and now >= valid_to) or start is None or now < start:
        return None
    schedule = charging_profile["chargingSchedule"][0]
    elapsed_s = (now - start).total_seconds()
    if "duration" in schedule and elapsed_s >= schedule["duration"]:
        return None
    period = [each for each in schedule["chargingSchedulePeriod"] if each["startPeriod"] <= elapsed_s][-1]
    limit = float(period["limit"])
    if schedule["chargingRateUnit"] == "A":
        limit *= VOLTAGE_V * int(period.get("numberPhases", DEFAULT_PHASES))
    return limit


def _moments(charging_profile: Payload, begun: datetime | None) -> list[datetime]:
    """Return every moment at which one charging profile begins, changes or ends."""
    schedule = charging_profile["chargingSchedule"][0]
    moments = [moment for moment in _valid(charging_profile) if moment is not None]
    start = _start(charging_profile, begun)
    if start is not None:
        moments += [start + timedelta(seconds=each["startPeriod"]) for each in schedule["chargingSchedulePeriod"]]
        if "duration" in schedule:
            moments.append(start + timedelta(seconds=schedule["duration"]))
    return moments
