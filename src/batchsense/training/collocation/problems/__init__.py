"""Problems with known answers, by the names that the command line knows."""

from __future__ import annotations

from collections.abc import Callable

from batchsense.training.collocation.problems import evolution, steady
from batchsense.training.collocation.problems.problem import CollocationProblem

PROBLEMS: dict[str, Callable[[], CollocationProblem]] = {
    "heat": evolution.heat,
    "poisson-disc": steady.poisson_disc,
    "poisson-l": steady.poisson_l,
    "burgers": evolution.burgers,
    "allen-cahn": evolution.allen_cahn,
    "helmholtz": steady.helmholtz,
    "wave": evolution.wave,
    "kovasznay": steady.kovasznay,
    "viscosity": evolution.viscosity,
}

__all__ = ["PROBLEMS", "CollocationProblem"]
