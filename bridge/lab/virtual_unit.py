"""A charger of the seeded world as it really is: what it holds, what it may draw, and when that changes by itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.core.plan import ChargerPlan, Offline, Way
from bridge.core.quantities import Millis, Watts

NEVER_MS = 1 << 60


@dataclass(slots=True)
class Unit:
    """The truth about one charger; times are the world's own, which never step.

    It holds its newest grant until that ends on its own clock, then its floor if one is installed, and nothing but its
    hardware else. Its clock (`utc_offset_ms` from the world's time) is set by the service's now and then, and is
    `skew_ms` behind it then. What it held before a cut it may still draw for its reaction time (`fading`). It loses its
    grant with the refusal of the order `forgets_with`.
    `unknown` is set while its connection is gone and nobody can know it yet, `unannounced` until its boot is recorded.
    """

    plan: ChargerPlan
    demand_w: Watts = 0
    skew_ms: Millis = 0
    utc_offset_ms: Millis = 0
    grant_w: Watts | None = None
    grant_ends_ms: Millis = NEVER_MS
    floor_w: Watts | None = None
    connected: bool = False
    unknown: bool = False
    unannounced: bool = False
    lies: bool = False
    refuses: frozenset[Way] = frozenset()
    wish_w: Watts | None = None
    generation: int = 0
    obeyed_generation: int = 0
    busy_until_ms: Millis = 0
    fading: list[tuple[Millis, Watts]] = field(default_factory=list)
    in_transit: dict[int, tuple[Watts, Millis]] = field(default_factory=dict)
    forgets_with: int | None = None
    truth_w: Watts = 0
    valid_until_ms: Millis = 0
    exceeded: int = 0
    caught: bool = False
    samples_since_caught: int = 0

    @property
    def hidden(self) -> bool:
        """Whether something happened to it that the service cannot know yet."""
        return self.unknown or self.unannounced

    def held_w(self, now_ms: Millis) -> Watts:
        """The limit it holds now."""
        if self.plan.out_of_service or (not self.connected and self.plan.offline is Offline.STOPS):
            return 0
        if self.grant_w is not None and now_ms < self.grant_ends_ms:
            return self.grant_w
        return self.plan.maximum_w if self.floor_w is None else self.floor_w

    def refresh(self, now_ms: Millis) -> None:
        """Take anew what it may draw at most, and until when that is so unless something happens to it."""
        if self.grant_w is not None and self.grant_ends_ms <= now_ms:
            if self.connected or self.plan.offline is not Offline.STOPS:
                self.fading.append((self.grant_ends_ms + self.plan.reaction_ms, self.grant_w))
            self.grant_w, self.grant_ends_ms = None, NEVER_MS
        if self.plan.out_of_service:
            self.fading = []
        if self.fading:
            self.fading = [old for old in self.fading if old[0] > now_ms]
        held_w = self.held_w(now_ms)
        until_ms = self.grant_ends_ms if self.grant_w is not None else NEVER_MS
        for fading_until_ms, limit_w in self.fading:
            held_w = max(held_w, limit_w)
            until_ms = min(until_ms, fading_until_ms)
        self.truth_w, self.valid_until_ms = held_w, until_ms

    def may_draw_w(self, now_ms: Millis) -> Watts:
        """The highest it can draw at this moment, if it does not lie."""
        if now_ms >= self.valid_until_ms:
            self.refresh(now_ms)
        return self.truth_w

    def may_come_to_draw_w(self, now_ms: Millis) -> Watts:
        """The same, with every order that is still on its way, unless its lease has ended meanwhile."""
        if self.plan.out_of_service or (not self.connected and self.plan.offline is Offline.STOPS):
            return self.may_draw_w(now_ms)
        utc_ms = now_ms + self.utc_offset_ms
        coming_w = [limit_w for limit_w, valid_to_ms in self.in_transit.values() if valid_to_ms > utc_ms]
        return max(self.may_draw_w(now_ms), *coming_w, 0)

    def power_w(self, now_ms: Millis) -> Watts:
        """What its meter shows."""
        return self.demand_w if self.lies else min(self.demand_w, self.may_draw_w(now_ms))

    def sets_clock(self, utc_offset_ms: Millis, now_ms: Millis) -> None:
        """Take over the service's time; a grant goes on ending when the clock says so."""
        change_ms = utc_offset_ms - self.skew_ms - self.utc_offset_ms
        self.utc_offset_ms += change_ms
        if self.grant_ends_ms != NEVER_MS:
            self.grant_ends_ms = max(now_ms, self.grant_ends_ms - change_ms)
        self.refresh(now_ms)

    def obeys(self, limit_w: Watts, ends_ms: Millis, now_ms: Millis) -> None:
        """Hold a new grant."""
        before_w = self.held_w(now_ms)
        self.grant_w, self.grant_ends_ms = limit_w, ends_ms
        self._fades_from(before_w, now_ms)

    def installs(self, floor_w: Watts, now_ms: Millis) -> None:
        """Hold a permanent floor under its grants."""
        before_w = self.held_w(now_ms)
        self.floor_w = floor_w
        self._fades_from(before_w, now_ms)

    def connects(self, now_ms: Millis) -> None:
        """Open a connection, and draw again if it stopped without one."""
        self.connected, self.unknown = True, False
        self.generation += 1
        self.refresh(now_ms)

    def drops(self, now_ms: Millis) -> None:
        """Lose the connection: stop, keep the limit or forget it, as its make does."""
        before_w = self.held_w(now_ms)
        self.connected = False
        if self.plan.offline is Offline.NAMEPLATE and self.plan.lease_ms is None:
            self.grant_w = None
        self._fades_from(before_w, now_ms)

    def loses_grant(self, now_ms: Millis) -> None:
        """Lose the grant; the floor, if there is one, holds."""
        self.grant_w, self.grant_ends_ms = None, NEVER_MS
        self.refresh(now_ms)

    def forgets(self, now_ms: Millis) -> None:
        """Lose every limit it kept."""
        self.floor_w = None
        self.loses_grant(now_ms)

    def _fades_from(self, before_w: Watts, now_ms: Millis) -> None:
        if self.held_w(now_ms) < before_w:
            self.fading.append((now_ms + self.plan.reaction_ms, before_w))
        self.refresh(now_ms)
