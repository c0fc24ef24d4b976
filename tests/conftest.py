"""Leaves the log as it was found: what one test silences or shapes must not deafen the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_as_found() -> Iterator[None]:
    yield
    structlog.reset_defaults()
