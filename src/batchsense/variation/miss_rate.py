"""How often something misses, from fresh tries: an exact bound, and how many tries it takes."""

from __future__ import annotations

from scipy import special

from batchsense.errors import DataError
from batchsense.variation.interval import Interval


def miss_rate(misses: int, draws: int, level: float = 0.95) -> Interval:
    r"""Give the share of misses with Clopper and Pearson's bounds, each one-sided at ``level``.

    The upper bound u solves :math:`P(\mathrm{Bin}(m, u) ≤ k) = 1 - \mathrm{level}`.

    Parameters
    ----------
    misses : int
        k.
    draws : int
        m, independent tries.
    level : float
        Confidence level of each bound.

    Returns
    -------
    Interval
        Valid for every m.

    Raises
    ------
    DataError
        No draws, or misses not between 0 and draws.

    References
    ----------
    Clopper and Pearson (1934), Biometrika 26.

    Examples
    --------
    >>> miss_rate(0, 59).high < 0.05 < miss_rate(0, 58).high
    True
    """
    if draws < 1 or not 0 <= misses <= draws:
        raise DataError(f"{misses} misses in {draws} draws cannot be")
    low = 0.0 if misses == 0 else float(special.betaincinv(misses, draws - misses + 1, 1 - level))
    high = 1.0 if misses == draws else float(special.betaincinv(misses + 1, draws - misses, level))
    return Interval(misses / draws, low, high, level)


def draws_to_certify(delta: float, misses: int = 0, level: float = 0.95) -> int:
    """Give the least number of tries that certify a miss rate ≤ δ when ``misses`` of them miss.

    Parameters
    ----------
    delta : float
        δ, the miss rate to certify.
    misses : int
        Misses that are still allowed.
    level : float
        Confidence level.

    Returns
    -------
    int
        Tries.

    Raises
    ------
    DataError
        ``delta`` or ``level`` is not between 0 and 1.

    Examples
    --------
    >>> draws_to_certify(0.05), draws_to_certify(0.01), draws_to_certify(0.05, misses=2)
    (59, 299, 124)
    """
    if not 0 < delta < 1 or not 0 < level < 1:
        raise DataError(f"delta {delta} and level {level} must lie between 0 and 1")
    low, high = misses, misses + 1
    while miss_rate(misses, high, level).high > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if miss_rate(misses, middle, level).high > delta:
            low = middle
        else:
            high = middle
    return high
