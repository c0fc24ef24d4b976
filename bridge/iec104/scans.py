"""What an outstation sends by itself as time goes by: cyclic and background scans, forced refresh; and flutter.

Time is monotonic, in milliseconds, and handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from bridge.core.messages import PointChanged
from bridge.core.points import Cause, Point, PointAddress, PointKind, Quality
from bridge.core.quantities import Millis


@dataclass(frozen=True, slots=True)
class Flutter:
    """A single or double point that changes `changes` times within `window_s` is blocked until quiet for `quiet_s`."""

    changes: int = 6
    window_s: float = 10
    quiet_s: float = 30


class _HasPoint(Protocol):
    @property
    def point(self) -> Point: ...


@dataclass(slots=True)
class _Scan:
    cause: Cause
    period_ms: Millis
    addresses: list[PointAddress]
    due_ms: Millis | None = None


class Scans:
    """Which points are to be sent again and when; one instance for an outstation."""

    def __init__(self, images: Iterable[_HasPoint], flutter: Flutter | None) -> None:
        self._flutter = flutter
        self._changes: dict[PointAddress, deque[Millis]] = {}
        self._blocked: dict[PointAddress, Millis] = {}  # until when, the earliest first
        self._hidden: dict[PointAddress, Quality] = {}  # the quality below that of the flutter
        self._now_ms: Millis = 0
        self._refresh: dict[Millis, dict[PointAddress, Millis]] = {}  # by period: due when, the earliest first
        scans: dict[tuple[Cause, Millis], _Scan] = {}
        for point in (image.point for image in images):
            for cause, period_ms in ((Cause.PERIODIC, point.cyclic_ms), (Cause.BACKGROUND, point.background_ms)):
                if period_ms is not None:
                    scan = scans.setdefault((cause, period_ms), _Scan(cause, period_ms, []))
                    scan.addresses.append(point.address)
            if point.refresh_ms is not None:
                self._refresh.setdefault(point.refresh_ms, {})[point.address] = point.refresh_ms
        self._scans = list(scans.values())

    def published(self, point: Point, effect: PointChanged, now_ms: Millis) -> tuple[Quality, bool]:
        """The quality to show a new value with and whether to report it; the change that makes a flutter is."""
        self._now_ms = max(now_ms, self._now_ms)
        flutter = self._flutter
        if flutter is None or point.kind is not PointKind.SINGLE or not effect.report:
            return effect.quality, effect.report
        self._hidden[point.address] = effect.quality
        if self._blocked.pop(point.address, None) is not None:
            self._blocked[point.address] = now_ms + round(flutter.quiet_s * 1000)
            return effect.quality | _FLUTTERING, False
        changes = self._changes.setdefault(point.address, deque(maxlen=flutter.changes))
        changes.append(now_ms)
        if len(changes) < flutter.changes or now_ms - changes[0] > flutter.window_s * 1000:
            return effect.quality, True
        changes.clear()
        self._blocked[point.address] = now_ms + round(flutter.quiet_s * 1000)
        return effect.quality | _FLUTTERING, True

    def reported(self, point: Point) -> None:
        """A value of the point was reported just now: its forced refresh has time again."""
        if point.refresh_ms is not None:
            waiting = self._refresh[point.refresh_ms]
            waiting.pop(point.address, None)
            waiting[point.address] = self._now_ms + point.refresh_ms

    def due(self, now_ms: Millis) -> list[tuple[Cause, list[PointAddress]]]:
        """The scans that are due, each with its points."""
        self._now_ms = max(now_ms, self._now_ms)
        due = []
        for scan in self._scans:
            if scan.due_ms is None or scan.due_ms <= now_ms:
                if scan.due_ms is not None:
                    due.append((scan.cause, scan.addresses))
                scan.due_ms = now_ms + scan.period_ms
        return due

    def steady(self, now_ms: Millis) -> list[tuple[PointAddress, Quality]]:
        """The points whose flutter has ended, and their quality without it."""
        return [(address, self._hidden[address]) for address in _elapsed(self._blocked, now_ms)]

    def unreported(self, now_ms: Millis) -> list[PointAddress]:
        """The points that nothing was reported of for so long that they are to be reported again."""
        addresses = []
        for period_ms, waiting in self._refresh.items():
            for address in _elapsed(waiting, now_ms):
                waiting[address] = now_ms + period_ms
                addresses.append(address)
        return addresses

    def next_due(self) -> Millis | None:
        """When the next scan is due."""
        return min((scan.due_ms for scan in self._scans if scan.due_ms is not None), default=None)


_FLUTTERING = Quality.INVALID | Quality.BLOCKED


def _elapsed(waiting: dict[PointAddress, Millis], now_ms: Millis) -> list[PointAddress]:
    """Take out what is due from a dictionary in the order of due times."""
    due = []
    for address, due_ms in waiting.items():
        if due_ms > now_ms:
            break
        due.append(address)
    for address in due:
        del waiting[address]
    return due
