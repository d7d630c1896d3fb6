"""The plan: its optimum is the minimum, its limits hold, its price is stated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchsense.errors import UnresolvedError
from batchsense.training import Limits, StepTime, fit_step_time, plan_batch_size
from batchsense.training.planning.batch_size import knee_batch_size, optimal_batch_size
from batchsense.variation.interval import Interval

SIZES = np.array([2.0, 8, 32, 128, 512])
positive = st.floats(1e-6, 1e2)


def timed(c0: float, c1: float) -> StepTime:
    """Make step times on an exact line."""
    return fit_step_time(SIZES, np.tile(c0 + c1 * SIZES, (6, 1)))


def around(value: float, factor: float = 1.5) -> Interval:
    """Make an interval of a factor on both sides."""
    return Interval(value, value / factor, value * factor)


@given(st.floats(0.5, 1e5), positive, positive)
def test_optimum_is_the_numerical_minimum(critical: float, c0: float, c1: float) -> None:
    """No size on a fine grid beats √(B_crit c0/c1)."""
    step_time = timed(c0, c1)
    best = optimal_batch_size(critical, step_time)
    grid = best * np.geomspace(0.01, 100, 4001)
    time = (1 + critical / grid) * (c0 + c1 * grid)

    assert best == pytest.approx(grid[time.argmin()], rel=0.003)


@given(st.floats(0.5, 1e5), positive, positive)
def test_knee_is_the_minimum_of_time_times_examples(critical: float, c0: float, c1: float) -> None:
    """The closed form equals a search on a grid."""
    knee = knee_batch_size(critical, timed(c0, c1))
    grid = knee * np.geomspace(0.01, 100, 4001)
    product = (1 + critical / grid) * (c0 + c1 * grid) * (1 + grid / critical)

    assert knee == pytest.approx(grid[product.argmin()], rel=0.003)


def test_a_step_time_that_is_no_line_is_searched() -> None:
    """Flat up to 100 examples, linear above: the best size is 100 whatever the noise."""
    flat = fit_step_time([2, 8, 25, 50, 100, 200, 400], [np.maximum(1, SIZES_7 / 100)] * 6)

    assert not flat.is_line
    assert optimal_batch_size(300.0, flat, 10_000) == pytest.approx(100, rel=0.01)


SIZES_7 = np.array([2.0, 8, 25, 50, 100, 200, 400])


@given(st.floats(1, 1e4), st.floats(1e-4, 1), st.floats(1e-6, 1e-2), st.integers(2, 10**6))
def test_rounding_to_a_handy_number_costs_two_per_cent_at_most(
    critical: float, c0: float, c1: float, examples: int
) -> None:
    """And the result is allowed."""
    step_time = timed(c0, c1)
    plan = plan_batch_size(around(critical), step_time, Limits(examples))
    best = min(max(optimal_batch_size(critical, step_time), 1), examples)
    here, there = ((1 + critical / b) * (c0 + c1 * b) for b in (plan.batch_size, best))

    assert 1 <= plan.batch_size <= examples
    assert here <= 1.02 * there or best < 3


@pytest.mark.parametrize(
    ("limits", "size", "binding"),
    [
        (Limits(100_000), 96, "noise"),
        (Limits(60), 60, "data"),
        (Limits(100_000, memory=50), 50, "memory"),
        (Limits(100_000, maximum=40), 40, "maximum"),
        (Limits(100_000, minimum=300), 300, "minimum"),
        (Limits(100_000, precision=500), 500, "precision"),
        (Limits(100_000, memory=200, precision=500), 200, "precision"),
    ],
)
def test_every_limit_binds_and_is_named(limits: Limits, size: int, binding: str) -> None:
    """Without limits the optimum is √(64 · 160) = 101 examples."""
    plan = plan_batch_size(around(64.0), timed(1.6e-2, 1e-4), limits)

    assert (size, binding) == (plan.batch_size, plan.binding)


def test_overhead_binds_where_it_is_small() -> None:
    """With next to no fixed cost, noise would allow more, but more costs its full time."""
    plan = plan_batch_size(around(1000.0), timed(1e-3, 1e-3), Limits(100_000))

    assert (plan.batch_size, plan.binding) == (32, "overhead")


def test_the_advice_may_be_smaller_than_todays() -> None:
    """Today's 512 is shown in the table, as slower and dearer."""
    plan = plan_batch_size(around(16.0), timed(1.6e-3, 1e-4), Limits(100_000), include=(512,))
    (today,) = [row for row in plan.table if row.batch_size == 512]

    assert plan.batch_size == 16
    assert not today.efficient
    assert today.relative_time.estimate > 5


