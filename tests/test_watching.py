"""Whoever watches the engine can fail without costing the limit anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.messages import Alive
from bridge.core.quantities import Now
from bridge.settings import load
from bridge.store.chain import lines, record_of, segments
from bridge.store.database import Database
from bridge.store.shelf import Shelf
from bridge.watching import Watching
from tests.core.bench import Bench, charger_plan, site_plan
from tests.test_reload import configured


def watching(folder: Path, **changes: Any) -> Watching:
    settings = load(configured(folder, lambda said: said["site"].update(changes)), {})
    shelf = Shelf(Database(folder / "data" / "bridge.db"))
    made = Watching(
        settings, shelf, lambda: Now(1_000, 1_795_000_000_000), lambda _delay_s, _call: None, lambda _: None
    )
    made.started(settings)
    return made


def kinds(folder: Path) -> list[dict[str, Any]]:
    return [record_of(line) for _place, line in lines(segments(folder / "data" / "audit"))]


def test_a_bug_in_the_records_is_said_once_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, bench = watching(tmp_path), Bench(site_plan(charger_plan(0)))

    def stumble(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(watched._recorder, "observe", stumble)
    with capture_logs() as log:
        for sequence in range(3):
            watched.observe(sequence, Alive(), bench.now, [], bench.site)
    assert [line["event"] for line in log] == ["an event could not be recorded"]


def test_a_start_records_release_key_and_what_differs_from_the_configuration_before(tmp_path: Path) -> None:
    first = watching(tmp_path)
    (started,) = [record for record in kinds(tmp_path) if record["kind"] == "service_started"]
    assert len(started["public_key"]) == 64
    first._shelf._database.close()
    watching(tmp_path, capacity_w=80_000)
    changed = [record["changed"] for record in kinds(tmp_path) if record["kind"] == "configuration_changed"][-1]
    assert changed == {"site.at_start_w": [100_000, 80_000], "site.capacity_w": [100_000, 80_000]}
