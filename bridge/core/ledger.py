"""The sum of what all chargers may draw at worst, kept exact while single chargers change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bridge.core.charger import Charger
from bridge.core.plan import ChargerPlan
from bridge.core.quantities import Watts


@dataclass(slots=True)
class Ledger:
    """`total_w` is the worst case of the site: nothing we do may raise it while it is above the limit in force."""

    total_w: Watts = 0

    def assess(self, charger: Charger, plan: ChargerPlan) -> None:
        """Take the charger's worst case anew; call after every change to it."""
        worst_w = charger.worst_case_w(plan)
        self.total_w += worst_w - charger.worst_w
        charger.worst_w = worst_w

    def room_w(self, limit_w: Watts) -> Watts:
        """Proven room below the limit; negative while the worst case is above it."""
        return limit_w - self.total_w


def budget_w(limit_w: Watts, chargers: Iterable[Charger]) -> Watts:
    """What is left for those that can be given a share, after the worst case of those that cannot."""
    return max(0, limit_w - sum(charger.worst_w for charger in chargers if not charger.obedient))


def recount_w(chargers: Iterable[Charger], plans: Mapping[str, ChargerPlan]) -> Watts:
    """The worst case of the site from nothing but the chargers: what `Ledger.total_w` must equal."""
    return sum(charger.worst_case_w(plans[charger.serial]) for charger in chargers)
