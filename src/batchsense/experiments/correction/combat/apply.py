"""ComBat applied: the second pass with what was learned."""

from __future__ import annotations

import numpy.typing as npt

from batchsense.arrays import Matrix
from batchsense.experiments.correction.combat.model import CombatModel
from batchsense.experiments.correction.two_passes.adjusting import adjust


def apply_combat(
    model: CombatModel,
    values: npt.ArrayLike,
    codes: npt.ArrayLike,
    covariates: npt.ArrayLike | None = None,
    out: Matrix | None = None,
    threads: int | None = None,
) -> Matrix:
    """Correct specimens by ComBat.

    Parameters
    ----------
    model : CombatModel
        The correction.
    values : array of shape (specimens, features)
        Observations; NaN where a value is missing, and only there in the result.
    codes : array of shape (specimens,)
        The batch of each specimen, from 0.
    covariates : array of shape (specimens, covariates), optional
        Kept terms, as in fitting.
    out : array of shape (specimens, features), optional
        Where the result goes; may be ``values`` itself. A new array by default, of the type and
        order of the values.
    threads : int, optional
        Threads; by default one per processor.

    Returns
    -------
    array of shape (specimens, features)
        ``out``, or the new array; float32 for float32.

    Raises
    ------
    DataError
        The shapes do not fit, or a code is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from batchsense.experiments.correction.combat.model import fit_combat
    >>> from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
    >>> codes = np.repeat([0, 1], 20)
    >>> values = np.random.default_rng(0).normal(size=(40, 100)) + 3.0 * codes[:, None]
    >>> model = fit_combat(BatchStatistics.empty(2, 100).add(values, codes))
    >>> corrected = apply_combat(model, values, codes)
    >>> bool(abs(corrected[20:].mean() - corrected[:20].mean()) < 0.05)
    True
    """
    tables = (model.scales, model.offsets, model.slopes)
    return adjust(*tables, values, codes, covariates, out, threads)
