"""Seeded worlds: whatever is lost, late, refused, rebooted or killed, the promises of the limit hold."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path

import pytest

from bridge.lab.virtual import FAULTS, World
from bridge.lab.virtual_compiled import digest, digest_of, prepare
from bridge.lab.virtual_planted import BUGS, Bug, Edit, Outdated, planted
from bridge.lab.virtual_prove import (
    Failure,
    Setting,
    Total,
    catch,
    history,
    play,
    play_all,
    quiet,
    read,
    shorten,
    write,
)

FIXED = 270  # seeds; with the fresh ones and those that look at single things, more than 1,000 site-hours
FRESH = 18
CHUNK = 6
HOURS = 3.0
TRIED = (
    "an unanswered order is forgotten",
    "raise before cut",
    "0 W is no limit",
    "deadlines on the wall clock",
    "a lease is over when it ends on our clock",
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()


def assert_kept(seeds: Iterable[int]) -> Total:
    total = Total()
    for seed in seeds:
        print("seed", seed)  # noqa: T201  shown where it fails
        tally, failure = play(Setting(seed, HOURS))
        assert failure is None, told(failure)
        total.add(tally, 0.0)
    return total


def told(failure: Failure, cpu_s: float = 60.0) -> str:
    """The shortest history that is soon found, and how to play it again."""
    short = shorten(failure, cpu_s)
    world = short.world
    lines = [f"seed {failure.world.seed}, {failure.at_s:.3f} s: {failure.why}", *history(short)[-40:]]
    lines.append(f"the shortest found: seed {world.seed} without {', '.join(world.without)}: {short.why}")
    lines.append(f"play it again with: gridlimit prove {failure.world.seed} --hours {failure.world.hours:g}")
    return "\n".join(lines)


@pytest.mark.parametrize("first", range(0, FIXED, CHUNK))
def test_no_seed_breaks_a_promise(first: int) -> None:
    total = assert_kept(range(first, first + CHUNK))
    assert total.faults.total() > CHUNK, "a world without faults proves nothing"
    assert total.terminations > 0, "a site that never reaches its limit proves nothing"


@pytest.mark.parametrize("_place", range(0, FRESH, CHUNK))
def test_no_fresh_seed_breaks_a_promise(_place: int) -> None:
    assert_kept(secrets.randbelow(1 << 31) for _ in range(CHUNK))


def test_every_kind_of_fault_strikes() -> None:
    faults = sum((World(seed, 2.0).run().faults for seed in range(40)), start=Total().faults)
    assert faults.keys() == FAULTS.keys()


def test_the_same_seed_gives_the_same_world_to_the_byte() -> None:
    worlds = [World(7), World(7)]
    tallies = [world.run() for world in worlds]
    assert tallies[0] == tallies[1]
    assert worlds[0].journal.records == worlds[1].journal.records
    assert worlds[0].journal.state == worlds[1].journal.state


@pytest.mark.parametrize("name", TRIED)
def test_a_planted_bug_is_caught(name: str) -> None:
    (bug,) = (bug for bug in BUGS if bug.name == name)
    failure, _ = catch(bug, cpu_s=10.0)
    assert failure is not None


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_still_finds_the_words_of_the_core_that_it_changes(bug: Bug) -> None:
    with planted(bug):
        pass


def test_at_least_25_bugs_are_planted_each_under_its_own_name() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 25


def test_a_bug_is_gone_when_it_has_been_caught() -> None:
    assert catch(BUGS[0])[0] is not None
    assert play(Setting(BUGS[0].seed, 0.5))[1] is None


def test_a_bug_that_no_longer_fits_the_core_is_said_to_be_outdated() -> None:
    from bridge.core import site  # noqa: PLC0415

    bug = Bug("nonsense", 0, (Edit(site, site, "step", "what it never says", ""),))
    with pytest.raises(Outdated, match="what it never says"), planted(bug):
        pass


def test_a_failing_world_is_written_shortened_and_read_back(tmp_path: Path) -> None:
    (bug,) = (bug for bug in BUGS if bug.name == "an unanswered order is forgotten")
    failure, _ = catch(bug)
    assert failure is not None

    with planted(bug):
        short = shorten(failure, cpu_s=5.0)
        assert short.at_s <= failure.at_s or len(short.world.without) > 0
        write(short, tmp_path / "world.yaml")
        again = play(read(tmp_path / "world.yaml"))[1]
        assert f"gridlimit prove {failure.world.seed} --hours 2" in told(failure, cpu_s=0.0)
    assert again == short
    assert "history" in (tmp_path / "world.yaml").read_text()


def test_the_copy_that_is_compiled_plays_the_same_worlds(tmp_path: Path) -> None:
    prepare(tmp_path)
    assert (tmp_path / "MADE_OF").read_text().endswith(", compiled")
    assert digest_of(tmp_path) == digest()


def test_a_file_without_a_world_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("name: T1\n")
    with pytest.raises(ValueError, match=r"other\.yaml holds no world"):
        read(tmp_path / "other.yaml")


def test_worlds_are_played_on_all_cores_until_told() -> None:
    total = play_all(iter([Setting(seed, 0.5) for seed in range(8)]), 2, None)
    assert (total.seeds, total.hours, total.failures) == (8, 4.0, list[Failure]())
    assert "8 seeds, 4 site-hours" in total.sentence()
