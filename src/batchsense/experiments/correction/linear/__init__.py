"""Linear removal: what each batch adds, by the full model."""

from batchsense.experiments.correction.linear.correction import (
    FittedLinear,
    LinearCorrection,
    correct,
)

__all__ = ["FittedLinear", "LinearCorrection", "correct"]
