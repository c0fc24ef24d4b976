"""Who is shown every event once it has been acted upon: the records and the figures; neither can stop the limit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import structlog
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bridge import __version__
from bridge.core.messages import Effect, Event
from bridge.core.quantities import Now
from bridge.core.site import Site
from bridge.records import Recorder, differences
from bridge.reload import public
from bridge.settings import Settings
from bridge.store.audit import Audit
from bridge.store.shelf import Shelf
from bridge.web.metrics import Figures

MOST_CHANGES = 200

log = structlog.get_logger(__name__)


class Watching:
    """The engine's watcher. `broken` is told in a sentence that the records are not what they were, or cannot go on.

    Raises StoreError if they cannot even begin.
    """

    def __init__(
        self,
        settings: Settings,
        shelf: Shelf,
        clock: Callable[[], Now],
        call_later: Callable[[float, Callable[[], None]], object],
        broken: Callable[[str], None],
    ) -> None:
        self._shelf = shelf
        self.figures = Figures(clock)
        folder = settings.data_dir / "audit"
        utc_ms = lambda: clock().utc_ms  # noqa: E731  one clock for all
        self.audit = Audit(folder, shelf, call_later, broken, months=settings.audit_months, utc_ms=utc_ms)
        self._recorder = Recorder(self.audit.keep, self.audit.sequence)
        self._stumbled = False

    def observe(self, sequence: int | None, event: Event, now: Now, effects: Sequence[Effect], site: Site) -> None:
        """Record and count. A bug here is said once and costs nothing but itself."""
        try:
            self._recorder.observe(sequence, event, now, effects, site)
            self.audit.sequence = self._recorder.recorded
            self.figures.observe(event, now, effects, site)
        except Exception:
            if not self._stumbled:
                log.exception("an event could not be recorded", what=type(event).__name__)
            self._stumbled = True

    def before_snapshot(self) -> None:
        """A restart will not show again what was shown until now: have it on disk."""
        self.audit.seal()

    def started(self, settings: Settings) -> None:
        """Record that the service runs, with which key it signs, and what differs from the configuration before."""
        public = self.audit.public_key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        self.audit.keep("service_started", {"version": __version__, "public_key": public})
        self.configured(settings)
        self.audit.seal()

    def configured(self, settings: Settings) -> None:
        """Record what differs from the configuration before; none of it is a secret, those stand in files."""
        now, before = public(settings), self._shelf.get("audit", "configuration")
        changed = differences({} if before is None else json.loads(before), now)
        if changed:
            told = dict(list(changed.items())[:MOST_CHANGES])
            self.audit.keep("configuration_changed", {"changes": len(changed), "changed": told})
            self._shelf.put("audit", "configuration", json.dumps(now))

    def stopped(self) -> None:
        """Record that the service ends because it was told to."""
        self.audit.keep("service_stopped", {})
