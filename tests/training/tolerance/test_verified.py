"""The last rung: fresh draws certify, whatever the distribution."""

import numpy as np
import pytest

from batchsense.errors import DataError
from batchsense.training.tolerance import certify_tolerance


def test_a_size_that_misses_too_often_is_certified_in_at_most_five_per_cent() -> None:
    """With a true miss rate of δ at every size the procedure is fooled at most 5 % of the time."""
    rng = np.random.default_rng(0)
    runs = [
        certify_tolerance(lambda _: rng.random() < 0.05, [10, 20, 40], 0.05) for _ in range(600)
    ]
    fooled = sum(run.batch_size is not None for run in runs)

    assert fooled <= 0.05 * 600 + 2.5 * np.sqrt(600 * 0.05 * 0.95)


def test_a_good_size_passes_at_once_nearly_always() -> None:
    """A size that misses at δ/10 is certified on the first attempt in 9 of 10 runs."""
    rng = np.random.default_rng(1)
    runs = [certify_tolerance(lambda _: rng.random() < 0.005, [10, 20], 0.05) for _ in range(200)]

    assert np.mean([run.attempts == 1 and run.batch_size == 10 for run in runs]) >= 0.9
    assert all(run.bound <= 0.05 for run in runs if run.batch_size is not None)


def test_a_failing_size_stops_early_and_the_next_is_tried() -> None:
    """Three misses end an attempt; nothing passes if all fail."""
    sizes: list[int] = []

    def misses(size: int) -> bool:
        sizes.append(size)
        return True

    found = certify_tolerance(misses, [10, 20], 0.05)

    assert sizes == [10] * 3 + [20] * 3
    assert (found.batch_size, found.misses, found.draws) == (None, 3, 3)


def test_nothing_to_try_is_refused() -> None:
    """An empty list of sizes."""
    with pytest.raises(DataError, match="no batch size to verify"):
        certify_tolerance(lambda _: False, [], 0.05)
