"""One charger: which limits it may be obeying, what its meter says, and what it may draw at worst."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, unique

from bridge.core.messages import Answer, MeterSampled
from bridge.core.plan import ChargerPlan, Offline
from bridge.core.quantities import Millis, Watts

VIOLATIONS_TO_DISTRUST = 2  # a single sample may have been measured before the cut and travelled after it
PROOFS_TO_TRUST = 2
IMPLAUSIBLE_PERCENT = 120  # of the hardware maximum: such a sample is kept, and never believed
FIRST_RETRY_MS = 2_000
LAST_RETRY_MS = 60_000


@unique
class Measurand(Enum):
    """What a charger's meter tells, by the field of `MeterSampled` that carries it."""

    POWER = "power_w"
    VOLTAGE = "voltage_mv"
    CURRENT = "current_ma"
    ENERGY = "energy_wh"


@dataclass(slots=True)
class Reading:
    """The newest value of one measurand; `stale` once `fresh_until_ms` has passed without another."""

    value: int
    utc_ms: Millis
    valid: bool
    fresh_until_ms: Millis
    stale: bool = False


@dataclass(slots=True)
class Order:
    """A limit that was sent, or may have been."""

    number: int
    limit_w: Watts
    give_up_ms: Millis


@dataclass(slots=True)
class Leaving:
    """A superseded limit that may still be drawn until the charger's reaction time is over."""

    limit_w: Watts
    until_ms: Millis


