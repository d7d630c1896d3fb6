"""One line: the part whose facts are held here."""

import numpy as np


def test_the_mean_of_n_observations_varies_as_one_over_n() -> None:
    """State the fact; then make data with a known truth and recover it, seeded."""
    rng = np.random.default_rng(20240501)
    means = rng.standard_normal((4000, 25)).mean(axis=1)

    standard_error_of_variance = np.sqrt(2 / 4000) / 25
    assert abs(means.var() - 1 / 25) < 4 * standard_error_of_variance
