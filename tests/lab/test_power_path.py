"""The power path: what a simulated charger truly draws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.lab.power_path import PowerPath


def charging(*, demand_w: int = 22_000, ramp_s: float = 0.5, wobble: float = 0.0) -> PowerPath:
    power = PowerPath(maximum_w=50_000, minimum_w=6_000, demand_w=demand_w, ramp_s=ramp_s, wobble=wobble)
    power.close(0.0)
    return power


def test_an_open_contactor_draws_nothing() -> None:
    power = PowerPath(maximum_w=50_000, minimum_w=6_000)
    assert power.power_w(10.0) == 0.0
    assert power.energy_wh(3600.0) == 0.0


def test_a_vehicle_draws_its_demand_after_the_ramp() -> None:
    assert charging().power_w(1.0) == 22_000.0


def test_a_limit_is_obeyed_after_the_reaction_time_and_not_before() -> None:
    power = charging()
    power.set_limit(10_000, 10.0)
    assert power.power_w(10.99) == 22_000.0
    assert 10_000 < power.power_w(11.25) < 22_000
    assert power.power_w(11.5) == 10_000.0


def test_limits_that_follow_each_other_quickly_do_not_put_off_the_first() -> None:
    power = charging()
    for tenth in range(20):
        power.set_limit(20_000 - 100 * tenth, 10.0 + tenth / 10)
    assert power.power_w(11.6) < 20_500


def test_a_limit_below_the_minimum_pauses_and_a_higher_one_resumes() -> None:
    power = charging()
    power.set_limit(5_999, 10.0)
    assert power.power_w(20.0) == 0.0
    power.set_limit(6_000, 20.0)
    assert power.power_w(30.0) == 6_000.0


def test_a_limit_read_from_memory_holds_at_once() -> None:
    power = PowerPath(maximum_w=50_000, minimum_w=6_000)
    power.set_limit(7_000, 0.0, at_once=True)
    power.close(0.0)
    assert power.power_w(5.0) == 7_000.0


def test_opening_the_contactor_takes_the_power_away_at_once() -> None:
    power = charging()
    assert power.power_w(5.0) == 22_000.0
    power.open(5.0)
    assert power.power_w(5.0) == 0.0


def test_energy_is_the_integral_of_power() -> None:
    power = charging(demand_w=7_200, ramp_s=0.0)
    assert power.energy_wh(3600.0) == pytest.approx(7_200.0)
    ramped = charging(demand_w=7_200, ramp_s=2.0)
    assert ramped.energy_wh(3600.0) == pytest.approx(7_200 * 3599 / 3600)


def test_a_wobble_moves_the_voltages_and_leaves_the_power_alone() -> None:
    power = charging(demand_w=7_200, wobble=0.01)
    readings = [power.reading(float(second)) for second in range(2, 60)]
    assert {round(reading.power_w) for reading in readings} == {7_200}
    assert len({round(reading.voltages_v[0], 2) for reading in readings}) > 10
    assert all(227.6 < voltage_v < 232.4 for reading in readings for voltage_v in reading.voltages_v)


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from("LDCO"), st.integers(0, 60_000)), max_size=40))
def test_power_stays_within_the_hardware_and_the_register_never_falls(steps: list[tuple[float, str, int]]) -> None:
    power = PowerPath(maximum_w=50_000, minimum_w=6_000)
    now_s, register_wh = 0.0, 0.0
    for wait_s, what, figure_w in steps:
        now_s += wait_s
        match what:
            case "L":
                power.set_limit(figure_w, now_s)
            case "D":
                power.set_demand(figure_w, now_s)
            case "C":
                power.close(now_s)
            case "O":
                power.open(now_s)
        reading = power.reading(now_s)
        assert 0.0 <= reading.power_w <= 50_000.0
        assert reading.energy_wh >= register_wh
        assert sum(reading.voltages_v) * reading.current_a == pytest.approx(reading.power_w)
        register_wh = reading.energy_wh


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 60_000)), min_size=1, max_size=20), st.floats(0, 3))
def test_looking_at_the_meter_changes_nothing(limits: list[tuple[float, int]], later_s: float) -> None:
    watched, unwatched = charging(), charging()
    now_s = 0.0
    for wait_s, limit_w in limits:
        for part in range(1, 8):
            watched.reading(now_s + wait_s * part / 8)
        now_s += wait_s
        watched.set_limit(limit_w, now_s)
        unwatched.set_limit(limit_w, now_s)
    assert watched.power_w(now_s + later_s) == pytest.approx(unwatched.power_w(now_s + later_s), abs=1e-3)
    assert watched.energy_wh(now_s + later_s) == pytest.approx(unwatched.energy_wh(now_s + later_s), abs=1e-6)
