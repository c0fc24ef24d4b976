"""A copy of a database while it is written to, in small parts, so that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw

from bridge.store.database import Database, StoreError

PAGES_AT_ONCE = 256  # a megabyte: about a millisecond


def copy(database: Database, path: Path) -> Iterator[None]:
    """Copy into a new file at `path`, a part at each turn; whole when it ends. What is written meanwhile is in it.

    Raises StoreError.
    """
    try:
        target = apsw.Connection(str(path))
        try:
            with target.backup("main", database.connection, "main") as pages:
                while not pages.done:
                    pages.step(PAGES_AT_ONCE)
                    yield
        finally:
            target.close()
    except apsw.Error as error:
        raise StoreError(f"{path}: {error}: check its rights and space") from error
