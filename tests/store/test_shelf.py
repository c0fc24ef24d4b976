"""Claims about the shelf: what was put there is found again, and what is damaged is not passed off as whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.store.database import Database, StoreError
from bridge.store.shelf import Shelf


def test_texts_are_found_by_room_and_key_after_a_restart(tmp_path: Path) -> None:
    database = Database(tmp_path / "control.db")
    shelf = Shelf(database)
    shelf.put("transactions", "S4-2", "old")
    shelf.put("transactions", "S4-2", "new")
    shelf.put("transactions", "S4-1", "")
    shelf.put("boots", "S4-1", "other room")
    database.close()
    again = Shelf(Database(tmp_path / "control.db"))
    assert again.get("transactions", "S4-2") == "new"
    assert again.get("transactions", "S4-3") is None
    assert list(again.items("transactions")) == [("S4-1", ""), ("S4-2", "new")]


def test_a_text_may_be_taken_away_while_the_room_is_walked_through(tmp_path: Path) -> None:
    shelf = Shelf(Database(tmp_path / "control.db"))
    for key in "abc":
        shelf.put("room", key, key)
    for key, _ in shelf.items("room"):
        shelf.delete("room", key)
    shelf.delete("room", "never there")
    assert list(shelf.items("room")) == []


def test_a_damaged_text_is_refused(tmp_path: Path) -> None:
    database = Database(tmp_path / "control.db")
    shelf = Shelf(database)
    shelf.put("room", "key", "value")
    database.connection.execute("UPDATE shelf SET value = 'valve'")
    with pytest.raises(StoreError, match="room/key is damaged"):
        shelf.get("room", "key")
    with pytest.raises(StoreError, match="room/key is damaged"):
        shelf.items("room")
