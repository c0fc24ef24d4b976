"""Times as OCPP writes them (RFC 3339) and as the core counts them (milliseconds since 1970, UTC): pure."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from bridge.core.quantities import Millis


def rfc3339(utc_ms: Millis) -> str:
    """Write a time as `2026-09-01T10:00:00.000Z`."""
    seconds, millis = divmod(utc_ms, 1000)
    return f"{_to_the_second(seconds)}.{millis:03}Z"


@lru_cache(maxsize=64)  # thousands of messages are written in one second
def _to_the_second(utc_s: int) -> str:
    return f"{datetime.fromtimestamp(utc_s, UTC):%Y-%m-%dT%H:%M:%S}"


def read_utc_ms(text: str) -> Millis | None:
    """Read any ISO 8601 time, UTC where it names no zone; None where it is no time."""
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
