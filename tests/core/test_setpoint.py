"""The decision on a setpoint, case by case."""

from __future__ import annotations

import math

import pytest

from bridge.core.messages import Reason, SetpointReceived
from bridge.core.quantities import Now
from bridge.core.setpoint import Commanded, decide
from tests.core.bench import UTC_MS, site_plan

NOW = Now(0, UTC_MS)


def decided(value: float, *, tag: int | None = None, tag_valid: bool = True, allow_zero: bool = False) -> Reason | None:
    limit_w = math.floor(value) if math.isfinite(value) else None
    received = SetpointReceived(1, "m", value, limit_w, tag, tag_valid)
    last = SetpointReceived(0, "m", 20_000.0, 20_000, UTC_MS - 5_000)
    return decide(received, site_plan(allow_zero=allow_zero), NOW, Commanded().with_setpoint(last, 20_000, NOW))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (20_000.0, None),
        (6_000.0, None),
        (5_999.99, Reason.BELOW_MINIMUM),
        (0.0, Reason.BELOW_MINIMUM),
        (-0.0, Reason.BELOW_MINIMUM),
        (1e-40, Reason.BELOW_MINIMUM),
        (-1.0, Reason.NEGATIVE),
        (-1e30, Reason.NEGATIVE),
        (150_000.0, None),
        (1_000_000.0, None),
        (1_000_001.0, Reason.IMPLAUSIBLE),
        (1e38, Reason.IMPLAUSIBLE),
        (math.nan, Reason.NOT_A_NUMBER),
        (math.inf, Reason.NOT_A_NUMBER),
        (-math.inf, Reason.NOT_A_NUMBER),
    ],
)
def test_each_value_is_accepted_or_refused_for_its_own_reason(value: float, reason: Reason | None) -> None:
    assert decided(value) is reason


def test_with_allow_zero_exactly_zero_is_a_limit_and_a_little_more_is_still_refused() -> None:
    assert decided(0.0, allow_zero=True) is None
    assert decided(-0.0, allow_zero=True) is None
    assert decided(0.4, allow_zero=True) is Reason.BELOW_MINIMUM
    assert decided(5_999.0, allow_zero=True) is Reason.BELOW_MINIMUM


@pytest.mark.parametrize(
    ("offset_ms", "reason"),
    [
        (0, None),
        (-4_999, None),
        (10_000, None),
        (10_001, Reason.STALE_TIME_TAG),
        (-10_001, Reason.STALE_TIME_TAG),
        (-3_600_000, Reason.STALE_TIME_TAG),
        (-5_001, Reason.REPLAYED_TIME_TAG),
    ],
)
def test_a_time_tag_must_be_within_the_window_and_newer_than_the_last_accepted(
    offset_ms: int, reason: Reason | None
) -> None:
    assert decided(30_000.0, tag=UTC_MS + offset_ms) is reason


def test_the_command_accepted_last_is_accepted_again_but_its_tag_with_another_value_is_not() -> None:
    assert decided(20_000.0, tag=UTC_MS - 5_000) is None
    assert decided(30_000.0, tag=UTC_MS - 5_000) is Reason.REPLAYED_TIME_TAG


def test_an_invalid_time_tag_is_refused_whatever_it_says() -> None:
    assert decided(30_000.0, tag=UTC_MS, tag_valid=False) is Reason.INVALID_TIME_TAG
    assert decided(30_000.0, tag=None, tag_valid=False) is Reason.INVALID_TIME_TAG


@pytest.mark.parametrize(("behind_ms", "reason"), [(10_000, Reason.REPLAYED_TIME_TAG), (10_001, None)])
def test_a_tag_is_no_replay_only_where_the_last_one_lies_beyond_the_window_by_a_clock_that_was_set_back(
    behind_ms: int, reason: Reason | None
) -> None:
    last = SetpointReceived(0, "m", 20_000.0, 20_000, UTC_MS - 5_000)
    before, now = Commanded().with_setpoint(last, 20_000, NOW), Now(0, UTC_MS - 5_000 - behind_ms)
    received = SetpointReceived(1, "m", 30_000.0, 30_000, now.utc_ms)
    assert decide(received, site_plan(), now, before) is reason
