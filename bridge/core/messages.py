"""Everything that can happen to a site (events) and everything it can ask of the world (effects): two closed unions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import TypeAlias

from bridge.core.plan import Plan, Way
from bridge.core.points import Point, Quality
from bridge.core.quantities import Milliamps, Millis, Millivolts, WattHours, Watts


@unique
class Answer(Enum):
    """What became of an order to a charger. Only ACCEPTED is a claim of obedience; all others prove nothing."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNANSWERED = "unanswered"  # sent, no answer within its deadline: the charger may or may not obey it
    NOT_SENT = "not_sent"  # never left: the connection was gone before


@unique
class Reason(Enum):
    """Why a setpoint was refused; the text is what the log says."""

    NOT_A_NUMBER = "not a finite number"
    NEGATIVE = "negative"
    BELOW_MINIMUM = "below the minimum profile"
    IMPLAUSIBLE = "above ten times the capacity"
    STALE_TIME_TAG = "time tag outside the window"
    INVALID_TIME_TAG = "time tag invalid"
    REPLAYED_TIME_TAG = "time tag not newer than the last accepted one"
    NOT_RECORDED = "the journal cannot be written"
    TOO_LATE = "decided too late"


@dataclass(frozen=True, slots=True)
class Started:
    """The service started with this plan. Another `boot_id` than before means that monotonic times began anew."""

    boot_id: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Replanned:
    """The configuration was read anew: another plan for the same chargers and points, without a restart."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Alive:
    """Five more seconds lived: a restart counts the hold from the last of these."""


@dataclass(frozen=True, slots=True)
class Woke:
    """A deadline has come, or answers that arrived together are to be settled. A late one is harmless."""


@dataclass(frozen=True, slots=True)
class JournalLost:
    """Nothing can be recorded any more: no setpoint may be accepted, no limit may rise."""


@dataclass(frozen=True, slots=True)
class InvariantBroken:
    """The event before this one broke a promise and was set aside: only the fallback limit is trusted."""

    why: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """`started` connections of control centres are now in STARTDT; zero is a lost link."""

    started: int


@dataclass(frozen=True, slots=True)
class SetpointReceived:
    """A control centre set the limit.

    `command` names it until answered (unique in the life of the process). `value` is as received, `limit_w` the same
    in whole watts rounded down, None when not finite. `tag_utc_ms` is its time tag, None on untagged types;
    `tag_valid` is False for a tag with IV set or an impossible date. `group` is the redundancy group of the master. A
    setpoint that ends by itself says after how long in `duration_ms`.
    """

    command: int
    master: str
    value: float
    limit_w: Watts | None
    tag_utc_ms: Millis | None = None
    tag_valid: bool = True
    group: str = ""
    duration_ms: Millis | None = None


@unique
class Switch(Enum):
    """What a single or double command switches."""

    LIMIT_ENABLED = "limit_enabled"  # off: the setpoint does not hold
    EMERGENCY_STOP = "emergency_stop"  # on: 0 W, whatever else holds
    STEP = "step"  # on: so many percent of the capacity, 0 % included


@dataclass(frozen=True, slots=True)
class SwitchReceived:
    """A control centre switched something; answered like a setpoint. `percent` belongs to STEP."""

    command: int
    master: str
    switch: Switch
    on: bool
    percent: int = 100
    tag_utc_ms: Millis | None = None
    tag_valid: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True)
class ManualLimitSet:
    """A person at the site set a limit, for `duration_ms` or until lifted."""

    limit_w: Watts
    name: str
    reason: str
    duration_ms: Millis | None = None


@dataclass(frozen=True, slots=True)
class ManualLimitLifted:
    """A person at the site lifted the manual limit."""

    name: str


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """A person at the site wants a charger to be told its limit now, without the wait after its last refusal."""

    serial: str
    name: str


@dataclass(frozen=True, slots=True)
class Acted:
    """A person did something that changes nothing of the limit: kept for the record, with what it was done to."""

    name: str
    act: str
    subject: str


@dataclass(frozen=True, slots=True)
class SetpointRevoked:
    """The positive confirmation of `command` could not be given in time: what it set is taken back."""

    command: int


@dataclass(frozen=True, slots=True)
class ChargerConnected:
    """A charger with this serial opened its connection; what it obeys is unproven until it is told and has answered."""

    serial: str


@dataclass(frozen=True, slots=True)
class ChargerBooted:
    """A charger sent BootNotification: what it kept of its limits is unproven again."""

    serial: str
    model: str
    firmware: str


@dataclass(frozen=True, slots=True)
class ChargerDisconnected:
    """The connection of a charger ended."""

    serial: str


@dataclass(frozen=True, slots=True)
class LimitAnswered:
    """The answer to `SetLimit` number `order`; `read_back_w` is the limit the charger says it holds, if asked."""

    serial: str
    order: int
    answer: Answer
    read_back_w: Watts | None = None


@dataclass(frozen=True, slots=True)
class MeterSampled:
    """One set of samples of a charger, None where it did not say. `utc_ms` is the time of the sample.

    It is the charger's time if `dated`; where that cannot be true, it is the time of receipt. Over phases, power is the
    sum, voltage the mean of line to neutral, current the highest. `energy_wh` is the import register. `valid` is False
    where a value is implausible: kept with quality invalid, never used for control.
    """

    serial: str
    utc_ms: Millis
    power_w: Watts | None = None
    voltage_mv: Millivolts | None = None
    current_ma: Milliamps | None = None
    energy_wh: WattHours | None = None
    valid: bool = True
    dated: bool = True


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A charger began or ended serving a vehicle."""

    serial: str
    active: bool


