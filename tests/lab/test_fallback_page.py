"""The page of the fallback is the table of the core, and its words say of each state what the core does there."""

from __future__ import annotations

from pathlib import Path

from bridge.core.fallback import TABLE, LinkState, Supervision, Trigger
from bridge.lab import fallback_page

PAGE = Path(__file__).parents[2] / "docs" / "fallback.md"


def test_the_committed_page_is_made_from_the_table() -> None:
    said = PAGE.read_text(encoding="utf-8")
    assert said == fallback_page.page(), "python -m bridge.lab.fallback_page > docs/fallback.md"


def test_the_drawing_has_every_change_of_state_and_no_other() -> None:
    arrows = [line.split(" : ") for line in fallback_page.drawing() if " --> " in line and not line.startswith("[*]")]
    drawn = {(*between.split(" --> "), trigger) for between, triggers in arrows for trigger in triggers.split(", ")}
    changes = {
        (state.value, target.value, trigger.value)
        for state, row in TABLE.items()
        for trigger, target in row.items()
        if target is not state
    }
    assert drawn == changes


def test_the_words_name_the_fallback_limit_in_exactly_the_states_that_obey_it() -> None:
    assert list(fallback_page.HOLDER) == list(LinkState)
    assert list(fallback_page.WHEN) == list(Trigger)
    named = {state for state, (holder, _) in fallback_page.HOLDER.items() if holder == "the fallback limit"}
    assert named == {state for state in LinkState if Supervision(state, 0).falls_back}
