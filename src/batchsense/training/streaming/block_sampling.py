"""What is lost when minibatches are drawn from a pool of blocks instead of from the whole table.

Rows that lie beside each other are alike: one label, one day, one laboratory. A pool of m random
blocks of b rows therefore holds less than m·b independent rows, and a minibatch drawn from it
estimates the gradient with a larger variance than one drawn from all rows.
"""

from __future__ import annotations

import math

from batchsense.errors import DataError

#: Steps of the search for a size that has a wanted effect; each halves what is open.
_HALVINGS = 60


def design_effect(icc: float, batch_size: int, rows: int, block: int, pool: int) -> float:
    r"""How many times the variance of a minibatch mean exceeds that of independent rows.

    With N rows in n = N/b blocks, of which m form a pool of P = mb rows, B of them a minibatch,

    .. math::
        \frac{\mathrm{var}(\bar y_B)}{\sigma^2 / B} = B\,\frac{Lg}{m}
        + \Bigl(1 - \frac{Lg}{m}\Bigr) f, \qquad L = \rho + \frac{1 - \rho}{b},\quad
        g = \frac{n - m}{n - 1},\quad f = \frac{P - B}{P - 1} .

    L is the share of the variance that lies between the means of blocks; g and f are what drawing
    without replacement saves. About 1 + ρB/m: the number of blocks counts, not that of rows.

    Parameters
    ----------
    icc : float
        ρ, the intraclass correlation of rows in a block of b; from 0 to 1.
    batch_size : int
        B, at most P.
    rows : int
        N.
    block : int
        b, rows of a block.
    pool : int
        m, blocks of a pool.

    Returns
    -------
    float
        Below 1 where the pool is the whole table.

    Raises
    ------
    DataError
        The pool holds fewer rows than a minibatch.

    References
    ----------
    Kish (1965), Survey Sampling, chapter 5; Xu et al. (2022), "Stochastic gradient descent without
    full data shuffle", arXiv:2206.05830 (shuffling by blocks).

    Examples
    --------
    A million sorted rows: 64 blocks of 64 rows, and as many rows in 4,096 blocks of one.

    >>> round(design_effect(1.0, 256, 10**6, 64, 64), 2)
    4.91
    >>> round(design_effect(1.0, 256, 10**6, 1, 4096), 2)
    1.0
    """
    held = min(block * pool, rows)
    if batch_size > held:
        raise DataError(
            f"a minibatch of {batch_size:,} does not fit into a pool of {held:,} rows; give more "
            "memory or a smaller batch size"
        )
    blocks = rows / block
    between = icc + (1.0 - icc) / block
    without = max(0.0, (blocks - pool) / (blocks - 1.0)) if blocks > 1.0 else 0.0
    of_pool = between * without / pool
    rest = (held - batch_size) / (held - 1.0) if held > 1 else 0.0
    return batch_size * of_pool + (1.0 - of_pool) * rest


def least_pool(icc: float, batch_size: int, rows: int, block: int, allowed: float) -> int:
    """The fewest blocks in a pool whose design effect is at most ``allowed``.

    Other parameters as for :func:`design_effect`, which falls with the pool until it holds the
    whole table.

    Returns
    -------
    int
        m, at most all blocks.

    Raises
    ------
    DataError
        ``allowed`` is below 1, or the table has fewer rows than a minibatch.

    Examples
    --------
    >>> least_pool(1.0, 256, 10**7, 8, 1.05)
    4445
    """
    if allowed < 1.0:
        raise DataError(f"a design effect of {allowed:g} is below 1, that of independent rows")
    low, high = -(-batch_size // block), -(-rows // block)
    if low > high:
        raise DataError(f"the table has {rows:,} rows, fewer than a minibatch of {batch_size:,}")
    while low < high:
        middle = (low + high) // 2
        if design_effect(icc, batch_size, rows, block, middle) <= allowed:
            high = middle
        else:
            low = middle + 1
    return low


def effective_size(icc: float, wanted: int, rows: int, block: int, pool: int) -> int | None:
    """The batch size that is worth ``wanted`` independent rows: B / design effect(B) = wanted.

    Other parameters as for :func:`design_effect`.

    Returns
    -------
    int or None
        None where no minibatch of the pool is worth as much.

    Examples
    --------
    >>> effective_size(1.0, 256, 10**6, 8, 1024)
    327
    >>> effective_size(1.0, 256, 10**6, 64, 64) is None
    True
    """

    def worth(size: int) -> float:
        effect = design_effect(icc, size, rows, block, pool)
        return size / effect if effect > 0 else math.inf

    low, high = wanted, min(block * pool, rows)
    if low > high or worth(high) < wanted:
        return None
    # Drawn without replacement, a few rows may be worth more than their number.
    if worth(low) >= wanted:
        return low
    for _ in range(_HALVINGS):
        if low >= high:
            break
        middle = (low + high) // 2
        low, high = (low, middle) if worth(middle) >= wanted else (middle + 1, high)
    return low
