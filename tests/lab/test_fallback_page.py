"""The drawing of the fallback is the table of the core, and its words say of each state what the core does there."""

from __future__ import annotations

import re

from bridge.core.fallback import TABLE, LinkState, Supervision, Trigger
from bridge.lab import fallback_drawing, fallback_page


def test_the_drawing_has_every_change_of_state_and_no_other() -> None:
    moves = {(state, target) for state, row in TABLE.items() for target in row.values() if target is not state}
    assert set(fallback_drawing.changes()) == set(fallback_drawing.ARROWS) == moves
    words = re.findall(r"<text [^>]*>([^<]*)</text>", fallback_drawing.drawing())
    told = [word for word in words if word in {trigger.value for trigger in Trigger}]
    assert len(told) == sum(target is not state for state, row in TABLE.items() for target in row.values())


def test_the_words_name_the_fallback_limit_in_exactly_the_states_that_obey_it() -> None:
    assert list(fallback_page.HOLDER) == list(LinkState)
    assert list(fallback_page.WHEN) == list(Trigger)
    named = {state for state, (holder, _) in fallback_page.HOLDER.items() if holder == "the fallback limit"}
    assert named == {state for state in LinkState if Supervision(state, 0).falls_back}
