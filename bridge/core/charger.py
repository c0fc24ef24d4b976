"""One charger: which limits it may be obeying, what its meter says, and what it may draw at worst."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, unique

from bridge.core.messages import Answer, MeterSampled
from bridge.core.plan import ChargerPlan, Offline, Way
from bridge.core.quantities import Millis, Now, Watts

VIOLATIONS_TO_DISTRUST = 2  # a single sample may have been measured before the cut and travelled after it
PROOFS_TO_TRUST = 2
IMPLAUSIBLE_PERCENT = 120  # of the hardware maximum: such a sample is kept, and never believed
FIRST_RETRY_MS = 2_000
LAST_RETRY_MS = 60_000
TRY_THE_FIRST_WAY_AGAIN_MS = 600_000
HUNGRY_PERCENT = 95  # who draws that much of his grant would draw more
HEADROOM_W = 1_000
SAMPLES_TO_KNOW_DEMAND = 3  # a vehicle takes its time to follow a new grant


@unique
class Measurand(Enum):
    """What a charger's meter tells, by the field of `MeterSampled` that carries it."""

    __hash__ = object.__hash__  # looked up with every sample

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
    """A limit that was sent, or may have been. `ends_ms` is when a lease ends by our clock; None: never."""

    number: int
    limit_w: Watts
    give_up_ms: Millis
    way: Way = Way.LIMIT
    ends_ms: Millis | None = None
    is_floor: bool = False


@dataclass(slots=True)
class Leaving:
    """A superseded limit that may still be drawn until the charger's reaction time is over.

    It is `held` beyond that while the newest sample, taken since the cut was acknowledged, contradicts the new limit.
    """

    limit_w: Watts
    until_ms: Millis
    held: bool = False


