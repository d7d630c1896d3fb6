"""What a plan says of its price holds for everything the measurements leave open."""

import numpy as np
import pytest

from batchsense.training import Limits, StepTime, fit_step_time, plan_batch_size
from batchsense.variation.interval import Interval

SIZES = [2.0, 8, 25, 50, 100, 200, 400]


def drawn_step_time(rng: np.random.Generator) -> StepTime:
    """Draw readings of a line with noise, or of a step that waits before it grows."""
    fixed, each = 10 ** rng.uniform(-4, -1), 10 ** rng.uniform(-6, -2)
    law = fixed + each * np.array(SIZES)
    if rng.random() < 0.4:
        law = np.maximum(fixed, each * np.array(SIZES)) * (1 + 0.3 * rng.random(len(SIZES)))
    return fit_step_time(SIZES, law * rng.uniform(1, 1.2, size=(7, len(SIZES))))


def drawn_plan(rng: np.random.Generator) -> tuple:
    """Draw noise, step times and limits of every kind, and plan with them."""
    used = 10 ** rng.uniform(0, 4)
    spread = 10 ** rng.uniform(0, 1.5, size=2)
    high = np.inf if rng.random() < 0.2 else used * spread[1]
    critical = Interval(used, used / spread[0], high)
    examples = int(10 ** rng.uniform(1.5, 5))
    memory = int(10 ** rng.uniform(1, 5)) if rng.random() < 0.3 else None
    some = [int(10 ** rng.uniform(0, 3)) if rng.random() < 0.3 else None for _ in range(2)]
    most = min(examples, memory or examples)
    maximum = None if some[0] is None else min(some[0], most)
    limits = Limits(examples, memory, 1, maximum, some[1])
    return critical, drawn_step_time(rng), limits


@pytest.mark.parametrize("seed", range(60))
def test_no_reading_of_the_measurements_costs_more_than_is_said(seed: int) -> None:
    """Noise and step time drawn inside their intervals: neither sentence nor row is exceeded.

    Sixty plans under limits of every kind, each against 20 draws and every size by brute force.
    """
    rng = np.random.default_rng([7, seed])
    critical, timed, limits = drawn_plan(rng)
    plan = plan_batch_size(critical, timed, limits)
    (row,) = [row for row in plan.table if row.batch_size == plan.batch_size]
    lower = min(max(limits.minimum, limits.precision or 1), limits.maximum or limits.possible)
    lower, upper = min(lower, limits.possible), min(limits.maximum or np.inf, limits.possible)
    sizes = np.unique(np.geomspace(1, limits.possible, 3000).round())
    allowed = (sizes >= lower) & (sizes <= upper)

    for _ in range(20):
        noise = rng.uniform(critical.low, min(critical.high, 1e9))
        ratio = timed.overhead_batch_size
        times = (1 + noise / sizes) * (rng.uniform(ratio.low, min(ratio.high, 1e9)) + sizes)
        mine = times[np.abs(sizes - plan.batch_size).argmin()]

        assert mine <= (1 + plan.worst_excess) * times[allowed].min() * 1.01
        assert mine <= row.relative_time.high * times.min() * 1.01
    assert row.relative_time.low <= row.relative_time.estimate <= row.relative_time.high
    assert all(choice.relative_time.low >= 1 - 1e-9 for choice in plan.table)


def test_a_tolerance_that_binds_is_priced_against_what_memory_and_data_allow() -> None:
    """A tolerance that asks for twelve times the fastest size: its row says so, not its excess."""
    timed = fit_step_time(SIZES, np.tile(1.6e-2 + 1e-4 * np.array(SIZES), (5, 1)))
    plan = plan_batch_size(Interval(64, 64, 64), timed, Limits(100_000, precision=1200))
    (row,) = [row for row in plan.table if row.batch_size == 1200]

    assert plan.worst_excess == 0
    assert row.relative_time.estimate == pytest.approx(
        (1 + 64 / 1200) * (160 + 1200) / (160**0.5 + 64**0.5) ** 2
    )
