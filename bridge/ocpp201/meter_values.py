"""OCPP 2.0.1 meterValue arrays read into the core's samples: pure, tolerant in form, strict about what may steer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from bridge.core.messages import MeterSampled
from bridge.core.quantities import Milliamps, Millis, Now
from bridge.ocpp201.timestamps import read_utc_ms

MAX_CLOCK_ERROR_MS: Final = 24 * 3_600_000
_EARLIEST_UTC_MS: Final = 1_577_836_800_000  # 2020-01-01: before it no unit's clock was ever set

_DEFAULT_MEASURAND: Final = "Energy.Active.Import.Register"
_LINE_TO_NEUTRAL: Final = {"L1": "L1", "L2": "L2", "L3": "L3", "L1-N": "L1", "L2-N": "L2", "L3-N": "L3"}
_NOISE: Final = 100.0  # a meter at rest may show a few watts or volt-amperes the wrong way


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one measurand is read: its units with their factor to the core's, and the plausible range in the core's."""

    factor: dict[str, float]
    base_unit: str
    maximum: float
    locations: tuple[str, ...]


# What the grid feels stands at the inlet; what is billed at the outlet. Readings inside the vehicle steer nothing.
_GRID: Final = ("Inlet", "Outlet", "Cable", "Body")
_BILLED: Final = ("Outlet", "Inlet", "Cable", "Body")
_POWER: Final = _Kind({"W": 1.0, "kW": 1e3}, "W", 10e6, _GRID)
_VOLTAGE: Final = _Kind({"V": 1e3, "kV": 1e6}, "V", 1_500e3, _GRID)
_CURRENT: Final = _Kind({"A": 1e3, "mA": 1.0}, "A", 2_000e3, _GRID)
_ENERGY: Final = _Kind({"Wh": 1.0, "kWh": 1e3}, "Wh", 1e12, _BILLED)
_KINDS: Final = {
    "Power.Active.Import": _POWER,
    "Voltage": _VOLTAGE,
    "Current.Import": _CURRENT,
    _DEFAULT_MEASURAND: _ENERGY,
}


def samples(
    serial: str, meter_value: list[dict[str, Any]], received: Now, *, offline: bool = False
) -> list[MeterSampled]:
    """Read a schema-valid `meterValue` array (OCPP 2.0.1 MeterValuesRequest, TransactionEventRequest).

    One `MeterSampled` for each time in it that says anything the core asks for, in the order they came. Powers of the
    phases are summed, voltages to neutral averaged, the highest current counts; line-to-line voltages and whatever
    is inside `signedMeterValue` are not used. Units are W/kW, V, A, Wh/kWh with their multiplier; an absent unit is
    the measurand's own. A value out of range, negative or in a foreign unit makes the sample invalid.
    A time more than 24 hours from `received` becomes `received`, except for samples an `offline` station kept.
    """
    grouped: dict[str, list[dict[str, Any]]] = {}
    for element in meter_value:
        grouped.setdefault(str(element.get("timestamp", "")), []).extend(element.get("sampledValue", ()))
    read = (_sample(serial, *_time(text, received, offline=offline), values) for text, values in grouped.items())
    return [sample for sample in read if sample is not None]


def combined(serial: str, parts: Iterable[MeterSampled]) -> MeterSampled:
    """Add up the newest samples of the EVSEs of one station: power and energy summed, as of the newest of them.

    A quantity that any part leaves out is left out: a sum that lacks a part would be a lie.
    """
    known = list(parts)
    powers = [part.power_w for part in known if part.power_w is not None]
    voltages = [part.voltage_mv for part in known if part.voltage_mv is not None]
    currents = [part.current_ma for part in known if part.current_ma is not None]
    energies = [part.energy_wh for part in known if part.energy_wh is not None]
    return MeterSampled(
        serial=serial,
        utc_ms=max(part.utc_ms for part in known),
        power_w=sum(powers) if len(powers) == len(known) else None,
        voltage_mv=round(sum(voltages) / len(voltages)) if voltages else None,
        current_ma=max(currents, default=None),
        energy_wh=sum(energies) if len(energies) == len(known) else None,
        valid=all(part.valid for part in known),
        dated=all(part.dated for part in known),
    )


