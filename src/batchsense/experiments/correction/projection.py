"""What linear removal does to the specimens, as one matrix: for tools that take a covariance."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.experiments.correction.interface import Corrected
from batchsense.experiments.design import read_design
from batchsense.experiments.kinds import ColumnKinds
from batchsense.variation.linear import factor


def removal_matrix(corrected: Corrected) -> Floats:
    r"""The matrix M with corrected = M·original, for features without missing values.

    With the wanted terms X and the batch terms B, and H_B the rows of the pseudo-inverse of [X, B]
    that give the batch effects, M = I - B·H_B: a projection that loses as many dimensions as there
    are batch terms. The corrected values have covariance σ²MMᵀ, so that generalised least squares
    with its pseudo-inverse, on X alone and with n - rank lost - rank X degrees of freedom, gives
    the t of :func:`~batchsense.experiments.test`.

    Parameters
    ----------
    corrected : Corrected
        The result of linear removal, of the table that was fitted.

    Returns
    -------
    array of shape (specimens, specimens)
        M; of full rank minus ``corrected.rank_lost``.

    Raises
    ------
    DataError
        The correction was not linear: then there is no such matrix.

    References
    ----------
    Li, Zhang, Patil and Johnson 2021, Biostatistics 24, 635 (an approximate kin).

    Examples
    --------
    >>> from batchsense.experiments import correct, plant
    >>> corrected = correct(plant(12, 3, 2, treated_share=0.67).table, "month", ["drug"])
    >>> matrix = removal_matrix(corrected)
    >>> bool(np.allclose(matrix @ corrected.table.values, corrected.values))
    True
    >>> bool(np.allclose(matrix @ matrix, matrix)), int(np.linalg.matrix_rank(matrix))
    (True, 11)
    """
    if corrected.method != "linear":
        raise DataError(
            f"correction by {corrected.method} is not linear in the values, so no matrix describes "
            "it; test the original values with the batch in the model"
        )
    kept = [one.name for one in corrected.kept]
    kinds = corrected.with_kinds(ColumnKinds(), kept)
    design = read_design(corrected.table, corrected.batch_columns, kept, kinds)
    wanted = design.wanted()[0]
    terms = corrected.batch_terms
    design_factor = factor(np.hstack([wanted, terms]))
    effects = design_factor.solution @ design_factor.basis.T
    identity = np.eye(design.specimens)
    return np.asarray(identity - terms @ effects[wanted.shape[1] :])
