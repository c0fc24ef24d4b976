"""Group commit: what one turn of the loop wants written goes to disk in one transaction; then who waits is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from bridge.store.database import Database, StoreError

log = structlog.get_logger(__name__)


class GroupCommit:
    """Collects statements and writes them in order, all or none.

    `call_soon` runs a function in the next loop turn. `failed` is told once, in a sentence, that nothing can be written
    any more; whoever waits for what was to be written then waits for ever.
    """

    def __init__(
        self,
        database: Database,
        call_soon: Callable[[Callable[[], None]], object],
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._call_soon = call_soon
        self._failed = failed
        self._lost = False
        self._statements: list[tuple[str, Sequence[str | int | None]]] = []
        self._afterwards: list[Callable[[], None]] = []

    def write(
        self, sql: str, bindings: Sequence[str | int | None], afterwards: Callable[[], None] | None = None
    ) -> None:
        """Have one statement executed; `afterwards` is called once it is on disk."""
        if not self._statements:
            self._call_soon(self.flush)
        self._statements.append((sql, bindings))
        if afterwards is not None:
            self._afterwards.append(afterwards)

    def flush(self) -> None:
        """Write what waits, now, and call who waits for it."""
        statements, self._statements = self._statements, []
        afterwards, self._afterwards = self._afterwards, []
        if not statements or self._lost:
            return
        try:
            with self._database.transaction() as connection:
                for sql, bindings in statements:
                    connection.execute(sql, bindings)
        except StoreError as error:
            self._lost = True
            log.critical("nothing can be kept any more: chargers are not answered what is not on disk", why=str(error))
            self._failed(str(error))
            return
        for call in afterwards:
            call()
