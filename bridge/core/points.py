"""Information objects: where a value stands in the outstation, what it means and how good it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag, unique
from typing import NamedTuple

from bridge.core.quantities import Millis


class PointAddress(NamedTuple):
    """Common address of ASDU (1–65534) and information object address (1–16777215), IEC 60870-5-101 §7.2.4–7.2.5."""

    common_address: int
    ioa: int


@unique
class Cause(IntEnum):
    """Causes of transmission this outstation speaks, IEC 60870-5-101 §7.2.3."""

    PERIODIC = 1
    BACKGROUND = 2
    SPONTANEOUS = 3
    INITIALIZED = 4
    REQUEST = 5
    ACTIVATION = 6
    ACTIVATION_CON = 7
    DEACTIVATION = 8
    DEACTIVATION_CON = 9
    ACTIVATION_TERMINATION = 10
    RETURN_REMOTE = 11
    RETURN_LOCAL = 12
    INTERROGATED_BY_STATION = 20
    COUNTER_INTERROGATION = 37
    UNKNOWN_TYPE = 44
    UNKNOWN_CAUSE = 45
    UNKNOWN_COMMON_ADDRESS = 46
    UNKNOWN_IOA = 47


class Quality(IntFlag):
    """Quality descriptor, IEC 60870-5-101 §7.2.6.3: zero is good."""

    GOOD = 0x00
    OVERFLOW = 0x01
    BLOCKED = 0x10
    SUBSTITUTED = 0x20
    NOT_TOPICAL = 0x40
    INVALID = 0x80


@unique
class Signal(Enum):
    """What a point means to the core; the DSO profile decides where it stands and how it is encoded."""

    __hash__ = object.__hash__  # looked up with every value that is shown

    LIMIT_SETPOINT = "limit_setpoint"
    LIMIT_ENABLE = "limit_enable"
    EMERGENCY_STOP = "emergency_stop"
    LIMIT_STEP = "limit_step"
    SITE_POWER_W = "site_power_w"
    SETPOINT_MIRROR = "setpoint_mirror"
    LIMIT_IN_FORCE_W = "limit_in_force_w"
    WORST_CASE_W = "worst_case_w"
    LIMIT_ENABLED = "limit_enabled"
    EMERGENCY_STOP_ACTIVE = "emergency_stop_active"
    LIMIT_STEP_ACTIVE = "limit_step_active"
    LOCAL_LIMIT_ACTIVE = "local_limit_active"
    LIMIT_ACTIVE = "limit_active"
    LIMIT_REACHED = "limit_reached"
    FALLBACK_ACTIVE = "fallback_active"
    COMMON_ALARM = "common_alarm"
    PLAIN_TCP = "plain_tcp"  # the outstation itself: control centres are let in without TLS
    CERTIFICATE_EXPIRES = "certificate_expires"  # the outstation itself: its certificate or CRL ends soon
    EVENTS_DROPPED = "events_dropped"  # the outstation itself: how many events did not fit the event store
    CHARGERS_AT_WORST = "chargers_at_worst"
    CHARGERS_CONNECTED = "chargers_connected"
    CHARGERS_CHARGING = "chargers_charging"
    TIME_TO_REACH_S = "time_to_reach_s"
    CHARGER_POWER_W = "charger_power_w"
    CHARGER_VOLTAGE_V = "charger_voltage_v"
    CHARGER_CURRENT_A = "charger_current_a"
    CHARGER_GRANT_W = "charger_grant_w"
    CHARGER_ENERGY_WH = "charger_energy_wh"
    CHARGER_CONNECTED = "charger_connected"


@unique
class PointKind(Enum):
    """The value a point carries: a command or a monitored value, IEC 60870-5-101 §7.3."""

    SETPOINT = "setpoint"  # C_SE_Nx_1 / C_SE_Tx_1
    COMMAND = "command"  # C_SC_NA_1 / C_SC_TA_1, or C_DC_NA_1 / C_DC_TA_1
    MEASURED = "measured"  # M_ME_Nx_1 in interrogation, M_ME_Tx_1 when spontaneous
    SINGLE = "single"  # M_SP_NA_1 / M_SP_TB_1, or M_DP_NA_1 / M_DP_TB_1
    TOTAL = "total"  # M_IT_NA_1 / M_IT_TB_1, counter interrogation only

    @property
    def is_command(self) -> bool:
        """Whether a control centre sends it; all others are monitored."""
        return self in (PointKind.SETPOINT, PointKind.COMMAND)


@unique
class Encoding(Enum):
    """How the value of a point stands on the wire, IEC 60870-5-101 §7.2.6."""

    SHORT_FLOAT = "short_float"
    SCALED = "scaled"
    NORMALIZED = "normalized"
    SINGLE = "single"
    DOUBLE = "double"
    COUNTER = "counter"


ENCODINGS: dict[PointKind, tuple[Encoding, ...]] = {
    PointKind.SETPOINT: (Encoding.SHORT_FLOAT, Encoding.SCALED, Encoding.NORMALIZED),
    PointKind.COMMAND: (Encoding.SINGLE, Encoding.DOUBLE),
    PointKind.MEASURED: (Encoding.SHORT_FLOAT, Encoding.SCALED, Encoding.NORMALIZED),
    PointKind.SINGLE: (Encoding.SINGLE, Encoding.DOUBLE),
    PointKind.TOTAL: (Encoding.COUNTER,),
}
"""The encodings each kind may have; the first is the default."""


@dataclass(frozen=True, slots=True)
class Point:
    """One information object of the outstation.

    `charger` is the index of the charger it belongs to, None for the site. `deadband` is in the core's unit: a change
    smaller than it updates the process image without being reported spontaneously.

    On the wire the value stands in `encoding` (default: the first of its kind) and in `unit`; `per_unit` is how much of
    the core's unit one unit of the wire is, for a normalized value how much 1.0 is. A command waits for a selection
    with `select_before_operate`; that of a step sets so many `percent`, and the point that
    shows whether it holds has as many. A monitored value belongs to the interrogation
    `groups` 1–16 (a counter: 1–4) besides the station's; it is sent by itself every `cyclic_ms` as cyclic and every
    `background_ms` as background scan, reported again after `refresh_ms` without a report, and, with
    `double_transmission`, reported twice, first without its time tag. None: not at all.
    """

    address: PointAddress
    kind: PointKind
    signal: Signal
    charger: int | None = None
    deadband: float = 0.0
    name: str = ""
    encoding: Encoding | None = None
    unit: str = ""
    per_unit: float = 1.0
    select_before_operate: bool = False
    percent: int | None = None
    groups: tuple[int, ...] = ()
    cyclic_ms: Millis | None = None
    background_ms: Millis | None = None
    refresh_ms: Millis | None = None
    double_transmission: bool = False

    def __post_init__(self) -> None:
        if self.wire_encoding not in ENCODINGS[self.kind]:
            raise ValueError(f"{self.address}: a {self.kind.value} point cannot be {self.wire_encoding.value}")
        if not self.per_unit > 0:
            raise ValueError(f"{self.address}: one unit must be more than nothing")

    @property
    def wire_encoding(self) -> Encoding:
        """Its encoding, where none was chosen the first of its kind."""
        return self.encoding or ENCODINGS[self.kind][0]


@dataclass(frozen=True, slots=True)
class PointTable:
    """All points of one outstation, found by address or by meaning; `steps` show which step holds."""

    points: tuple[Point, ...]
    by_address: dict[PointAddress, Point] = field(init=False, repr=False, compare=False)
    by_signal: dict[tuple[Signal, int | None], Point] = field(init=False, repr=False, compare=False)
    steps: tuple[Point, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_address", {point.address: point for point in self.points})
        monitored = [point for point in self.points if not point.kind.is_command]
        object.__setattr__(self, "by_signal", {(point.signal, point.charger): point for point in self.points})
        if len(self.by_address) != len(self.points):
            raise ValueError("two points share one address")
        steps = tuple(point for point in monitored if point.signal is Signal.LIMIT_STEP_ACTIVE)
        object.__setattr__(self, "steps", steps)
        if len({(point.signal, point.charger, point.percent) for point in monitored}) != len(monitored):
            raise ValueError("two points carry the same signal")

    @property
    def common_addresses(self) -> frozenset[int]:
        """Every common address that a point stands under."""
        return frozenset(address.common_address for address in self.by_address)
