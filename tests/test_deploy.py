"""What stands in deploy/: every metric that is asked for exists, and every file is what its reader understands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bridge.core.messages import ChargerConnected, MeterSampled, SetpointReceived
from bridge.core.quantities import Now
from bridge.core.site import new_site
from bridge.settings import load, plan
from bridge.web.metrics import exposition
from tests.core.bench import charger_plan, site_plan
from tests.web.test_metrics import Watched, gauges_of

DEPLOY = Path(__file__).parent.parent / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
DASHBOARD = DEPLOY / "grafana" / "gridlimit.json"
NAME = re.compile(r"\b(?:gridlimit|process)_[a-z_]+\b")


def known_names() -> set[str]:
    """Every sample name that a page can have."""
    bench = Watched(site_plan(charger_plan(0)))
    bench.watch(SetpointReceived(1, "m", 20_000.0, 20_000), ChargerConnected("S4-0000"))
    bench.watch(MeterSampled("S4-0000", bench.utc_ms, 7_200))
    names = set()
    for family in text_string_to_metric_families("".join(exposition(bench.figures, gauges_of(bench)))):
        suffixes = ("_bucket", "_sum", "_count") if family.type == "histogram" else ("",)
        names |= {family.name + ("_total" if family.type == "counter" else "") + suffix for suffix in suffixes}
    return names


def expressions() -> Iterator[tuple[str, str]]:
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]
    board = json.loads(DASHBOARD.read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def test_every_metric_that_a_rule_or_a_panel_names_exists() -> None:
    known = known_names()
    asked = {(title, name) for title, expression in expressions() for name in NAME.findall(expression)}
    assert len(asked) > 25
    assert {(title, name) for title, name in asked if name not in known} == set()


def test_every_panel_has_a_place_of_its_own_and_a_unit_of_the_field() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_says_what_and_what_to_do() -> None:
    for rule in yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: apt-get install prometheus")
def test_promtool_understands_rules_and_the_page(tmp_path: Path) -> None:
    run = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    bench = Watched(site_plan(charger_plan(0)))
    bench.watch(SetpointReceived(1, "m", 20_000.0, 20_000))
    page = tmp_path / "page"
    page.write_text("".join(exposition(bench.figures, gauges_of(bench))))
    with page.open() as text:
        lint = subprocess.run(["promtool", "check", "metrics"], stdin=text, capture_output=True, text=True, check=False)
    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize("path", sorted((DEPLOY / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_is_a_configuration_that_runs(path: Path) -> None:
    settings = load(path, {})
    assert settings.data_dir == Path("/var/lib/gridlimit")  # where the unit may write
    assert len(settings.chargers) >= 8
    assert plan(settings).fallback_w <= plan(settings).capacity_w
    site = new_site(plan(settings), "boot", Now(1_000, 1_000))
    assert site.limit.power_w <= settings.site.capacity_w


def test_the_example_for_14a_leaves_what_the_ruling_says() -> None:
    settings = load(DEPLOY / "examples" / "enwg-14a.yaml", {})
    assert plan(settings).min_limit_w == settings.fallback.limit_w == 4_200 + 9 * 45 * 4_200 // 100


def test_the_park_leaves_no_more_than_the_fallback_limit_if_the_bridge_dies() -> None:
    settings = load(DEPLOY / "examples" / "park-1mw.yaml", {})
    assert settings.site.require_floors
    assert settings.iec104.tls is not None
    assert all(entry.security_profile == 3 for entry in settings.chargers)
