"""Sharing out a budget: never above it, never below a minimum, and as equal as the bounds allow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.core.allocation import Request, allocate

requests = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 50_000), st.integers(0, 3)).map(
        lambda drawn: Request(drawn[0], drawn[0] + drawn[1], (drawn[2],))
    ),
    max_size=30,
)


def even(number: int) -> list[Request]:
    return [Request(6_000, 50_000, (0, place)) for place in range(number)]


@given(st.integers(-5, 500_000), requests)
def test_grants_never_exceed_the_budget_and_each_is_zero_or_within_its_bounds(
    budget_w: int, wanted: list[Request]
) -> None:
    grants = allocate(budget_w, wanted)
    assert sum(grants) <= max(0, budget_w)
    for request, grant in zip(wanted, grants, strict=True):
        assert grant == 0 or request.minimum_w <= grant <= request.maximum_w


@given(st.integers(0, 500_000), requests)
def test_no_watt_is_left_that_somebody_served_could_have_had(budget_w: int, wanted: list[Request]) -> None:
    grants = allocate(budget_w, wanted)
    hungry = [grant for request, grant in zip(wanted, grants, strict=True) if 0 < grant < request.maximum_w]
    assert not hungry or budget_w - sum(grants) < len(hungry)


@given(st.integers(0, 500_000), requests)
def test_nobody_gets_less_than_another_unless_a_bound_says_so(budget_w: int, wanted: list[Request]) -> None:
    grants = allocate(budget_w, wanted)
    served = [(request, grant) for request, grant in zip(wanted, grants, strict=True) if grant]
    level_w = max((grant for request, grant in served if grant > request.minimum_w), default=0)
    assert all(grant >= min(level_w, request.maximum_w) for request, grant in served)


def test_equal_requests_share_equally_and_the_odd_watts_stay_unused() -> None:
    assert allocate(100_000, even(3)) == [33_333, 33_333, 33_333]


def test_those_whose_minimum_does_not_fit_are_paused_in_order_of_rank() -> None:
    assert allocate(20_000, even(4)) == [6_666, 6_666, 6_666, 0]
    assert allocate(5_999, even(4)) == [0, 0, 0, 0]


def test_a_small_one_is_served_from_what_a_large_one_could_not_use() -> None:
    assert allocate(
        10_000, [Request(6_000, 50_000, (0,)), Request(6_000, 50_000, (1,)), Request(3_000, 9_000, (2,))]
    ) == [
        6_000,
        0,
        4_000,
    ]


def test_zero_watts_of_budget_is_a_budget() -> None:
    assert allocate(0, even(2)) == [0, 0]
