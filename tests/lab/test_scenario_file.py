"""Scenario files: the shipped ones say what the table of the contract says, and nonsense is named with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge import settings
from bridge.lab.scenario_file import (
    CHARGER_ORDERS,
    Action,
    Duration,
    Pace,
    Run,
    Scenario,
    ScenarioError,
    Subject,
    load,
    load_all,
)
from bridge.lab.world import REAL_TIME, World

SHIPPED = Path(__file__).parents[2] / "scenarios"
T1 = yaml.safe_load((SHIPPED / "t1_setpoint_change.yaml").read_text(encoding="utf-8"))


def written(folder: Path, data: Any) -> Path:
    file = folder / "one.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return file


def test_the_first_shipped_scenarios_are_the_four_of_the_user() -> None:
    scenarios = load_all(SHIPPED)[:4]
    assert [(one.test, one.description, one.expected) for one in scenarios] == [
        ("T1", "DSO sends 50 kW → 20 kW limit", "charger power reduced within 5 seconds"),
        ("T2", "Cut the IEC 104 link for 10 minutes", "keeps the last limit, then fallback after the timeout"),
        (
            "T3",
            "DSO sends 0 kW, the minimum profile is 6 kW",
            "command rejected, negative confirm, nothing changes",
        ),
        ("T4", "a charger consumes 7.2 kW", "M_ME_TF_1 with value 7200"),
    ]
    assert scenarios[1].runs == (Run.DROP, Run.SILENCE)


def test_the_shipped_scenarios_follow_as_people_count_and_each_looks_at_the_wire_and_at_the_units() -> None:
    scenarios = load_all(SHIPPED)
    assert [one.test for one in scenarios] == [f"T{number}" for number in range(1, 11)]
    for one in scenarios:
        assert {expected.subject.at_the_units for step in one.steps for expected in step.then} == {False, True}, (
            one.test
        )


@pytest.mark.parametrize("scenario", load_all(SHIPPED), ids=lambda one: one.test)
async def test_what_a_shipped_scenario_configures_is_a_configuration_of_the_bridge(scenario: Scenario) -> None:
    world = World(REAL_TIME, overrides=scenario.configuration, profiles=scenario.profiles)
    file = written(world.folder, world.configuration)
    by_serial = {entry.serial: entry for entry in settings.load(file, {}).chargers}
    changed = scenario.configuration.get("chargers", {})
    assert changed.keys() <= by_serial.keys()
    assert all(getattr(by_serial[serial], key) == value for serial in changed for key, value in changed[serial].items())
    await world.close()


def test_only_picks_tests_by_name_whatever_the_case() -> None:
    assert [one.test for one in load_all(SHIPPED, frozenset({"t3"}))] == ["T3"]
    with pytest.raises(ScenarioError, match="no scenario called T99"):
        load_all(SHIPPED, frozenset({"T99"}))


def test_powers_and_times_are_read_with_their_units() -> None:
    t4 = load_all(SHIPPED, frozenset({"t4"}))[0]
    (step,) = t4.steps
    assert (step.action, step.charger, step.power_w) == (Action.CHARGER_WANTS, 0, 7200.0)
    at_the_unit, on_the_wire = step.then
    assert (at_the_unit.subject, at_the_unit.low, at_the_unit.high) == (Subject.POWER_OF_CHARGER, 7190.0, 7210.0)
    assert (on_the_wire.type_name, on_the_wire.time_tag, on_the_wire.number) == ("M_ME_TF_1", True, 1000)


def test_limits_in_turn_a_charger_that_lies_and_plain_counts_are_read(tmp_path: Path) -> None:
    steps = [
        {"at": "0 s", "do": "set limits in turn", "to": ["20 kW", "50 kW"], "every": "0.5 s", "for": "1 min"},
        {"at": "1 s", "do": "charger ignores its limit", "charger": 1, "then": []},
        {"at": "2 s", "do": "watch", "then": [{"on the wire": "point 204", "value": 1, "within": "5 s"}]},
        {"at": "2 s", "do": "watch", "then": [{"at the units": "units that charge", "at most": 3, "within": "5 s"}]},
    ]
    in_turn, lie, count, units = load(written(tmp_path, T1 | {"steps": steps})).steps
    assert (in_turn.limits_w, in_turn.every, in_turn.lasting) == (
        (20_000.0, 50_000.0),
        Duration(seconds=0.5),
        Duration(minutes=1),
    )
    assert (lie.charger, CHARGER_ORDERS[lie.action]) == (1, {"behaviour": "ignores"})
    assert (count.then[0].low, count.then[0].high) == (1.0, 1.0)
    assert count.then[0].text == "on the wire: point 204 1 within 5 s"
    assert (units.then[0].subject, units.then[0].high) == (Subject.CHARGING_UNITS, 3.0)


def test_minutes_are_shortened_and_seconds_are_not() -> None:
    time = Duration(seconds=5, minutes=5, noticed=1)
    assert time.at(Pace(), Run.DROP) == 306
    assert time.at(Pace(), Run.SILENCE) == 340
    assert time.at(Pace(minute_s=1, silence_s=6), Run.SILENCE) == 16


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"steps": []}, "steps: must be a list"),
        ({"set up": {"limit": "50 kW"}}, "set up: does not say every charger wants, wait until power of all"),
        ({"set_up": 1}, "the file: set_up is unknown"),
        ({"runs": ["it rains"]}, "runs: it rains is unknown: the TCP connection drops"),
        ({"steps": [{"at": "0 s", "do": "dance"}]}, "step 1: do: dance is unknown: set limit"),
        ({"steps": [{"at": "0 s", "do": "set limit"}]}, "step 1: does not say to"),
        ({"steps": [{"at": "soon", "do": "watch"}]}, "step 1: at: soon is no time"),
        ({"steps": [{"do": "watch"}]}, "step 1: say either at or after"),
        ({"steps": [{"at": "0 s", "do": "set limit", "to": 20}]}, "step 1: 20 is no power: write 20 kW"),
        ({"steps": "none"}, "steps: must be a list"),
        ({"steps": [{"at": "0 s", "do": "charger vanishes"}]}, "step 1: does not say charger"),
        (
            {"steps": [{"at": "0 s", "do": "set limits in turn", "to": [], "every": "1 s", "for": "9 s"}]},
            "step 1: to must list limits",
        ),
        (
            {"steps": [{"at": "0 s", "do": "set limits in turn", "to": ["1 kW"], "every": "0 s", "for": "9 s"}]},
            "step 1: to must list limits, and every be longer than 0 s",
        ),
        ({"bridge configuration": {"site": 5}}, "bridge configuration: must be sections"),
    ],
)
def test_nonsense_is_named_with_its_place_and_what_is_possible(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ScenarioError, match=r"one\.yaml: " + re.escape(problem)):
        load(written(tmp_path, T1 | change))


@pytest.mark.parametrize(
    ("expectation", "problem"),
    [
        ({"within": "5 s"}, "say either on the wire or at the units"),
        ({"on the wire": "power of all", "within": "5 s"}, "power of all: is not seen on the wire"),
        ({"at the units": "point 201", "within": "5 s"}, "point 201: is not seen at the units"),
        ({"on the wire": "point 201", "value": "5 kW"}, "point 201: say within, hold for or both"),
        ({"on the wire": "link", "within": "5 s"}, "link: is: must be up or down"),
        ({"on the wire": "answer to the command", "is": "nice", "within": "1 s"}, "must be positive or negative"),
        ({"on the wire": "point x", "within": "5 s"}, "point x is unknown: answer to the command"),
        ({"on the wire": "point 5", "within": "5 s", "type": "M_XX"}, "type: M_XX is unknown"),
        ({"on the wire": "point 5", "within": "5 s", "wihtin": 1}, "wihtin is unknown"),
    ],
)
def test_an_expectation_that_makes_no_sense_is_named(tmp_path: Path, expectation: dict[str, Any], problem: str) -> None:
    step = {"at": "0 s", "do": "watch", "then": [expectation]}
    with pytest.raises(ScenarioError, match=r"step 1: then: .*" + re.escape(problem)):
        load(written(tmp_path, T1 | {"steps": [step]}))


@pytest.mark.parametrize("text", ["a: [", "just words", "[1, 2]", "#" * 100_001])
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScenarioError, match=r"one\.yaml"):
        load(written(tmp_path, text))


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="name a scenario file"):
        load_all(tmp_path)
