"""The DSO profile: what a row may say, and the point it makes at a site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from bridge.core.points import Encoding, PointAddress, PointKind, Signal
from bridge.dso_profile import DsoProfile, PointRow, kind_of, point_table
from bridge.settings import SHIPPED_PROFILES, ConfigError, load

CAPACITY_W = 50_000
SETPOINT: dict[str, Any] = {"ioa": 100, "kind": "setpoint", "signal": "limit_setpoint"}
MIRROR: dict[str, Any] = {"ioa": 201, "kind": "measured", "signal": "setpoint_mirror"}
IN_FORCE: dict[str, Any] = {"ioa": 202, "kind": "measured", "signal": "limit_in_force_w"}


def row(**said: Any) -> PointRow:
    return PointRow.model_validate(SETPOINT | said)


def profile(*rows: dict[str, Any], **said: Any) -> DsoProfile:
    return DsoProfile.model_validate({"site": list(rows or (SETPOINT, MIRROR, IN_FORCE)), "charger": []} | said)


@pytest.mark.parametrize(
    ("said", "per_unit"),
    [
        ({}, 1.0),
        ({"unit": "kW"}, 1000.0),
        ({"unit": "%"}, 500.0),
        ({"encoding": "scaled", "unit": "kW", "step": 0.1}, 100.0),
        ({"encoding": "normalized"}, 50_000.0),
        ({"encoding": "normalized", "unit": "%", "full_scale": 120}, 60_000.0),
    ],
)
def test_unit_step_and_full_scale_say_what_one_on_the_wire_is(said: dict[str, Any], per_unit: float) -> None:
    assert row(**said).point(PointAddress(1, 100), None, CAPACITY_W).per_unit == per_unit


@pytest.mark.parametrize(("deadband", "watts"), [(2, 2_000.0), ("1%", 500.0), ("0.5%", 250.0)])
def test_a_deadband_is_in_the_unit_of_the_row_or_in_percent_of_the_capacity(deadband: Any, watts: float) -> None:
    made = row(kind="measured", signal="site_power_w", unit="kW", deadband=deadband)
    assert made.point(PointAddress(1, 200), None, CAPACITY_W).deadband == watts


@pytest.mark.parametrize(("said", "ioa"), [(21, 21), ("0.0.21", 21), ("1.2.21", 66_069)])
def test_an_address_is_a_number_or_three_octets(said: Any, ioa: int) -> None:
    assert row(ioa=said).ioa == ioa


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"ioa": "0.0.256"}, "ioa"),
        ({"ioa": "0.0.0"}, "ioa"),
        ({"unit": "A"}, "is no unit of limit_setpoint: W, kW, MW, %"),
        ({"encoding": "double"}, "a setpoint point can be short_float, scaled, normalized"),
        ({"percent": 30}, "percent: is needed with limit_step"),
        ({"cyclic_s": 5}, "belong to points that are monitored"),
        ({"groups": [1]}, "belong to points that are monitored"),
        ({"kind": "command"}, "is of kind setpoint"),
        ({"kind": "command", "signal": "limit_step"}, "percent: is needed with limit_step"),
        ({"kind": "measured", "signal": "site_power_w", "select_before_operate": True}, "belongs to commands"),
        ({"kind": "total", "signal": "charger_energy_wh", "groups": [5]}, "counters have groups 1–4"),
        ({"kind": "measured", "signal": "charger_voltage_v", "deadband": "1%"}, "for powers only"),
        ({"kind": "measured", "signal": "charger_voltage_v", "unit": "%"}, "is no unit of charger_voltage_v: V, kV"),
    ],
)
def test_a_row_that_makes_no_sense_is_refused_by_name(said: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        row(**said)


def test_the_mirror_must_be_written_as_the_setpoint_is() -> None:
    with pytest.raises(ValidationError, match="setpoint_mirror must have unit"):
        profile(SETPOINT, IN_FORCE, MIRROR | {"unit": "kW"})


def test_a_limit_may_be_set_in_more_units_than_one_and_mirrored_in_one_of_them() -> None:
    in_percent = SETPOINT | {"ioa": 101, "unit": "%"}
    for mirror in (MIRROR, MIRROR | {"unit": "%"}):
        profile(SETPOINT, in_percent, IN_FORCE, mirror)
    with pytest.raises(ValidationError, match="setpoint_mirror must have unit"):
        profile(SETPOINT, in_percent, IN_FORCE, MIRROR | {"unit": "kW"})


def test_what_was_received_and_what_holds_are_two_points_always() -> None:
    profile(SETPOINT, MIRROR, IN_FORCE)
    for rows, missing in (((SETPOINT, MIRROR), "no limit_in_force_w:"), ((SETPOINT, IN_FORCE), "no setpoint_mirror:")):
        with pytest.raises(ValidationError, match=missing):
            profile(*rows)


def test_steps_alone_are_enough_to_limit_and_nothing_is_not() -> None:
    profile({"ioa": 112, "kind": "command", "signal": "limit_step", "percent": 60}, IN_FORCE)
    with pytest.raises(ValidationError, match="no limit can be received"):
        profile(IN_FORCE)


def test_a_time_zone_must_exist() -> None:
    assert profile(time_zone="Europe/Berlin").time_zone == "Europe/Berlin"
    with pytest.raises(ValidationError, match="is no time zone"):
        profile(time_zone="Europe/Atlantis")


def test_every_signal_has_a_kind_and_a_default_encoding() -> None:
    for signal in Signal:
        assert kind_of(signal) in PointKind


@pytest.mark.parametrize("path", sorted((SHIPPED_PROFILES / "dso").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_profile_makes_a_table_for_a_park_of_chargers(path: Path) -> None:
    made = DsoProfile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    table = point_table(made, 1, list(range(20)), CAPACITY_W)
    signals = {point.signal for point in table.points}
    assert {Signal.SETPOINT_MIRROR, Signal.LIMIT_IN_FORCE_W} <= signals, "two points, always"
    assert all(point.wire_encoding in Encoding for point in table.points)


SITE = """
site: {name: Depot, capacity_w: 50000, min_limit_w: 6000}
iec104: {IEC104}
fallback: {hold_s: 300, limit_w: 10000}
"""


def loaded(tmp_path: Path, iec104: str) -> Any:
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("IEC104", iec104), encoding="utf-8")
    return load(path, {}).iec104


@pytest.mark.parametrize(
    ("iec104", "problem"),
    [
        ("host: 0.0.0.0", "plain TCP beyond this machine"),
        ("groups: [{name: a}, {name: a}]", "two groups have one name"),
        ("groups: [{name: dso}], deciding_group: tso", "is no group"),
        ("groups: [{name: dso, addresses: [dso.example]}]", "must be IP addresses"),
        ("groups: [{name: dso, fingerprints: [abc]}]", "fingerprints"),
        ("stack: c104, tls: {certificate: a, key: b, authorities: c}", "native only"),
    ],
)
def test_an_outstation_that_is_open_by_mistake_is_refused(tmp_path: Path, iec104: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loaded(tmp_path, iec104)


def test_plain_tcp_beyond_this_machine_is_possible_where_it_is_said(tmp_path: Path) -> None:
    assert loaded(tmp_path, "host: 0.0.0.0, insecure: true").insecure


def test_paths_of_tls_count_from_the_configuration(tmp_path: Path) -> None:
    tls = loaded(tmp_path, "host: 0.0.0.0, tls: {certificate: us.pem, key: us.key, authorities: /etc/ca.pem}").tls
    assert (tls.certificate, tls.authorities) == (tmp_path / "us.pem", Path("/etc/ca.pem"))
