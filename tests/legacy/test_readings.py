"""Every spelling of MeterValues of reference §1.4, A to E, and what must not be believed."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from bridge.legacy.readings import MAX_READINGS, MeterReading, meter_readings

TIME = "2026-09-01T10:00:00Z"
POWER = MeterReading(Decimal(7200), "Power.Active.Import", "W")
ENERGY = MeterReading(Decimal(1234))
SAID_POWER = {"value": "7200", "measurand": "Power.Active.Import", "unit": "W"}
SAID_ENERGY = {"value": "1234"}

FORMS: dict[str, Any] = {
    "A values in values": [{"timestamp": TIME, "values": [SAID_POWER, SAID_ENERGY]}],
    "B value list": [{"timestamp": TIME, "value": [SAID_POWER, SAID_ENERGY]}],
    "C flat": [{"timestamp": TIME, **SAID_POWER}, {"timestamp": TIME, **SAID_ENERGY}],
    "D $value with attributes": [
        {
            "timestamp": TIME,
            "value": {"$value": "7200", "attributes": {"measurand": "Power.Active.Import", "unit": "W"}},
        },
        {"timestamp": TIME, "value": {"$value": "1234", "$attributes": {}}},
    ],
    "D list of $value": {
        "timestamp": TIME,
        "value": [
            {"$value": "7200", "$attributes": {"measurand": "Power.Active.Import", "unit": "W"}},
            {"$value": "1234"},
        ],
    },
    "E sampledValue": [{"timestamp": TIME, "sampledValue": [SAID_POWER, SAID_ENERGY]}],
    "doubly nested transactionData": [{"values": [{"timestamp": TIME, "values": [SAID_POWER, SAID_ENERGY]}]}],
    "transactionData as an object": {"values": {"timestamp": TIME, "values": [SAID_POWER, SAID_ENERGY]}},
    "scalars": [{"timestamp": TIME, "value": [SAID_POWER, "1234"]}],
    "numbers": [{"timestamp": TIME, "value": [{**SAID_POWER, "value": 7200}, {"value": 1234.0}]}],
    "decimal comma and kilo": [
        {"timestamp": TIME, "value": [{**SAID_POWER, "value": "7,2", "unit": "kW"}, {"value": "1,234", "unit": "kWh"}]}
    ],
    "words in any case": [
        {"timestamp": TIME, "value": [{**SAID_POWER, "measurand": "power.active.import", "unit": "w"}, SAID_ENERGY]}
    ],
    "attributes that are empty": [
        {"timestamp": TIME, "value": [SAID_POWER, {**SAID_ENERGY, "unit": "", "context": None}]}
    ],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_spelling_reads_the_same(form: str) -> None:
    readings = meter_readings(FORMS[form])
    assert readings.unreadable == []
    assert [(each.timestamp, reading) for each in readings.sets for reading in each.readings] == [
        (TIME, POWER),
        (TIME, ENERGY),
    ]


@pytest.mark.parametrize(
    ("unit", "measurand", "value"),
    [("Amp", "Current.Import", "A"), ("Volt", "Voltage", "V"), ("kvarh", "Energy.Reactive.Import.Register", "varh")],
)
def test_units_of_1_5_become_those_of_2_0_1(unit: str, measurand: str, value: str) -> None:
    (each,) = meter_readings([{"timestamp": TIME, "value": "3", "unit": unit, "measurand": measurand}]).sets
    assert each.readings[0].unit == value


def test_a_measurand_without_a_unit_has_its_own() -> None:
    (each,) = meter_readings({"value": "230", "measurand": "Voltage"}).sets
    assert (each.timestamp, each.readings[0].unit) == (None, "V")


@pytest.mark.parametrize(
    "said",
    [
        {"value": "abc"},
        {"value": "NaN"},
        {"value": True},
        {"value": "1e99"},
        {"value": "OCMF|{}", "format": "SignedData"},
        {"value": "1", "measurand": "Power.Dark"},
        {"value": "1", "unit": "BTU"},
        {"value": "230", "unit": "Volt"},
        {"nothing": 1},
    ],
)
def test_what_cannot_be_read_is_named_and_the_rest_is_kept(said: dict[str, Any]) -> None:
    readings = meter_readings([{"timestamp": TIME, "value": [SAID_POWER, said]}])
    assert len(readings.unreadable) == 1
    assert readings.sets[0].readings == (POWER,)


def test_each_time_is_a_set_of_its_own_in_the_order_given() -> None:
    times = [TIME, "2026-09-01T10:01:00Z"]
    sets = meter_readings([{"timestamp": time, "value": [SAID_POWER, SAID_ENERGY]} for time in times]).sets
    assert [(each.timestamp, len(each.readings)) for each in sets] == [(times[0], 2), (times[1], 2)]


def test_floods_and_depths_are_bounded() -> None:
    readings = meter_readings(["1"] * 5_000)
    assert sum(len(each.readings) for each in readings.sets) == MAX_READINGS
    assert readings.unreadable
    assert len(meter_readings(["x"] * 5_000).unreadable) <= MAX_READINGS
    deep: Any = "1"
    for _ in range(100):
        deep = [deep]
    assert meter_readings(deep).sets == []


def test_no_json_value_whatever_makes_it_raise() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201  repeats a failure
    chance = random.Random(seed)
    words = ["values", "value", "$value", "timestamp", "unit", "measurand", "attributes", "format", "x"]
    leaves: list[Any] = [None, True, 0, -1, 1e300, "7,2", "", "Voltage", "Volt", "kWh", TIME, "-" * 40]

    def anything(depth: int) -> Any:
        kind = chance.randrange(4) if depth else 0
        if kind == 1:
            return [anything(depth - 1) for _ in range(chance.randrange(4))]
        if kind > 1:
            return {chance.choice(words): anything(depth - 1) for _ in range(chance.randrange(5))}
        return chance.choice(leaves)

    for _ in range(3_000):
        meter_readings(anything(7))
