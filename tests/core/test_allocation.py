"""Sharing out a budget: never above it, never below a minimum, and as equal as the bounds allow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from bridge.core.allocation import Request, allocate

requests = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 50_000), st.integers(0, 3), st.integers(0, 50_000)).map(
        lambda drawn: Request(drawn[0], drawn[0] + drawn[1], drawn[0] + drawn[3], (drawn[2],), drawn[2] % 2)
    ),
    max_size=30,
)


def even(number: int) -> list[Request]:
    return [Request(6_000, 50_000, 50_000, (0, place)) for place in range(number)]


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
    served = [(request, grant) for request, grant in zip(wanted, grants, strict=True) if grant]
    assert sum(grants) == budget_w or all(grant == request.maximum_w for request, grant in served)


@given(st.integers(0, 500_000), requests)
def test_nobody_gets_less_than_his_demand_while_an_equal_gets_more_than_he(
    budget_w: int, wanted: list[Request]
) -> None:
    grants = allocate(budget_w, wanted)
    served = [(request, grant) for request, grant in zip(wanted, grants, strict=True) if grant]
    for request, grant in served:
        wish_w = max(request.minimum_w, min(request.demand_w, request.maximum_w))
        for other, more in served:
            if other.priority == request.priority and grant < wish_w:
                assert more <= max(grant + 1, other.minimum_w)


def test_equal_requests_share_equally_and_the_odd_watt_goes_to_the_first() -> None:
    assert allocate(100_000, even(3)) == [33_334, 33_333, 33_333]


def test_those_whose_minimum_does_not_fit_are_paused_in_order_of_rank() -> None:
    assert allocate(20_000, even(4)) == [6_667, 6_667, 6_666, 0]
    assert allocate(5_999, even(4)) == [0, 0, 0, 0]


def test_a_small_one_is_served_from_what_a_large_one_could_not_use() -> None:
    big, small = Request(6_000, 50_000, 50_000, (0,)), Request(3_000, 9_000, 9_000, (2,))
    assert allocate(10_000, [big, Request(6_000, 50_000, 50_000, (1,)), small]) == [6_000, 0, 4_000]


def test_zero_watts_of_budget_is_a_budget() -> None:
    assert allocate(0, even(2)) == [0, 0]


def test_an_idle_charger_keeps_its_start_reserve_and_no_more_while_another_needs_it() -> None:
    idle, charging = Request(6_000, 50_000, 0), Request(6_000, 50_000, 50_000)
    assert allocate(30_000, [idle, charging]) == [6_000, 24_000]


def test_what_nobody_demands_is_shared_all_the_same_so_that_a_growing_demand_need_not_wait() -> None:
    assert allocate(60_000, [Request(6_000, 50_000, 7_000), Request(6_000, 50_000, 7_000)]) == [30_000, 30_000]


def test_a_higher_priority_is_filled_to_its_demand_first_and_the_others_keep_their_minimum() -> None:
    first, second = Request(6_000, 22_000, 22_000, (), 1), Request(6_000, 22_000, 22_000, (), 0)
    assert allocate(30_000, [second, first]) == [8_000, 22_000]


@given(st.integers(0, 2_000_000), st.lists(st.tuples(st.integers(1, 8_000), st.integers(0, 42_000)), max_size=12))
def test_for_those_served_the_shares_are_the_optimum_of_an_independent_linear_program(
    budget_w: int, drawn: list[tuple[int, int]]
) -> None:
    wanted = [Request(minimum_w, minimum_w + more_w, minimum_w + more_w) for minimum_w, more_w in drawn]
    grants = allocate(budget_w, wanted)
    served = [(request, grant) for request, grant in zip(wanted, grants, strict=True) if grant]
    if not served:
        return
    bounds = [(request.minimum_w, request.maximum_w) for request, _ in served]
    assert abs(sum(grants) + linprog([-1] * len(bounds), [[1] * len(bounds)], [budget_w], bounds=bounds).fun) < 1e-3
    # The smallest grant above its own minimum, as large as it can be: maximise t with t <= x_i or x_i at its bounds.
    free = [place for place, (request, grant) in enumerate(served) if request.minimum_w < grant < request.maximum_w]
    if free:
        level_w = min(served[place][1] for place in free)
        rises = [(max(low, min(level_w + 1, high))) for low, high in bounds]
        assert sum(rises) > budget_w, "all could have been raised by one more watt"


def test_a_minimum_that_fits_exactly_is_served() -> None:
    assert allocate(12_000, [Request(6_000, 50_000, 50_000)] * 3) == [6_000, 6_000, 0]


def test_the_odd_watt_goes_to_nobody_who_has_his_maximum() -> None:
    requests = [Request(0, 10, 10), Request(0, 20, 20), Request(0, 20, 20)]
    assert allocate(31, requests) == [10, 11, 10]
