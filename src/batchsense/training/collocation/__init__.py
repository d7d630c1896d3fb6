"""Physics-informed networks by minibatches of collocation points."""

from __future__ import annotations

from batchsense.training.collocation.conditions import (
    Condition,
    DrawnPoints,
    check_conditions,
    collocation_loss,
    condition_residual,
)
from batchsense.training.collocation.deepxde import conditions_of, minibatched
from batchsense.training.collocation.inclusion import (
    MeanEstimate,
    estimate_mean,
    inclusion_probabilities,
    systematic_draw,
)
from batchsense.training.collocation.jobs import as_workload
from batchsense.training.collocation.minibatches import Box, CollocationMinibatches

__all__ = [
    "Box",
    "CollocationMinibatches",
    "Condition",
    "DrawnPoints",
    "MeanEstimate",
    "as_workload",
    "check_conditions",
    "collocation_loss",
    "condition_residual",
    "conditions_of",
    "estimate_mean",
    "inclusion_probabilities",
    "minibatched",
    "systematic_draw",
]
