"""A recorder below SQLite: every disk image that a power cut could have left behind, drawn by a seeded chance.

What was written since the last fdatasync of a file reaches the disk in any order, sector by sector, or not at all.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Write:
    file: str
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        content.extend(bytes(max(0, self.offset + len(self.data) - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data

    def sectors(self) -> list[Write]:
        """The parts of this write that reach the disk independently of each other."""
        first = SECTOR_BYTES - self.offset % SECTOR_BYTES
        cuts = [0, *range(first, len(self.data), SECTOR_BYTES), len(self.data)]
        return [Write(self.file, self.offset + start, self.data[start:end]) for start, end in itertools.pairwise(cuts)]


@dataclass(frozen=True, slots=True)
class Truncate:
    file: str
    size: int

    def apply(self, content: bytearray) -> None:
        del content[self.size :]

    def sectors(self) -> list[Truncate]:
        return [self]


@dataclass(frozen=True, slots=True)
class Sync:
    """`is_of_folder`: SQLite syncs the folder too, the first time it syncs a log or journal it has made."""

    file: str
    is_of_folder: bool


@dataclass(frozen=True, slots=True)
class Delete:
    file: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    records: int


class Recorder(apsw.VFS):
    """An SQLite VFS that writes down what the one below it is told; a test adds `Acknowledged` to the same log."""

    def __init__(self, name: str) -> None:
        self.log: list[Write | Truncate | Sync | Delete | Acknowledged] = []
        super().__init__(name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  SQLite's name
        return _RecordedFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.log.append(Delete(Path(filename).name))
        super().xDelete(filename, syncdir)

    def image(self, cut: int, chance: random.Random) -> dict[str, bytearray]:
        """What a power cut after `cut` operations may have left: content by file name."""
        disk: dict[str, bytearray] = {}
        deleted: dict[str, bytearray] = {}  # a name is gone for good once its folder is synced
        pending: dict[str, list[Write | Truncate]] = {}
        survival = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for operation in self.log[:cut]:
            if isinstance(operation, Sync):
                for written in pending.pop(operation.file, []):
                    written.apply(disk.setdefault(operation.file, bytearray()))
                if operation.is_of_folder:
                    deleted.clear()
            elif isinstance(operation, Delete):
                pending.pop(operation.file, None)
                content = disk.pop(operation.file, None)
                if content is not None:
                    deleted[operation.file] = content
            elif not isinstance(operation, Acknowledged):
                pending.setdefault(operation.file, []).append(operation)
        for file, writes in pending.items():
            for part in (part for written in writes for part in written.sectors()):
                if chance.random() < survival:
                    part.apply(disk.setdefault(file, bytearray()))
        risen = {file: content for file, content in deleted.items() if chance.random() >= survival}
        return risen | disk


class _RecordedFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self.recorder = recorder
        self.name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "").name
        is_log = self.name.endswith(("-wal", "-journal"))
        self.is_unsynced_name = is_log and bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self.recorder.log.append(Write(self.name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self.recorder.log.append(Truncate(self.name, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.recorder.log.append(Sync(self.name, self.is_unsynced_name))
        self.is_unsynced_name = False
        super().xSync(flags)