def phase_currents_ma(meter_value: list[dict[str, Any]]) -> list[Milliamps | None]:
    """The currents of L1, L2 and L3 in a schema-valid `meterValue` array, the last said; None where it is not said.

    For people to look at: nothing is steered by them.
    """
    found: dict[str, Milliamps] = {}
    for element in meter_value:
        for value in element.get("sampledValue", ()):
            phase = _LINE_TO_NEUTRAL.get(value.get("phase", ""))
            if phase is None or value.get("measurand") != "Current.Import" or value.get("location") == "EV":
                continue
            current = _in_core_unit(_CURRENT, value)
            if -_NOISE <= current <= _CURRENT.maximum:
                found[phase] = max(0, round(current))
    return [found.get(phase) for phase in ("L1", "L2", "L3")]


def _time(text: str, received: Now, *, offline: bool) -> tuple[Millis, bool]:
    """Read the time of a sample, True; or `received`, False, where it is none or cannot be true."""
    utc_ms = read_utc_ms(text)
    if utc_ms is not None:
        near = abs(utc_ms - received.utc_ms) <= MAX_CLOCK_ERROR_MS
        if near or (offline and _EARLIEST_UTC_MS <= utc_ms < received.utc_ms):
            return utc_ms, True
    return received.utc_ms, False


def _sample(serial: str, utc_ms: Millis, dated: bool, values: list[dict[str, Any]]) -> MeterSampled | None:
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for value in values:
        measurand = value.get("measurand", _DEFAULT_MEASURAND)
        if measurand in _KINDS:
            found.setdefault(measurand, {}).setdefault(value.get("location", "Outlet"), []).append(value)
    read: dict[str, int] = {}
    valid = True
    for measurand, by_location in found.items():
        kind = _KINDS[measurand]
        location = next((place for place in kind.locations if place in by_location), None)
        if location is None:
            continue
        number = _over_phases(kind, by_location[location])
        if number is None:
            continue
        if -_NOISE <= number <= kind.maximum:
            read[measurand] = max(0, round(number))
        else:
            valid = False
    if not read and valid:
        return None
    return MeterSampled(
        serial=serial,
        utc_ms=utc_ms,
        power_w=read.get("Power.Active.Import"),
        voltage_mv=read.get("Voltage"),
        current_ma=read.get("Current.Import"),
        energy_wh=read.get(_DEFAULT_MEASURAND),
        valid=valid,
        dated=dated,
    )


def _over_phases(kind: _Kind, values: list[dict[str, Any]]) -> float | None:
    """Bring the phases of one measurand together, in the core's unit; None if it says nothing, -inf if nonsense."""
    total: float | None = None
    phases: dict[str, float] = {}
    for value in values:
        number = _in_core_unit(kind, value)
        phase = value.get("phase")
        if phase is None:
            total = number
        elif phase in _LINE_TO_NEUTRAL:
            phases[_LINE_TO_NEUTRAL[phase]] = number
    if kind is _CURRENT or float("-inf") in phases.values():
        numbers = [*phases.values(), *([] if total is None else [total])]
        return float("-inf") if float("-inf") in numbers else max(numbers, default=None)
    if total is not None or not phases:
        return total
    return sum(phases.values()) / (len(phases) if kind is _VOLTAGE else 1)


def _in_core_unit(kind: _Kind, value: dict[str, Any]) -> float:
    """Convert one sampled value; a foreign unit or an absurd multiplier gives -inf, which is out of every range."""
    unit_of_measure = value.get("unitOfMeasure", {})
    factor = kind.factor.get(unit_of_measure.get("unit", kind.base_unit))
    multiplier = unit_of_measure.get("multiplier", 0)
    if factor is None or abs(multiplier) > 9:  # noqa: PLR2004  giga and nano are beyond any charger
        return float("-inf")
    return float(value["value"]) * factor * float(10.0**multiplier)
