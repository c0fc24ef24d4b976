"""Rule-based state machines: ledger and link supervision against models that were written a second time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bridge.core.charger import Charger
from bridge.core.fallback import LinkState, Supervision, Trigger
from bridge.core.messages import Answer
from bridge.core.plan import ChargerPlan, Offline, OnReturn, Plan
from tests.core.bench import charger_plan, site_plan

EVERY_RUN = settings(max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
LIMITS = st.sampled_from([0, 3_000, 6_000, 12_000, 25_000, 50_000])
WAITS_MS = st.sampled_from([0, 1, 999, 2_000, 2_001, 14_999, 30_000, 60_000, 135_000])


class LedgerMachine(RuleBasedStateMachine):
    """A charger that may do anything its plan allows: it never holds more than it is counted at.

    The model keeps every limit that may be in force, with the time until which it may, and takes none away before
    something proves it gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.number = 0
        self.obeyed: dict[int, bool] = {}

    @initialize(offline=st.sampled_from(list(Offline)), leased=st.booleans(), floor_w=LIMITS)
    def begin(self, offline: Offline, leased: bool, floor_w: int) -> None:
        lease_ms = 120_000 if leased else None
        self.plan: ChargerPlan = charger_plan(
            0, offline=offline, lease_ms=lease_ms, floor_w=floor_w if leased else 0, guard_ms=15_000
        )
        self.charger = Charger("S4-0000")
        # What it really holds: a grant and its end, a floor, and what it may still draw of what it held.
        self.grant: tuple[int, int] | None = None
        self.floor_w: int | None = None
        self.fading: list[tuple[int, int]] = []
        self.connected = False
        self.waiting: list[tuple[int, int, int, bool]] = []

    def held_w(self) -> int:
        if not self.connected and self.plan.offline is Offline.STOPS:
            return 0
        if self.grant is not None and self.now_ms < self.grant[1]:
            return self.grant[0]
        return self.plan.maximum_w if self.floor_w is None else self.floor_w

    @contextmanager
    def changing(self) -> Iterator[None]:
        before_w = self.held_w()
        yield
        if self.held_w() < before_w:
            self.fading.append((self.now_ms + self.plan.reaction_ms, before_w))

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.charger.lost_connection(self.now_ms, self.plan)
        self.charger.connected = True

    @precondition(lambda self: self.connected)
    @rule(done=st.booleans())
    def disconnect(self, done: bool) -> None:
        """What was on its way is done before the end of the connection, or never."""
        if done:
            self.obey()
        self.waiting.clear()
        with self.changing():
            self.connected = False
            if self.plan.offline is Offline.NAMEPLATE and self.plan.lease_ms is None:
                self.grant = None
        self.charger.lost_connection(self.now_ms, self.plan)

    @precondition(lambda self: self.connected)
    @rule(forgets=st.booleans())
    def boot(self, forgets: bool) -> None:
        if forgets and (self.plan.lease_ms is not None or self.plan.offline is not Offline.KEEPS_LIMIT):
            self.grant, self.floor_w = None, None
        self.charger.booted()

    @precondition(lambda self: self.connected and self.charger.in_flight is None)
    @rule(limit_w=LIMITS, arrives=st.booleans(), skew_ms=st.integers(-12_000, 12_000))
    def order(self, limit_w: int, arrives: bool, skew_ms: int) -> None:
        self.number += 1
        sent = self.charger.send(self.number, limit_w, self.now_ms, self.plan)
        if arrives:
            ends_ms = 1 << 60 if sent.ends_ms is None else self.now_ms + (self.plan.lease_ms or 0) + skew_ms
            self.waiting.append((self.number, limit_w, ends_ms, sent.is_floor))

    @precondition(lambda self: self.waiting)
    @rule()
    def obey(self) -> None:
        """It does everything that arrived, in order."""
        for number, limit_w, ends_ms, is_floor in self.waiting:
            with self.changing():
                if is_floor:
                    self.floor_w = self.plan.floor_w
                elif ends_ms > self.now_ms:
                    self.grant = limit_w, ends_ms
            self.obeyed[number] = True
        self.waiting.clear()

    @precondition(lambda self: self.number)
    @rule(back=st.integers(0, 3), answer=st.sampled_from(list(Answer)))
    def answer(self, back: int, answer: Answer) -> None:
        """Any answer to any order, at any time, but no claim of obedience to an order that was not obeyed."""
        number = max(1, self.number - back)
        if answer is not Answer.ACCEPTED or self.obeyed.get(number):
            in_transit = any(waiting[0] == number for waiting in self.waiting)
            if answer is Answer.NOT_SENT and (in_transit or self.obeyed.get(number)):
                return
            if answer is Answer.REFUSED and in_transit:
                return
            self.charger.answered(number, answer, self.now_ms, self.plan)

    @rule(wait_ms=WAITS_MS)
    def wait(self, wait_ms: int) -> None:
        end_ms = self.now_ms + wait_ms
        while (due_ms := self.charger.due_ms(self.plan)) is not None and due_ms <= end_ms:
            self.turn_to(max(due_ms, self.now_ms))
            self.charger.look(self.now_ms, self.plan)
            self.never_counted_below_the_truth()
            if self.charger.due_ms(self.plan) == due_ms:
                raise AssertionError("nothing came of a deadline")
        self.turn_to(end_ms)

    def turn_to(self, now_ms: int) -> None:
        if self.grant is not None and self.now_ms < self.grant[1] <= now_ms:
            self.fading.append((self.grant[1] + self.plan.reaction_ms, self.grant[0]))
        self.now_ms = now_ms

    @rule()
    def restart_of_the_machine(self) -> None:
        """The service stops with everything it knew, and goes on by a clock that begins anew."""
        if self.connected:
            self.disconnect(done=True)
        self.charger.machine_rebooted(0)

    @invariant()
    def never_counted_below_the_truth(self) -> None:
        if not hasattr(self, "plan"):
            return
        self.fading = [(until_ms, limit_w) for until_ms, limit_w in self.fading if until_ms > self.now_ms]
        truth_w = max([self.held_w(), *(limit_w for _, limit_w in self.fading)])
        if not self.connected and self.plan.offline is Offline.STOPS:
            truth_w = max((limit_w for _, limit_w in self.fading), default=0)
        counted_w = self.charger.worst_case_w(self.plan)
        assert truth_w <= counted_w, f"may draw {truth_w} W, counted at {counted_w} W: {self.charger}"


