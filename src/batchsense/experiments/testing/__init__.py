"""Tests that stay valid: batch in the model, before and after correction."""

from batchsense.experiments.testing.contrasts import Difference
from batchsense.experiments.testing.results import (
    EffectTest,
    FactorTest,
    PlainTest,
    Refused,
    Tested,
)
from batchsense.experiments.testing.testing import test

__all__ = [
    "Difference",
    "EffectTest",
    "FactorTest",
    "PlainTest",
    "Refused",
    "Tested",
    "test",
]
