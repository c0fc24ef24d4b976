"""Judges what a scenario expects against what was observed: pure, from records of the wire and of the units' power."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Any, NamedTuple, TypeAlias

from bridge.lab.scenario_file import Expectation, Pace, Run, Subject
from bridge.lab.telegrams import (
    ACTIVATION_CON,
    ACTIVATION_TERMINATION,
    DEACTIVATION_CON,
    Telegram,
    TypeId,
)

SAMPLES = 100_000
GRACE_S = 3.0  # readings that are this much overdue will not come
TAG_SLACK_MS = 2_000  # clocks of two machines
CHARGING_W = 500.0  # whoever draws less waits, or ends a ramp
_COMMANDS = {TypeId.C_SE_NC_1, TypeId.C_SE_TC_1}
_ANSWERS = {ACTIVATION_CON, DEACTIVATION_CON, 44, 45, 46, 47}
_MONITORED = range(1, 41)


@unique
class Verdict(Enum):
    """What became of an expectation."""

    PENDING = "pending"
    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what was measured, in words with figures."""

    verdict: Verdict
    measured: str


class Reading(NamedTuple):
    """The power of every unit in W, in order of their index, at one monotonic moment."""

    at_s: float
    powers_w: tuple[float, ...]


@dataclass(slots=True)
class Observed:
    """Everything seen since the player started: telegrams and link changes (shared with the control centre), readings.

    `from_units` tells whether readings come from beside the units; otherwise they are what the bridge reports over
    IEC 104, and there are none while the player has broken the link.
    """

    telegrams: deque[Telegram]
    link_changes: deque[tuple[float, bool]]
    readings: deque[Reading] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    from_units: bool = True
    link_broken: bool = False


class Seen(NamedTuple):
    """One observation: when, whether it meets the condition, in words, and as a figure where it is one."""

    at_s: float
    meets: bool
    words: str
    figure: float = 0.0


Condition: TypeAlias = Callable[[Any], bool]


def judge(
    expected: Expectation, begun_s: float, begun_utc_ms: int, now_s: float, observed: Observed, pace: Pace, run: Run
) -> Judgement:
    """What can be said of an expectation now, `begun_s` (monotonic) being the moment of its step."""
    hold_s = expected.hold.at(pace, run)
    within_s = None if expected.within is None else expected.within.at(pace, run)
    if expected.subject.at_the_units and _blind(observed, begun_s, hold_only=within_s is None):
        return Judgement(Verdict.NOT_JUDGED, "nobody reads the units while the link is broken: look at them yourself")
    seen = list(_seen(expected, begun_s, begun_utc_ms, observed, carried=within_s is None))
    sampled = expected.subject.at_the_units
    known_until_s = (seen[-1].at_s if seen else begun_s) if sampled and observed.from_units else now_s
    deadline_s = begun_s + (within_s or 0.0)
    start: Seen | None = None
    for moment in seen:
        if start is not None and moment.at_s > start.at_s + hold_s:
            break
        if not moment.meets:
            start = None
        elif start is None and moment.at_s <= deadline_s:
            start = moment
    if start is not None and known_until_s >= start.at_s + hold_s:
        return Judgement(Verdict.PASSED, _measured(start, seen, begun_s, hold_s, within_s))
    overdue_s = max(deadline_s, start.at_s + hold_s if start is not None else deadline_s) + GRACE_S
    decided = start is None and known_until_s >= deadline_s and (bool(seen) or not sampled)
    if now_s > overdue_s or decided:
        return Judgement(Verdict.FAILED, _missed(seen, begun_s, now_s))
    return Judgement(Verdict.PENDING, "")


def _blind(observed: Observed, begun_s: float, *, hold_only: bool) -> bool:
    """Whether what is drawn cannot be known: a reading from before the break proves nothing."""
    if observed.from_units:
        return False
    unknown = not observed.readings or observed.readings[0].at_s > begun_s
    return observed.link_broken or (hold_only and unknown)


def _measured(start: Seen, seen: list[Seen], begun_s: float, hold_s: float, within_s: float | None) -> str:
    held = f", held for {hold_s:.3g} s" if hold_s else ""
    first = next(place for place, moment in enumerate(seen) if moment is start)
    during = [moment for moment in seen[first:] if moment.at_s <= start.at_s + hold_s]
    least, most = min(during, key=lambda moment: moment.figure), max(during, key=lambda moment: moment.figure)
    words = most.words if least.words == most.words else f"{least.words} to {most.words}"
    if within_s is None:
        return f"{words}{held}"
    after_s = max(0.0, start.at_s - begun_s)
    after = f"{after_s * 1000:.0f} ms" if after_s < 1 else f"{after_s:.1f} s"
    return f"{words} after {after}{held}"