@dataclass(slots=True)
class Charger:
    """What is known of one charger.

    `grant_w` is the newest acknowledged limit and `proven` says that it was acknowledged since the charger last
    connected or booted. `in_flight` is the one order whose answer is awaited, `unanswered_w` the highest limit among
    orders that never got an answer. All of them, and what is `leaving`, may be in force. `refused` and `disobeys` are
    accusations: they end on proof only.
    """

    serial: str
    connected: bool = False
    active: bool = False
    proven: bool = False
    refused: bool = False
    disobeys: bool = False
    grant_w: Watts | None = None
    target_w: Watts = 0
    wish_w: Watts | None = None
    in_flight: Order | None = None
    unanswered_w: Watts | None = None
    leaving: list[Leaving] = field(default_factory=list)
    failures: int = 0
    retry_ms: Millis | None = None
    tried_w: Watts = 0
    readings: dict[Measurand, Reading] = field(default_factory=dict)
    violations: int = 0
    proofs: int = 0
    highest_w: Watts = 0
    worst_w: Watts = 0
    look_ms: Millis | None = None

    def worst_case_w(self, plan: ChargerPlan) -> Watts:
        """The highest power it can draw now, by all we cannot rule out."""
        if plan.out_of_service:
            return 0
        leaving_w = max((leaving.limit_w for leaving in self.leaving), default=0)
        in_flight_w = self.in_flight.limit_w if self.in_flight is not None else 0
        if self._trusted(plan) and not self.disobeys and not self.refused:
            settled_w = self._told_w()
        elif plan.offline is Offline.STOPS and not self.connected:
            settled_w = 0
        else:
            settled_w = max(plan.maximum_w, self.highest_w)
        return min(max(settled_w, leaving_w, in_flight_w), max(plan.maximum_w, self.highest_w))

    def _trusted(self, plan: ChargerPlan) -> bool:
        """Whether it is known to hold one of the limits it was told."""
        kept = plan.offline is Offline.KEEPS_LIMIT and self.grant_w is not None
        return kept or (self.connected and self.proven)

    def _told_w(self) -> Watts:
        return max(self.grant_w or 0, self.unanswered_w or 0)

    @property
    def obedient(self) -> bool:
        """Whether it can be given a share: it is there and nothing speaks against it."""
        return self.connected and not self.disobeys and not self.refused

    @property
    def settled(self) -> bool:
        """Whether it is proven to hold exactly its target."""
        told = self.proven and self.grant_w == self.target_w and self.unanswered_w is None
        return told and not self.refused and self.in_flight is None

    @property
    def waits(self) -> bool:
        """Whether an answer or a retry is awaited; a deeper cut does not wait for the retry of a lesser one."""
        return self.in_flight is not None or (self.retry_ms is not None and self.target_w >= self.tried_w)

    def send(self, number: int, limit_w: Watts, now_ms: Millis, plan: ChargerPlan) -> None:
        """Note an order as sent; from now on it may be in force."""
        assert self.in_flight is None, "one order in flight per charger"
        self.in_flight = Order(number, limit_w, now_ms + plan.answer_ms)
        self.retry_ms, self.tried_w = None, limit_w

    def answered(
        self, number: int, answer: Answer, now_ms: Millis, plan: ChargerPlan, read_back_w: Watts | None = None
    ) -> None:
        """Settle the order in flight. An answer to another number comes too late to prove anything."""
        order = self.in_flight
        if order is None or order.number != number:
            return
        if read_back_w is not None and read_back_w > order.limit_w:
            answer = Answer.REFUSED  # whatever it said, it holds more than it was told
        if answer is Answer.ACCEPTED:
            self._accepted(order, now_ms, plan)
            return
        self.in_flight = None
        if answer is Answer.UNANSWERED:
            self.unanswered_w = max(order.limit_w, self.unanswered_w or 0)
        self.refused = self.refused or answer is Answer.REFUSED
        self.retry_ms = now_ms + min(FIRST_RETRY_MS << min(self.failures, 5), LAST_RETRY_MS)
        self.failures += 1

    def _accepted(self, order: Order, now_ms: Millis, plan: ChargerPlan) -> None:
        trusted = self._trusted(plan) and not self.refused and not self.disobeys
        superseded_w = self._told_w() if trusted else max(plan.maximum_w, self.highest_w)
        # A later cut outlasts every earlier one that is not above it.
        self.leaving = [leaving for leaving in self.leaving if leaving.limit_w > max(superseded_w, order.limit_w)]
        if superseded_w > order.limit_w:
            self.leaving.append(Leaving(superseded_w, now_ms + plan.reaction_ms))
        self.in_flight, self.unanswered_w, self.retry_ms, self.failures = None, None, None, 0
        self.grant_w, self.proven, self.refused = order.limit_w, True, False

    def lost_connection(self, now_ms: Millis, plan: ChargerPlan) -> None:
        """What was in flight may have arrived; nothing is proven any more, and its meter is silent."""
        if plan.offline is Offline.STOPS and self.connected:
            self.leaving = [Leaving(self.worst_case_w(plan), now_ms + plan.reaction_ms)]
        if self.in_flight is not None:
            self.unanswered_w = max(self.in_flight.limit_w, self.unanswered_w or 0)
            self.in_flight = None
        self.connected = self.proven = self.active = False
        self.retry_ms, self.failures = None, 0
        for reading in self.readings.values():
            reading.stale = True

    def booted(self) -> None:
        """What it kept of its limits is unproven."""
        self.proven = self.active = False

    def sampled(self, sample: MeterSampled, now_ms: Millis, plan: ChargerPlan) -> list[Measurand]:
        """Take over a sample, judge by it whether the charger obeys, and say which measurands it brought."""
        power_w = sample.power_w
        implausible = power_w is not None and power_w * 100 > plan.maximum_w * IMPLAUSIBLE_PERCENT
        valid = sample.valid and not implausible
        brought = []
        for measurand in Measurand:
            value = getattr(sample, measurand.value)
            if value is not None:
                self.readings[measurand] = Reading(value, sample.utc_ms, valid, now_ms + plan.stale_ms)
                brought.append(measurand)
        if power_w is not None and valid:
            self._judge(power_w, plan)
        return brought

    def _judge(self, power_w: Watts, plan: ChargerPlan) -> None:
        allowed_w = plan.maximum_w
        if self._trusted(plan):
            in_flight_w = self.in_flight.limit_w if self.in_flight is not None else 0
            allowed_w = max([self._told_w(), in_flight_w, *(leaving.limit_w for leaving in self.leaving)])
        if power_w > allowed_w + plan.tolerance_w:
            self.violations, self.proofs = self.violations + 1, 0
            self.highest_w = max(self.highest_w, power_w)
            self.disobeys = self.disobeys or self.violations >= VIOLATIONS_TO_DISTRUST
            return
        self.violations, self.proofs = 0, self.proofs + 1
        if self.proofs >= PROOFS_TO_TRUST:
            self.disobeys, self.highest_w = False, 0

    def look(self, now_ms: Millis, plan: ChargerPlan) -> list[Measurand]:
        """Let pass what has elapsed: reaction times, an answer that did not come, a retry; say what became stale."""
        self.leaving = [leaving for leaving in self.leaving if leaving.until_ms > now_ms]
        if self.in_flight is not None and self.in_flight.give_up_ms <= now_ms:
            self.answered(self.in_flight.number, Answer.UNANSWERED, now_ms, plan)
        if self.retry_ms is not None and self.retry_ms <= now_ms:
            self.retry_ms = None
        gone_stale = []
        for measurand, reading in self.readings.items():
            if not reading.stale and reading.fresh_until_ms <= now_ms:
                reading.stale = True
                gone_stale.append(measurand)
        return gone_stale

    def due_ms(self) -> Millis | None:
        """When to look at it again, None if time alone changes nothing."""
        due = [leaving.until_ms for leaving in self.leaving]
        due += [reading.fresh_until_ms for reading in self.readings.values() if not reading.stale]
        if self.retry_ms is not None:
            due.append(self.retry_ms)
        if self.in_flight is not None:
            due.append(self.in_flight.give_up_ms)
        return min(due, default=None)

    def shift(self, offset_ms: Millis) -> None:
        """Move every time on the monotonic clock, which began anew with another boot of the machine."""
        for leaving in self.leaving:
            leaving.until_ms += offset_ms
        for reading in self.readings.values():
            reading.fresh_until_ms += offset_ms
        self.look_ms = None
