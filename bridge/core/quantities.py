"""Integers the core computes with, and the pair of clocks that is handed in with every event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Watts: TypeAlias = int
WattHours: TypeAlias = int
Millivolts: TypeAlias = int
Milliamps: TypeAlias = int
Millis: TypeAlias = int


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks.

    `monotonic_ms` counts from the start of the machine and never steps (CLOCK_BOOTTIME): every deadline uses it.
    `utc_ms` counts from 1970-01-01 UTC and may step: it is for time tags and for restarts on another boot only.
    """

    monotonic_ms: Millis
    utc_ms: Millis
