"""Seeded worlds: whatever is lost, late, refused, rebooted or killed, the promises of the limit hold."""

from __future__ import annotations

import pytest

from bridge.core.charger import Charger
from bridge.core.plan import ChargerPlan
from bridge.core.quantities import Watts
from bridge.lab.virtual import Tally, Violation, World, prove

SEEDS = 200
CHUNK = 20


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_promise(first: int) -> None:
    tallies = [prove(seed, hours=1.0) for seed in range(first, first + CHUNK)]
    assert sum(tally.faults for tally in tallies) > CHUNK, "a world without faults proves nothing"
    assert sum(tally.terminations for tally in tallies) > 0, "a site that never reaches its limit proves nothing"


def test_the_same_seed_gives_the_same_world_to_the_byte() -> None:
    worlds = [World(7), World(7)]
    tallies: list[Tally] = [world.run(1.0) for world in worlds]
    assert tallies[0] == tallies[1]
    assert worlds[0].journal.records == worlds[1].journal.records
    assert worlds[0].journal.state == worlds[1].journal.state


def test_a_ledger_that_believes_in_acknowledgements_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def acknowledged_only(charger: Charger, plan: ChargerPlan) -> Watts:
        return 0 if plan.out_of_service else charger.grant_w or 0

    monkeypatch.setattr(Charger, "worst_case_w", acknowledged_only)
    with pytest.raises((Violation, AssertionError)):
        any(prove(seed) is None for seed in range(20))
