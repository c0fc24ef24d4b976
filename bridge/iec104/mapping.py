"""What stands on the wire and what the core computes with, one into the other; a limit is never rounded up."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from bridge.core.points import Encoding, Point, PointKind, Quality, Signal
from bridge.core.quantities import Millis, Watts
from bridge.iec104 import asdu
from bridge.iec104.asdu import (
    CounterReading,
    DoublePoint,
    Element,
    NormalizedValue,
    ScaledValue,
    ShortFloat,
    SinglePoint,
    TimeTag,
    TypeId,
)

UNTAGGED: Final = {
    Encoding.SHORT_FLOAT: TypeId.M_ME_NC_1,
    Encoding.SCALED: TypeId.M_ME_NB_1,
    Encoding.NORMALIZED: TypeId.M_ME_NA_1,
    Encoding.SINGLE: TypeId.M_SP_NA_1,
    Encoding.DOUBLE: TypeId.M_DP_NA_1,
    Encoding.COUNTER: TypeId.M_IT_NA_1,
}
TAGGED: Final = {
    Encoding.SHORT_FLOAT: TypeId.M_ME_TF_1,
    Encoding.SCALED: TypeId.M_ME_TE_1,
    Encoding.NORMALIZED: TypeId.M_ME_TD_1,
    Encoding.SINGLE: TypeId.M_SP_TB_1,
    Encoding.DOUBLE: TypeId.M_DP_TB_1,
    Encoding.COUNTER: TypeId.M_IT_TB_1,
}
COMMANDS: Final = {
    (PointKind.SETPOINT, Encoding.SHORT_FLOAT): (TypeId.C_SE_NC_1, TypeId.C_SE_TC_1),
    (PointKind.SETPOINT, Encoding.SCALED): (TypeId.C_SE_NB_1, TypeId.C_SE_TB_1),
    (PointKind.SETPOINT, Encoding.NORMALIZED): (TypeId.C_SE_NA_1, TypeId.C_SE_TA_1),
    (PointKind.COMMAND, Encoding.SINGLE): (TypeId.C_SC_NA_1, TypeId.C_SC_TA_1),
    (PointKind.COMMAND, Encoding.DOUBLE): (TypeId.C_DC_NA_1, TypeId.C_DC_TA_1),
}
"""The types that command a point, without and with time tag."""

_LARGEST_SHORT_FLOAT: Final = (2 - 2**-23) * 2.0**127
_LARGEST_SCALED: Final = 32767
_NORMALIZED_STEPS: Final = 32768
_COUNTER_MODULUS: Final = 2**31
_MINUTE_MS: Final = 60_000
_DOUBLE_OFF: Final = 1
_DOUBLE_ON: Final = 2


def limit_w(value: float, per_unit: float = 1.0) -> Watts | None:
    """A setpoint in units of `per_unit` watts as whole watts, rounded down; None for what is not finite."""
    if not math.isfinite(value):
        return None
    return math.floor(value) if per_unit == 1 else math.floor(Fraction(value) * Fraction(str(per_unit)))


def mirrored(value: float, setpoint: Point, mirror: Point | None) -> float:
    """A setpoint as the mirror shows it: as received, or in the mirror's unit where that is another."""
    if mirror is None or mirror.per_unit == setpoint.per_unit:
        return float(value)
    return value * setpoint.per_unit / mirror.per_unit


