"""Tests that stay valid: batch in the model, before and after correction."""

from batchsense.experiments.contrasts.combination import Combination, Difference
from batchsense.experiments.correction.projection import removal_matrix
from batchsense.experiments.testing.contrasts import ContrastOptions
from batchsense.experiments.testing.results import (
    Blocks,
    ContrastTests,
    EffectTest,
    FactorTest,
    PlainTest,
    Refused,
)
from batchsense.experiments.testing.testing import test

__all__ = [
    "Blocks",
    "Combination",
    "ContrastOptions",
    "ContrastTests",
    "Difference",
    "EffectTest",
    "FactorTest",
    "PlainTest",
    "Refused",
    "removal_matrix",
    "test",
]
