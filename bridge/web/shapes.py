"""The shapes of the API's answers, as its OpenAPI description shows them; answers are not checked while serving.

Powers are whole W, currents mA, voltages mV, energies Wh; `_utc_ms` is milliseconds since 1970 UTC.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Why a request was not served, in words for a person."""

    detail: str


class Link(_Shape):
    """The link to the control centre: where its supervision stands, and what time alone will change."""

    state: str = Field(description="CONNECTED, HOLD, FALLBACK, RECOVERY or AUTONOMOUS.")
    since_s: float = Field(description="How long it has been in that state.")
    connections: int = Field(description="Connections of control centres in STARTDT.")
    next_change_s: float | None = Field(description="When time alone changes the state; null: never.")


class Limit(_Shape):
    """The limit in force and whose it is."""

    power_w: int
    source: str = Field(
        description="setpoint, fallback, manual, capacity, at_start, step or emergency_stop: the lowest one holds."
    )
    since_utc_ms: int


class Setpoint(_Shape):
    """The last accepted setpoint, as received and as it limits."""

    value: float
    limit_w: int


class Manual(_Shape):
    """The limit that a person at the site has set."""

    limit_w: int
    name: str
    reason: str
    ends_utc_ms: int | None = Field(description="When it ends by itself; null: when it is lifted.")


class Burden(_Shape):
    """A charger counted at its worst: why, what that takes from the others, and what would free it."""

    serial: str
    why: str
    worst_case_w: int
    costs_w: int
    frees: str


class Alarm(_Shape):
    """Something that is not as it should be, until it is again; acknowledged: a person has seen it."""

    alarm: str
    subject: str = Field(description="The serial of a charger, or the name of the site.")
    since_utc_ms: int
    acknowledged_by: str | None


class Outbox(_Shape):
    """What waits for the central system, and what it does not take."""

    waiting: int
    oldest_utc_ms: int | None
    dead: int
    dropped: int


class Status(_Shape):
    """The site at one glance."""

    site: str
    utc_ms: int
    link: Link
    limit: Limit
    setpoint: Setpoint | None
    manual: Manual | None
    capacity_w: int
    fallback_w: int
    power_w: int | None = Field(description="Sum of what the chargers' meters say; null before the first sample.")
    worst_case_w: int = Field(description="The most the site can draw now, by all that cannot be ruled out.")
    within: bool = Field(description="Whether the worst case is within the limit in force.")
    within_since_utc_ms: int
    counted_at_worst: list[Burden] = Field(description="At most a hundred of them.")
    counted_at_worst_total: int
    alarms: list[Alarm] = Field(description="At most a hundred of them, in no special order.")
    alarms_total: int
    chargers_total: int
    chargers_connected: int
    csms: Outbox | None = Field(description="null: no central system above, the bridge is it itself.")


class Reading(_Shape):
    """The newest value of one measurand. Not valid: not believed. Stale: too old to be true."""

    value: int
    utc_ms: int
    valid: bool
    stale: bool


class Charger(_Shape):
    """One charger: what it was granted, what it draws, and what it is counted at and why."""

    serial: str
    index: int
    make: str = Field(description="The name of its charger profile.")
    connected: bool
    active: bool = Field(description="It serves a vehicle.")
    out_of_service: bool
    minimum_w: int
    maximum_w: int
    granted_w: int | None = Field(description="The newest limit it has acknowledged.")
    target_w: int = Field(description="What it is to be granted.")
    worst_case_w: int
    counted_as: str
    power_w: Reading | None
    voltage_mv: Reading | None
    current_ma: Reading | None
    energy_wh: Reading | None
    phase_currents_ma: list[int | None] = Field(description="L1, L2, L3 as last said; null: not said.")
    last_seen_utc_ms: int | None = Field(description="When it last said anything since the service started.")
    waiting: int = Field(description="Messages of it that wait for the central system.")


class Chargers(_Shape):
    """A page of chargers, in the order of the configuration."""

    chargers: list[Charger]
    total: int
    next: int | None = Field(description="`after` of the next page; null: this was the last.")


class Point(_Shape):
    """A monitored point of the outstation, as a control centre that interrogates now is told it."""

    common_address: int
    ioa: int
    signal: str
    charger: str | None
    name: str
    kind: str
    unit: str
    value: float | None
    quality: str = Field(description="GOOD, or INVALID, NOT_TOPICAL, SUBSTITUTED, BLOCKED, OVERFLOW joined by |.")


class Points(_Shape):
    """A page of monitored points, by address."""

    points: list[Point]
    total: int
    next: int | None


class Event(_Shape):
    """A transition or an act, numbered since the service started."""

    number: int
    utc_ms: int
    kind: str
    about: dict[str, Any]


class Events(_Shape):
    """Transitions and acts, the oldest first."""

    events: list[Event]


class Command(_Shape):
    """A command of a control centre: what it asked for, how it was answered, when its limit was reached."""

    utc_ms: int
    master: str
    kind: str = Field(description="setpoint, limit_enabled, emergency_stop or step.")
    value: float | None
    answer: str = Field(description="accepted, refused or awaited.")
    reason: str | None = Field(description="Why it was refused.")
    reached_s: float | None = Field(description="From its arrival until every charger was proven within the limit.")


class Commands(_Shape):
    """The last commands, the newest first."""

    commands: list[Command]


class History(_Shape):
    """Samples for a chart, the oldest first; over a day each is a minute: mean power, lowest limit, highest worst."""

    interval_s: int
    utc_ms: list[int]
    power_w: list[int | None]
    limit_w: list[int]
    worst_case_w: list[int]


class Alarms(_Shape):
    """What is not as it should be, the newest first."""

    alarms: list[Alarm]


class Whoami(_Shape):
    """Whose token this is; null: a caller who needs none to look."""

    name: str | None
    role: str


class ManualLimitWanted(_Shape):
    """A manual limit: it holds beside all others, the lowest wins. It ends after `duration_s`, or when lifted."""

    limit_w: Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]
    reason: Annotated[str, Field(min_length=3, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    duration_s: Annotated[int, Field(ge=1, le=31 * 86_400, strict=True)] | None = None


class AlarmNamed(_Shape):
    """An open alarm, by its name and subject."""

    alarm: Annotated[str, Field(max_length=50)]
    subject: Annotated[str, Field(max_length=100)]


class DeadLetters(_Shape):
    """Which dead letters to send again, by number; null means all of them."""

    numbers: Annotated[list[Annotated[int, Field(ge=1, lt=2**63)]], Field(max_length=10_000)] | None = None


class Done(_Shape):
    """It was done, or is about to be within the next turn of the loop."""

    done: str


class Resent(_Shape):
    """How many letters wait again."""

    resent: int
