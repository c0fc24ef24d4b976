"""What was agreed with a distribution system operator: the shape of profiles/dso/*.yaml, and the points it makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bridge.core.points import ENCODINGS, Encoding, Point, PointAddress, PointKind, PointTable, Signal

MAX_IOA: Final = 0xFF_FFFF
CHARGER_IOA_STRIDE: Final = 10
COUNTER_GROUPS: Final = 4
PERCENT: Final = "%"

UNITS: Final[dict[str, dict[str, float]]] = {
    "W": {"W": 1.0, "kW": 1e3, "MW": 1e6},
    "V": {"V": 1.0, "kV": 1e3},
    "A": {"A": 1.0},
    "Wh": {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6},
    "s": {"s": 1.0, "min": 60.0},
    "": {"": 1.0},
}
"""By the core's unit: the units it may have on the wire, and how much of the core's each is."""

Duration = Annotated[float, Field(gt=0, le=366 * 86_400, allow_inf_nan=False)]


def _plain_address(value: Any) -> Any:
    """21 or 0.0.21: three octets, the highest first, as structured addresses are written."""
    if isinstance(value, str) and value.count(".") == 2 and all(part.isdecimal() for part in value.split(".")):  # noqa: PLR2004
        high, middle, low = (int(part) for part in value.split("."))
        return high << 16 | middle << 8 | low if max(high, middle, low) <= 0xFF else value  # noqa: PLR2004  octets
    return value


Ioa = Annotated[int, BeforeValidator(_plain_address), Field(ge=1, le=MAX_IOA)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Timers(_Section):
    """Windows k and w (frames) and timers t0–t3 (seconds), IEC 60870-5-104 §5.5 and §9.6."""

    k: Annotated[int, Field(ge=1, le=32_767)] = 12
    """I-frames that may be sent without being acknowledged."""
    w: Annotated[int, Field(ge=1, le=32_767)] = 8
    """I-frames after which the latest is acknowledged."""
    t0_s: Annotated[int, Field(ge=1, le=255)] = 10
    """Time to set up a connection, s; a control centre's business, kept for the papers."""
    t1_s: Annotated[int, Field(ge=1, le=255)] = 15
    """Time for an acknowledgement or an answer to TESTFR, s; then the connection is closed."""
    t2_s: Annotated[int, Field(ge=1, le=255)] = 10
    """Time after which what was received is acknowledged, s."""
    t3_s: Annotated[int, Field(ge=1, le=172_800)] = 20
    """Time without a frame after which TESTFR asks whether anybody is there, s."""

    @field_validator("w")
    @classmethod
    def _w_within_k(cls, w: int, info: ValidationInfo) -> int:
        if w > info.data.get("k", w):
            raise ValueError("must not exceed k, or the control centre stops sending: at most two thirds of k is usual")
        return w

    @field_validator("t2_s")
    @classmethod
    def _t2_before_t1(cls, t2_s: int, info: ValidationInfo) -> int:
        if t2_s >= info.data.get("t1_s", t2_s + 1):
            raise ValueError("must be shorter than t1_s, or the control centre closes before it is acknowledged")
        return t2_s


