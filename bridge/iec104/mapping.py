"""What stands on the wire and what the core computes with, one into the other; a limit is never rounded up."""

from __future__ import annotations

import math
from typing import Final

from bridge.core.points import PointKind, Quality
from bridge.core.quantities import Millis, Watts
from bridge.iec104.asdu import CounterReading, Element, ShortFloat, SinglePoint, TimeTag, TypeId

UNTAGGED: Final = {
    PointKind.MEASURED: TypeId.M_ME_NC_1,
    PointKind.SINGLE: TypeId.M_SP_NA_1,
    PointKind.TOTAL: TypeId.M_IT_NA_1,
}
TAGGED: Final = {
    PointKind.MEASURED: TypeId.M_ME_TF_1,
    PointKind.SINGLE: TypeId.M_SP_TB_1,
    PointKind.TOTAL: TypeId.M_IT_TB_1,
}

_LARGEST_SHORT_FLOAT: Final = (2 - 2**-23) * 2.0**127
_COUNTER_MODULUS: Final = 2**31


def limit_w(value: float) -> Watts | None:
    """A setpoint in whole watts, rounded down; None for what is not finite."""
    return math.floor(value) if math.isfinite(value) else None


def time_tag(tag: TimeTag | None) -> tuple[Millis | None, bool]:
    """A command's time tag for the core, and whether it is valid; on this wire, which is UTC, SU makes it invalid."""
    return (None, True) if tag is None else (tag.utc_ms, not tag.invalid and not tag.summer)


def element(kind: PointKind, value: float, quality: Quality) -> Element:
    """A monitored value as an information element.

    What is not a number goes out as 0 and invalid, what is too large as the largest with OV. A counter beyond
    2³¹−1 begins anew with CY set; it has no bit for "not topical", so a stale one is invalid.
    """
    if not math.isfinite(value):
        value, quality = 0.0, quality | Quality.INVALID
    if kind is PointKind.SINGLE:
        return SinglePoint(bool(value), quality)
    if kind is PointKind.TOTAL:
        turns, reading = divmod(math.floor(value), _COUNTER_MODULUS)
        return CounterReading(
            reading, carry=turns != 0, invalid=bool(quality & (Quality.INVALID | Quality.NOT_TOPICAL))
        )
    if abs(value) > _LARGEST_SHORT_FLOAT:
        value, quality = math.copysign(_LARGEST_SHORT_FLOAT, value), quality | Quality.OVERFLOW
    return ShortFloat(value, quality)
