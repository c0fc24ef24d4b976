"""Limits in watts as OCPP 2.0.1 charging profiles and back: pure, and never rounded up on the way out."""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias

from bridge.core.quantities import Millis, Watts
from bridge.ocpp201.rpc import Payload, Written
from bridge.ocpp201.timestamps import rfc3339

RateUnit: TypeAlias = Literal["W", "A"]

# Ids of our own, replaced in place and never cleared first (K01.FR.05): between clear and set a station is unlimited.
FLOOR_PROFILE_ID: Final = 104_000
GRANT_PROFILE_ID: Final = 104_001
FLOOR_STACK_LEVEL: Final = 0
GRANT_STACK_LEVEL: Final = 1

SAME_MOMENT_MS: Final = 250
NOMINAL_VOLTAGE_V: Final = 230  # K01.FR.50 converts at the nominal line to neutral voltage
NO_LIMIT_W: Final = 1_000_000_000  # whatever a station says beyond is no limit at all
MINIMUM_CURRENT_A: Final = 6  # below it a control pilot has no meaning (IEC 61851-1)


def grant_profile(
    limit_w: Watts,
    start_utc_ms: Millis,
    *,
    schedule_id: int,
    unit: RateUnit = "W",
    step: int = 1,
    phases: int = 3,
    valid_to_utc_ms: Millis | None = None,
) -> Payload:
    """Form the SetChargingProfile request for what a station may draw now; 0 W pauses it.

    `unit` and `step` (whole watts or amperes) are what the make obeys; amperes are per phase (K01.FR.51), over
    `phases`. `schedule_id` is positive and new with every profile. Without `valid_to_utc_ms` it holds until replaced.
    """
    period = _period(limit_w, unit, step, phases)
    return _request(GRANT_PROFILE_ID, GRANT_STACK_LEVEL, period, unit, start_utc_ms, schedule_id, valid_to_utc_ms)


class Grants:
    """The requests of `grant_profile`; stations told the same within a moment are told it in the same words.

    The words are those of the first of them: its schedule id, and validTo earlier by that moment at most.
    """

    def __init__(self) -> None:
        self._formed: dict[tuple[object, ...], Written] = {}
        self._formed_utc_ms: Millis = 0

    def form(
        self,
        limit_w: Watts,
        now_utc_ms: Millis,
        schedule_id: int,
        unit: RateUnit,
        step: int,
        phases: int,
        valid_ms: Millis | None,
    ) -> Written:
        """Form the request for a limit that holds from now on, for `valid_ms`."""
        if not 0 <= now_utc_ms - self._formed_utc_ms <= SAME_MOMENT_MS:
            self._formed.clear()
            self._formed_utc_ms = now_utc_ms
        key = limit_w, unit, step, phases, valid_ms
        formed = self._formed.get(key)
        if formed is None:
            request = grant_profile(
                limit_w,
                self._formed_utc_ms,
                schedule_id=schedule_id,
                unit=unit,
                step=step,
                phases=phases,
                valid_to_utc_ms=None if valid_ms is None else self._formed_utc_ms + valid_ms,
            )
            formed = self._formed[key] = Written(request)
        return formed


def floor_profile(
    floor_w: Watts,
    start_utc_ms: Millis,
    *,
    schedule_id: int,
    unit: RateUnit = "W",
    step: int = 1,
    phases: int = 3,
) -> Payload:
    """Form the SetChargingProfile request for what a station may draw whenever no grant is valid: permanent."""
    period = _period(floor_w, unit, step, phases)
    return _request(FLOOR_PROFILE_ID, FLOOR_STACK_LEVEL, period, unit, start_utc_ms, schedule_id, None)


def per_transaction(request: Payload, evse_id: int, transaction_id: str | None) -> Payload:
    """The same limit as TxDefaultProfile of the whole station, or as TxProfile of one running transaction.

    TxProfile needs its transaction and its EVSE (K01.FR.03, K01.FR.16), and an id of its own (K01.FR.05).
    """
    if transaction_id is None:
        changes = {"id": GRANT_PROFILE_ID + 1, "chargingProfilePurpose": "TxDefaultProfile"}
    else:
        changes = {
            "id": GRANT_PROFILE_ID + 1 + evse_id,
            "chargingProfilePurpose": "TxProfile",
            "transactionId": transaction_id,
        }
    return {"evseId": evse_id, "chargingProfile": request["chargingProfile"] | changes}


def composite_request(unit: RateUnit = "W", duration_s: int = 300) -> Payload:
    """Form the GetCompositeSchedule request for the whole station (K08, evseId 0)."""
    return {"evseId": 0, "duration": duration_s, "chargingRateUnit": unit}


def composite_limit_w(response: Payload, phases: int) -> Watts | None:
    """Read the highest power a GetCompositeSchedule response allows, in watts rounded up; None if it does not say.

    Some stations answer Accepted without a schedule, or with a limit of -1: they say nothing either.
    """
    schedule = response.get("schedule")
    if response.get("status") != "Accepted" or schedule is None:
        return None
    limits_w = [_period_w(schedule, period, phases) for period in schedule["chargingSchedulePeriod"]]
    return min(max(limits_w), NO_LIMIT_W) if min(limits_w) >= 0 else None


def schedule_limit_w(schedule: Payload, phases: int) -> Watts:
    """Read the highest power a chargingSchedule allows, in watts rounded up."""
    return max(_period_w(schedule, period, phases) for period in schedule["chargingSchedulePeriod"])


def _period_w(schedule: Payload, period: Payload, phases: int) -> Watts:
    limit = float(period["limit"])
    if schedule["chargingRateUnit"] == "A":
        limit *= NOMINAL_VOLTAGE_V * int(period.get("numberPhases", phases))
    return math.ceil(min(limit, NO_LIMIT_W))


def _period(limit_w: Watts, unit: RateUnit, step: int, phases: int) -> dict[str, Any]:
    """Form the only period of a schedule, rounded down to whole steps (a limit has at most one decimal)."""
    if unit == "W":
        return {"startPeriod": 0, "limit": limit_w // step * step}
    current_a = limit_w // (phases * NOMINAL_VOLTAGE_V) // step * step
    return {
        "startPeriod": 0,
        "limit": current_a if current_a >= MINIMUM_CURRENT_A else 0,
        "numberPhases": phases,
    }


def _request(
    profile_id: int,
    stack_level: int,
    period: dict[str, Any],
    unit: RateUnit,
    start_utc_ms: Millis,
    schedule_id: int,
    valid_to_utc_ms: Millis | None,
) -> Payload:
    """ChargingStationMaxProfile for the whole station, Absolute with its start (K01.FR.38/.40, K04.FR.03)."""
    profile: Payload = {
        "id": profile_id,
        "stackLevel": stack_level,
        "chargingProfilePurpose": "ChargingStationMaxProfile",
        "chargingProfileKind": "Absolute",
        "chargingSchedule": [
            {
                "id": schedule_id,
                "startSchedule": rfc3339(start_utc_ms),
                "chargingRateUnit": unit,
                "chargingSchedulePeriod": [period],
            }
        ],
    }
    if valid_to_utc_ms is not None:
        profile["validTo"] = rfc3339(valid_to_utc_ms)
    return {"evseId": 0, "chargingProfile": profile}