@dataclass(frozen=True, slots=True)
class WishChanged:
    """The central system above wants a charger to draw no more than `limit_w`; None withdraws it. It never raises."""

    serial: str
    limit_w: Watts | None


@dataclass(frozen=True, slots=True)
class ShellAlarm:
    """An alarm that the shell around the core opens or closes; a start closes it, so the shell opens it anew."""

    alarm: str
    subject: str
    open: bool


Event: TypeAlias = (
    Started
    | Alive
    | Woke
    | JournalLost
    | InvariantBroken
    | LinkChanged
    | SetpointReceived
    | SwitchReceived
    | SetpointRevoked
    | ManualLimitSet
    | ManualLimitLifted
    | RetryAsked
    | Acted
    | ChargerConnected
    | ChargerBooted
    | ChargerDisconnected
    | LimitAnswered
    | MeterSampled
    | SessionChanged
    | WishChanged
    | ShellAlarm
    | Replanned
)


@dataclass(frozen=True, slots=True)
class Confirm:
    """ACTIVATION_CON to the requester of `command` alone: positive without a reason, negative with one."""

    command: int
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Terminate:
    """ACTIVATION_TERMINATION to the requester of `command` alone: every charger is proven within the limit it set."""

    command: int


@dataclass(frozen=True, slots=True)
class SetLimit:
    """Tell a charger that it may draw `limit_w`; 0 pauses it. Answered by `LimitAnswered` with the same `order`.

    A grant with `valid_ms` ends by itself on the charger's clock, so many milliseconds from now: its floor holds then.
    """

    serial: str
    order: int
    limit_w: Watts
    way: Way = Way.LIMIT
    valid_ms: Millis | None = None


@dataclass(frozen=True, slots=True)
class SetFloor:
    """Install the permanent floor under all grants and read it back; ACCEPTED only if it was found installed."""

    serial: str
    order: int
    limit_w: Watts


@dataclass(frozen=True, slots=True)
class PointChanged:
    """A point has this value and quality since `utc_ms`; `report` asks for a spontaneous transmission."""

    point: Point
    value: float
    quality: Quality
    utc_ms: Millis
    report: bool


@dataclass(frozen=True, slots=True)
class AlarmChanged:
    """An alarm was opened or closed; `subject` is a charger's serial or the site's name."""

    alarm: str
    subject: str
    open: bool


@dataclass(frozen=True, slots=True)
class LinkStateChanged:
    """The link supervision went from one state to another."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class LimitChanged:
    """Another limit is in force; `source` says whose it is."""

    limit_w: Watts
    source: str


Effect: TypeAlias = (
    Confirm | Terminate | SetLimit | SetFloor | PointChanged | AlarmChanged | LinkStateChanged | LimitChanged
)
