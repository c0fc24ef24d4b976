"""What was agreed before the first event: the site, its chargers, its fallback and its points."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from bridge.core.points import PointTable
from bridge.core.quantities import Millis, Watts


@unique
class Offline(Enum):
    """What a make of charger does without its connection, as its charger profile states it."""

    STOPS = "stops"
    KEEPS_LIMIT = "keeps_limit"
    NAMEPLATE = "nameplate"


@unique
class OnReturn(Enum):
    """What holds after the link came back in fallback, until a fresh setpoint."""

    KEEP_FALLBACK = "keep_fallback"
    RESTORE_LAST = "restore_last"


@unique
class Way(Enum):
    """How a charger is told its limit: the rungs of the ladder that refusals climb."""

    LIMIT = "limit"  # the limit command of its make
    OTHER_UNIT = "other_unit"  # the same in A instead of W, or the reverse
    PER_TRANSACTION = "per_transaction"  # TxDefaultProfile, and TxProfile for running transactions
    PAUSE = "pause"  # 0 by the limit command
    STOP = "stop"  # ChangeAvailability Inoperative, the running transaction ended


@dataclass(frozen=True, slots=True)
class ChargerPlan:
    """What is known of one charger before it connects.

    `minimum_w` is the least it can charge with (below it is paused, 0), `maximum_w` its hardware maximum. After an
    acknowledged cut it may draw the old limit for `reaction_ms` more. An order is given up after `answer_ms`.
    A sample is stale after `stale_ms`; a draw above grant + `tolerance_w` is disobedience.

    With `lease_ms` its grants end by themselves after so long and `floor_w` holds then; `guard_ms` is how wrong its
    clock may be, and what a renewal may take. `ladder` is what refusals climb. A higher `priority` is fed first.
    """

    serial: str
    index: int
    minimum_w: Watts
    maximum_w: Watts
    reaction_ms: Millis = 2_000
    answer_ms: Millis = 25_000  # two calls of 10 s, a write and its read-back, and what waits before them
    stale_ms: Millis = 180_000
    tolerance_w: Watts = 200
    offline: Offline = Offline.NAMEPLATE
    out_of_service: bool = False
    lease_ms: Millis | None = None
    floor_w: Watts = 0
    guard_ms: Millis = 15_000
    ladder: tuple[Way, ...] = (Way.LIMIT,)
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One site.

    `hold_ms` None holds the last limit for ever, 0 not at all. `restore_after_ms` counts in RECOVERY and is used with
    RESTORE_LAST only. Setpoints below `min_limit_w` are refused; exactly 0 is accepted with `allow_zero`. After
    `release_after_ms` in fallback without a link nothing but the capacity limits any more; None: never. With
    `start_in_fallback` the fallback limit holds before the first setpoint ever. Of several redundancy groups the lowest
    setpoint holds, or that of `deciding_group`. Where not all minimums fit, the pause moves on every `rotate_ms`, in
    step with the wall clock. What is shared out rises by `ramp_w_per_s` at most; it falls at once.
    """

    name: str
    capacity_w: Watts
    min_limit_w: Watts
    allow_zero: bool
    at_start_w: Watts
    hold_ms: Millis | None
    fallback_w: Watts
    on_return: OnReturn
    restore_after_ms: Millis
    time_tag_window_ms: Millis
    chargers: tuple[ChargerPlan, ...]
    points: PointTable
    release_after_ms: Millis | None = None
    start_in_fallback: bool = False
    deciding_group: str | None = None
    rotate_ms: Millis = 900_000
    ramp_w_per_s: Watts | None = None
