"""What the EVSEs of one charger meter, added up to what the charger meters: for stations and units alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from bridge.core.messages import MeterSampled
from bridge.core.quantities import Milliamps, Millis, Now
from bridge.ocpp201.meter_values import combined, phase_currents_ma, samples

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
        self._said: dict[int, list[dict[str, Any]]] = {}

    def take(self, evse_id: int, meter_value: list[dict[str, Any]], received: Now, *, offline: bool = False) -> None:
        """Take the meterValue of one EVSE; what was metered offline is of the past and added to nothing."""
        if not offline:
            self._said[evse_id] = meter_value
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

    def phase_currents_ma(self) -> list[Milliamps | None]:
        """The currents of L1, L2 and L3 over all EVSEs as last said, None where none was: for people to look at."""
        main = self._said.get(MAIN_METER)
        by_evse = [phase_currents_ma(said) for said in (self._said.values() if main is None else [main])]
        said = [[current for current in phase if current is not None] for phase in zip(*by_evse, strict=True)]
        return [sum(currents) if currents else None for currents in said] or [None, None, None]

    def forget(self, evse_id: int) -> None:
        """Leave out an EVSE that has nothing more to say: its transaction has ended."""
        self._newest.pop(evse_id, None)
        self._said.pop(evse_id, None)

    def clear(self) -> None:
        """Leave out all: the charger has booted."""
        self._newest.clear()
        self._said.clear()