class LinkMachine(RuleBasedStateMachine):
    """The supervision against the sentences of the design: since when is nobody there, and what holds therefore."""

    @initialize(
        hold_ms=st.sampled_from([None, 0, 60_000]),
        restore=st.booleans(),
        release_ms=st.sampled_from([None, 600_000]),
    )
    def begin(self, hold_ms: int | None, restore: bool, release_ms: int | None) -> None:
        self.plan: Plan = site_plan(
            hold_ms=hold_ms,
            on_return=OnReturn.RESTORE_LAST if restore else OnReturn.KEEP_FALLBACK,
            restore_after_ms=30_000,
            release_after_ms=release_ms,
        )
        self.now_ms = 0
        self.link = Supervision(LinkState.HOLD, 0)
        self.up = False
        self.history: list[tuple[int, str]] = [(0, "down")]
        self.settle()

    def tell(self, what: str, trigger: Trigger) -> None:
        self.history.append((self.now_ms, what))
        self.link = self.link.moved(trigger, self.now_ms)
        self.settle()

    def settle(self) -> None:
        """Whatever is due at this moment happens, each once."""
        while (deadline := self.link.deadline(self.plan)) is not None and deadline[0] <= self.now_ms:
            self.link = self.link.moved(deadline[1], self.now_ms)

    @precondition(lambda self: not self.up)
    @rule()
    def comes(self) -> None:
        self.up = True
        self.tell("up", Trigger.LINK_UP)

    @precondition(lambda self: self.up)
    @rule()
    def goes(self) -> None:
        self.up = False
        self.tell("down", Trigger.LINK_LOST)

    @precondition(lambda self: self.up)
    @rule()
    def setpoint(self) -> None:
        self.tell("setpoint", Trigger.SETPOINT_ACCEPTED)

    @rule()
    def restart(self) -> None:
        self.up = False
        self.tell("down", Trigger.RESTARTED)

    @rule(wait_ms=st.sampled_from([1, 29_999, 30_000, 59_999, 60_000, 600_000]))
    def wait(self, wait_ms: int) -> None:
        end_ms = self.now_ms + wait_ms
        while (deadline := self.link.deadline(self.plan)) is not None and deadline[0] <= end_ms:
            self.now_ms = max(self.now_ms, deadline[0])
            self.settle()
        self.now_ms = end_ms

    @invariant()
    def as_the_design_says(self) -> None:
        if hasattr(self, "plan"):
            assert self.link.state.value == self.told_by_history(), self.history

    def told_by_history(self) -> str:
        """Read the whole history anew, moment by moment, by the words of the design."""
        plan, state, since_ms = self.plan, "HOLD", 0
        moments = [*self.history, (self.now_ms, "now")]
        up = False
        for at_ms, what in moments:
            while True:
                if state == "HOLD" and plan.hold_ms is not None and since_ms + plan.hold_ms <= at_ms:
                    state, since_ms = "FALLBACK", since_ms + plan.hold_ms
                elif (
                    state == "RECOVERY"
                    and plan.on_return is OnReturn.RESTORE_LAST
                    and since_ms + plan.restore_after_ms <= at_ms
                ):
                    state, since_ms = "CONNECTED", since_ms + plan.restore_after_ms
                elif (
                    state == "FALLBACK"
                    and plan.release_after_ms is not None
                    and since_ms + plan.release_after_ms <= at_ms
                ):
                    state, since_ms = "AUTONOMOUS", since_ms + plan.release_after_ms
                else:
                    break
            before = state
            if what == "setpoint":
                state = "CONNECTED"
            elif what == "up" and not up:
                state = "CONNECTED" if state == "HOLD" else "RECOVERY"
            elif what == "down" and up:
                state = {"CONNECTED": "HOLD", "RECOVERY": "FALLBACK"}[state]
            up = {"up": True, "down": False}.get(what, up)
            since_ms = at_ms if state != before else since_ms
        # The last moment may have begun a hold of no length.
        return "FALLBACK" if state == "HOLD" and plan.hold_ms == 0 else state


@pytest.mark.parametrize("machine", [LedgerMachine, LinkMachine])
def test_it_does_what_its_model_says(machine: type[RuleBasedStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=EVERY_RUN)
