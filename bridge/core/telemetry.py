"""From samples to measurements: the process image, deadbands, sums, and what may be said about their quality."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.core.charger import Charger, Measurand, Reading
from bridge.core.messages import PointChanged
from bridge.core.points import Point, PointTable, Quality, Signal
from bridge.core.quantities import Millis, Watts

SIGNALS: dict[Measurand, tuple[Signal, int]] = {
    Measurand.POWER: (Signal.CHARGER_POWER_W, 1),
    Measurand.VOLTAGE: (Signal.CHARGER_VOLTAGE_V, 1000),
    Measurand.CURRENT: (Signal.CHARGER_CURRENT_A, 1000),
    Measurand.ENERGY: (Signal.CHARGER_ENERGY_WH, 1),
}


@dataclass(slots=True)
class Shown:
    """What the control centre was last told of a point, and what the process image holds."""

    value: float
    quality: Quality
    reported: float


@dataclass(slots=True)
class Image:
    """The process image, by the address of each point as (common address, IOA)."""

    shown: dict[tuple[int, int], Shown] = field(default_factory=dict)

    def show(self, point: Point | None, value: float, quality: Quality, utc_ms: Millis) -> list[PointChanged]:
        """Note a value; the change to publish, if any. A signal that the DSO profile does not list has no point."""
        if point is None:
            return []
        key = (point.address.common_address, point.address.ioa)
        shown = self.shown.get(key)
        if shown is None:
            self.shown[key] = Shown(value, quality, value)
            return [PointChanged(point, value, quality, utc_ms, report=True)]
        if shown.value == value and shown.quality == quality:
            return []
        report = shown.quality != quality or abs(value - shown.reported) >= point.deadband
        shown.value, shown.quality = value, quality
        if report:
            shown.reported = value
        return [PointChanged(point, value, quality, utc_ms, report)]


def quality_of(reading: Reading) -> Quality:
    """Invalid where it was not believed, not topical where it is old; a value is never made up for either."""
    quality = Quality.GOOD if reading.valid else Quality.INVALID
    return quality | Quality.NOT_TOPICAL if reading.stale else quality


def readings_changed(
    image: Image, points: PointTable, index: int, charger: Charger, measurands: list[Measurand], utc_ms: Millis | None
) -> list[PointChanged]:
    """Show these measurands of a charger, with the time of the sample, or `utc_ms` where only its quality changed."""
    changes = []
    for measurand in measurands:
        reading = charger.readings[measurand]
        signal, divisor = SIGNALS[measurand]
        value = reading.value / divisor if divisor != 1 else reading.value
        point = points.by_signal.get((signal, index))
        changes += image.show(point, value, quality_of(reading), reading.utc_ms if utc_ms is None else utc_ms)
    return changes


@dataclass(slots=True)
class SitePower:
    """The sum of the chargers' power, kept while single samples change."""

    total_w: Watts = 0
    counted: dict[str, Watts] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)

    def take(self, charger: Charger) -> bool:
        """Count the charger's newest power, if any; an invalid one does not replace the last that was believed."""
        reading = charger.readings.get(Measurand.POWER)
        if reading is None:
            return False
        if reading.valid:
            self.total_w += reading.value - self.counted.get(charger.serial, 0)
            self.counted[charger.serial] = reading.value
        if reading.stale or not reading.valid:
            self.doubtful.add(charger.serial)
        else:
            self.doubtful.discard(charger.serial)
        return True

    def forget(self, serial: str) -> None:
        """Count a charger no more."""
        self.total_w -= self.counted.pop(serial, 0)
        self.doubtful.discard(serial)

    def quality(self, chargers_in_service: int) -> Quality:
        """Invalid before the first sample of any charger, not topical while one is missing, old or not believed."""
        if not self.counted:
            return Quality.INVALID
        complete = len(self.counted) >= chargers_in_service and not self.doubtful
        return Quality.GOOD if complete else Quality.NOT_TOPICAL
