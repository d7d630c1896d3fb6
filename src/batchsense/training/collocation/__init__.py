"""Physics-informed networks by minibatches of collocation points."""

from __future__ import annotations

from batchsense.training.collocation.conditions import Condition, DrawnPoints, collocation_loss
from batchsense.training.collocation.deepxde import conditions_of, minibatched
from batchsense.training.collocation.exact_conditions import (
    Disc,
    ExactNetwork,
    exact_conditions,
)
from batchsense.training.collocation.gauss_newton import GaussNewton, GaussNewtonStep
from batchsense.training.collocation.inclusion import (
    MeanEstimate,
    estimate_mean,
    inclusion_probabilities,
    systematic_draw,
)
from batchsense.training.collocation.jobs import as_workload
from batchsense.training.collocation.minibatches import Box, CollocationMinibatches
from batchsense.training.collocation.problems.problem import CollocationProblem
from batchsense.training.collocation.solving import CollocationReport, Ends, Phase, solve

__all__ = [
    "Box",
    "CollocationMinibatches",
    "CollocationProblem",
    "CollocationReport",
    "Condition",
    "Disc",
    "DrawnPoints",
    "Ends",
    "ExactNetwork",
    "GaussNewton",
    "GaussNewtonStep",
    "MeanEstimate",
    "Phase",
    "as_workload",
    "collocation_loss",
    "conditions_of",
    "estimate_mean",
    "exact_conditions",
    "inclusion_probabilities",
    "minibatched",
    "solve",
    "systematic_draw",
]
