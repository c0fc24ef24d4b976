"""The shelf: small texts by room and key, for what a room must find again after a restart."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from bridge.store.database import MOVE_AWAY, Database, StoreError
from bridge.store.group_commit import GroupCommit


class Shelf:
    """Each text carries a checksum. Methods raise StoreError when the file fails or a text read is damaged.

    With a `group`, what is put or deleted goes to disk together with all else of that loop turn, all or none; it
    can be read at once.
    """

    def __init__(self, database: Database, group: GroupCommit | None = None) -> None:
        self._database = database
        self._group = group
        self._on_its_way: dict[tuple[str, str], str | None] = {}

    def get(self, room: str, key: str) -> str | None:
        """The text under that key, None if there is none."""
        if (room, key) in self._on_its_way:
            return self._on_its_way[room, key]
        rows = self._database.rows("SELECT value, crc FROM shelf WHERE room = ? AND key = ?", (room, key))
        return self._verified(room, key, *rows[0]) if rows else None

    def put(self, room: str, key: str, value: str) -> None:
        """Set the text under that key: on disk when this returns."""
        self._write(
            (room, key, value),
            "INSERT OR REPLACE INTO shelf (room, key, value, crc) VALUES (?, ?, ?, ?)",
            (room, key, value, _crc(room, key, value)),
        )

    def items(self, room: str) -> Iterator[tuple[str, str]]:
        """Keys and texts of a room as they are now, in the order of their keys."""
        rows = self._database.rows("SELECT key, value, crc FROM shelf WHERE room = ? ORDER BY key", (room,))
        found: dict[str, str | None] = {key: self._verified(room, key, value, crc) for key, value, crc in rows}
        found |= {key: value for (of_room, key), value in self._on_its_way.items() if of_room == room}
        return iter(sorted((key, value) for key, value in found.items() if value is not None))

    def delete(self, room: str, key: str) -> None:
        """Take the text away, if there is one: gone from the disk when this returns."""
        self._write((room, key, None), "DELETE FROM shelf WHERE room = ? AND key = ?", (room, key))

    def _write(self, what: tuple[str, str, str | None], sql: str, bindings: tuple[str | int, ...]) -> None:
        if self._group is not None:
            room, key, value = what
            self._on_its_way[room, key] = value

            def written() -> None:
                if self._on_its_way.get((room, key)) is value:
                    self._on_its_way.pop((room, key), None)

            self._group.write(sql, bindings, written)
            return
        with self._database.transaction() as connection:
            connection.execute(sql, bindings)

    def _verified(self, room: str, key: str, value: str, crc: int) -> str:
        if crc != _crc(room, key, value):
            raise StoreError(f"{self._database.path}: {room}/{key} is damaged: {MOVE_AWAY}")
        return value


def _crc(room: str, key: str, value: str) -> int:
    return zlib.crc32(f"{room}\0{key}\0{value}".encode())
