"""A recorded journal played again gives the same effects and leads to the states that were kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.core import codec
from bridge.core.messages import Alive, LinkChanged, SetpointReceived
from bridge.core.quantities import Now
from bridge.engine import Engine
from bridge.lab.virtual import World
from bridge.lab.virtual_prove import quiet
from bridge.replay import ReplayError, replay
from bridge.store.database import Database
from bridge.store.journal import Journal
from tests.core.bench import UTC_MS, charger_plan, site_plan

PLAN = site_plan(charger_plan(0))


def recorded(path: Path, setpoints: int = 3) -> list[str]:
    """A day of a small service, in a file; its effects as text."""
    clock = [1_000_000]
    effects: list[str] = []
    database = Database(path)
    engine = Engine(
        Journal(database),
        lambda: Now(clock[0], UTC_MS + clock[0]),
        lambda sent: effects.extend(str(effect) for effect in sent),
        pytest.fail,
        lambda _: None,
    )
    engine.start(PLAN, "boot-1")
    engine.submit(LinkChanged(1))
    for command in range(setpoints):
        clock[0] += 1_000
        engine.submit(SetpointReceived(command, "10.0.0.1", 20_000.0 + command, 20_000 + command))
        engine.flush()
    engine.submit(Alive())
    engine.flush()
    engine.snapshot()
    database.close()
    return effects


def test_the_same_journal_gives_the_same_digest_and_the_kept_states(tmp_path: Path) -> None:
    recorded(tmp_path / "bridge.db")
    before = (tmp_path / "bridge.db").read_bytes()
    results = [CliRunner().invoke(app, ["replay", str(tmp_path / "bridge.db")]) for _ in range(2)]
    assert results[0].exit_code == 0, results[0].output
    assert results[0].output == results[1].output
    assert "led to 2 of 2 kept states" in results[0].output
    assert "SetpointReceived command=2" in results[0].output
    assert "-> Confirm command=2" in results[0].output
    assert (tmp_path / "bridge.db").read_bytes() == before


def test_another_setpoint_gives_another_digest(tmp_path: Path) -> None:
    digests = set()
    for setpoints in (3, 4):
        path = tmp_path / f"{setpoints}.db"
        recorded(path, setpoints)
        digests.add(CliRunner().invoke(app, ["replay", "--quiet", str(path)]).output.splitlines()[-1])
    assert len(digests) == 2


def test_a_running_service_is_not_disturbed(tmp_path: Path) -> None:
    recorded(tmp_path / "bridge.db")
    database = Database(tmp_path / "bridge.db")
    result = CliRunner().invoke(app, ["replay", "--quiet", str(tmp_path / "bridge.db")])
    assert result.exit_code == 0, result.output
    Journal(database).append(["[]"])
    database.close()


def test_a_state_that_does_not_follow_is_said(tmp_path: Path) -> None:
    recorded(tmp_path / "bridge.db")
    database = Database(tmp_path / "bridge.db")
    journal = Journal(database)
    kept = journal.snapshots()
    number = max(kept)
    wrong = kept | {number: kept[number].replace("20002", "20003")}
    with pytest.raises(ReplayError, match=f"after record {number} the state is not the one that was kept then"):
        replay(journal.tail(0), None, wrong)
    database.close()


def test_what_remains_of_a_pruned_journal_is_played_from_its_oldest_state(tmp_path: Path) -> None:
    recorded(tmp_path / "bridge.db")
    database = Database(tmp_path / "bridge.db")
    while Journal(database).prune(UTC_MS * 2):
        pass
    database.close()
    result = CliRunner().invoke(app, ["replay", str(tmp_path / "bridge.db")])
    assert result.exit_code == 0, result.output
    assert "led to 1 of 2 kept states" in result.output


@pytest.mark.parametrize("record", ['["Nonsense",1,1]', '["Alive",1,1]', "{"])
def test_a_record_that_cannot_be_played_is_named(record: str) -> None:
    with pytest.raises(ReplayError, match="record 1: "):
        replay([(1, record)], None, {})


def test_the_journal_of_a_seeded_world_gives_its_state_to_the_byte() -> None:
    quiet()
    world = World(11, 1.0)
    world.run()
    world.engine.flush()
    state, records = world.journal.newest_snapshot(), world.journal.records
    assert state is not None
    tail = list(enumerate(records, state[0] + 1))
    engine = codec.pack(world.engine.site)
    kept = {world.journal.last_sequence: json.dumps(engine, separators=(",", ":"))}
    assert replay(tail, state, kept).kept == 1
