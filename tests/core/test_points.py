"""Information objects that cannot be are refused where they are described."""

from __future__ import annotations

import pytest

from bridge.core.points import Encoding, Point, PointAddress, PointKind, Signal

ADDRESS = PointAddress(1, 1)


@pytest.mark.parametrize("per_unit", [0.0, -1.0, float("nan")])
def test_a_unit_that_is_worth_nothing_is_refused(per_unit: float) -> None:
    with pytest.raises(ValueError, match="one unit must be more than nothing"):
        Point(ADDRESS, PointKind.MEASURED, Signal.SITE_POWER_W, per_unit=per_unit)


def test_a_point_is_encoded_as_chosen_or_else_as_the_first_of_its_kind() -> None:
    chosen = Point(ADDRESS, PointKind.MEASURED, Signal.SITE_POWER_W, encoding=Encoding.SCALED)
    assert chosen.wire_encoding is Encoding.SCALED
    assert Point(ADDRESS, PointKind.MEASURED, Signal.SITE_POWER_W).wire_encoding is Encoding.SHORT_FLOAT
    with pytest.raises(ValueError, match="cannot be counter"):
        Point(ADDRESS, PointKind.MEASURED, Signal.SITE_POWER_W, encoding=Encoding.COUNTER)