class PointRow(_Section):
    """One row of a DSO profile; the address of a charger point is that of charger 0.

    `unit` is that of the wire; % is of the site's capacity. A scaled value counts in steps of `step` units, a
    normalized one is 1.0 at `full_scale` units (default: the capacity, 100 %). The deadband is in `unit`, or text such
    as "1%" of the capacity. Periods in seconds; what is not said does not happen.
    """

    ioa: Ioa
    """Information object address, as a number or as `0.0.21`; of a charger point, that of charger 0."""
    kind: Annotated[PointKind, Field(strict=False)]
    """What sort of point it is."""
    signal: Annotated[Signal, Field(strict=False)]
    """What it carries."""
    name: str = ""
    """What the signal list calls it."""
    unit: str = ""
    """The unit on the wire, such as `kW` or `%`. Empty: the core's own."""
    encoding: Annotated[Encoding, Field(strict=False)] | None = None
    """How the value is written. Null: short float for values, single for states."""
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """A scaled value counts in steps of so many units."""
    full_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """A normalized 1.0 is so many units. Null: the capacity."""
    deadband: (
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?%$")]
    ) = 0.0
    """How far a value must move to be sent, in `unit`, or as text such as `"1%"` of the capacity."""
    select_before_operate: bool = False
    """The command must be selected first."""
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """The step in % of the capacity; for `limit_step`."""
    groups: list[Annotated[int, Field(ge=1, le=16)]] = []
    """Interrogation groups, 1 to 16; of counters 1 to 4."""
    cyclic_s: Duration | None = None
    """Sent every so often, s."""
    background_s: Duration | None = None
    """Sent as background scan every so often, s."""
    refresh_s: Duration | None = None
    """Sent when nothing was sent for so long, s."""
    double_transmission: bool = False
    """Sent twice on change: at once and with time tag."""

    @field_validator("signal")
    @classmethod
    def _signal_is_of_its_kind(cls, signal: Signal, info: ValidationInfo) -> Signal:
        if info.data.get("kind", kind_of(signal)) is not kind_of(signal):
            raise ValueError(f"is of kind {kind_of(signal).value}")
        return signal

    @field_validator("unit")
    @classmethod
    def _unit_fits_the_signal(cls, unit: str, info: ValidationInfo) -> str:
        signal = info.data.get("signal")
        known = {} if signal is None else UNITS[unit_of(signal)] | ({PERCENT: 0.0} if unit_of(signal) == "W" else {})
        if unit and known and unit not in known:
            raise ValueError(f"is no unit of {signal.value}: {', '.join(filter(None, known)) or 'it has none'}")  # type: ignore[union-attr]
        return unit

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.encoding is not None and self.encoding not in ENCODINGS[self.kind]:
            names = ", ".join(each.value for each in ENCODINGS[self.kind])
            raise ValueError(f"encoding: a {self.kind.value} point can be {names}")
        if (self.signal in _STEPS) != (self.percent is not None):
            raise ValueError("percent: is needed with limit_step and limit_step_active and with nothing else")
        if isinstance(self.deadband, str) and unit_of(self.signal) != "W":
            raise ValueError("deadband: a percentage is of the capacity: for powers only")
        if self.kind is PointKind.TOTAL and any(group > COUNTER_GROUPS for group in self.groups):
            raise ValueError("groups: counters have groups 1–4")
        monitors = self.groups or self.cyclic_s or self.background_s or self.refresh_s or self.double_transmission
        if self.kind.is_command and monitors:
            raise ValueError("groups, periods and double_transmission belong to points that are monitored")
        if self.select_before_operate and not self.kind.is_command:
            raise ValueError("select_before_operate: belongs to commands")
        return self

    def core_units(self, capacity_w: int) -> float:
        """How much of the core's unit one `unit` is."""
        if self.unit == PERCENT:
            return capacity_w / 100
        return UNITS[unit_of(self.signal)].get(self.unit, 1.0)

    def point(self, address: PointAddress, charger: int | None, capacity_w: int) -> Point:
        """The point this row makes at a site of that capacity."""
        unit, encoding = self.core_units(capacity_w), self.encoding or ENCODINGS[self.kind][0]
        per_unit = unit
        if encoding is Encoding.SCALED:
            per_unit = unit * self.step
        elif encoding is Encoding.NORMALIZED:
            per_unit = float(capacity_w) if self.full_scale is None else unit * self.full_scale
        deadband = self.deadband
        return Point(
            address,
            self.kind,
            self.signal,
            charger,
            float(deadband[:-1]) * capacity_w / 100 if isinstance(deadband, str) else deadband * unit,
            self.name if charger is None else f"{self.name} of charger {charger}",
            self.encoding,
            self.unit,
            per_unit,
            self.select_before_operate,
            self.percent,
            tuple(self.groups),
            _ms(self.cyclic_s),
            _ms(self.background_s),
            _ms(self.refresh_s),
            self.double_transmission,
        )


class FlutterRow(_Section):
    """A point that changes so often within so long is blocked until it is quiet for so long."""

    changes: Annotated[int, Field(ge=2, le=1_000)] = 6
    """So many changes"""
    window_s: Duration = 10.0
    """within so long, s, and the point is blocked"""
    quiet_s: Duration = 30.0
    """until it has been quiet for so long, s."""


class DsoFallback(_Section):
    """What the DSO asks for when the link is lost: the last limit for `hold_s` (None: for ever), then so many %."""

    hold_s: Duration | None = None
    """How long the last limit is to be kept, s. Null: for ever."""
    limit_percent: Annotated[float, Field(ge=0, le=100)] = 100.0
    """The limit after that, % of the capacity."""