def test_the_interval_of_the_optimum_joins_both_sources() -> None:
    """Noise known within a factor 4, step time exactly: the optimum within a factor 2."""
    plan = plan_batch_size(around(100.0, 2), timed(1e-2, 1e-4), Limits(100_000))

    assert plan.optimum.estimate == pytest.approx(100)
    assert (plan.optimum.low, plan.optimum.high) == pytest.approx((100 / 2**0.5, 100 * 2**0.5))
    assert plan.worst_excess <= 0.04


def test_unresolved_noise_gives_a_wide_plan_or_a_refusal() -> None:
    """[50, ∞) is planned from its lower end with an open interval; [0, ∞) is refused."""
    step_time = timed(1e-2, 1e-4)
    plan = plan_batch_size(Interval(math.inf, 50.0, math.inf), step_time, Limits(10_000))

    assert plan.used_critical_batch_size == 50.0
    assert math.isinf(plan.optimum.high)
    assert plan.worst_excess > 0.1
    with pytest.raises(UnresolvedError, match="any critical batch size"):
        plan_batch_size(Interval(math.inf, 0.0, math.inf), step_time, Limits(10_000))


def test_wide_intervals_are_planned_from_their_middle() -> None:
    """[10, 1000] is not resolved: the geometric middle, 100, loses least at both ends."""
    plan = plan_batch_size(Interval(30.0, 10.0, 1000.0), timed(1e-2, 1e-4), Limits(10_000))

    assert plan.used_critical_batch_size == pytest.approx(100.0)


def test_contradicting_limits_are_refused() -> None:
    """A minimum that does not fit into memory leaves nothing to advise."""
    with pytest.raises(UnresolvedError, match=r"at least 512 .* at most 100 .*memory"):
        plan_batch_size(around(64.0), timed(1e-2, 1e-4), Limits(10_000, memory=100, minimum=512))


def test_the_table_obeys_the_laws_of_the_trade_off() -> None:
    """Twice the fewest examples and steps at B_crit; fewer examples always mean more steps."""
    plan = plan_batch_size(around(64.0), timed(6.4e-3, 1e-4), Limits(100_000))
    rows = {row.batch_size: row for row in plan.table}
    examples = [row.relative_examples.estimate for row in plan.table]
    steps = [row.relative_steps.estimate for row in plan.table]

    assert rows[64].relative_examples.estimate == pytest.approx(2)
    assert rows[64].relative_steps.estimate == pytest.approx(2)
    assert rows[64].relative_time.estimate == pytest.approx(1)
    assert examples == sorted(examples)
    assert steps == sorted(steps, reverse=True)
    assert all(row.relative_time.estimate >= 1 - 1e-12 for row in plan.table)
    assert all(row.relative_time.low <= row.relative_time.estimate for row in plan.table)


def test_a_wrong_critical_size_costs_little() -> None:
    """B_crit wrong by 2 costs 3 % at most, by 4 at most 12.5 %, as the module says."""
    for factor, price in ((2, 0.0304), (4, 0.126)):
        for critical in (8.0, 64.0, 512.0):
            best = math.sqrt(critical * 64)
            for size in (best * math.sqrt(factor), best / math.sqrt(factor)):
                here, there = ((1 + critical / b) * (64 + b) for b in (size, best))

                assert here / there - 1 <= price
