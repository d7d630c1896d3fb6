"""One line: the idea this file holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchsense.errors import DataError


@dataclass(frozen=True, slots=True)
class StandardError:
    """What the function found, each attribute with its shape and unit.

    Attributes
    ----------
    value : float
        Standard error of the mean, in units of the observations.
    """

    value: float


def standard_error(observations: NDArray[np.float64]) -> StandardError:
    r"""Say in one line what it gives.

    The formula: :math:`s / \sqrt{n}` with the unbiased variance :math:`s^2`.

    Parameters
    ----------
    observations : array of shape (observations,)
        In any unit.

    Returns
    -------
    StandardError
        In the same unit.

    Raises
    ------
    DataError
        Fewer than two observations.

    References
    ----------
    Author (year), title or journal.

    Examples
    --------
    >>> standard_error(np.array([1.0, 2.0, 3.0])).value.round(3)
    np.float64(0.577)
    """
    if len(observations) < 2:
        raise DataError("a standard error needs two observations or more")
    return StandardError(observations.std(ddof=1) / np.sqrt(len(observations)))
