"""Claims about what a row and a bar show of a charger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.dashboard.charts import ALARM, bars_of
from bridge.dashboard.table import look_of, row_of
from bridge.dashboard.words import Words
from tests.web.site_at_hand import SiteAtHand


def charger(folder: Path, **changes: Any) -> dict[str, Any]:
    return SiteAtHand(folder)._charger("S4-0000") | changes


@pytest.mark.parametrize(
    ("changes", "look", "state"),
    [
        ({"active": True}, "charging", "lädt"),
        ({"active": True, "granted_w": 0}, "paused", "pausiert"),
        ({"active": False}, "ready", "bereit"),
        ({"connected": False}, "offline", "offline"),
        ({"out_of_service": True, "connected": False}, "out of service", "außer Betrieb"),
        ({"counted_as": "refused its limit"}, "alarm", "lehnt die Grenze ab"),
    ],
)
def test_the_state_of_a_charger_is_one_word(tmp_path: Path, changes: dict[str, Any], look: str, state: str) -> None:
    shown = charger(tmp_path, **changes)
    assert (look_of(shown), row_of(shown, Words("de"))["state"]) == (look, state)


def test_a_value_that_is_old_or_not_believed_is_not_shown_as_power(tmp_path: Path) -> None:
    power = {"value": 7_200, "utc_ms": 0, "valid": True, "stale": False}
    for changes, shown in (({}, 7_200), ({"stale": True}, None), ({"valid": False}, None)):
        assert row_of(charger(tmp_path, power_w=power | changes), Words("en"))["power"] == shown
    assert row_of(charger(tmp_path, power_w=None), Words("en"))["power"] is None


def test_who_draws_more_than_granted_stands_out(tmp_path: Path) -> None:
    power = {"value": 7_200, "utc_ms": 0, "valid": True, "stale": False}
    obeys = charger(tmp_path, power_w=power, granted_w=8_000)
    disobeys = obeys | {"counted_as": "draws more than granted"}
    gone = obeys | {"connected": False}
    grants, powers = bars_of([obeys, disobeys, gone])
    assert grants == [8.0, 8.0, 8.0]
    assert powers == [7.2, {"value": 7.2, "itemStyle": {"color": ALARM}}, None]
