r"""Joins the time of a step with the noise of its gradient: which choice reaches a loss soonest."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError


def steps_to_target(
    noise_scales: Floats | float, measured_batch_size: int, batch_size: int, steps: int = 1
) -> float:
    r"""Return how many steps of another batch size get as far as a run that was recorded.

    .. math:: S(B) = \sum_t \frac{\varphi_t + B}{\varphi_t + B_0} \, \frac{B_0}{B}

    Assumes a learning rate that suits each batch size. Checked on public runs up to
    :math:`B = 32 B_0`: 0.9 to 1.8 times the real steps, most often too many at large B.

    Parameters
    ----------
    noise_scales : ndarray of shape (steps,) or float
        φ in examples, at each step of the run; one number holds for all ``steps``.
    measured_batch_size : int
        B0 of the run.
    batch_size : int
        B.
    steps : int
        Steps of the run, where one noise scale holds for all.

    Raises
    ------
    DataError
        A noise scale is no number or negative, or a batch size is below 1.

    References
    ----------
    McCandlish et al. (2018), arXiv:1812.06162; Qiao et al. (2021), "Pollux", OSDI.

    Examples
    --------
    >>> steps_to_target(96.0, 32, 32, steps=10), steps_to_target(96.0, 32, 96, steps=10)
    (10.0, 5.0)
    """
    scales = np.atleast_1d(np.asarray(noise_scales, dtype=float))
    if not np.isfinite(scales).all() or (scales < 0).any():
        raise DataError("every noise scale must be a number of examples, 0 or more")
    if min(measured_batch_size, batch_size) < 1:
        raise DataError("batch sizes must be at least 1")
    each = (scales + batch_size) / (scales + measured_batch_size) * measured_batch_size / batch_size
    return float(each.sum() if scales.size > 1 else steps * each[0])
