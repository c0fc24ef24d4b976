"""Every spelling of MeterValues that units use, read into one: a list of readings with their time and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from bridge.legacy.dialects import parse_number

MAX_READINGS: Final = 1_000
MAX_DEPTH: Final = 10

TEMPERATURE: Final = "Temperature"
_VALUES: Final = ("values", "value", "$value", "meterValue", "meterValues", "sampledValue", "transactionData", "#text")
_ATTRIBUTES: Final = ("attributes", "$attributes", "$")
_NAMES: Final = ("measurand", "unit", "context", "location", "phase", "format")
_MEASURANDS: Final = (
    *(f"Energy.{kind}.{way}.{span}" for kind in ("Active", "Reactive") for way in ("Import", "Export")
      for span in ("Register", "Interval")),
    *("Power.Active.Import", "Power.Active.Export", "Power.Reactive.Import", "Power.Reactive.Export"),
    *("Power.Offered", "Power.Factor", "Current.Import", "Current.Export", "Current.Offered"),
    *("Voltage", "Frequency", "SoC", TEMPERATURE),
)  # fmt: skip
_CONTEXTS: Final = (
    *("Interruption.Begin", "Interruption.End", "Other", "Sample.Clock", "Sample.Periodic"),
    *("Transaction.Begin", "Transaction.End", "Trigger"),
)
_LOCATIONS: Final = ("Body", "Cable", "EV", "Inlet", "Outlet")
_PHASES: Final = ("L1", "L2", "L3", "N", "L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L3-L1")
_BY_WORD: Final = {word.casefold(): word for word in (*_MEASURANDS, *_CONTEXTS, *_LOCATIONS, *_PHASES)}
# Unit as written → unit of OCPP 2.0.1 and the power of ten that goes with it.
_UNITS: Final = {
    **{name.casefold(): (name, 0) for name in ("Wh", "varh", "W", "var", "VA", "A", "V", "Celsius", "Percent", "Hz")},
    **{f"k{name}".casefold(): (name, 3) for name in ("Wh", "varh", "W", "var", "VA")},
    **dict.fromkeys(("amp", "amps", "ampere"), ("A", 0)),
    **dict.fromkeys(("volt", "volts"), ("V", 0)),
}
_OWN_UNITS: Final = (
    *(("Energy.Active", "Wh"), ("Energy.Reactive", "varh"), ("Power.Reactive", "var"), ("Power.Factor", "")),
    *(("Power", "W"), ("Current", "A"), ("Voltage", "V"), ("Frequency", "Hz"), ("SoC", "Percent")),
    (TEMPERATURE, "Celsius"),
)


@dataclass(frozen=True, slots=True)
class MeterReading:
    """One value in the unit of OCPP 2.0.1 (Wh, varh, W, var, A, V; "" where it has none), phase None if not said."""

    value: Decimal
    measurand: str = "Energy.Active.Import.Register"
    unit: str = "Wh"
    context: str = "Sample.Periodic"
    location: str = "Outlet"
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class ReadingSet:
    """What was read at one time; `timestamp` is as the unit wrote it, None where it did not."""

    timestamp: str | None
    readings: tuple[MeterReading, ...]


@dataclass(slots=True)
class Readings:
    """All that could be read, in the order it came, and why the rest could not: then the frame is quarantined whole."""

    sets: list[ReadingSet] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def meter_readings(values: object) -> Readings:
    """Read what stands in `values` of MeterValues or in `transactionData` of StopTransaction, in any spelling.

    Values may stand flat, in lists or single objects, nested once or twice, under `value`, `values`, `sampledValue` or
    `$value`, with their attributes beside them or in an object of their own. What is not said is the default of OCPP
    1.5: the import register in Wh at the outlet, sampled periodically.
    """
    found: list[tuple[str | None, MeterReading]] = []
    result = Readings()
    _walk(values, None, {}, found, result.unreadable, 0)
    for timestamp, group in groupby(found, key=lambda item: item[0]):
        result.sets.append(ReadingSet(timestamp, tuple(reading for _, reading in group)))
    return result


def _walk(
    node: object,
    timestamp: str | None,
    attributes: Mapping[str, Any],
    found: list[tuple[str | None, MeterReading]],
    unreadable: list[str],
    depth: int,
) -> None:
    """Go down to the values, taking along the time and the attributes that stand above them."""
    if depth > MAX_DEPTH or len(found) >= MAX_READINGS or len(unreadable) >= MAX_READINGS:
        unreadable[-1:] = [f"more than {MAX_READINGS} values or {MAX_DEPTH} levels"]
    elif isinstance(node, list):
        for item in node:
            _walk(item, timestamp, attributes, found, unreadable, depth + 1)
    elif isinstance(node, dict):
        said = node.get("timestamp")
        timestamp = str(said) if isinstance(said, str | int) else timestamp
        beside = [node, *(node[name] for name in _ATTRIBUTES if isinstance(node.get(name), dict))]
        attributes = {**attributes, **{name: part[name] for part in beside for name in _NAMES if part.get(name)}}
        children = [node[name] for name in _VALUES if node.get(name) is not None]
        if not children:
            unreadable.append(f"no value in {sorted(node)[:8]}")
        for child in children:
            _walk(child, timestamp, attributes, found, unreadable, depth + 1)
    else:
        reading = _reading(node, attributes)
        if isinstance(reading, MeterReading):
            found.append((timestamp, reading))
        else:
            unreadable.append(reading)


def _reading(value: object, attributes: Mapping[str, Any]) -> MeterReading | str:
    """Bring one value into the words and units of OCPP 2.0.1, or say why it cannot be."""
    if str(attributes.get("format", "Raw")).casefold() != "raw":
        return f"format {attributes['format']!s:.32}"
    number = parse_number(value)
    if number is None:
        return f"value {value!s:.32} is no number"
    measurand = _word(attributes, "measurand", "Energy.Active.Import.Register", _MEASURANDS)
    if measurand is None:
        return f"measurand {attributes['measurand']!s:.50} unknown"
    own_unit = next(unit for prefix, unit in _OWN_UNITS if measurand.startswith(prefix))
    written = str(attributes.get("unit", own_unit))
    unit, power_of_ten = _UNITS.get(written.strip().casefold(), (written, 0))
    if unit != own_unit and own_unit:
        return f"unit {written:.20} is none of {measurand}"
    return MeterReading(
        number.scaleb(power_of_ten),
        measurand,
        own_unit,
        _word(attributes, "context", "Sample.Periodic", _CONTEXTS) or "Other",
        _word(attributes, "location", "Outlet", _LOCATIONS) or "Outlet",
        _word(attributes, "phase", None, _PHASES),
    )


def _word(attributes: Mapping[str, Any], name: str, default: str | None, words: tuple[str, ...]) -> str | None:
    """The word as OCPP 2.0.1 spells it, `default` where nothing is said, None where it is unknown."""
    if name not in attributes:
        return default
    word = _BY_WORD.get(str(attributes[name]).strip().casefold())
    return word if word in words else None
