"""Shows what scenarios measured: the table for a person, JSON and JUnit for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from rich.table import Table

from bridge.lab.judgement import Verdict
from bridge.lab.player import Result

_COLOURS = {Verdict.PASSED: "green", Verdict.FAILED: "bold red"}


def name(result: Result) -> str:
    """The test and its title, and how the link was broken where a test has several runs."""
    run = f" ({result.run.value})" if result.run.value else ""
    return f"{result.scenario.test} – {result.scenario.title}{run}"


def table(results: Sequence[Result], minute_s: float) -> Table:
    """The table of the results, one row a run; its title says how long a minute lasted."""
    shown = Table(title=f"Scenarios, a minute played in {minute_s:g} s", show_lines=True)
    for column in ("Test", "Description", "Expected", "Measured", "Verdict"):
        shown.add_column(column, overflow="fold")
    for result in results:
        colour = _COLOURS.get(result.verdict, "yellow")
        shown.add_row(
            name(result),
            result.scenario.description,
            result.scenario.expected,
            result.measured,
            f"[{colour}]{result.verdict.value}[/]",
        )
    return shown


def as_json(results: Sequence[Result]) -> str:
    """All results with every check of theirs, times in s."""
    return json.dumps([_plain(result) for result in results], ensure_ascii=False, indent=2) + "\n"


def _plain(result: Result) -> dict[str, Any]:
    return {
        "test": result.scenario.test,
        "title": result.scenario.title,
        "run": result.run.value,
        "description": result.scenario.description,
        "expected": result.scenario.expected,
        "measured": result.measured,
        "verdict": result.verdict.value,
        "seconds": round(result.seconds, 3),
        "checks": [
            {
                "check": check.expected.text,
                "verdict": check.judgement.verdict.value,
                "measured": check.judgement.measured,
            }
            for check in result.checks
        ],
    }


def as_junit(results: Sequence[Result]) -> str:
    """The results as JUnit XML, one test case a run."""
    failures = sum(result.verdict is Verdict.FAILED for result in results)
    suite = ET.Element("testsuite", name="gridlimit scenarios", tests=str(len(results)), failures=str(failures))
    for result in results:
        case = ET.SubElement(suite, "testcase", name=name(result), classname="scenarios", time=f"{result.seconds:.3f}")
        if result.verdict is Verdict.FAILED:
            ET.SubElement(case, "failure", message=result.measured)
        if result.verdict is Verdict.NOT_JUDGED:
            ET.SubElement(case, "skipped", message=result.measured)
        lines = (f"{c.expected.text}: {c.judgement.measured} – {c.judgement.verdict.value}" for c in result.checks)
        ET.SubElement(case, "system-out").text = "\n".join(lines)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
