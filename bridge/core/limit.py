"""Which limit is in force, and whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique

from bridge.core.quantities import Watts


@unique
class Source(Enum):
    """Whose limit it is, in the words of status, log and journal. At equal power the first named here is given."""

    EMERGENCY_STOP = "emergency_stop"
    MANUAL = "manual"
    SETPOINT = "setpoint"
    STEP = "step"
    FALLBACK = "fallback"
    AT_START = "at_start"
    CAPACITY = "capacity"


_ORDER = {source: place for place, source in enumerate(Source)}


@dataclass(frozen=True, slots=True)
class Limit:
    """A power that the site may not exceed. 0 W is a limit like any other, never the absence of one."""

    power_w: Watts
    source: Source


_PERCENT_14A = {2: 80, 3: 75, 4: 70, 5: 65, 6: 60, 7: 55, 8: 50}
_PERCENT_14A_FROM_NINE = 45
_WATTS_14A = 4_200


def minimum_14a_w(devices: int) -> Watts:
    """The least that § 14a EnWG (BNetzA BK6-22-300) leaves an energy management system with so many devices.

    4.2 kW for the first and, for every further one, 4.2 kW times the simultaneity factor of their number.
    """
    percent = _PERCENT_14A.get(devices, _PERCENT_14A_FROM_NINE)
    return _WATTS_14A + (devices - 1) * percent * _WATTS_14A // 100 if devices > 0 else 0


def lowest(limits: Iterable[Limit]) -> Limit:
    """The limit in force among those that hold; at least one always does, the connection capacity."""
    return min(limits, key=lambda limit: (limit.power_w, _ORDER[limit.source]))
