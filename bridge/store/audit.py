"""The records on disk: append-only files, one a month, chained by hashes and signed at checkpoints."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bridge.store.chain import CHECKPOINT, DROPPED, Head, encoded, record_of, segments, signature
from bridge.store.database import StoreError
from bridge.store.shelf import Shelf

KEY_FILE: Final = "key.pem"
PUBLIC_KEY_FILE: Final = "public.pem"
WRITE_AFTER_S: Final = 1.0
WRITE_NEXT_AFTER_S: Final = 0.05
WRITTEN_AT_ONCE: Final = 200  # so that no order waits long for a file nobody is in a hurry for
CHECKPOINT_EVERY_MS: Final = 300_000
MAX_WAITING: Final = 50_000
_ROOM: Final = "audit"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is on disk for good, as the database knows it: up to this head, in that file, of so many bytes.

    `sequence` is the number of the last journalled event that the records cover.
    """

    segment: str = ""
    size: int = 0
    head: Head = field(default_factory=Head)
    sequence: int = 0


class Audit:
    """Appends records; nothing is ever changed. What was kept is written within a second or so, in small parts.

    Behind the anchor, which `seal` moves, nothing is owed to the disk: the next start cuts it off, and it is recorded
    again from the journal, which has it. So a crash at any moment leaves neither a gap nor a torn line, and nobody who
    adds lines behind the newest checkpoint has them signed. `broken` is called with a sentence when the files are not
    what the anchor says, and when they can no longer be written; the service goes on. The constructor raises
    StoreError.
    """

    def __init__(
        self,
        folder: Path,
        shelf: Shelf,
        call_later: Callable[[float, Callable[[], None]], object],
        broken: Callable[[str], None] = lambda _: None,
        *,
        months: int = 24,
        utc_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._folder = folder
        self._shelf = shelf
        self._call_later = call_later
        self._broken = broken
        self._months = months
        self._utc_ms = utc_ms
        self._waiting: list[tuple[int, str, dict[str, Any]]] = []
        self._failed = False
        self._missing = 0
        self._segment: Path | None = None
        self.head = self.signed = Head()
        self.sequence = 0
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._key = _own_key(folder)
            self._go_on()
        except (OSError, ValueError) as error:
            raise StoreError(f"{folder}: {error}: check the folder and its rights") from error
        self._sealed_ms = utc_ms()

    def _go_on(self) -> None:
        """Take up the chain where the anchor says; set all aside if the files are not what it says."""
        text = self._shelf.get(_ROOM, "anchor")
        anchor = Anchor() if text is None else _unpacked(text)
        self.sequence = anchor.sequence
        why = self._differs(anchor)
        if why is not None:
            aside = self._folder / f"aside-{self._utc_ms()}"
            aside.mkdir()
            for path in (*segments(self._folder), *self._folder.glob(PUBLIC_KEY_FILE)):
                path.replace(aside / path.name)
            log.critical("the records are not what they were: set aside, a new chain begins", why=why, where=str(aside))
            self.keep("records_set_aside", {"why": why, "anchor": str(anchor.head), "folder": aside.name})
            self._broken(why)
        (self._folder / PUBLIC_KEY_FILE).write_text(self._public_pem(), encoding="ascii")
        self._shelf.put(_ROOM, "public_key", self._public_pem())
        if why is not None:
            return
        for path in segments(self._folder):
            if path.name > anchor.segment:
                path.unlink()
        if anchor.segment:
            self._segment, self.head, self.signed = self._folder / anchor.segment, anchor.head, anchor.head
            os.truncate(self._segment, anchor.size)

    def _differs(self, anchor: Anchor) -> str | None:
        """What is wrong with the newest file, in a sentence; the whole chain is `gridlimit audit verify`'s business."""
        there = segments(self._folder)
        if not anchor.segment:
            return f"{there[-1].name} is there, and the journal knows of no records" if there else None
        if self._shelf.get(_ROOM, "public_key") not in (None, self._public_pem()):
            return f"{KEY_FILE} is another key than before"
        path = self._folder / anchor.segment
        if not path.is_file():
            return f"{path.name} is missing"
        if path.stat().st_size < anchor.size:
            return f"{path.name} was cut off: it has {path.stat().st_size} bytes instead of {anchor.size}"
        with path.open("rb") as file:
            last = file.read(anchor.size).rsplit(b"\n", 2)[-2:]
        if len(last) != 2 or last[1] or not last[0].startswith(anchor.head.digest.encode()):  # noqa: PLR2004  line, rest
            return f"{path.name} was changed: it does not end with record {anchor.head.number}"
        return None

    def _public_pem(self) -> str:
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.public_key.public_bytes(*form).decode("ascii")

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What checkpoints are verified with."""
        return self._key.public_key()

    def keep(self, kind: str, fields: dict[str, Any], utc_ms: int | None = None) -> None:
        """Have a record written soon. Fields are JSON data without secrets."""
        if self._failed or len(self._waiting) >= MAX_WAITING:
            self._missing += 1
            return
        self._waiting.append((self._utc_ms() if utc_ms is None else utc_ms, kind, fields))
        if len(self._waiting) == 1:
            self._call_later(WRITE_AFTER_S, self._write_some)

    def note(self, kind: str, fields: dict[str, Any]) -> None:
        """Record what is in no journal; on disk, and signed, when this returns."""
        self.keep(kind, fields)
        self.seal()

    def seal(self) -> None:
        """Write all that waits and sign it; on disk when this returns, and no crash takes it back."""
        while self._waiting and not self._failed:
            self._write(WRITTEN_AT_ONCE)
        self._sealed_ms = self._utc_ms()
        if self._failed:
            return
        try:
            if self.head != self.signed:
                self._append([(self._sealed_ms, CHECKPOINT, {})])
            if self._segment is None:
                return
            with self._segment.open("rb+") as file:
                os.fdatasync(file.fileno())
                size = file.seek(0, os.SEEK_END)
            anchor = [self._segment.name, size, self.head.number, self.head.digest, self.sequence]
            self._shelf.put(_ROOM, "anchor", json.dumps(anchor))
        except (OSError, StoreError) as error:
            self._fail(error)
            return
        if self.head != self.signed:
            self.signed = self.head
            log.info("records signed", number=self.head.number, head=self.head.digest)

    def prune(self) -> None:
        """Drop the oldest files beyond the months kept, whole, each with a record that says so."""
        try:
            self._prune()
        except (OSError, ValueError) as error:
            log.error("the oldest records cannot be dropped", why=str(error))  # noqa: TRY400

    def _prune(self) -> None:
        for path in segments(self._folder)[: -self._months - 1]:
            with path.open("rb") as file:
                last = file.read().rsplit(b"\n", 2)[-2]
            self.note(DROPPED, {"segment": path.name, "last": record_of(last)["number"], "digest": last[:64].decode()})
            if self._failed:
                return
            path.unlink()
            log.info("the oldest records were dropped", segment=path.name, months_kept=self._months)

    def _write_some(self) -> None:
        self._write(WRITTEN_AT_ONCE)
        if self._waiting:
            self._call_later(WRITE_NEXT_AFTER_S, self._write_some)
        elif self._utc_ms() - self._sealed_ms >= CHECKPOINT_EVERY_MS:
            self.seal()

    def _write(self, number: int) -> None:
        batch, self._waiting = self._waiting[:number], self._waiting[number:]
        if self._missing:
            batch.append((batch[-1][0], "not_recorded", {"records": self._missing}))
            self._missing = 0
        try:
            self._append(batch)
        except OSError as error:
            self._fail(error)

    def _append(self, batch: list[tuple[int, str, dict[str, Any]]]) -> None:
        written, head = b"", self.head
        for utc_ms, kind, fields in batch:
            segment = self._folder / f"{datetime.fromtimestamp(utc_ms / 1000, UTC):%Y-%m}.jsonl"
            if self._segment is None or segment.name > self._segment.name:
                self._put(written, head)
                written, self._segment = b"", segment
                head, line = encoded(head, utc_ms, "segment_opened", {"previous": head.digest})
                written += line
            said = {"signature": signature(self._key, head)} if kind == CHECKPOINT else fields
            head, line = encoded(head, utc_ms, kind, said)
            written += line
        self._put(written, head)

    def _put(self, written: bytes, head: Head) -> None:
        if written and self._segment is not None:
            is_new = not self._segment.exists()
            with self._segment.open("ab") as file:
                file.write(written)
            if is_new:
                _sync_folder(self._folder)
        self.head = head

    def _fail(self, error: Exception) -> None:
        self._failed = True
        self._waiting.clear()
        log.critical("nothing can be recorded any more: a restart goes on from the journal", why=str(error))
        self._broken(str(error))


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a PEM file. OSError or ValueError if there is none."""
    key = serialization.load_pem_public_key(path.read_bytes())
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path}: is no Ed25519 key")  # noqa: TRY004  a file, not an argument
    return key


def kept_head(shelf: Shelf) -> Head:
    """The head of the newest checkpoint, as the database knows it."""
    text = shelf.get(_ROOM, "anchor")
    return Head() if text is None else _unpacked(text).head


def _unpacked(text: str) -> Anchor:
    segment, size, number, digest, sequence = json.loads(text)
    return Anchor(segment, size, Head(number, digest), sequence)


def _own_key(folder: Path) -> Ed25519PrivateKey:
    """The key that signs, made at the first start; only its owner may read it."""
    path = folder / KEY_FILE
    if not path.exists():
        made = Ed25519PrivateKey.generate()
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(folder)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path.name} is no Ed25519 key: move it away")  # noqa: TRY004  a file, not an argument
    return key


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
