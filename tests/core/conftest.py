"""Gives the tests of the core a bench."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.bench import Bench, charger_plan, site_plan


@pytest.fixture
def bench() -> Callable[..., Bench]:
    """A function that makes a site of so many Series 4 units; further arguments change its plan."""

    def make(chargers: int = 2, **changes: object) -> Bench:
        return Bench(site_plan(*(charger_plan(index) for index in range(chargers)), **changes))

    return make
