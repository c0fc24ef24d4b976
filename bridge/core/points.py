"""Information objects: where a value stands in the outstation, what it means and how good it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag, unique
from typing import NamedTuple


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

    LIMIT_SETPOINT = "limit_setpoint"
    SITE_POWER_W = "site_power_w"
    SETPOINT_MIRROR = "setpoint_mirror"
    LIMIT_IN_FORCE_W = "limit_in_force_w"
    WORST_CASE_W = "worst_case_w"
    LIMIT_ACTIVE = "limit_active"
    LIMIT_REACHED = "limit_reached"
    FALLBACK_ACTIVE = "fallback_active"
    COMMON_ALARM = "common_alarm"
    CHARGER_POWER_W = "charger_power_w"
    CHARGER_VOLTAGE_V = "charger_voltage_v"
    CHARGER_CURRENT_A = "charger_current_a"
    CHARGER_GRANT_W = "charger_grant_w"
    CHARGER_ENERGY_WH = "charger_energy_wh"
    CHARGER_CONNECTED = "charger_connected"


@unique
class PointKind(Enum):
    """The value a point carries: a command or a monitored value, IEC 60870-5-101 §7.3."""

    SETPOINT = "setpoint"  # C_SE_NC_1 / C_SE_TC_1
    MEASURED = "measured"  # M_ME_NC_1 in interrogation, M_ME_TF_1 when spontaneous
    SINGLE = "single"  # M_SP_NA_1 / M_SP_TB_1
    TOTAL = "total"  # M_IT_NA_1 / M_IT_TB_1, counter interrogation only


@dataclass(frozen=True, slots=True)
class Point:
    """One information object of the outstation.

    `charger` is the index of the charger it belongs to, None for the site. `deadband` is in the unit of the value: a
    change smaller than it updates the process image without being reported spontaneously.
    """

    address: PointAddress
    kind: PointKind
    signal: Signal
    charger: int | None = None
    deadband: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class PointTable:
    """All points of one outstation, found by address or by meaning."""

    points: tuple[Point, ...]
    by_address: dict[PointAddress, Point] = field(init=False, repr=False, compare=False)
    by_signal: dict[tuple[Signal, int | None], Point] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_address", {point.address: point for point in self.points})
        object.__setattr__(self, "by_signal", {(point.signal, point.charger): point for point in self.points})
        if len(self.by_address) != len(self.points):
            raise ValueError("two points share one address")
        if len(self.by_signal) != len(self.points):
            raise ValueError("two points carry the same signal")

    @property
    def common_addresses(self) -> frozenset[int]:
        """Every common address that a point stands under."""
        return frozenset(address.common_address for address in self.by_address)
