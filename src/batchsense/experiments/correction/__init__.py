"""Corrections for batch effects, one method a file, one interface."""

from batchsense.experiments.correction.interface import Corrected, Correction, FittedCorrection
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection, correct

__all__ = [
    "Corrected",
    "Correction",
    "FittedCorrection",
    "FittedLinear",
    "LinearCorrection",
    "correct",
]