class DsoProfile(_Section):
    """What was agreed with a DSO: points of the site and of each charger, timers, times and how points are sent.

    `charger_stride` is how far the points of one charger are from those of the next. `fallback` is what the DSO asks
    for: the site's configuration decides, and `gridlimit check` says where they differ.
    """

    title: str = ""
    """What the profile is called on the papers."""
    site: list[PointRow]
    """The points of the site."""
    charger: list[PointRow]
    """The points that each charger has."""
    charger_stride: Annotated[int, Field(ge=1, le=0xFFFF)] = CHARGER_IOA_STRIDE
    """How far the points of one charger are from those of the next."""
    timers: Timers = Timers()
    """Windows and timers."""
    time_tag_window_s: Duration = 10.0
    """How far the time tag of a command may be from now, s."""
    time_tags: Literal["optional", "required"] = "optional"
    """Whether a command must carry one."""
    select_timeout_s: Duration = 10.0
    """How long a selection lasts, s."""
    time_zone: str | None = None
    """The zone of time tags, such as `Europe/Berlin`. Null: UTC."""
    clock: Literal["host", "control_centre"] = "host"
    """Whose time is told: this machine's, or what the control centre sets."""
    clock_offset_limit_s: Duration = 3_600.0
    """How far the control centre may set it, s."""
    spontaneous: Literal["tagged", "untagged"] = "tagged"
    """Whether spontaneous messages carry a time tag."""
    interrogation: Literal["untagged", "tagged"] = "untagged"
    """Whether the answers of an interrogation carry one."""
    sequence_of_objects: bool = False
    """Pack neighbouring addresses into one message (SQ=1)."""
    flutter: FlutterRow | None = None
    """When a point that changes too often is blocked. Null: never."""
    fallback: DsoFallback | None = None
    """What the grid operator asks for when the link is lost. The configuration decides; `gridlimit check` says where it
    differs."""

    @field_validator("site")
    @classmethod
    def _site_has_a_setpoint(cls, rows: list[PointRow]) -> list[PointRow]:
        if wrong := [row.signal.value for row in rows if is_charger_signal(row.signal)]:
            raise ValueError(f"belongs under `charger`: {', '.join(wrong)}")
        setpoints = [row for row in rows if row.signal is Signal.LIMIT_SETPOINT]
        if not setpoints and not any(row.signal is Signal.LIMIT_STEP for row in rows):
            raise ValueError("has no limit_setpoint and no limit_step: without them no limit can be received")
        needed = {Signal.LIMIT_IN_FORCE_W} | ({Signal.SETPOINT_MIRROR} if setpoints else set())
        if missing := sorted(each.value for each in needed - {row.signal for row in rows}):
            raise ValueError(f"has no {' and no '.join(missing)}: what was received and what holds are points, always")
        mirrors = [row for row in rows if row.signal is Signal.SETPOINT_MIRROR]
        if setpoints and {_written(row) for row in mirrors} - {_written(row) for row in setpoints}:
            raise ValueError("setpoint_mirror must have unit, encoding, step and full_scale of a limit_setpoint")
        return rows

    @field_validator("charger")
    @classmethod
    def _charger_rows_are_of_chargers(cls, rows: list[PointRow]) -> list[PointRow]:
        if wrong := [row.signal.value for row in rows if not is_charger_signal(row.signal)]:
            raise ValueError(f"belongs under `site`: {', '.join(wrong)}")
        return rows

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, zone: str | None) -> str | None:
        try:
            return zone if zone is None else ZoneInfo(zone).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is no time zone: write it as Europe/Berlin, or null for UTC") from None

    def points(self, common_address: int, indexes: list[int], capacity_w: int) -> Iterator[Point]:
        """The points of the site and of the charger of each index; not checked for clashes."""
        for index in (None, *indexes):
            for row in self.site if index is None else self.charger:
                address = PointAddress(common_address, row.ioa + self.charger_stride * (index or 0))
                yield row.point(address, index, capacity_w)


def point_table(dso: DsoProfile, common_address: int, indexes: list[int], capacity_w: int = 100_000) -> PointTable:
    """The points of the site and of the charger of each index. Raises ValueError if any clash."""
    return PointTable(tuple(dso.points(common_address, indexes, capacity_w)))


def kind_of(signal: Signal) -> PointKind:
    """What a signal is, whatever its encoding."""
    if signal is Signal.LIMIT_SETPOINT:
        return PointKind.SETPOINT
    if signal in (Signal.LIMIT_ENABLE, Signal.EMERGENCY_STOP, Signal.LIMIT_STEP):
        return PointKind.COMMAND
    if signal in (Signal.CHARGER_ENERGY_WH, Signal.EVENTS_DROPPED):
        return PointKind.TOTAL
    return PointKind.MEASURED if signal in _NUMBERS or unit_of(signal) else PointKind.SINGLE


_NUMBERS: Final = (
    Signal.SETPOINT_MIRROR,
    Signal.CHARGERS_AT_WORST,
    Signal.CHARGERS_CONNECTED,
    Signal.CHARGERS_CHARGING,
)
_STEPS: Final = (Signal.LIMIT_STEP, Signal.LIMIT_STEP_ACTIVE)


def unit_of(signal: Signal) -> str:
    """The core's unit of a signal, empty where it has none."""
    if signal in (Signal.LIMIT_SETPOINT, Signal.SETPOINT_MIRROR):
        return "W"
    return {"w": "W", "v": "V", "a": "A", "wh": "Wh", "s": "s"}.get(signal.value.rpartition("_")[2], "")


def is_charger_signal(signal: Signal) -> bool:
    """Whether each charger has it."""
    return signal.value.startswith("charger_")


def _written(row: PointRow) -> tuple[str, Encoding | None, float, float | None]:
    return row.unit, row.encoding or Encoding.SHORT_FLOAT, row.step, row.full_scale


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
