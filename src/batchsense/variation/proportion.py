"""A share from counted tries: exact bounds, and how many tries certify that it is small."""

from __future__ import annotations

from scipy import special

from batchsense.errors import DataError
from batchsense.variation.interval import Interval
from batchsense.variation.sample_size import least_number


def proportion(hits: int, trials: int, level: float = 0.95) -> Interval:
    r"""The share of hits with Clopper and Pearson's exact two-sided interval.

    The ends solve :math:`P(\mathrm{Bin}(m, u) ≤ k) = (1 - \mathrm{level})/2` and the same for
    :math:`≥ k`.

    Parameters
    ----------
    hits : int
        k.
    trials : int
        m, independent tries.
    level : float
        Confidence level of the interval.

    Returns
    -------
    Interval
        Valid for every m.

    Raises
    ------
    DataError
        No trials, or hits not between 0 and trials.

    References
    ----------
    Clopper and Pearson (1934), Biometrika 26.

    Examples
    --------
    >>> round(proportion(0, 10).high, 4)
    0.3085
    """
    if trials < 1 or not 0 <= hits <= trials:
        raise DataError(f"{hits} hits in {trials} trials cannot be")
    return _clopper_pearson(hits, trials, (1.0 - level) / 2.0, level)


def miss_rate(misses: int, draws: int, level: float = 0.95) -> Interval:
    """The share of misses with the same bounds, each of them one-sided at ``level``.

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

    Examples
    --------
    >>> miss_rate(0, 59).high < 0.05 < miss_rate(0, 58).high
    True
    """
    if draws < 1 or not 0 <= misses <= draws:
        raise DataError(f"{misses} misses in {draws} draws cannot be")
    return _clopper_pearson(misses, draws, 1.0 - level, level)


def draws_to_certify(delta: float, misses: int = 0, level: float = 0.95) -> int:
    """The least number of tries that certify a miss rate ≤ δ when ``misses`` of them miss.

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
    return least_number(lambda draws: miss_rate(misses, draws, level).high <= delta, misses + 1)


def _clopper_pearson(hits: int, trials: int, tail: float, level: float) -> Interval:
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(special.betaincinv(hits + 1, trials - hits, 1.0 - tail))
    return Interval(hits / trials, low, high, level)
