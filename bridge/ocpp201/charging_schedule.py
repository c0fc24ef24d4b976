"""One charging profile of OCPP 2.0.1 as a function of time: its limit at a moment and when that changes; pure.

Limits are counted in tenths of a watt (`_dw`): the text allows one decimal, so sums and minima stay exact.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from bridge.core.quantities import Millis
from bridge.ocpp201.charging_profile import NO_LIMIT_W, NOMINAL_VOLTAGE_V
from bridge.ocpp201.rpc import Payload
from bridge.ocpp201.timestamps import read_utc_ms

DEFAULT_PHASES: Final = 3  # K01.FR.49
RECURRENCE_MS: Final = {"Daily": 86_400_000, "Weekly": 7 * 86_400_000}


@dataclass(frozen=True, slots=True)
class ChargingSchedule:
    """The only schedule of a charging profile, with the validity of that charging profile.

    `start_ms` is None for a Relative one, which starts with the transaction. `every_ms` is its recurrence. `starts_ms`
    ascends from 0, `limits_dw` is as long. All times but those inside the schedule are UTC.
    """

    valid_from_ms: Millis | None
    valid_to_ms: Millis | None
    start_ms: Millis | None
    duration_ms: Millis | None
    every_ms: Millis | None
    starts_ms: tuple[Millis, ...]
    limits_dw: tuple[int, ...]

    def limit_dw(self, utc_ms: Millis, begun_ms: Millis) -> int | None:
        """Return the limit at a moment, None where it sets none (K01.FR.11–13, .30, .36, .37).

        `begun_ms` is when the transaction it is asked for began.
        """
        if not self._is_valid(utc_ms):
            return None
        elapsed_ms = self._elapsed_ms(utc_ms, begun_ms)
        if elapsed_ms < 0 or (self.duration_ms is not None and elapsed_ms >= self.duration_ms):
            return None
        return self.limits_dw[bisect_right(self.starts_ms, elapsed_ms) - 1]

    def next_change_ms(self, utc_ms: Millis, begun_ms: Millis) -> Millis | None:
        """Return the first moment after `utc_ms` at which the limit may change by itself, None if there is none."""
        if self.valid_from_ms is not None and utc_ms < self.valid_from_ms:
            return self.valid_from_ms
        if not self._is_valid(utc_ms):
            return None
        elapsed_ms = self._elapsed_ms(utc_ms, begun_ms)
        coming = [self.valid_to_ms] if self.valid_to_ms is not None else []
        if elapsed_ms < 0:
            coming.append(utc_ms - elapsed_ms)
        else:
            cycle_ms = utc_ms - elapsed_ms
            ends = [
                end_ms for end_ms in (self.duration_ms, self.every_ms) if end_ms is not None and end_ms > elapsed_ms
            ]
            following = bisect_right(self.starts_ms, elapsed_ms)
            if self.duration_ms is None or elapsed_ms < self.duration_ms:
                ends += self.starts_ms[following : following + 1]
            coming += [cycle_ms + end_ms for end_ms in ends]
        return min(coming, default=None)

    def overlaps(self, other: ChargingSchedule) -> bool:
        """Say whether there is a moment at which both are valid (K01.FR.06)."""
        begins = max(self.valid_from_ms or 0, other.valid_from_ms or 0)
        ends = [end_ms for end_ms in (self.valid_to_ms, other.valid_to_ms) if end_ms is not None]
        return all(begins < end_ms for end_ms in ends)

    def _is_valid(self, utc_ms: Millis) -> bool:
        begun = self.valid_from_ms is None or utc_ms >= self.valid_from_ms
        return begun and (self.valid_to_ms is None or utc_ms < self.valid_to_ms)

    def _elapsed_ms(self, utc_ms: Millis, begun_ms: Millis) -> Millis:
        """Time since its start, or since it last started anew; negative before it."""
        elapsed_ms = utc_ms - (begun_ms if self.start_ms is None else self.start_ms)
        return elapsed_ms % self.every_ms if self.every_ms is not None and elapsed_ms >= 0 else elapsed_ms


def read_schedule(charging_profile: Payload, phases: int) -> ChargingSchedule:
    """Read a schema-valid charging profile for an EVSE with so many phases; ValueError for a time that is none.

    Amperes are per phase (K01.FR.51), at the nominal voltage (K01.FR.50); a limit for more phases than there are is
    imposed on those there are (K01.FR.45).
    """
    schedule = charging_profile["chargingSchedule"][0]
    duration_s, kind = schedule.get("duration"), charging_profile.get("recurrencyKind", "")
    recurring = charging_profile["chargingProfileKind"] == "Recurring"
    limits_dw = []
    for period in schedule["chargingSchedulePeriod"]:
        limit_tenths = round(min(period["limit"], NO_LIMIT_W) * 10)
        used = min(int(period.get("numberPhases", DEFAULT_PHASES)), phases)
        in_watts = schedule["chargingRateUnit"] == "W"
        limits_dw.append(limit_tenths if in_watts else limit_tenths * NOMINAL_VOLTAGE_V * used)
    return ChargingSchedule(
        _moment(charging_profile.get("validFrom")),
        _moment(charging_profile.get("validTo")),
        _moment(schedule.get("startSchedule")),
        None if duration_s is None else int(duration_s) * 1000,
        RECURRENCE_MS.get(kind) if recurring else None,
        tuple(int(period["startPeriod"]) * 1000 for period in schedule["chargingSchedulePeriod"]),
        tuple(limits_dw),
    )


def _moment(text: str | None) -> Millis | None:
    if text is None:
        return None
    utc_ms = read_utc_ms(text)
    if utc_ms is None:
        raise ValueError(f"{text[:40]} is no time")
    return utc_ms
