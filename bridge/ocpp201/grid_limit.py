"""What the CSMS is told of the limit the grid sets one charger: OCPP 2.0.1 K11–K13; pure.

Nothing here enforces anything: the charger obeys its grant whatever the CSMS makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from bridge.core.limit import Source
from bridge.core.quantities import Millis, Watts
from bridge.ocpp201.profile_rules import EXTERNAL, GRID_LIMIT_PROFILE_ID
from bridge.ocpp201.rpc import Payload
from bridge.ocpp201.timestamps import rfc3339

SIGNIFICANCE_PERCENT: Final = 1  # SmartChargingCtrlr.LimitChangeSignificance

# Who limits, as chargingLimitSource: the system operator (SO) unless it is the site itself; never CSO (K11.FR.05).
_LIMIT_SOURCE: Final = {Source.CAPACITY: "EMS", Source.MANUAL: "Other"}
_GRID_CRITICAL: Final = frozenset({Source.FALLBACK, Source.EMERGENCY_STOP})
_EPOCH_S: Final = 1_577_836_800  # schedule ids count seconds from 2020, so that none comes twice (they are 31 bits)


class External(NamedTuple):
    """A limit from outside that binds a charger; `critical` for a reduction the grid needs at once."""

    limit_w: Watts
    source: str
    critical: bool = False


class Notice(NamedTuple):
    """What the CSMS is to be told now: requests as (action, payload), in order.

    With `charging_rate_changed` each running transaction owes it a TransactionEvent Updated with that triggerReason
    (K11.FR.04, K13.FR.03).
    """

    requests: list[tuple[str, Payload]]
    charging_rate_changed: bool = False


class _Unknown(Enum):
    UNKNOWN = "unknown"


@dataclass(slots=True)
class SiteLimit:
    """Whose limit is in force at the site; whoever hears of a change notes it here."""

    source: Source = Source.AT_START


@dataclass(slots=True)
class GridLimit:
    """The grid limit of one charger, as it is and as the CSMS was last told of it.

    `maximum_w` is what the charger could draw. What the CSMS believes is unknown at first: the first limit, and the
    first lack of one, are always told.
    """

    maximum_w: Watts
    now: External | None = None
    _told: External | _Unknown | None = field(default=_Unknown.UNKNOWN)
    _rate: External | None = None
    _since_ms: Millis = 0
    _schedule_id: int = 0

    def granted(self, grant_w: Watts, wish_w: Watts | None, source: Source, utc_ms: Millis) -> Notice:
        """Take up an acknowledged grant and say what is due; `wish_w` is what the CSMS itself allows."""
        self.take_up(grant_w, wish_w, source)
        return self._due(utc_ms)

    def take_up(self, grant_w: Watts, wish_w: Watts | None, source: Source) -> None:
        """Take up an acknowledged grant where nobody is told.

        A charger that may draw all it can, or all its CSMS allows, is not limited by the grid.
        """
        if grant_w >= (self.maximum_w if wish_w is None else min(self.maximum_w, wish_w)):
            self.now = None
            return
        before = self.now
        less = before is None or grant_w < before.limit_w
        critical = source in _GRID_CRITICAL and (less or (before is not None and before.critical))
        self.now = External(grant_w, _LIMIT_SOURCE.get(source, "SO"), critical)

    def not_told(self) -> None:
        """Note that a request of the last notice never arrived; `again` has what is due."""
        self._told = _Unknown.UNKNOWN

    def again(self, utc_ms: Millis) -> Notice:
        """Say once more what never arrived."""
        return self._due(utc_ms)

    def reported(self) -> tuple[str, Payload] | None:
        """The limit as a charging profile with its source, for ReportChargingProfiles (K11.FR.06); None without one."""
        if self.now is None:
            return None
        return self.now.source, {
            "id": GRID_LIMIT_PROFILE_ID,
            "stackLevel": 0,
            "chargingProfilePurpose": EXTERNAL,
            "chargingProfileKind": "Absolute",
            "chargingSchedule": [self._schedule(self.now)],
        }

    def _due(self, utc_ms: Millis) -> Notice:
        told, now = self._told, self.now
        rate_changed = _significant(self._rate, now)
        if rate_changed:
            self._rate = now
        if not _significant(told, now):
            return Notice([], rate_changed)
        requests: list[tuple[str, Payload]] = []
        if isinstance(told, External) and (now is None or now.source != told.source):
            requests.append(("ClearedChargingLimit", {"chargingLimitSource": told.source}))
        if now is None and told is _Unknown.UNKNOWN:
            requests.append(("ClearedChargingLimit", {"chargingLimitSource": "SO"}))
        if now is not None:
            self._since_ms = utc_ms
            self._schedule_id = max(self._schedule_id + 1, utc_ms // 1000 - _EPOCH_S)
            limit = {"chargingLimitSource": now.source, "isGridCritical": now.critical}
            requests.append(
                ("NotifyChargingLimit", {"chargingLimit": limit, "chargingSchedule": [self._schedule(now)]})
            )
        self._told = now
        return Notice(requests, rate_changed)

    def _schedule(self, limit: External) -> Payload:
        return {
            "id": self._schedule_id,
            "startSchedule": rfc3339(self._since_ms),
            "chargingRateUnit": "W",
            "chargingSchedulePeriod": [{"startPeriod": 0, "limit": limit.limit_w}],
        }


def _significant(told: External | _Unknown | None, now: External | None) -> bool:
    """Whether a change is worth telling: the first limit and its end always are (SC.03, K11.FR.02)."""
    if not isinstance(told, External) or now is None:
        return told != now
    if told.source != now.source or (now.critical and not told.critical):
        return True
    return abs(now.limit_w - told.limit_w) * 100 > SIGNIFICANCE_PERCENT * told.limit_w
