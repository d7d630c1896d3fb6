"""What some terms of a model leave of others: the step that all shares of variance begin with."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.variation.linear import factor

#: A column that keeps less than this part of its length beside other terms is rounding:
#: a projection in double precision leaves about 1e-15. The cut above it is chosen, not measured.
_ROUNDING = 1e-9


def without(values: Floats, basis: Floats) -> Floats:
    """The values without what an orthonormal basis spans."""
    return np.asarray(values - basis @ (basis.T @ values))


def basis_beside(term: Floats, given: Floats) -> Floats:
    """An orthonormal basis of what another leaves of a term; no column where that is nothing."""
    left = without(term, given)
    left = left[:, np.linalg.norm(left, axis=0) > _ROUNDING * np.linalg.norm(term, axis=0)]
    return factor(left).basis if left.shape[1] else np.empty((len(term), 0))