def element(point: Point, value: float, quality: Quality) -> Element:
    """A monitored value of the core as the information element of its point.

    What is not a number goes out as 0 and invalid, what is too large as the largest with OV. A counter beyond
    2³¹−1 begins anew with CY set; it has no bit for "not topical", so a stale one is invalid. The setpoint mirror holds
    what was received and is in the unit of the wire already: see `mirrored`.
    """
    if not math.isfinite(value):
        value, quality = 0.0, quality | Quality.INVALID
    if point.per_unit != 1 and point.signal is not Signal.SETPOINT_MIRROR:
        value /= point.per_unit
        if math.isinf(value):
            value = math.copysign(sys.float_info.max, value)
    match point.wire_encoding:
        case Encoding.SINGLE:
            return SinglePoint(bool(value), quality)
        case Encoding.DOUBLE:
            return DoublePoint(_DOUBLE_ON if value else _DOUBLE_OFF, quality)
        case Encoding.COUNTER:
            turns, reading = divmod(math.floor(value), _COUNTER_MODULUS)
            invalid = bool(quality & (Quality.INVALID | Quality.NOT_TOPICAL))
            return CounterReading(reading, carry=turns != 0, invalid=invalid)
        case Encoding.SCALED:
            whole = round(value)
            scaled = max(-_LARGEST_SCALED - 1, min(whole, _LARGEST_SCALED))
            return ScaledValue(scaled, quality | (Quality.OVERFLOW if scaled != whole else 0))
        case Encoding.NORMALIZED:
            whole = round(max(-2.0, min(value, 2.0)) * _NORMALIZED_STEPS)
            steps = max(-_NORMALIZED_STEPS, min(whole, _NORMALIZED_STEPS - 1))
            # 1.0 itself, the full scale, cannot be written; the step below it is meant, and is no overflow.
            overflow = whole not in (steps, _NORMALIZED_STEPS)
            return NormalizedValue(steps / _NORMALIZED_STEPS, quality | (Quality.OVERFLOW if overflow else 0))
        case Encoding.SHORT_FLOAT:
            if abs(value) > _LARGEST_SHORT_FLOAT:
                value, quality = math.copysign(_LARGEST_SHORT_FLOAT, value), quality | Quality.OVERFLOW
            return ShortFloat(value, quality)


class WireTime:
    """The time of this wire: UTC, or the local time of a zone with SU set in summer (IEC 60870-5-101 §7.2.6.18).

    `offset_ms` is how far the control centre's clock is ahead of ours, where it sets ours; what is sent is in its
    time, what is received is taken back into our own.
    """

    def __init__(self, zone: str | None = None) -> None:
        self.offset_ms: Millis = 0
        self._zone = None if zone is None else ZoneInfo(zone)

    def encode(self, utc_ms: Millis) -> bytes:
        """CP56Time2a of a time of ours."""
        utc_ms += self.offset_ms
        if self._zone is None:
            return asdu.encode_time(utc_ms)
        ahead_ms, summer = _local(self._zone, utc_ms // _MINUTE_MS)
        return asdu.encode_time(utc_ms + ahead_ms, summer=summer)

    def command_time(self, tag: TimeTag | None) -> tuple[Millis | None, bool]:
        """A command's time tag as UTC by our clock, None without one, and whether it is valid.

        In UTC, SU makes it invalid; in local time it is invalid where the hour does not exist or SU contradicts it.
        """
        if tag is None:
            return None, True
        read_ms, valid = self._utc(tag)
        return read_ms - self.offset_ms, valid

    def set_by(self, tag: TimeTag, utc_ms: Millis, largest_ms: Millis) -> bool:
        """Go by the control centre's clock from now on; False if its tag is invalid or too far from our clock."""
        read_ms, valid = self._utc(tag)
        if not valid or abs(read_ms - utc_ms) > largest_ms:
            return False
        self.offset_ms = read_ms - utc_ms
        return True

    def _utc(self, tag: TimeTag) -> tuple[Millis, bool]:
        if self._zone is None:
            return tag.utc_ms, not tag.invalid and not tag.summer
        for ahead_ms, summer in {_local(self._zone, (tag.utc_ms + shift) // _MINUTE_MS) for shift in _AROUND_MS}:
            utc_ms = tag.utc_ms - ahead_ms
            if summer == tag.summer and _local(self._zone, utc_ms // _MINUTE_MS) == (ahead_ms, summer):
                return utc_ms, not tag.invalid
        return tag.utc_ms, False


_AROUND_MS: Final = (-16 * 3_600_000, 16 * 3_600_000)  # no zone is further from UTC, none changes twice within a day


@lru_cache(maxsize=1024)
def _local(zone: ZoneInfo, utc_minutes: int) -> tuple[Millis, bool]:
    """How far local time is ahead of UTC in that minute, and whether it is summer time."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=utc_minutes)).astimezone(zone)
    ahead, summer = local.utcoffset(), local.dst()
    return round((ahead or timedelta()).total_seconds() * 1000), bool(summer)
