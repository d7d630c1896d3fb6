"""Noise and signal from the squared gradients of parts and of their whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError


def noise_of_two_sizes(
    small_square: npt.ArrayLike,
    small_size: float,
    large_square: npt.ArrayLike,
    large_size: float,
    population: int | None = None,
) -> tuple[Floats, Floats]:
    r"""Estimate τ and γ from mean gradients over few and over many examples.

    A mean gradient over b examples has :math:`E|g_b|^2 = γ + τ/b`. With S the square at size b,
    averaged, and L that at size B,

    .. math:: \hat τ = \frac{S - L}{1/b - 1/B}, \qquad \hat γ = L - \hat τ/B.

    Sizes need not be whole: a weighted mean :math:`\sum w_k g_k / \sum w_k` of parts of
    :math:`n_k` examples has :math:`1/B = \sum w_k^2/n_k / (\sum w_k)^2`. Nothing is clamped.

    Parameters
    ----------
    small_square, large_square : float or array of one shape
        S and L, for the whole gradient or for each parameter.
    small_size, large_size : float
        b and B, in examples.
    population : int, optional
        N, if the examples behind one whole were drawn without replacement from as many: then
        τ̂ is multiplied by (N−1)/N, and the unreduced τ̂ over N is added to γ̂.

    Returns
    -------
    array
        τ̂, of the shape of the squares.
    array
        γ̂, likewise.

    Raises
    ------
    UnresolvedError
        Both sizes are the same: there is one part only.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", appendix A.1.

    Examples
    --------
    Parts of 4 examples whose gradients have mean square 6, and 16 examples together 3: signal 2
    and noise 16, because 2 + 16/4 = 6 and 2 + 16/16 = 3.

    >>> tau, gamma = noise_of_two_sizes(6.0, 4, 3.0, 16)
    >>> float(tau), float(gamma)
    (16.0, 2.0)
    """
    if large_size <= small_size * (1 + 1e-9):
        raise UnresolvedError(
            "one part says nothing about differences",
            "two or more parts, or the norms of single examples",
        )
    small, large = (np.asarray(v, dtype=np.float64) for v in (small_square, large_square))
    tau = (small - large) / (1 / small_size - 1 / large_size)
    gamma = large - tau / large_size
    if population is None:
        return tau, gamma
    return tau * (population - 1) / population, gamma + tau / population