def _missed(seen: list[Seen], begun_s: float, now_s: float) -> str:
    if not seen:
        return f"nothing seen in {now_s - begun_s:.1f} s"
    wrong = next((moment for moment in reversed(seen) if not moment.meets), seen[-1])
    return f"{wrong.words} after {max(0.0, wrong.at_s - begun_s):.1f} s"


def _seen(
    expected: Expectation, begun_s: float, begun_utc_ms: int, observed: Observed, *, carried: bool
) -> Iterator[Seen]:
    match expected.subject:
        case Subject.POWER_OF_ALL | Subject.POWER_OF_CHARGER | Subject.CHARGING_UNITS:
            yield from _power(expected, begun_s, observed)
        case Subject.POINT:
            yield from _points(expected, begun_s, begun_utc_ms, observed, carried=carried)
        case Subject.ANSWER:
            for telegram in _commands(observed, begun_s, _ANSWERS):
                meets = telegram.cause == ACTIVATION_CON and telegram.negative == (expected.sign == "negative")
                sign = "negative" if telegram.negative else "positive"
                yield Seen(telegram.at_s, meets, f"{telegram.cause_name}, {sign},")
        case Subject.TERMINATION:
            for telegram in _commands(observed, begun_s, {ACTIVATION_TERMINATION}):
                yield Seen(telegram.at_s, not telegram.negative, "terminated")
        case Subject.LINK:
            changes = [change for change in observed.link_changes if change[0] > begun_s]
            for at_s, is_up in [(begun_s, _link_up(observed, begun_s)), *changes]:
                word = "up" if is_up else "down"
                yield Seen(at_s, word == expected.sign, f"link {word}")


def _commands(observed: Observed, begun_s: float, causes: Iterable[int]) -> Iterator[Telegram]:
    for telegram in list(observed.telegrams):
        if telegram.at_s >= begun_s and telegram.type_id in _COMMANDS and telegram.cause in causes:
            yield telegram


def _power(expected: Expectation, begun_s: float, observed: Observed) -> Iterator[Seen]:
    """Readings from the one that held when the step was done; a unit nobody reads meets nothing."""
    readings = list(observed.readings)
    first = next((n for n in range(len(readings) - 1, -1, -1) if readings[n].at_s <= begun_s), 0)
    for reading in readings[first:]:
        powers_w = reading.powers_w
        if expected.subject is Subject.CHARGING_UNITS:
            charging = sum(power_w >= CHARGING_W for power_w in powers_w)
            meets = expected.low <= charging <= expected.high
            yield Seen(max(reading.at_s, begun_s), meets, f"{charging} charge", charging)
            continue
        if expected.subject is Subject.POWER_OF_ALL:
            power_w = sum(powers_w)
        elif expected.number < len(powers_w):
            power_w = powers_w[expected.number]
        else:
            yield Seen(max(reading.at_s, begun_s), False, f"no charger {expected.number}")
            continue
        meets = expected.low <= power_w <= expected.high
        yield Seen(max(reading.at_s, begun_s), meets, f"{power_w / 1000:.2f} kW", power_w)


def _points(
    expected: Expectation, begun_s: float, begun_utc_ms: int, observed: Observed, *, carried: bool
) -> Iterator[Seen]:
    """What was received of a point since the step; `carried` begins with the value that held before it."""
    before: Telegram | None = None
    after: list[Telegram] = []
    for telegram in list(observed.telegrams):
        if telegram.ioa == expected.number and telegram.type_id in _MONITORED:
            if telegram.at_s >= begun_s:
                after.append(telegram)
            else:
                before = telegram
    if carried and before is not None:
        yield Seen(begun_s, _meets(expected, before, None), _words(before), float(before.value or 0.0))
    for telegram in after:
        meets = _meets(expected, telegram, begun_utc_ms)
        yield Seen(telegram.at_s, meets, _words(telegram), float(telegram.value or 0.0))


def _meets(expected: Expectation, telegram: Telegram, begun_utc_ms: int | None) -> bool:
    if telegram.value is None or telegram.quality or not expected.low <= float(telegram.value) <= expected.high:
        return False
    if expected.type_name and telegram.type_name != expected.type_name:
        return False
    if not expected.time_tag:
        return True
    tag_ms = telegram.tag_utc_ms if telegram.tag_valid else None
    return tag_ms is not None and (begun_utc_ms is None or tag_ms >= begun_utc_ms - TAG_SLACK_MS)


def _words(telegram: Telegram) -> str:
    value = ("off", "on")[telegram.value] if isinstance(telegram.value, bool) else telegram.value
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    quality = f" quality 0x{telegram.quality:02x}" if telegram.quality else ""
    return f"{telegram.type_name} {telegram.ioa} = {shown}{quality}"


def _link_up(observed: Observed, at_s: float) -> bool:
    return next((is_up for moment_s, is_up in reversed(observed.link_changes) if moment_s <= at_s), False)
