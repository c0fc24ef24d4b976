"""The one entrance to the core: an event gets its clocks, is journalled, is stepped, and its effects leave in order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import structlog

from bridge.core import codec
from bridge.core.ledger import recount_w
from bridge.core.messages import (
    ChargerBooted,
    ChargerConnected,
    ChargerDisconnected,
    Effect,
    Event,
    InvariantBroken,
    JournalLost,
    LimitAnswered,
    MeterSampled,
    SessionChanged,
    Started,
    WishChanged,
    Woke,
)
from bridge.core.plan import Plan
from bridge.core.quantities import Millis, Now
from bridge.core.site import Site, last_orders, new_site, next_deadline, step

log = structlog.get_logger()

OVERDUE_MS = 10_000
SNAPSHOT_EVERY = 20_000  # records; bounds what a restart has to replay
# What chargers say may be journalled together: a commit holds up the loop, so at most a fifth of the time goes there.
PATIENCE = 4
LONGEST_PATIENCE_S = 0.02
OF_CHARGERS = frozenset(
    {LimitAnswered, MeterSampled, ChargerConnected, ChargerBooted, ChargerDisconnected, SessionChanged, WishChanged}
)


class JournalError(Exception):
    """A record could not be put on disk; nothing may be confirmed that rests on it."""


class Journal(Protocol):
    """What the engine needs kept. `append` returns once the records are on disk, or raises `JournalError`."""

    @property
    def last_sequence(self) -> int:
        """The number of the newest record, 0 before the first."""
        ...

    def append(self, records: Sequence[str]) -> None:
        """Put records on disk, all or none."""
        ...

    def snapshot(self, state: str, sequence: int) -> None:
        """Keep the state that holds after record `sequence`."""
        ...

    def newest_snapshot(self) -> tuple[int, str] | None:
        """The newest kept state and the number of the record it follows."""
        ...

    def tail(self, after: int) -> Iterator[tuple[int, str]]:
        """The records after number `after`, without those set aside."""
        ...

    def set_aside(self, sequence: int, why: str) -> None:
        """Never replay this record; it is kept for the people who find out why."""
        ...


class Watcher(Protocol):
    """Who is shown every event once it has been acted upon, and at a start those that are replayed.

    Neither method may raise.
    """

    def observe(self, sequence: int | None, event: Event, now: Now, effects: Sequence[Effect], site: Site) -> None:
        """Event number `sequence` (None: it could not be journalled) had these effects, and left the site so."""
        ...

    def before_snapshot(self) -> None:
        """What was shown until now will not be shown again: the next start goes on from here."""
        ...


class Engine:
    """Runs one site. `submit` is synchronous and cheap; the work is done once for all events of one loop turn.

    `deliver` takes the effects of each event in order and must not raise. `failed` is called once with a sentence when
    the process should end and be restarted by its supervisor: the journal is lost, or a promise was broken. `call_soon`
    runs a function in the next loop turn, `wake_at` asks for `flush` at a monotonic time.

    With `call_later`, which runs a function after so many seconds, what chargers say waits for the next commit a few
    times as long as a commit takes; whatever else comes is done in the next turn, and what waits goes before it.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], Now],
        deliver: Callable[[Sequence[Effect]], None],
        failed: Callable[[str], None],
        call_soon: Callable[[Callable[[], None]], object],
        wake_at: Callable[[Millis | None], None] = lambda _: None,
        watcher: Watcher | None = None,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._journal = journal
        self._call_later = call_later
        self._clock = clock
        self._deliver = deliver
        self._failed = failed
        self._call_soon = call_soon
        self._wake_at = wake_at
        self._watcher = watcher
        self._waiting: list[tuple[Event, Now]] = []
        self._scheduled = False
        self._is_patient = False
        self._next_commit_s = 0.0
        self._journal_lost = False
        self._broken = False
        self._since_snapshot = 0
        self._site: Site | None = None

    @property
    def site(self) -> Site:
        """The site; only after `start`."""
        assert self._site is not None, "the engine has not been started"
        return self._site

    def start(self, plan: Plan, boot_id: str, distrusted: str | None = None) -> None:
        """Go on where the journal ends and deliver the first effects, before any listener opens.

        Begins in FALLBACK where the journal is `distrusted`, for a reason in a sentence.
        """
        broken = self._recover() or distrusted
        now = self._clock()
        if self._site is None:
            self._site = new_site(plan, boot_id, now)
        events: list[Event] = [Started(boot_id, plan)]
        if broken is not None:
            events.append(InvariantBroken(broken))
        self._process([(event, now) for event in events])
        self.flush()
        self.snapshot()

    def _recover(self) -> str | None:
        newest = self._journal.newest_snapshot()
        after = 0
        if newest is not None:
            after, state = newest
            self._site = codec.unpack(Site, json.loads(state))
        for sequence, text in self._journal.tail(after):
            event, now = codec.replayed(text)
            try:
                self._site, effects = replay(self._site, event, now)
            except AssertionError as problem:
                # The site may have been left half changed: only what was recorded before this event is trusted.
                self._journal.set_aside(sequence, str(problem))
                self._site = None
                log.critical("a recorded event breaks a promise and is set aside", sequence=sequence, why=str(problem))
                self._recover()
                return str(problem)
            if self._watcher is not None:
                self._watcher.observe(sequence, event, now, effects, self._site)
        return None

    def submit(self, event: Event) -> None:
        """Take an event. It is stepped after all that were submitted before it."""
        self._waiting.append((event, self._clock()))
        if self._call_later is not None and type(event) in OF_CHARGERS:
            if not self._scheduled and not self._is_patient:
                self._is_patient = True
                self._call_later(max(0.0, self._next_commit_s - time.monotonic()), self._flush_at_last)
        elif not self._scheduled:
            self._scheduled = True
            self._call_soon(self.flush)

    def _flush_at_last(self) -> None:
        self._is_patient = False
        if self._waiting:
            self.flush()

    def flush(self) -> None:
        """Journal and step what waits, then settle if that is due."""
        self._scheduled = False
        batch, self._waiting = self._waiting, []
        answers_first = False
        if batch and self._call_later is not None:
            kinds = {type(event) for event, _ in batch}
            answers_first = not kinds <= OF_CHARGERS
            if not answers_first and kinds != {MeterSampled}:
                batch.append((Woke(), self._clock()))  # most likely it is due, and here it costs no commit of its own
        if batch:
            self._process(batch)
        deadline, now = self.next_deadline(), self._clock()
        if not self._broken and not answers_first and deadline is not None and deadline <= now.monotonic_ms:
            self._process([(Woke(), now)])
            deadline = self.next_deadline()
        if self._since_snapshot >= SNAPSHOT_EVERY:
            self.snapshot()
        self._wake_at(deadline)

    def due(self, now: Now) -> bool:
        """Whether the site wants to be woken now."""
        deadline = next_deadline(self.site)
        return deadline is not None and deadline <= now.monotonic_ms

    def next_deadline(self) -> Millis | None:
        """When the site wants to be woken, on the monotonic clock."""
        return next_deadline(self.site)

    def unsound(self) -> str | None:
        """What is wrong in a sentence; None while nothing is lost, broken or overdue, and the ledger counts right.

        Counts every charger over again, as the watchdog asks for every few seconds.
        """
        deadline, site = self.next_deadline(), self.site
        if self._journal_lost or self._broken:
            return "the journal is lost" if self._journal_lost else "a promise was broken"
        if deadline is not None and deadline < self._clock().monotonic_ms - OVERDUE_MS:
            return "a deadline is overdue: nobody wakes the site up"
        told_w, counted_w = site.ledger.total_w, recount_w(site.chargers.values(), site.plans)
        return None if told_w == counted_w else f"the ledger says {told_w} W, a recount {counted_w} W"

    def snapshot(self) -> None:
        """Keep the present state, so that a restart replays little."""
        if self._journal_lost or self._broken:
            return
        if self._watcher is not None:
            self._watcher.before_snapshot()
        state = json.dumps(codec.pack(self.site), separators=(",", ":"))
        try:
            self._journal.snapshot(state, self._journal.last_sequence)
        except JournalError as problem:
            self._lose_journal(problem)
        self._since_snapshot = 0

    def _process(self, batch: list[tuple[Event, Now]]) -> None:
        if self._broken:
            return
        if not self._journal_lost:
            began_s = time.monotonic()
            try:
                self._journal.append([codec.record(event, now) for event, now in batch])
                self._since_snapshot += len(batch)
            except JournalError as problem:
                self._lose_journal(problem)
            ended_s = time.monotonic()
            self._next_commit_s = ended_s + min(PATIENCE * (ended_s - began_s), LONGEST_PATIENCE_S)
        first = self._journal.last_sequence - len(batch) + 1
        for place, (event, now) in enumerate(batch):
            try:
                effects = step(self.site, event, now)
            except AssertionError as problem:
                self._break(first + place, event, problem)
                return
            self._deliver(effects)
            if self._watcher is not None:
                self._watcher.observe(None if self._journal_lost else first + place, event, now, effects, self.site)

    def _lose_journal(self, problem: JournalError) -> None:
        self._journal_lost = True
        log.critical("the journal cannot be written: setpoints are refused, the limit cannot rise", why=str(problem))
        event, now = JournalLost(), self._clock()
        effects = step(self.site, event, now)
        self._deliver(effects)
        if self._watcher is not None:
            self._watcher.observe(None, event, now, effects, self.site)
        self._failed(f"the journal cannot be written: {problem}")

    def _break(self, sequence: int, event: Event, problem: AssertionError) -> None:
        self._broken = True
        why = f"{type(event).__name__}: {problem}"
        log.critical("a promise would be broken: the event is set aside, restarting in FALLBACK", what=event, why=why)
        if not self._journal_lost:
            try:
                self._journal.set_aside(sequence, why)
                self._journal.append([codec.record(InvariantBroken(why), self._clock())])
            except JournalError as lost:
                log.critical("nor can that be recorded", why=str(lost))
        self._deliver(last_orders(self.site))
        self._failed(f"a promise would be broken by {why}")


def replay(site: Site | None, event: Event, now: Now) -> tuple[Site, list[Effect]]:
    """One recorded event again; its effects have already left. A journal begins with `Started`."""
    if site is None:
        if not isinstance(event, Started):
            raise ValueError("the journal does not begin with a start: its beginning is missing")
        site = new_site(event.plan, event.boot_id, now)
    return site, step(site, event, now)
