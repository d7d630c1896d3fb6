"""What the norms of single examples add up to in one measured step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.training.example_gradients.norms import Norms
from batchsense.training.gradient_noise.meter.step_noise import NOT_FINITE

OTHER_PASSES = "the norms of single examples belong to other backward passes"


def example_squares(
    norms: Norms, sizes: Sequence[int], names: Sequence[str], alone: bool
) -> tuple[Floats, float]:
    """Sum the squared norms over the examples of a step, parameter by parameter.

    Parameters
    ----------
    norms : Norms
        Of all passes since the hooks were put in place; those whose gradients were zeroed before
        the step come first and do not count.
    sizes : sequence of int
        Examples in each pass that counts.
    names : sequence of str
        The P measured parameters.
    alone : bool
        Whether there is no other process; then a single pass cannot make up for a parameter
        whose single gradients are unknown.

    Returns
    -------
    array of shape (P,)
        Σ |gᵢ|², NaN where unknown.
    float
        The largest |gᵢ|² over their mean.

    Raises
    ------
    DataError
        The step cannot be used; says why.

    Examples
    --------
    >>> import torch
    >>> from batchsense.training.example_gradients import PerExampleNorms
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> with PerExampleNorms(model) as recorder:
    ...     (model(torch.tensor([[1.0], [2.0]])) * torch.tensor([[3.0], [4.0]])).mean().backward()
    >>> example_squares(recorder.result(), [2], ["weight"], alone=True)[0]  # 3² + 8²
    array([73.])
    """
    if norms.sizes[-len(sizes) :] != tuple(sizes):
        raise DataError(OTHER_PASSES)
    seen = norms.parts[:, -sum(sizes) :]
    values = seen.sum(axis=0)
    if not np.isfinite(values).all():
        raise DataError(NOT_FINITE)
    found = dict(zip(norms.parameters, seen.sum(axis=1).tolist(), strict=True))
    squares = np.array([found.get(name, np.nan) for name in names])
    missing = [name for name in names if name not in found]
    if missing and alone and len(sizes) < 2:
        reasons = [f"{name} ({norms.refused.get(name, 'not seen')})" for name in missing]
        raise DataError(
            f"no gradient of single examples of {listed(reasons, 3)}; accumulate gradients over "
            "two or more passes, or name these parameters in leave_out"
        )
    mean = float(values.mean())
    return squares, float(values.max()) / mean if mean > 0 else 0.0
