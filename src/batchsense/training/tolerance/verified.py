"""The last rung: try a batch size on fresh minibatches and count the misses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.variation.miss_rate import draws_to_certify, miss_rate

#: Misses that a certificate still allows: with none allowed, good sizes would often fail.
ALLOWED_MISSES = 2


@dataclass(frozen=True, slots=True)
class Certificate:
    """What fresh minibatches said.

    Attributes
    ----------
    batch_size : int or None
        The certified size; None where every size tried missed too often.
    misses, draws : int
        Of the last size tried.
    bound : float
        Upper bound of its miss rate, at ``level``.
    level : float
        Confidence level of the whole procedure, all attempts together.
    attempts : int
        Sizes tried.
    """

    batch_size: int | None
    misses: int
    draws: int
    bound: float
    level: float
    attempts: int


def certify_tolerance(
    misses: Callable[[int], bool],
    sizes: Sequence[int],
    delta: float,
    *,
    level: float = 0.95,
    progress: Progress = silent,
) -> Certificate:
    r"""Certify that a batch size misses with probability at most δ, whatever the distribution.

    Size k = 1, 2, … is tried on as many fresh minibatches as certify δ at two misses and level
    :math:`1 - (1 - \mathrm{level})/2^k`; the sum of these errors is at most 1 − level.

    Parameters
    ----------
    misses : callable
        ``misses(batch_size)`` draws a fresh minibatch and tells whether it misses.
    sizes : sequence of int
        Sizes to try, in this order.
    delta : float
        δ.
    level : float
        Confidence level.
    progress : Progress
        Told after each minibatch.

    Returns
    -------
    Certificate
        The first size that passed, or the last that failed.

    Raises
    ------
    DataError
        No size is given, or δ is not between 0 and 1.

    References
    ----------
    Clopper and Pearson (1934), Biometrika 26.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> found = certify_tolerance(lambda size: rng.random() < 1 / size, [4, 400], delta=0.05)
    >>> found.batch_size, found.attempts, found.draws, round(found.bound, 3)
    (400, 2, 160, 0.027)
    """
    if not sizes:
        raise DataError("there is no batch size to verify")
    certificate = None
    for attempt, size in enumerate(sizes, start=1):
        own_level = 1 - (1 - level) / 2**attempt
        draws = draws_to_certify(delta, ALLOWED_MISSES, own_level)
        missed = done = 0
        while done < draws and missed <= ALLOWED_MISSES:
            missed += bool(misses(size))
            done += 1
            progress(f"verifying {size:,} examples", done, draws)
        bound = miss_rate(missed, done, own_level).high
        passed = missed <= ALLOWED_MISSES
        certificate = Certificate(
            size if passed else None, missed, done, bound, level, attempts=attempt
        )
        if passed:
            break
    assert certificate is not None
    return certificate
