"""Exact squared gradient norms of single examples, as a by-product of the backward pass.

For the gradient gᵢ of example i's loss, |gᵢ|² follows for most layers from what the backward pass
computes anyway (:class:`PerExampleNorms`); parameters of other layers are formed one by one
(:func:`per_example_squared_norms`). From Q = mean |gᵢ|² and A = |mean gᵢ|² follow unbiased
estimates of gradient noise and signal.
"""

from __future__ import annotations

from batchsense.training.example_gradients.coupling import refuse_coupled
from batchsense.training.example_gradients.measurement import (
    minibatch_squared_norms,
    per_example_squared_norms,
)
from batchsense.training.example_gradients.norms import Norms
from batchsense.training.example_gradients.recorder import (
    PLAIN_MEAN,
    LossForm,
    PerExampleNorms,
    examples_of_call,
)

__all__ = [
    "PLAIN_MEAN",
    "LossForm",
    "Norms",
    "PerExampleNorms",
    "examples_of_call",
    "minibatch_squared_norms",
    "per_example_squared_norms",
    "refuse_coupled",
]
