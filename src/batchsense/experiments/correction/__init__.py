"""Corrections for batch effects, one method a file, one interface."""

from batchsense.experiments.correction.combat_seq import CombatSeqCorrection, FittedCombatSeq
from batchsense.experiments.correction.interface import Corrected, Correction, FittedCorrection
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection, correct

__all__ = [
    "CombatSeqCorrection",
    "Corrected",
    "Correction",
    "FittedCombatSeq",
    "FittedCorrection",
    "FittedLinear",
    "LinearCorrection",
    "correct",
]
