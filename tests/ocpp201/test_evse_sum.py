"""What the EVSEs of a charger meter is added up, and a sum that lacks a part is not given."""

from __future__ import annotations

from typing import Any

from bridge.core.messages import MeterSampled
from bridge.core.quantities import Now
from bridge.ocpp201.evse_sum import EvseSum
from bridge.ocpp201.timestamps import rfc3339

UTC_MS = 1_700_000_000_000


def at(seconds: int) -> Now:
    return Now(1_000 * seconds, UTC_MS + 1_000 * seconds)


def metered(now: Now, power_w: int, energy_wh: int) -> list[dict[str, Any]]:
    values = [("Power.Active.Import", power_w, "W"), ("Energy.Active.Import.Register", energy_wh, "Wh")]
    sampled = [{"value": value, "measurand": name, "unitOfMeasure": {"unit": unit}} for name, value, unit in values]
    return [{"timestamp": rfc3339(now.utc_ms), "sampledValue": sampled}]


def summing() -> tuple[EvseSum, list[MeterSampled]]:
    submitted: list[MeterSampled] = []
    return EvseSum("CS-0001", 60, submitted.append), submitted


def test_a_single_evse_is_the_whole_charger() -> None:
    meter, submitted = summing()
    meter.take(1, metered(at(0), 7_200, 100), at(0))
    assert (submitted[-1].power_w, submitted[-1].energy_wh) == (7_200, 100)


def test_two_evses_are_added_up_with_each_sample_of_either() -> None:
    meter, submitted = summing()
    meter.take(1, metered(at(0), 7_200, 100), at(0))
    meter.take(2, metered(at(10), 11_000, 50), at(10))
    assert (submitted[-1].power_w, submitted[-1].energy_wh) == (18_200, 150)


def test_a_sum_that_lacks_a_silent_part_is_not_given() -> None:
    meter, submitted = summing()
    meter.take(1, metered(at(0), 7_200, 100), at(0))
    meter.take(2, metered(at(10), 11_000, 50), at(10))
    meter.take(2, metered(at(190), 11_000, 80), at(190))
    assert (submitted[-1].power_w, submitted[-1].energy_wh) == (None, None)


def test_an_evse_whose_transaction_has_ended_is_left_out() -> None:
    meter, submitted = summing()
    meter.take(1, metered(at(0), 7_200, 100), at(0))
    meter.take(2, metered(at(10), 11_000, 50), at(10))
    meter.forget(1)
    meter.take(2, metered(at(190), 11_000, 80), at(190))
    assert (submitted[-1].power_w, submitted[-1].energy_wh) == (11_000, 80)


def test_the_main_meter_is_never_added_to_what_it_already_meters() -> None:
    meter, submitted = summing()
    meter.take(1, metered(at(0), 7_200, 100), at(0))
    meter.take(0, metered(at(10), 9_000, 500), at(10))
    assert submitted[-1].power_w == 9_000


def currents(**amps: float) -> list[dict[str, Any]]:
    sampled = [{"value": value, "measurand": "Current.Import", "phase": phase} for phase, value in amps.items()]
    return [{"timestamp": rfc3339(UTC_MS), "sampledValue": sampled}]


def test_phase_currents_are_those_last_said_and_never_made_up() -> None:
    meter, _ = summing()
    assert meter.phase_currents_ma() == [None, None, None]
    meter.take(1, currents(L1=16.0, L2=15.5), at(0))
    assert meter.phase_currents_ma() == [16_000, 15_500, None]
    meter.take(2, currents(L1=10.0), at(1))
    assert meter.phase_currents_ma() == [26_000, 15_500, None]
    meter.forget(1)
    assert meter.phase_currents_ma() == [10_000, None, None]


def test_a_main_meter_speaks_for_all_phases() -> None:
    meter, _ = summing()
    meter.take(1, currents(L1=16.0), at(0))
    meter.take(0, currents(L1=17.0, L2=1.0, L3=2.0), at(0))
    assert meter.phase_currents_ma() == [17_000, 1_000, 2_000]
