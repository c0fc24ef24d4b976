"""How a simulated charger draws power: the vehicle's demand under a limit, with a reaction time, a ramp and a meter."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

NOMINAL_V = 230.0
PHASES = 3
MAX_PENDING_LIMITS = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """What the meter shows at one moment: W, Wh, V phase to neutral (L1–L3), A in each phase."""

    power_w: float
    energy_wh: float
    voltages_v: tuple[float, float, float]
    current_a: float


class PowerPath:
    """Contactor, electronics and meter of one charger, with the vehicle behind it.

    All times are seconds of one monotonic clock, handed in, and never go back. A limit is obeyed `reaction_s` after it
    was set and then reached on a straight ramp of `ramp_s`; a limit below `minimum_w` pauses the vehicle (IEC 61851-1
    knows no current below 6 A). `wobble` is the relative amplitude of a slow, reproducible swing of the voltages; power
    is not touched by it.
    """

    def __init__(
        self,
        *,
        maximum_w: int,
        minimum_w: int,
        demand_w: int = 22_000,
        reaction_s: float = 1.0,
        ramp_s: float = 0.5,
        wobble: float = 0.0,
        register_wh: float = 0.0,
        start_s: float = 0.0,
    ) -> None:
        self.maximum_w = maximum_w
        self.minimum_w = minimum_w
        self.demand_w = demand_w
        self.reaction_s = reaction_s
        self.ramp_s = ramp_s
        self.wobble = wobble
        self._limit_w = maximum_w
        self._pending: deque[tuple[float, int]] = deque(maxlen=MAX_PENDING_LIMITS)
        self._closed = False
        self._at_s = start_s
        self._power_w = 0.0
        self._energy_wh = register_wh
        self._target_w = 0.0
        self._ramp_end_s = start_s

    @property
    def closed(self) -> bool:
        """Whether the contactor is closed."""
        return self._closed

    def set_limit(self, limit_w: int, now_s: float, *, at_once: bool = False) -> None:
        """Order a limit in W; it takes hold after the reaction time, or `at_once` (read from memory at power-up)."""
        self._advance(now_s)
        if at_once:
            self._pending.clear()
            self._limit_w = limit_w
            self._aim()
        else:
            self._pending.append((now_s + self.reaction_s, limit_w))
            self._advance(now_s)

    def set_demand(self, demand_w: int, now_s: float) -> None:
        """Let the vehicle ask for another power in W; it gets there on the ramp."""
        self._advance(now_s)
        self.demand_w = demand_w
        self._aim()

    def close(self, now_s: float) -> None:
        """Close the contactor: the vehicle ramps up to what it may draw."""
        self._advance(now_s)
        self._closed = True
        self._aim()

    def open(self, now_s: float) -> None:
        """Open the contactor: power is gone at once."""
        self._advance(now_s)
        self._closed = False
        self._aim()

    def power_w(self, now_s: float) -> float:
        """Return the true power in W."""
        self._advance(now_s)
        return self._power_w

    def energy_wh(self, now_s: float) -> float:
        """Return the energy register in Wh; it never falls."""
        self._advance(now_s)
        return self._energy_wh

    def reading(self, now_s: float) -> Reading:
        """Return all quantities of one moment; current × voltages add up to the power."""
        self._advance(now_s)
        voltages_v = (self._voltage_v(0, now_s), self._voltage_v(1, now_s), self._voltage_v(2, now_s))
        return Reading(self._power_w, self._energy_wh, voltages_v, self._power_w / sum(voltages_v))

    def _voltage_v(self, phase: int, now_s: float) -> float:
        return NOMINAL_V * (1 + self.wobble * math.sin(2 * math.pi * (now_s / 47 + phase / PHASES)))

    def _aim(self) -> None:
        may_draw = self._closed and self._limit_w >= self.minimum_w
        target_w = float(min(self.demand_w, self._limit_w, self.maximum_w)) if may_draw else 0.0
        if target_w != self._target_w:
            self._target_w = target_w
            self._ramp_end_s = self._at_s + self.ramp_s
        if not self._closed or self.ramp_s <= 0:
            self._power_w = target_w

    def _advance(self, now_s: float) -> None:
        while self._pending and self._pending[0][0] <= now_s:
            due_s, limit_w = self._pending.popleft()
            self._walk(due_s)
            self._limit_w = limit_w
            self._aim()
        self._walk(now_s)

    def _walk(self, to_s: float) -> None:
        if to_s <= self._at_s:
            return
        left_s = self._ramp_end_s - self._at_s
        if left_s > 0:
            ramp_s = min(to_s - self._at_s, left_s)
            reached_w = self._power_w + (self._target_w - self._power_w) * ramp_s / left_s
            self._energy_wh += (self._power_w + reached_w) / 2 * ramp_s / 3600
            self._power_w = reached_w
            self._at_s += ramp_s
        if to_s >= self._ramp_end_s:
            self._power_w = self._target_w
            self._energy_wh += self._power_w * max(0.0, to_s - self._at_s) / 3600
        self._at_s = to_s
