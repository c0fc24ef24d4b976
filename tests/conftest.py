"""What holds for all tests: fixed seeds, and a log left as it was found."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# What fresh seeds find must not stop another's change: they are tried with `pytest --hypothesis-profile=default`.
# Nor is a slow machine a finding: no example has a deadline.
settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")

# No dashboard beside every service that a test starts: those that look at one start it themselves.
os.environ.setdefault("GRIDLIMIT_HTTP__DASHBOARD_PORT", "null")


@pytest.fixture(autouse=True)
def _log_as_found() -> Iterator[None]:
    """What one test silences or shapes must not deafen the next."""
    yield
    structlog.reset_defaults()
