"""What holds for all tests: fixed seeds, and a log left as it was found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

# What fresh seeds find must not stop another's change: they are tried with `pytest --hypothesis-profile=default`.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")


@pytest.fixture(autouse=True)
def _log_as_found() -> Iterator[None]:
    """What one test silences or shapes must not deafen the next."""
    yield
    structlog.reset_defaults()
