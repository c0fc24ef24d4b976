"""Meter values in the forms stations send them, read into samples."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.messages import MeterSampled
from bridge.core.quantities import Now
from bridge.ocpp201.meter_values import combined, samples
from bridge.ocpp201.timestamps import rfc3339

RECEIVED = Now(50_000, 1_788_256_800_000)
DAY_MS = 86_400_000


def value(number: float, measurand: str | None = None, unit: str | None = None, **more: Any) -> dict[str, Any]:
    multiplier = more.pop("multiplier", None)
    of_measure = {"unit": unit} if unit else {}
    of_measure |= {"multiplier": multiplier} if multiplier is not None else {}
    return (
        {"value": number}
        | ({"measurand": measurand} if measurand else {})
        | ({"unitOfMeasure": of_measure} if of_measure else {})
        | more
    )


def read(*values: dict[str, Any], timestamp: str = "2026-09-01T09:59:00Z") -> MeterSampled:
    (sample,) = samples("CS-0001", [{"timestamp": timestamp, "sampledValue": list(values)}], RECEIVED)
    return sample


def test_t4_seven_point_two_kilowatts_are_7200_watts() -> None:
    assert read(value(7.2, "Power.Active.Import", "kW")) == MeterSampled(
        "CS-0001", RECEIVED.utc_ms - 60_000, power_w=7_200
    )


def test_power_is_summed_voltage_averaged_and_the_highest_current_taken_over_phases() -> None:
    phases = ("L1", "L2", "L3")
    sample = read(
        *(value(2_400 + n, "Power.Active.Import", "W", phase=phase) for n, phase in enumerate(phases)),
        *(value(229 + n, "Voltage", "V", phase=f"{phase}-N") for n, phase in enumerate(phases)),
        *(value(10 + n, "Current.Import", "A", phase=phase) for n, phase in enumerate(phases)),
        value(99, "Current.Import", "A", phase="N"),
        value(400, "Voltage", "V", phase="L1-L2"),
    )
    assert (sample.power_w, sample.voltage_mv, sample.current_ma) == (7_203, 230_000, 12_000)


def test_a_total_beside_its_phases_is_the_power() -> None:
    assert read(value(7_000, "Power.Active.Import"), value(2_000, "Power.Active.Import", phase="L1")).power_w == 7_000


def test_line_to_line_voltages_alone_say_nothing_of_line_to_neutral() -> None:
    assert samples("x", [{"timestamp": "", "sampledValue": [value(400, "Voltage", phase="L1-L2")]}], RECEIVED) == []


def test_an_absent_measurand_is_the_energy_register_and_an_absent_unit_its_own() -> None:
    assert read(value(123_456)).energy_wh == 123_456
    assert read(value(7_200, "Power.Active.Import")).power_w == 7_200


@pytest.mark.parametrize(
    ("number", "unit", "multiplier", "energy_wh"),
    [(123.4567, "kWh", None, 123_457), (12, "Wh", 3, 12_000), (12_345, "Wh", -2, 123), (1, "kWh", 0, 1_000)],
)
def test_units_and_multipliers_are_applied(number: float, unit: str, multiplier: int | None, energy_wh: int) -> None:
    assert read(value(number, None, unit, multiplier=multiplier)).energy_wh == energy_wh


@pytest.mark.parametrize(
    "bad",
    [
        value(-5_000, "Power.Active.Import"),
        value(1e300, "Power.Active.Import"),
        value(20e6, "Power.Active.Import"),
        value(7_200, "Power.Active.Import", "Wh"),
        value(7, "Power.Active.Import", "horses"),
        value(7, "Power.Active.Import", "W", multiplier=300),
        value(5_000, "Voltage"),
        value(10, "Current.Import", "bananas", phase="L1"),
        value(-1_000, "Energy.Active.Import.Register"),
    ],
)
def test_o26_implausible_values_are_marked_invalid_and_their_number_is_dropped(bad: dict[str, Any]) -> None:
    sample = read(bad, value(16, "Current.Import", phase="L2"))
    assert not sample.valid
    assert sample.power_w is None


def test_a_meter_at_rest_may_show_a_few_watts_backwards() -> None:
    assert read(value(-3, "Power.Active.Import")) == MeterSampled("CS-0001", RECEIVED.utc_ms - 60_000, power_w=0)


def test_what_the_grid_feels_comes_from_the_inlet_and_what_is_billed_from_the_outlet() -> None:
    sample = read(
        *(
            value(number, measurand, location=location)
            for measurand in ("Power.Active.Import", "Energy.Active.Import.Register")
            for number, location in ((7_300, "Inlet"), (7_000, "Outlet"), (6_000, "EV"))
        )
    )
    assert (sample.power_w, sample.energy_wh) == (7_300, 7_000)


def test_measurands_the_core_does_not_ask_for_make_no_sample() -> None:
    element = {"timestamp": "2026-09-01T10:00:00Z", "sampledValue": [value(80, "SoC"), value(50, "Frequency")]}
    assert samples("x", [element], RECEIVED) == []


def test_signed_data_beside_a_value_is_not_looked_into() -> None:
    signed = {"signedMeterData": "x", "signingMethod": "", "encodingMethod": "OCMF", "publicKey": ""}
    assert read(value(7_200, "Power.Active.Import", signedMeterValue=signed)).power_w == 7_200


def test_elements_of_one_time_are_one_sample_and_of_two_times_two_in_order() -> None:
    elements = [
        {"timestamp": "2026-09-01T09:58:00Z", "sampledValue": [value(1_000, "Power.Active.Import", phase="L1")]},
        {"timestamp": "2026-09-01T09:58:00Z", "sampledValue": [value(1_000, "Power.Active.Import", phase="L2")]},
        {"timestamp": "2026-09-01T09:59:00Z", "sampledValue": [value(3_000, "Power.Active.Import")]},
    ]
    assert [sample.power_w for sample in samples("x", elements, RECEIVED)] == [2_000, 3_000]


@pytest.mark.parametrize(
    "timestamp",
    ["2026-09-01T09:59:00Z", "2026-09-01T09:59:00", "2026-09-01T11:59:00+02:00", "2026-09-01T09:59:00.000000+00:00"],
)
def test_times_are_read_in_every_spelling(timestamp: str) -> None:
    assert read(value(1), timestamp=timestamp).utc_ms == RECEIVED.utc_ms - 60_000


@pytest.mark.parametrize(
    "timestamp",
    [
        "1970-01-01T00:00:00Z",
        "2106-02-07T06:28:15Z",
        "2026-08-31T09:59:00Z",
        "2026-09-02T10:01:00Z",
        "2016-12-31T23:59:60Z",
        "9999-12-31T23:59:59-14:00",
        "yesterday",
        "",
    ],
)
def test_o27_a_clock_that_cannot_be_right_is_replaced_by_the_time_of_receipt(timestamp: str) -> None:
    assert read(value(1), timestamp=timestamp).utc_ms == RECEIVED.utc_ms


def test_what_an_offline_station_kept_keeps_its_time_unless_that_is_no_time() -> None:
    def kept(timestamp: str) -> int:
        element = {"timestamp": timestamp, "sampledValue": [value(1)]}
        return samples("x", [element], RECEIVED, offline=True)[0].utc_ms

    assert kept("2026-08-25T10:00:00Z") == RECEIVED.utc_ms - 7 * DAY_MS
    assert kept("1970-01-01T00:00:00Z") == RECEIVED.utc_ms
    assert kept("2030-01-01T00:00:00Z") == RECEIVED.utc_ms


def test_evses_are_added_up_and_what_one_leaves_out_is_left_out_of_the_sum() -> None:
    first = MeterSampled("x", 1_000, power_w=7_000, voltage_mv=230_000, current_ma=10_000, energy_wh=5)
    second = MeterSampled("x", 2_000, power_w=4_000, voltage_mv=232_000, current_ma=16_000)
    assert combined("x", [first, second]) == MeterSampled(
        "x", 2_000, power_w=11_000, voltage_mv=231_000, current_ma=16_000, energy_wh=None
    )
    assert not combined("x", [first, MeterSampled("x", 1, power_w=1, valid=False)]).valid


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)
sampled_values = st.fixed_dictionaries(
    {"value": numbers},
    optional={
        "measurand": st.sampled_from(["Power.Active.Import", "Voltage", "Current.Import", "SoC"]),
        "phase": st.sampled_from(["L1", "L2", "L3", "N", "L1-N", "L1-L2"]),
        "location": st.sampled_from(["Inlet", "Outlet", "EV"]),
        "unitOfMeasure": st.fixed_dictionaries(
            {}, optional={"unit": st.sampled_from(["W", "kW", "Wh", "A", "V"]), "multiplier": st.integers(-400, 400)}
        ),
    },
)
elements = st.fixed_dictionaries(
    {
        "timestamp": st.text(max_size=30) | st.integers(0, 4 * 10**12).map(rfc3339),
        "sampledValue": st.lists(sampled_values, min_size=1, max_size=8),
    }
)


@given(st.lists(elements, min_size=1, max_size=4), st.booleans())
def test_whatever_a_station_meters_every_number_taken_is_within_its_range(
    meter_value: list[dict[str, Any]], offline: bool
) -> None:
    for sample in samples("x", meter_value, RECEIVED, offline=offline):
        assert sample.power_w is None or 0 <= sample.power_w <= 10_000_000
        assert sample.voltage_mv is None or 0 <= sample.voltage_mv <= 1_500_000
        assert sample.current_ma is None or 0 <= sample.current_ma <= 2_000_000
        assert sample.energy_wh is None or 0 <= sample.energy_wh <= 10**12
        assert sample.utc_ms <= RECEIVED.utc_ms + DAY_MS