@dataclass(slots=True)
class Charger:
    """What is known of one charger.

    `grant_w` is the newest acknowledged limit and `proven` says that it was acknowledged since the charger last
    connected or booted. `in_flight` is the one order whose answer is awaited, `unanswered_w` the highest limit among
    orders that never got an answer. All of them, and what is `leaving`, may be in force. `refused` and `disobeys` are
    accusations: they end on proof only.

    With a lease the grant ends by itself at `grant_ends_ms`, give or take the guard, and the floor holds then, if it
    was found installed (`floored`) since the last boot that we know of. While its clock is not known to go by ours
    (`clock_known`) that may be at any time, or never.
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
    floored: bool = False
    grant_ends_ms: Millis | None = None
    unanswered_ends_ms: Millis | None = None
    renew_ms: Millis | None = None
    lease_ending: bool = False
    clock_known: bool = False
    granted_by: Way = Way.LIMIT
    failures: int = 0
    retry_ms: Millis | None = None
    tried_w: Watts = 0
    rung: int = 0
    first_way_ms: Millis | None = None
    readings: dict[Measurand, Reading] = field(default_factory=dict)
    violations: int = 0
    proofs: int = 0
    highest_w: Watts = 0
    demand_w: Watts | None = None
    samples_of_grant: int = 0
    worst_w: Watts = 0
    shared_as: int | None = None
    look_ms: Millis | None = None

    def worst_case_w(self, plan: ChargerPlan) -> Watts:
        """The highest power it can draw now, by all we cannot rule out."""
        if plan.out_of_service:
            return 0
        hardware_w = max(plan.maximum_w, self.highest_w)
        leaving_w = max(leaving.limit_w for leaving in self.leaving) if self.leaving else 0
        in_flight_w = self.in_flight.limit_w if self.in_flight is not None and not self.in_flight.is_floor else 0
        if self._trusted(plan) and not self.disobeys and not self.refused:
            settled_w = self._told_w(plan)
        elif plan.offline is Offline.STOPS and not self.connected:
            settled_w = 0
        else:
            settled_w = hardware_w
        return min(max(settled_w, leaving_w, in_flight_w), hardware_w)

    def _trusted(self, plan: ChargerPlan) -> bool:
        """Whether it is known to hold one of the limits it was told."""
        if plan.lease_ms is not None:
            return self.floored and self.grant_w is not None
        kept = plan.offline is Offline.KEEPS_LIMIT and self.grant_w is not None
        return kept or (self.connected and self.proven)

    def _told_w(self, plan: ChargerPlan) -> Watts:
        """The highest of what it was told and may hold; a lease that may have ended leaves the floor."""
        told_w = max(self.grant_w or 0, self.unanswered_w or 0)
        if plan.lease_ms is not None and (self.lease_ending or not self.clock_known):
            return max(told_w, plan.floor_w)
        return told_w

    def at_worst(self, plan: ChargerPlan) -> bool:
        """Whether it counts at its worst because nothing better is proven."""
        unproven = not self._trusted(plan) or self.refused or self.disobeys
        return unproven and not plan.out_of_service and self.worst_w > 0

    @property
    def obedient(self) -> bool:
        """Whether it can be given a share: it is there and nothing speaks against it."""
        return self.connected and not self.disobeys and not self.refused

    def unsure(self, plan: ChargerPlan) -> bool:
        """Whether it may for long draw more than it was told, because it does not answer or its clock is not known."""
        return self.failures > 0 or (plan.lease_ms is not None and not self.clock_known)

    def shares_as(self, plan: ChargerPlan) -> int:
        """What sharing out goes by beside demand and wish: what it costs the others and why, and whether it pauses."""
        paused = self.way(plan) in (Way.PAUSE, Way.STOP)
        if self.obedient and not self.unsure(plan):
            return -1 - paused
        return 4 * self.worst_w + 2 * self.obedient + paused

    def settled(self, plan: ChargerPlan) -> bool:
        """Whether it is proven to hold exactly its target, for as long as a lease ought to."""
        told = self.proven and self.grant_w == self.target_w and self.unanswered_w is None
        leased = plan.lease_ms is None or self.renew_ms is not None
        return told and leased and self.granted_by is self.way(plan) and not self.refused and self.in_flight is None

    @property
    def waits(self) -> bool:
        """Whether an answer or a retry is awaited; a deeper cut does not wait for the retry of a lesser one."""
        return self.in_flight is not None or (self.retry_ms is not None and self.target_w >= self.tried_w)

    def way(self, plan: ChargerPlan) -> Way:
        """The rung of its ladder that the next order takes."""
        ladder, rung = plan.ladder, self.rung
        return ladder[rung] if rung < len(ladder) else ladder[-1]

    def wants_floor(self, plan: ChargerPlan) -> bool:
        """Whether the floor must be found installed before anything is granted."""
        return plan.lease_ms is not None and not self.floored

    def send(self, number: int, limit_w: Watts, now_ms: Millis, plan: ChargerPlan) -> Order:
        """Note an order as sent; from now on it may be in force."""
        assert self.in_flight is None, "one order in flight per charger"
        is_floor = self.wants_floor(plan)
        ends_ms = None if plan.lease_ms is None or is_floor else now_ms + plan.lease_ms
        order = Order(number, limit_w, now_ms + plan.answer_ms, self.way(plan), ends_ms, is_floor)
        self.in_flight, self.retry_ms, self.tried_w = order, None, limit_w
        return order

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
        if answer is Answer.UNANSWERED and not order.is_floor:
            self._may_hold(order)
        if answer is Answer.REFUSED:
            self.refused = True
            self.rung = min(self.rung + 1, len(plan.ladder) - 1)
            self.first_way_ms = now_ms + TRY_THE_FIRST_WAY_AGAIN_MS if self.rung else None
        self.retry_ms = now_ms + min(FIRST_RETRY_MS << min(self.failures, 5), LAST_RETRY_MS)
        self.failures += 1

    def _may_hold(self, order: Order) -> None:
        self.unanswered_w = max(order.limit_w, self.unanswered_w or 0)
        if order.ends_ms is not None:
            self.unanswered_ends_ms = max(order.ends_ms, self.unanswered_ends_ms or 0)

    def _accepted(self, order: Order, now_ms: Millis, plan: ChargerPlan) -> None:
        self.in_flight, self.retry_ms, self.failures = None, None, 0
        if order.is_floor:
            self._floor_found(now_ms, plan)
            return
        trusted = self._trusted(plan) and not self.refused and not self.disobeys
        superseded_w = self._told_w(plan) if trusted else max(plan.maximum_w, self.highest_w)
        # A later cut outlasts every earlier one that is not above it.
        self.leaving = [leaving for leaving in self.leaving if leaving.limit_w > max(superseded_w, order.limit_w)]
        if superseded_w > order.limit_w:
            self.leaving.append(Leaving(superseded_w, now_ms + plan.reaction_ms))
        self.unanswered_w, self.unanswered_ends_ms = None, None
        if self.grant_w != order.limit_w:
            self.samples_of_grant = 0
        self.grant_w, self.proven, self.refused = order.limit_w, True, False
        self.grant_ends_ms, self.granted_by = order.ends_ms, order.way
        self.lease_ending = plan.lease_ms is not None and order.ends_ms is None
        if order.ends_ms is not None and plan.lease_ms is not None:
            self.renew_ms = order.ends_ms - max(2 * plan.guard_ms, plan.lease_ms * 2 // 3) - order.number % 1000

    def _floor_found(self, now_ms: Millis, plan: ChargerPlan) -> None:
        """From now on it holds a grant that we know of, if that is still there, or the floor.

        A charger that we never gave a grant may hold one of an earlier life: the first that it accepts replaces that.
        """
        self.lease_ending = True
        self.leaving = [Leaving(max(plan.maximum_w, self.highest_w), now_ms + plan.reaction_ms)]
        self.floored = True

    def lost_connection(self, now_ms: Millis, plan: ChargerPlan) -> None:
        """What was in flight may have arrived; nothing is proven any more, and its meter is silent."""
        if plan.offline is Offline.STOPS and self.connected:
            self.leaving = [Leaving(self.worst_case_w(plan), now_ms + plan.reaction_ms)]
        if self.in_flight is not None:
            if not self.in_flight.is_floor:
                self._may_hold(self.in_flight)
            self.in_flight = None
        self.connected = self.proven = self.active = False
        self.retry_ms, self.failures, self.rung, self.first_way_ms = None, 0, 0, None
        for reading in self.readings.values():
            reading.stale = True

    def booted(self) -> None:
        """What it kept of its limits is unproven; the answer to its boot set its clock."""
        self.proven = self.active = self.floored = False
        self.renew_ms, self.clock_known = None, True

    def sampled(self, sample: MeterSampled, now: Now, plan: ChargerPlan) -> list[Measurand]:
        """Take over a sample, judge by it whether the charger obeys, and say which measurands it brought."""
        now_ms = now.monotonic_ms
        if sample.dated:
            self._compare_clocks(sample.utc_ms - now.utc_ms, plan)
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
            self.samples_of_grant += 1
            self._judge(power_w, plan)
            if self._trusted(plan) and power_w <= self._told_w(plan) + plan.tolerance_w:
                self.leaving = [leaving for leaving in self.leaving if not leaving.held]
            for leaving in self.leaving:
                if leaving.held:
                    leaving.until_ms = now_ms + plan.stale_ms
        return brought

    def doubt_clock(self) -> None:
        """Its clock may have been set, or ours was: what was granted until then ends at once or never, for all we know.

        That is so until something else is granted, and of that until its clock was heard.
        """
        self.lease_ending, self.clock_known = True, False
        self.grant_ends_ms = self.unanswered_ends_ms = self.renew_ms = None
        if self.in_flight is not None:
            self.in_flight.ends_ms = None

    def _compare_clocks(self, ahead_ms: Millis, plan: ChargerPlan) -> None:
        """Learn from the time of a sample; that of an old one proves nothing."""
        if ahead_ms > plan.guard_ms:
            self.clock_known = False
        elif ahead_ms >= -plan.guard_ms and not self.clock_known:
            self.doubt_clock()  # it may have been set a moment ago
            self.clock_known = True

    def _judge(self, power_w: Watts, plan: ChargerPlan) -> None:
        allowed_w, proves = plan.maximum_w, False
        if self._trusted(plan):
            in_flight_w = self.in_flight.limit_w if self.in_flight is not None else 0
            leaving_w = max((leaving.limit_w for leaving in self.leaving if not leaving.held), default=0)
            allowed_w = max(self._told_w(plan), in_flight_w, leaving_w)
            # Drawing what may still be leaving is no disobedience, and no sign of obedience either.
            proves = power_w <= self._told_w(plan) + plan.tolerance_w
        if power_w > allowed_w + plan.tolerance_w:
            self.violations, self.proofs = self.violations + 1, 0
            self.highest_w = max(self.highest_w, power_w)
            self.disobeys = self.disobeys or self.violations >= VIOLATIONS_TO_DISTRUST
            return
        self.violations, self.proofs = 0, self.proofs + 1 if proves else 0
        if self.proofs >= PROOFS_TO_TRUST:
            self.disobeys, self.highest_w = False, 0

    def wanted_w(self, plan: ChargerPlan) -> Watts:
        """What it can use now: its start reserve while idle; what it draws and some headroom, unless it is hungry."""
        power = self.readings.get(Measurand.POWER)
        known = power is not None and power.valid and not power.stale
        if not self.active and (power is None or not known or power.value <= plan.tolerance_w):
            return plan.minimum_w
        if power is None or not known or self.grant_w is None or self.demand_w is None:
            return plan.maximum_w
        if power.value * 100 >= self.grant_w * HUNGRY_PERCENT:
            return plan.maximum_w
        if self.samples_of_grant < SAMPLES_TO_KNOW_DEMAND:
            return self.demand_w
        return max(plan.minimum_w, power.value + max(HEADROOM_W, power.value // 10))

    def look(self, now_ms: Millis, plan: ChargerPlan) -> list[Measurand]:
        """Let pass what has elapsed, leases and reaction times among it, and say which measurands became stale."""
        self.leaving = [leaving for leaving in self.leaving if self._may_still_draw(leaving, now_ms, plan)]
        if self.in_flight is not None and self.in_flight.give_up_ms <= now_ms:
            self.answered(self.in_flight.number, Answer.UNANSWERED, now_ms, plan)
        if self.retry_ms is not None and self.retry_ms <= now_ms:
            self.retry_ms = None
        if self.first_way_ms is not None and self.first_way_ms <= now_ms:
            self.rung, self.first_way_ms = 0, None
        self._let_leases_end(now_ms, plan)
        gone_stale = []
        for measurand, reading in self.readings.items():
            if not reading.stale and reading.fresh_until_ms <= now_ms:
                reading.stale = True
                gone_stale.append(measurand)
        return gone_stale

    def _may_still_draw(self, leaving: Leaving, now_ms: Millis, plan: ChargerPlan) -> bool:
        """Whether its reaction time runs, or what its meter said since the cut contradicts the claim that it obeys."""
        if leaving.until_ms > now_ms:
            return True
        power = self.readings.get(Measurand.POWER)
        if leaving.held or power is None or not power.valid or power.stale or power.fresh_until_ms <= now_ms:
            return False
        since_the_cut = power.fresh_until_ms - plan.stale_ms >= leaving.until_ms - plan.reaction_ms
        if not since_the_cut or power.value <= self._told_w(plan) + plan.tolerance_w:
            return False
        leaving.held, leaving.until_ms = True, power.fresh_until_ms
        return True

    def _let_leases_end(self, now_ms: Millis, plan: ChargerPlan) -> None:
        """Within the guard before its end a grant or the floor may hold; once the guard after it is over, the floor."""
        if self.renew_ms is not None and self.renew_ms <= now_ms:
            self.renew_ms = None
        ends = [time for time in (self.grant_ends_ms, self.unanswered_ends_ms) if time is not None]
        if not self.clock_known:
            return
        if ends and min(ends) - plan.guard_ms <= now_ms:
            self.lease_ending = True
        if self.grant_ends_ms is not None and self.grant_ends_ms + plan.guard_ms <= now_ms:
            self.grant_w, self.grant_ends_ms, self.proven = plan.floor_w, None, False
        if self.unanswered_ends_ms is not None and self.unanswered_ends_ms + plan.guard_ms <= now_ms:
            self.unanswered_w, self.unanswered_ends_ms = None, None

    def due_ms(self, plan: ChargerPlan) -> Millis | None:
        """When to look at it again, None if time alone changes nothing."""
        due = [time for time in (self.retry_ms, self.first_way_ms, self.renew_ms) if time is not None]
        if self.leaving:
            due += [leaving.until_ms for leaving in self.leaving]
        if self.readings:
            due += [reading.fresh_until_ms for reading in self.readings.values() if not reading.stale]
        ends = [time for time in (self.grant_ends_ms, self.unanswered_ends_ms) if time is not None]
        if ends and self.clock_known:
            due += [time + plan.guard_ms for time in ends]
            if not self.lease_ending:
                due.append(min(ends) - plan.guard_ms)
        if self.in_flight is not None:
            due.append(self.in_flight.give_up_ms)
        return min(due, default=None)

    def machine_rebooted(self, offset_ms: Millis) -> None:
        """Go on with a monotonic clock that began anew, `offset_ms` from where it stood at the last event.

        A wall clock proves nothing of a lease or a reaction: they count as if no time had passed, and yet a lease may
        have ended.
        """
        for leaving in self.leaving:
            leaving.until_ms += offset_ms
        for reading in self.readings.values():
            reading.fresh_until_ms += offset_ms
        for name in ("grant_ends_ms", "unanswered_ends_ms", "renew_ms", "first_way_ms"):
            if getattr(self, name) is not None:
                setattr(self, name, getattr(self, name) + offset_ms)
        if self.in_flight is not None and self.in_flight.ends_ms is not None:
            self.in_flight.ends_ms += offset_ms
        self.lease_ending = True
