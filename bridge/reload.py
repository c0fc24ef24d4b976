"""The configuration read anew while the service runs: what may change then, and what needs a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from bridge.records import differences
from bridge.settings import Settings, plan

OF_THE_SITE: Final = ("capacity_w", "min_limit_w", "allow_zero", "at_start_w", "ramp_w_per_s", "rotate_s")
OF_A_CHARGER: Final = ("priority", "out_of_service", "minimum_w", "floor_w")
LIVE: Final = {f"site.{name}" for name in (*OF_THE_SITE, "require_floors")} | {"iec104.deciding_group"}


def public(settings: Settings) -> dict[str, Any]:
    """The configuration as JSON data: chargers by serial, and each charger profile by the hash of what it says."""
    said: dict[str, Any] = settings.model_dump(mode="json", exclude={"chargers": {"__all__": {"profile"}}})
    said["chargers"] = {charger["serial"]: charger for charger in said["chargers"]}
    profiles = {entry.charger_profile: entry.profile for entry in settings.chargers}
    said["charger_profiles"] = {name: _hash(profile.model_dump_json()) for name, profile in profiles.items()}
    return said


def refused(before: Settings, after: Settings) -> list[str]:
    """What differs and cannot change while the service runs, each in a sentence; empty if all of it can."""
    was, is_now = public(before), public(after)
    found = [
        f"{key}: {_shown(values[0])} to {_shown(values[1])} needs a restart"
        for key, values in differences(was, is_now).items()
        if not _is_live(key, was)
    ]
    if not found and plan(before).points != plan(after).points:
        found.append("site.capacity_w: points are scaled by it in this DSO profile: this needs a restart")
    return found


def _is_live(key: str, was: Mapping[str, Any]) -> bool:
    section, _, rest = key.partition(".")
    if section == "fallback" or key in LIVE:
        return True
    serial, _, name = rest.rpartition(".")
    return section == "chargers" and serial in was["chargers"] and name in OF_A_CHARGER


def _shown(value: Any) -> str:
    shown = "nothing" if value is None else str(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."  # noqa: PLR2004  fits one line


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
