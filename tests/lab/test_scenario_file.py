"""Scenario files: the shipped ones say what the table of the contract says, and nonsense is named with its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.lab.scenario_file import Action, Duration, Pace, Run, ScenarioError, Subject, load, load_all

SHIPPED = Path(__file__).parents[2] / "scenarios"
T1 = yaml.safe_load((SHIPPED / "t1_setpoint_change.yaml").read_text(encoding="utf-8"))


def written(folder: Path, data: Any) -> Path:
    file = folder / "one.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return file


def test_the_shipped_scenarios_are_the_four_of_the_user() -> None:
    scenarios = load_all(SHIPPED)
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
    assert all(any(expected.subject.at_the_units for step in one.steps for expected in step.then) for one in scenarios)


def test_only_picks_tests_by_name_whatever_the_case() -> None:
    assert [one.test for one in load_all(SHIPPED, frozenset({"t3"}))] == ["T3"]
    with pytest.raises(ScenarioError, match="no scenario called T9"):
        load_all(SHIPPED, frozenset({"T9"}))


def test_powers_and_times_are_read_with_their_units() -> None:
    t4 = load_all(SHIPPED, frozenset({"t4"}))[0]
    (step,) = t4.steps
    assert (step.action, step.charger, step.power_w) == (Action.CHARGER_WANTS, 0, 7200.0)
    at_the_unit, on_the_wire = step.then
    assert (at_the_unit.subject, at_the_unit.low, at_the_unit.high) == (Subject.POWER_OF_CHARGER, 7190.0, 7210.0)
    assert (on_the_wire.type_name, on_the_wire.time_tag, on_the_wire.number) == ("M_ME_TF_1", True, 1000)


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
