"""The site: one deterministic object that takes events and gives effects, and says when it next wants to be woken.

`step` is the whole business in one call. The same events with the same clocks give the same effects, byte for byte.
Answers and changes that arrive together are settled together: an event only notes that something is unsettled, and the
next `Woke` takes the limit, shares it out and orders what follows from it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

from bridge.core.allocation import Request, allocate
from bridge.core.charger import Charger
from bridge.core.fallback import LinkState, Supervision, Trigger
from bridge.core.ledger import Ledger, budget_w, recount_w
from bridge.core.limit import Limit, Source, lowest
from bridge.core.messages import (
    Acted,
    AlarmChanged,
    Alive,
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Confirm,
    Effect,
    Event,
    InvariantBroken,
    JournalLost,
    LimitAnswered,
    LimitChanged,
    LinkChanged,
    LinkStateChanged,
    ManualLimitLifted,
    ManualLimitSet,
    MeterSampled,
    Reason,
    Replanned,
    RetryAsked,
    SessionChanged,
    SetFloor,
    SetLimit,
    SetpointReceived,
    SetpointRevoked,
    ShellAlarm,
    Started,
    Switch,
    SwitchReceived,
    Terminate,
    WishChanged,
    Woke,
)
from bridge.core.plan import ChargerPlan, Offline, Plan, Way
from bridge.core.points import Quality, Signal
from bridge.core.quantities import Millis, Now, Watts
from bridge.core.setpoint import Commanded, decide, decides, switched_w, tag_problem
from bridge.core.telemetry import Image, SitePower, readings_changed

# How long what single chargers change may be collected: a millisecond for so many chargers beyond the first few.
A_FEW_CHARGERS = 16
RAISES_PER_MS = 1
CUTS_PER_MS = 5
ORDERS_PER_MS = 20
REALLOCATE_MS = 5_000  # what a changed demand waits for, so that not every sample shares out anew
SIGNIFICANT_PERCENT = 10
RAMP_STEP_MS = 1_000
CLOCK_STEP_MS = 1_000  # more than any adjustment of a wall clock that goes by itself
LONGEST_PLAUSIBLE_OUTAGE_MS = 10 * 365 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Undo:
    """What held before `command` was accepted, in case its confirmation could not be given."""

    command: int
    commanded: Commanded
    link: Supervision


@dataclass(frozen=True, slots=True)
class ManualLimit:
    """A limit that a person set at the site, and the monotonic time at which it ends by itself."""

    limit_w: Watts
    name: str
    reason: str
    ends_ms: Millis | None


@dataclass(slots=True)
class Site:
    """One site, between two events. Everything in it can be written to a snapshot and read back."""

    plan: Plan
    boot_id: str
    last: Now
    link: Supervision
    limit: Limit
    connections: int = 0
    commanded: Commanded = field(default_factory=Commanded)
    manual: ManualLimit | None = None
    undo: Undo | None = None
    awaiting: int | None = None
    awaiting_w: Watts = 0
    chargers: dict[str, Charger] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    power: SitePower = field(default_factory=SitePower)
    image: Image = field(default_factory=Image)
    alarms: set[tuple[str, str]] = field(default_factory=set)
    orders: int = 0
    journal_lost: bool = False
    unsettled_ms: Millis | None = None
    unshared_ms: Millis | None = None
    settled_ms: Millis = 0
    shared_ms: Millis = 0
    looks: list[tuple[Millis, str]] = field(default_factory=list)
    plans: dict[str, ChargerPlan] = field(default_factory=dict)
    in_service: int = 0
    slot: int = 0
    rotates_ms: Millis | None = None
    ramp_w: Watts | None = None
    ramp_ms: Millis = 0
    accepted_ms: Millis = 0
    at_worst: set[str] = field(default_factory=set)
    restless: set[str] = field(default_factory=set)
    wall_ms: Millis = 0  # the wall clock at monotonic 0


def new_site(plan: Plan, boot_id: str, now: Now) -> Site:
    """A site before its first setpoint ever: HOLD at the limit for the start, or FALLBACK where the plan says so."""
    state = LinkState.FALLBACK if plan.start_in_fallback else LinkState.HOLD
    site = Site(plan, boot_id, now, Supervision(state, now.monotonic_ms), Limit(plan.capacity_w, Source.CAPACITY))
    site.limit = _limit_in_force(site)
    return site


def next_deadline(site: Site) -> Millis | None:
    """The monotonic time at which to submit `Woke`; None if only the world can change anything. Late is harmless."""
    due = [site.looks[0][0]] if site.looks else []
    if site.unsettled_ms is not None:
        due.append(site.unsettled_ms)
    if (link := site.link.deadline(site.plan)) is not None:
        due.append(link[0])
    if (end_ms := site.commanded.next_end_ms()) is not None:
        due.append(end_ms)
    if site.manual is not None and site.manual.ends_ms is not None:
        due.append(site.manual.ends_ms)
    if site.rotates_ms is not None:
        due.append(site.rotates_ms)
    return min(due, default=None)


def step(site: Site, event: Event, now: Now) -> list[Effect]:
    """Everything that follows from `event` at `now`. A timer that has elapsed acts before the event that came after."""
    effects: list[Effect] = []
    if not isinstance(event, Started):
        _watch_wall_clock(site, now, effects)
        _let_time_pass(site, now, effects)
    before_w = site.ledger.total_w
    _happen(site, event, now, effects)
    if isinstance(event, Woke) and site.unsettled_ms is not None and site.unsettled_ms <= now.monotonic_ms:
        _settle(site, now, effects)
        assert site.ledger.total_w <= max(before_w, site.limit.power_w), "an order of ours raised the worst case"
    site.last = now
    return effects


def _watch_wall_clock(site: Site, now: Now, effects: list[Effect]) -> None:
    """Leases end by the clocks of the chargers, which ours set: after a step of ours nothing is known of theirs."""
    wall_ms = now.utc_ms - now.monotonic_ms
    if abs(wall_ms - site.wall_ms) < CLOCK_STEP_MS:
        return
    site.wall_ms = wall_ms
    for charger in site.chargers.values():
        if charger.connected:
            charger.doubt_clock()
            _charger_changed(site, charger, now, effects)


def _let_time_pass(site: Site, now: Now, effects: list[Effect]) -> None:
    deadline = site.link.deadline(site.plan)
    if deadline is not None and deadline[0] <= now.monotonic_ms:
        _move_link(site, deadline[1], now.monotonic_ms, effects)
    _end_limits(site, now)
    while site.looks and site.looks[0][0] <= now.monotonic_ms:
        due_ms, serial = heapq.heappop(site.looks)
        plan, charger = site.plans[serial], site.chargers[serial]
        if charger.look_ms != due_ms:
            continue
        charger.look_ms = None
        stale = charger.look(now.monotonic_ms, plan)
        effects += readings_changed(site.image, site.plan.points, plan.index, charger, stale, now.utc_ms)
        _charger_changed(site, charger, now, effects)


def _end_limits(site: Site, now: Now) -> None:
    """Let go of setpoints and of a manual limit whose end has come."""
    commanded = site.commanded.without_ended(now.monotonic_ms)
    if commanded is not site.commanded:
        site.commanded = commanded
        _unsettle(site, now.monotonic_ms)
    if site.manual is not None and site.manual.ends_ms is not None and site.manual.ends_ms <= now.monotonic_ms:
        site.manual = None
        _unsettle(site, now.monotonic_ms)
    if site.rotates_ms is not None and site.rotates_ms <= now.monotonic_ms:
        site.rotates_ms = None
        _unsettle(site, now.monotonic_ms)


def _happen(site: Site, event: Event, now: Now, effects: list[Effect]) -> None:
    match event:
        case SetpointReceived() | SwitchReceived():
            _command_received(site, event, now, effects)
        case SetpointRevoked():
            _setpoint_revoked(site, event, now, effects)
        case LinkChanged():
            _link_changed(site, event, now, effects)
        case LimitAnswered() | MeterSampled() | SessionChanged() | WishChanged() | RetryAsked():
            _charger_spoke(site, event, now, effects)
        case ChargerConnected() | ChargerDisconnected() | ChargerBooted():
            _charger_came_or_went(site, event, now, effects)
        case Started():
            _started(site, event, now, effects)
        case Replanned():
            _replanned(site, event, now, effects)
        case ManualLimitSet() | ManualLimitLifted():
            _manual_limit(site, event, now)
        case JournalLost() | InvariantBroken():
            _trust_lost(site, event, now, effects)
        case ShellAlarm():
            _alarm(site, event.alarm, event.subject, event.open, now, effects)
        case Alive() | Woke() | Acted():
            pass


def _trust_lost(site: Site, event: JournalLost | InvariantBroken, now: Now, effects: list[Effect]) -> None:
    if isinstance(event, InvariantBroken):
        _alarm(site, "invariant_broken", site.plan.name, True, now, effects)
        _move_link(site, Trigger.DISTRUSTED, now.monotonic_ms, effects)
        return
    site.journal_lost = True
    _alarm(site, "journal_lost", site.plan.name, True, now, effects)
    _unsettle(site, now.monotonic_ms)


def _command_received(site: Site, event: SetpointReceived | SwitchReceived, now: Now, effects: list[Effect]) -> None:
    """Decide, confirm, and let what was accepted hold; a refused command changes nothing at all."""
    if site.journal_lost:
        effects.append(Confirm(event.command, Reason.NOT_RECORDED))
        return
    before = site.commanded
    if isinstance(event, SetpointReceived):
        reason = decide(event, site.plan, now, before)
    else:
        reason = tag_problem(event, site.plan, now, before.newest_tag_ms)
    effects.append(Confirm(event.command, reason))
    if reason is not None:
        return
    site.undo = Undo(event.command, before, site.link)
    if isinstance(event, SwitchReceived):
        site.commanded = before.with_switch(event)
        site.awaiting_w = switched_w(event, site.plan)
    else:
        assert event.limit_w is not None, "a setpoint that is no number was accepted"
        site.commanded = before.with_setpoint(event, event.limit_w, now)
        site.awaiting_w = event.limit_w
    site.awaiting, site.accepted_ms = event.command, now.monotonic_ms
    fresh = decides(event.group, site.plan) if isinstance(event, SetpointReceived) else event.switch is Switch.STEP
    if fresh:
        _move_link(site, Trigger.SETPOINT_ACCEPTED, now.monotonic_ms, effects)
    _show_setpoint(site, now, effects)
    _settle_at(site, now.monotonic_ms)


def _manual_limit(site: Site, event: ManualLimitSet | ManualLimitLifted, now: Now) -> None:
    if isinstance(event, ManualLimitLifted):
        site.manual = None
    else:
        ends_ms = None if event.duration_ms is None else now.monotonic_ms + event.duration_ms
        site.manual = ManualLimit(max(0, event.limit_w), event.name, event.reason, ends_ms)
    _settle_at(site, now.monotonic_ms)


def _setpoint_revoked(site: Site, event: SetpointRevoked, now: Now, effects: list[Effect]) -> None:
    undo = site.undo
    if undo is None or undo.command != event.command:
        return
    site.commanded, site.undo, site.awaiting = undo.commanded, None, None
    site.link = undo.link
    _show_setpoint(site, now, effects)
    _settle_at(site, now.monotonic_ms)


def _link_changed(site: Site, event: LinkChanged, now: Now, effects: list[Effect]) -> None:
    was_up, site.connections = site.connections > 0, event.started
    if was_up != (event.started > 0):
        _move_link(site, Trigger.LINK_LOST if was_up else Trigger.LINK_UP, now.monotonic_ms, effects)


def _move_link(site: Site, trigger: Trigger, at_ms: Millis, effects: list[Effect]) -> None:
    before = site.link
    site.link = before.moved(trigger, at_ms)
    if site.undo is not None and trigger in (Trigger.LINK_UP, Trigger.LINK_LOST, Trigger.DISTRUSTED):
        site.undo = replace(site.undo, link=site.undo.link.moved(trigger, at_ms))
    if site.link.state is not before.state:
        effects.append(LinkStateChanged(before.state.value, site.link.state.value))
        if site.link.falls_back:
            site.awaiting = None
        _settle_at(site, at_ms)


def _charger_spoke(
    site: Site,
    event: LimitAnswered | MeterSampled | SessionChanged | WishChanged | RetryAsked,
    now: Now,
    effects: list[Effect],
) -> None:
    charger = site.chargers.get(event.serial)
    if charger is None:
        return
    plan = site.plans[event.serial]
    match event:
        case LimitAnswered():
            charger.answered(event.order, event.answer, now.monotonic_ms, plan, event.read_back_w)
            _show_charger(site, charger, now, effects)
        case MeterSampled():
            brought = charger.sampled(event, now, plan)
            effects += readings_changed(site.image, site.plan.points, plan.index, charger, brought, None)
        case SessionChanged():
            if charger.active == event.active:
                return
            charger.active, charger.demand_w = event.active, None
            _unsettle_soon(site, now)
        case WishChanged():
            if charger.wish_w == event.limit_w:
                return
            charger.wish_w = event.limit_w
            _unsettle_soon(site, now)
        case RetryAsked():
            charger.retry_ms = None  # what it is accused of and counted at stays
    _charger_changed(site, charger, now, effects)


def _charger_came_or_went(
    site: Site, event: ChargerConnected | ChargerDisconnected | ChargerBooted, now: Now, effects: list[Effect]
) -> None:
    charger = site.chargers.get(event.serial)
    if charger is None:
        return
    plan = site.plans[event.serial]
    match event:
        case ChargerConnected():
            charger.lost_connection(now.monotonic_ms, plan)
            charger.connected = True
            charger.doubt_clock()
        case ChargerDisconnected():
            charger.lost_connection(now.monotonic_ms, plan)
        case ChargerBooted():
            charger.booted()
    effects += readings_changed(site.image, site.plan.points, plan.index, charger, list(charger.readings), now.utc_ms)
    _charger_changed(site, charger, now, effects)
    _show_charger(site, charger, now, effects)
    _unsettle_soon(site, now)


def _charger_changed(site: Site, charger: Charger, now: Now, effects: list[Effect]) -> None:
    """Follow a change of one charger at a cost that does not grow with their number."""
    plan = site.plans[charger.serial]
    worst_w, settled = charger.worst_w, charger.settled(plan)
    was_within = site.ledger.total_w <= site.limit.power_w
    site.ledger.assess(charger, plan)
    at_worst = charger.at_worst(plan)
    shares_as = charger.shares_as(plan)
    if charger.shared_as != shares_as:
        charger.shared_as = shares_as
        _unsettle_soon(site, now)
    elif charger.worst_w != worst_w or not settled or at_worst != (charger.serial in site.at_worst):
        _order_soon(site, now)
    is_within = site.ledger.total_w <= site.limit.power_w
    if is_within != was_within or (site.awaiting is not None and is_within):
        site.unsettled_ms = now.monotonic_ms  # what is said of the limit is true at any moment
    (site.at_worst.add if at_worst else site.at_worst.discard)(charger.serial)
    # Who waits comes here again with the answer or for the retry, or has another target by then.
    is_restless = charger.connected and not settled and not charger.waits
    (site.restless.add if is_restless else site.restless.discard)(charger.serial)
    wanted_w, was_w = charger.wanted_w(plan), charger.demand_w
    if was_w is None or abs(wanted_w - was_w) * 100 > SIGNIFICANT_PERCENT * was_w:
        charger.demand_w = wanted_w
        _unsettle(site, now.monotonic_ms + REALLOCATE_MS)
    due_ms = charger.due_ms(plan)
    if due_ms is not None and (charger.look_ms is None or due_ms < charger.look_ms):
        charger.look_ms = due_ms
        heapq.heappush(site.looks, (due_ms, charger.serial))
    if not plan.out_of_service:
        if site.power.take(charger):
            _show_site_power(site, now, effects)
        _alarm(site, "charger_offline", charger.serial, not charger.connected, now, effects)
        _alarm(site, "limit_refused", charger.serial, charger.refused, now, effects)
        _alarm(site, "limit_disobeyed", charger.serial, charger.disobeys, now, effects)


def _started(site: Site, event: Started, now: Now, effects: list[Effect]) -> None:
    """Go on where the journal ends: the limit holds, the hold goes on, and nothing about chargers is proven."""
    offset_ms, held = _rebase(site, event.boot_id, now)
    rebooted = not _same_boot(site, event.boot_id, now)
    site.plan, site.boot_id = event.plan, event.boot_id
    site.link = Supervision(site.link.state, site.link.since_ms + offset_ms)
    # The last event, an alive mark at the latest, is the last moment at which the link is known to have been up.
    _move_link(site, Trigger.RESTARTED, site.last.monotonic_ms + offset_ms, effects)
    site.commanded = site.commanded.shifted(offset_ms)
    if site.manual is not None and site.manual.ends_ms is not None:
        site.manual = replace(site.manual, ends_ms=site.manual.ends_ms + offset_ms)
    if not held and site.link.state is LinkState.HOLD and event.plan.hold_ms is not None:
        site.link = Supervision(LinkState.HOLD, now.monotonic_ms - event.plan.hold_ms)
    site.connections, site.awaiting, site.undo, site.journal_lost = 0, None, None, False
    site.wall_ms = now.utc_ms - now.monotonic_ms
    before, site.plans = site.plans, {plan.serial: plan for plan in event.plan.chargers}
    site.in_service = sum(not plan.out_of_service for plan in event.plan.chargers)
    # A charger that is planned otherwise than before is a stranger: what was proven of it was proven of another plan.
    strangers = {serial: Charger(serial) for serial, plan in site.plans.items() if before.get(serial) != plan}
    for serial in strangers.keys() & site.chargers.keys():
        strangers[serial].wish_w = site.chargers[serial].wish_w
    site.chargers = {serial: strangers.get(serial) or site.chargers[serial] for serial in site.plans}
    site.looks, site.ledger, site.power, site.image = [], Ledger(), SitePower(), Image()
    site.alarms, site.at_worst, site.restless = set(), set(), set()
    site.ramp_ms = now.monotonic_ms if rebooted else site.ramp_ms
    for charger in site.chargers.values():
        plan = site.plans[charger.serial]
        charger.look_ms = None
        if rebooted:
            charger.machine_rebooted(now.monotonic_ms - site.last.monotonic_ms)
        # Until we died it may have been connected without a record of it: who stops then may still be stopping.
        charger.connected = plan.offline is Offline.STOPS
        charger.lost_connection(now.monotonic_ms, plan)
        charger.worst_w = 0
        _charger_changed(site, charger, now, effects)
        everything = list(charger.readings)
        effects += readings_changed(site.image, event.plan.points, plan.index, charger, everything, None)
        _show_charger(site, charger, now, effects)
    _show_site_power(site, now, effects)
    _show_setpoint(site, now, effects)
    site.settled_ms, site.shared_ms, site.unshared_ms = 0, 0, None
    _unsettle(site, now.monotonic_ms)
    _let_time_pass(site, now, effects)
    site.limit = _limit_in_force(site)
    effects.append(LimitChanged(site.limit.power_w, site.limit.source.value))
    _show_limit(site, now, effects)


def _replanned(site: Site, event: Replanned, now: Now, effects: list[Effect]) -> None:
    """Go by another plan from now on. What is proven of a charger stays so, unless its lease or floor is another."""
    before, after = site.plans, {plan.serial: plan for plan in event.plan.chargers}
    assert before.keys() == after.keys(), "another plan is for other chargers"
    assert site.plan.points == event.plan.points, "another plan is for other points"
    if site.journal_lost:
        return
    site.plan, site.plans = event.plan, after
    site.in_service = sum(not plan.out_of_service for plan in after.values())
    for serial, plan in after.items():
        if plan != before[serial]:
            _charger_replanned(site, site.chargers[serial], before[serial], now, effects)
    _show_site_power(site, now, effects)
    _unsettle(site, now.monotonic_ms)


def _charger_replanned(site: Site, charger: Charger, before: ChargerPlan, now: Now, effects: list[Effect]) -> None:
    plan = site.plans[charger.serial]
    if (plan.lease_ms, plan.floor_w) != (before.lease_ms, before.floor_w):
        charger.floored = charger.proven = False
        charger.grant_w, charger.renew_ms = None, None  # it may end, or never do, otherwise than we would count it
    if plan.out_of_service:
        charger.lost_connection(now.monotonic_ms, plan)
        site.power.forget(charger.serial)
        for alarm in ("charger_offline", "limit_refused", "limit_disobeyed"):
            _alarm(site, alarm, charger.serial, False, now, effects)
        _show_charger(site, charger, now, effects)
    _charger_changed(site, charger, now, effects)


def _same_boot(site: Site, boot_id: str, now: Now) -> bool:
    return boot_id == site.boot_id and now.monotonic_ms >= site.last.monotonic_ms


def _rebase(site: Site, boot_id: str, now: Now) -> tuple[Millis, bool]:
    """How far the monotonic clock moved since the last event, and whether that can be believed."""
    if _same_boot(site, boot_id, now):
        return 0, True
    elapsed_ms = now.utc_ms - site.last.utc_ms
    plausible = 0 <= elapsed_ms <= LONGEST_PLAUSIBLE_OUTAGE_MS
    return now.monotonic_ms - site.last.monotonic_ms - (elapsed_ms if plausible else 0), plausible


def _settle_at(site: Site, at_ms: Millis) -> None:
    """Take the limit anew at that time, and share it out only if it is another then."""
    site.unsettled_ms = at_ms if site.unsettled_ms is None else min(site.unsettled_ms, at_ms)


def _unsettle(site: Site, at_ms: Millis) -> None:
    """Share the limit out anew at that time."""
    site.unshared_ms = at_ms if site.unshared_ms is None else min(site.unshared_ms, at_ms)
    _settle_at(site, at_ms)


def _unsettle_soon(site: Site, now: Now) -> None:
    """The same for what a single charger changed: at once, unless that was done a moment ago for another.

    It costs as much as there are chargers. Thousands that come back within seconds would otherwise have everything
    shared out, and everybody told, thousands of times. What lets others rise waits longest; least waits an order for
    which no share need change.
    """
    per_ms = CUTS_PER_MS if site.ledger.total_w > site.limit.power_w else RAISES_PER_MS
    beyond_a_few = max(0, len(site.chargers) - A_FEW_CHARGERS)
    _unsettle(site, max(now.monotonic_ms, site.shared_ms + beyond_a_few // per_ms))
    _order_soon(site, now)


def _order_soon(site: Site, now: Now) -> None:
    """Order what the present shares still ask for, answers that arrive together settled together."""
    beyond_a_few = max(0, len(site.chargers) - A_FEW_CHARGERS)
    _settle_at(site, max(now.monotonic_ms, site.settled_ms + beyond_a_few // ORDERS_PER_MS))


def _limit_in_force(site: Site) -> Limit:
    plan = site.plan
    limits = [Limit(plan.capacity_w, Source.CAPACITY)]
    if site.link.falls_back:
        limits.append(Limit(plan.fallback_w, Source.FALLBACK))
    elif site.link.state is not LinkState.AUTONOMOUS:
        limits += site.commanded.limits(plan)
    if site.commanded.emergency_stop:
        limits.append(Limit(0, Source.EMERGENCY_STOP))
    if site.manual is not None:
        limits.append(Limit(site.manual.limit_w, Source.MANUAL))
    if site.journal_lost:
        limits += [site.limit, Limit(plan.fallback_w, Source.FALLBACK)]
    return lowest(limits)


def _settle(site: Site, now: Now, effects: list[Effect]) -> None:
    """Take the limit, share it out, order cuts at once and raises into proven room, and say what is true then."""
    limit = _limit_in_force(site)
    shares = limit != site.limit or (site.unshared_ms is not None and site.unshared_ms <= now.monotonic_ms)
    if limit != site.limit:
        site.limit, site.ramp_ms = limit, now.monotonic_ms
        effects.append(LimitChanged(limit.power_w, limit.source.value))
    site.settled_ms = now.monotonic_ms
    if shares:
        site.shared_ms, site.unshared_ms = now.monotonic_ms, None
    site.unsettled_ms = site.unshared_ms
    if shares:
        _share_out(site, now)
    _order(site, now, effects)
    assert site.ledger.total_w == recount_w(site.chargers.values(), site.plans), "the ledger lost count"
    # An accepted setpoint that is switched off, or of a group that does not decide, is in force only by chance.
    if site.awaiting is not None and site.ledger.total_w <= min(site.limit.power_w, site.awaiting_w):
        effects.append(Terminate(site.awaiting))
        site.awaiting = None
        taken_s = (now.monotonic_ms - site.accepted_ms) / 1000
        _show(site, Signal.TIME_TO_REACH_S, taken_s, Quality.GOOD, now, effects)
    _show_limit(site, now, effects)


def _share_out(site: Site, now: Now) -> None:
    """Give every charger its target; where not all minimums fit, the pause moves on with the wall clock's slots."""
    slot = now.utc_ms // site.plan.rotate_ms
    keep_running, site.slot = slot == site.slot, slot
    chargers = [charger for charger in site.chargers.values() if charger.obedient]
    requests = []
    for place, charger in enumerate(chargers):
        running = keep_running and charger.target_w > 0
        turn = (place - slot) % len(chargers)
        requests.append(_request(charger, site.plans[charger.serial], (not running, turn)))
    unsure = [place for place, charger in enumerate(chargers) if charger.unsure(site.plans[charger.serial])]
    shares = _shares(budget_w(_ramped(site, now), site.chargers.values()), chargers, unsure, requests)
    paused = False
    for charger, request, share_w in zip(chargers, requests, shares, strict=True):
        charger.target_w = share_w
        paused = paused or share_w < request.minimum_w
    site.rotates_ms = now.monotonic_ms + site.plan.rotate_ms - now.utc_ms % site.plan.rotate_ms if paused else None
    for charger in site.chargers.values():
        plan = site.plans[charger.serial]
        if charger.connected and not charger.obedient:
            # It is counted at its hardware maximum whatever we say; a small order is its way back to trust.
            pauses = plan.minimum_w > site.limit.power_w or charger.way(plan) in (Way.PAUSE, Way.STOP)
            charger.target_w = 0 if pauses else plan.minimum_w
        if charger.connected and not charger.settled(plan):
            site.restless.add(charger.serial)


