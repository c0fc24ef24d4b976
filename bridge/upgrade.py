"""A journal of another release: rewritten in the format of this one, or distrusted in words, never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Protocol

import structlog

from bridge.core import codec
from bridge.core.site import Site

log = structlog.get_logger(__name__)


class UpgradedJournal(Protocol):
    """What is needed of the journal; see there."""

    written: str | None

    @property
    def last_sequence(self) -> int:
        """The number of the newest record."""
        ...

    def newest_snapshot(self) -> tuple[int, str] | None:
        """The newest kept state and the number of the record it follows."""
        ...

    def tail(self, after: int) -> Iterable[tuple[int, str]]:
        """The records after that number."""
        ...

    def rewrite(self, written: str, state: str | None, records: Sequence[tuple[int, str]], readable_from: int) -> None:
        """Take up another format."""
        ...


def upgrade(journal: UpgradedJournal) -> str | None:
    """Let a start read the journal, whichever release wrote it. A sentence says why it cannot: distrust it then.

    What a start needs, the newest snapshot and the records after it, is read by the names of its fields and written
    anew at once. Where that is impossible the journal begins anew behind what is there, which stays for people.
    """
    current = json.dumps(codec.format_of(Site, *codec.EVENTS.values()))
    if journal.written == current:
        return None
    reader = codec.Reader(None if journal.written is None else json.loads(journal.written))
    newest = journal.newest_snapshot()
    after = 0 if newest is None else newest[0]
    try:
        state = None if newest is None else _packed(reader.unpack(Site, json.loads(newest[1])))
        records = [(number, codec.record(*reader.replayed(text))) for number, text in journal.tail(after)]
    except (ValueError, TypeError, KeyError) as problem:
        journal.rewrite(current, None, [], journal.last_sequence + 1)
        why = f"the journal is of another release and cannot be read ({problem}): the fallback limit holds"
        log.critical("starting in FALLBACK", why=why)
        return why
    journal.rewrite(current, state, records, after + 1)
    if newest is not None or records:
        log.info("the journal is now in the format of this release", records=len(records))
    return None


def _packed(site: Site) -> str:
    return json.dumps(codec.pack(site), separators=(",", ":"))
