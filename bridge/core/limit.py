"""Which limit is in force, and whose it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, unique

from bridge.core.quantities import Watts


@unique
class Source(Enum):
    """Whose limit it is, in the words of status, log and journal. At equal power the first named here is given."""

    SETPOINT = "setpoint"
    FALLBACK = "fallback"
    AT_START = "at_start"
    CAPACITY = "capacity"


_ORDER = {source: place for place, source in enumerate(Source)}


@dataclass(frozen=True, slots=True)
class Limit:
    """A power that the site may not exceed. 0 W is a limit like any other, never the absence of one."""

    power_w: Watts
    source: Source


def lowest(limits: Iterable[Limit]) -> Limit:
    """The limit in force among those that hold; at least one always does, the connection capacity."""
    return min(limits, key=lambda limit: (limit.power_w, _ORDER[limit.source]))