def _shares(budget: Watts, chargers: list[Charger], unsure: list[int], requests: list[Request]) -> list[Watts]:
    """Share out; those we are unsure of keep their share to come back to, and the others pay what they may draw."""
    shares = allocate(budget, requests)
    if any(chargers[place].worst_w > shares[place] for place in unsure):
        left_w = budget - sum(max(chargers[place].worst_w, shares[place]) for place in unsure)
        others = sorted(set(range(len(chargers))).difference(unsure))
        for place, share_w in zip(others, allocate(max(0, left_w), [requests[place] for place in others]), strict=True):
            shares[place] = share_w
    return shares


def _request(charger: Charger, plan: ChargerPlan, turn: tuple[bool, int]) -> Request:
    maximum_w = plan.maximum_w if charger.wish_w is None else min(plan.maximum_w, charger.wish_w)
    if maximum_w < plan.minimum_w or charger.way(plan) in (Way.PAUSE, Way.STOP):
        return Request(0, 0, 0, priority=plan.priority)
    demand_w = min(maximum_w, charger.demand_w if charger.demand_w is not None else maximum_w)
    rank = (not charger.active, -plan.priority, *turn)
    return Request(plan.minimum_w, maximum_w, demand_w, rank, plan.priority)


def _ramped(site: Site, now: Now) -> Watts:
    """What may be shared out: the limit, where it rose no faster than the plan allows. It falls at once."""
    limit_w, rate = site.limit.power_w, site.plan.ramp_w_per_s
    if rate is None:
        return limit_w
    before_w = limit_w if site.ramp_w is None else site.ramp_w
    shared_w = min(limit_w, before_w + rate * (now.monotonic_ms - site.ramp_ms) // 1000)
    if shared_w != before_w or shared_w == limit_w:
        site.ramp_w, site.ramp_ms = shared_w, now.monotonic_ms
    if shared_w < limit_w:
        _unsettle(site, now.monotonic_ms + RAMP_STEP_MS)
    return shared_w


def _index(plan: ChargerPlan) -> int:
    return plan.index


def _order(site: Site, now: Now, effects: list[Effect]) -> None:
    later_ms = site.unsettled_ms, site.unshared_ms
    for plan in sorted((site.plans[serial] for serial in site.restless), key=_index):
        charger = site.chargers[plan.serial]
        if not charger.connected or charger.settled(plan) or charger.waits:
            continue
        target_w = charger.target_w
        # Whatever is not above its present worst case raises nothing; anything else needs proven room.
        if target_w > charger.worst_w + max(0, site.ledger.room_w(site.limit.power_w)):
            continue
        if site.journal_lost and charger.grant_w is not None and not charger.wants_floor(plan):
            # What is not recorded must count for no more after a restart than what is, and a lease for no longer.
            if target_w >= charger.grant_w:
                continue
            target_w = target_w if plan.lease_ms is None else min(target_w, plan.floor_w)
        site.orders += 1
        order = charger.send(site.orders, target_w, now.monotonic_ms, plan)
        if order.is_floor:
            effects.append(SetFloor(charger.serial, order.number, plan.floor_w))
        else:
            effects.append(SetLimit(charger.serial, order.number, target_w, order.way, plan.lease_ms))
        _charger_changed(site, charger, now, effects)
    site.unsettled_ms, site.unshared_ms = later_ms


def last_orders(site: Site) -> list[SetLimit]:
    """What a service that no longer trusts itself tells every charger: an equal share of the fallback, never a raise.

    Nothing of the site is changed, and the orders carry numbers that no answer settles. They are not recorded either:
    a restart counts what was granted before, and after a lease the floor, so none may go beyond these.
    """
    reachable = [charger for charger in site.chargers.values() if charger.connected]
    share_w = min(site.plan.fallback_w, site.limit.power_w) // len(reachable) if reachable else 0
    orders = []
    for place, charger in enumerate(reachable):
        plan = site.plans[charger.serial]
        granted_w = plan.maximum_w if charger.grant_w is None else charger.grant_w
        limit_w = min(share_w, granted_w, granted_w if plan.lease_ms is None else plan.floor_w)
        limit_w = limit_w if limit_w >= plan.minimum_w else 0
        orders.append(SetLimit(charger.serial, -1 - place, limit_w, valid_ms=plan.lease_ms))
    return orders


def _alarm(site: Site, alarm: str, subject: str, is_open: bool, now: Now, effects: list[Effect]) -> None:
    if ((alarm, subject) in site.alarms) == is_open:
        return
    if is_open:
        site.alarms.add((alarm, subject))
    else:
        site.alarms.discard((alarm, subject))
    effects.append(AlarmChanged(alarm, subject, is_open))
    _show(site, Signal.COMMON_ALARM, bool(site.alarms), Quality.GOOD, now, effects)


def _show(site: Site, signal: Signal, value: float, quality: Quality, now: Now, effects: list[Effect]) -> None:
    effects += site.image.show(site.plan.points.by_signal.get((signal, None)), value, quality, now.utc_ms)


def _show_limit(site: Site, now: Now, effects: list[Effect]) -> None:
    limit_w, worst_w = site.limit.power_w, site.ledger.total_w
    _show(site, Signal.LIMIT_IN_FORCE_W, limit_w, Quality.GOOD, now, effects)
    _show(site, Signal.WORST_CASE_W, worst_w, Quality.GOOD, now, effects)
    _show(site, Signal.LIMIT_ACTIVE, limit_w < site.plan.capacity_w, Quality.GOOD, now, effects)
    _show(site, Signal.LIMIT_REACHED, worst_w <= limit_w, Quality.GOOD, now, effects)
    _show(site, Signal.FALLBACK_ACTIVE, site.link.falls_back, Quality.GOOD, now, effects)
    _show(site, Signal.LOCAL_LIMIT_ACTIVE, site.manual is not None, Quality.GOOD, now, effects)
    _show(site, Signal.CHARGERS_AT_WORST, len(site.at_worst), Quality.GOOD, now, effects)
    if (Signal.CHARGERS_CONNECTED, None) in site.plan.points.by_signal:
        connected = sum(charger.connected for charger in site.chargers.values())
        _show(site, Signal.CHARGERS_CONNECTED, connected, Quality.GOOD, now, effects)
    if (Signal.CHARGERS_CHARGING, None) in site.plan.points.by_signal:
        charging = sum(charger.active and charger.connected for charger in site.chargers.values())
        _show(site, Signal.CHARGERS_CHARGING, charging, Quality.GOOD, now, effects)
    _show(site, Signal.COMMON_ALARM, bool(site.alarms), Quality.GOOD, now, effects)


def _show_setpoint(site: Site, now: Now, effects: list[Effect]) -> None:
    commanded, newest = site.commanded, site.commanded.newest
    value, quality = (newest.value, Quality.GOOD) if newest else (0.0, Quality.INVALID)
    _show(site, Signal.SETPOINT_MIRROR, value, quality, now, effects)
    _show(site, Signal.LIMIT_ENABLED, commanded.enabled, Quality.GOOD, now, effects)
    _show(site, Signal.EMERGENCY_STOP_ACTIVE, commanded.emergency_stop, Quality.GOOD, now, effects)
    for point in site.plan.points.steps:
        effects += site.image.show(point, point.percent == commanded.step_percent, Quality.GOOD, now.utc_ms)


def _show_site_power(site: Site, now: Now, effects: list[Effect]) -> None:
    _show(site, Signal.SITE_POWER_W, site.power.total_w, site.power.quality(site.in_service), now, effects)


def _show_charger(site: Site, charger: Charger, now: Now, effects: list[Effect]) -> None:
    index, points = site.plans[charger.serial].index, site.plan.points
    granted_w, quality = (charger.grant_w, Quality.GOOD) if charger.grant_w is not None else (0, Quality.INVALID)
    if not charger.proven:
        quality |= Quality.NOT_TOPICAL
    effects += site.image.show(
        points.by_signal.get((Signal.CHARGER_GRANT_W, index)), granted_w or 0, quality, now.utc_ms
    )
    connected = points.by_signal.get((Signal.CHARGER_CONNECTED, index))
    effects += site.image.show(connected, charger.connected, Quality.GOOD, now.utc_ms)
