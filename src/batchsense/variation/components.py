"""What lies beyond chance: a sum of squares less the part that noise alone would have put there.

The square of a mean, the squares between batches and those between the forms of a data set all
grow with noise. What is left after its expected part is taken off is the component that averaging
inside a group never removes; it may be negative, and is then a sign that there is none.
"""

from __future__ import annotations

from typing import TypeVar

from batchsense.arrays import Floats

Number = TypeVar("Number", float, Floats)


def beyond_chance(squares: Number, directions: float, noise: Number) -> Number:
    r"""What of a sum of squares is not noise: :math:`SS - r s^2`, of either sign.

    Parameters
    ----------
    squares : float or array
        SS, the sum of squares along r directions.
    directions : float
        r, its degrees of freedom.
    noise : float or array
        s², the variance along one direction where there is noise only.

    Returns
    -------
    float or array
        In the unit of the squares.

    Examples
    --------
    >>> beyond_chance(36.0, 2, 2.0)
    32.0
    """
    return squares - directions * noise


def variance_component(
    squares: Number, directions: float, noise: Number, size: Number | float
) -> Number:
    r"""The unbiased variance component behind a sum of squares.

    Where :math:`E\,SS = r\,\sigma^2 + k\,\sigma_b^2`, the component is

    .. math:: \hat\sigma_b^2 = \frac{SS - r s^2}{k} .

    For n specimens in equal batches of m this is the textbook's (MSB - MSW)/m; with the kept terms
    taken out first it is Henderson's method 3; for the mean gradient of n examples, r = 1, SS =
    n|g|² and k = n, it is the squared length of the true gradient.

    Parameters
    ----------
    squares, directions, noise
        As for :func:`beyond_chance`.
    size : float or array
        k, how often a unit of the component counts in SS.

    Returns
    -------
    float or array
        In the unit of the noise; negative where there is less than noise would show.

    References
    ----------
    Henderson (1953), Biometrics 9; Searle, Casella and McCulloch (1992), section 5.5.

    Examples
    --------
    Three batches of two with means 2, 5 and 8 and variance 2 inside: 36 between, k = 2·2.

    >>> variance_component(36.0, 2, 2.0, 4.0)
    8.0
    """
    return beyond_chance(squares, directions, noise) / size
