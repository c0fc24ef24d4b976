"""What the EVSEs of one charger meter, added up to what the charger meters: for stations and units alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from bridge.core.messages import MeterSampled
from bridge.core.quantities import Millis, Now
from bridge.ocpp201.meter_values import combined, samples

MAIN_METER: Final = 0  # meters the whole charger already (J01.FR.03)
OLD_AFTER_SAMPLES: Final = 3


class EvseSum:
    """Submits one MeterSampled for every sample of an EVSE, with what the others last said added.

    While another EVSE is silent for longer than three sampling intervals, power and energy are left out: a sum that
    lacks a part would be a lie, and the core then says that they are old.
    """

    def __init__(self, serial: str, interval_s: int, submit: Callable[[MeterSampled], None]) -> None:
        self._serial = serial
        self._old_after_ms = OLD_AFTER_SAMPLES * 1000 * interval_s
        self._submit = submit
        self._newest: dict[int, tuple[MeterSampled, Millis]] = {}

    def take(self, evse_id: int, meter_value: list[dict[str, Any]], received: Now, *, offline: bool = False) -> None:
        """Take the meterValue of one EVSE; what was metered offline is of the past and added to nothing."""
        for sample in samples(self._serial, meter_value, received, offline=offline):
            if evse_id == MAIN_METER or offline:
                self._submit(sample)
                continue
            self._newest[evse_id] = (sample, received.monotonic_ms)
            if len(self._newest) == 1:
                self._submit(sample)
                continue
            total = combined(self._serial, [part for part, _ in self._newest.values()])
            oldest_ms = min(taken_ms for _, taken_ms in self._newest.values())
            if oldest_ms < received.monotonic_ms - self._old_after_ms:
                total = replace(total, power_w=None, energy_wh=None)
            self._submit(total)

    def forget(self, evse_id: int) -> None:
        """Leave out an EVSE that has nothing more to say: its transaction has ended."""
        self._newest.pop(evse_id, None)

    def clear(self) -> None:
        """Leave out all: the charger has booted."""
        self._newest.clear()
