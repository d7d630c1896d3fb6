"""Corrections for batch effects, one method a folder, one interface."""

from batchsense.experiments.correction.combat import CombatCorrection, FittedCombat
from batchsense.experiments.correction.combat_seq import CombatSeqCorrection, FittedCombatSeq
from batchsense.experiments.correction.gathered import Gathered
from batchsense.experiments.correction.interface import (
    Corrected,
    Correction,
    FittedCorrection,
    LearnedBatch,
)
from batchsense.experiments.correction.linear import FittedLinear, LinearCorrection, correct
from batchsense.experiments.correction.loading import load_correction

__all__ = [
    "CombatCorrection",
    "CombatSeqCorrection",
    "Corrected",
    "Correction",
    "FittedCombat",
    "FittedCombatSeq",
    "FittedCorrection",
    "FittedLinear",
    "Gathered",
    "LearnedBatch",
    "LinearCorrection",
    "correct",
    "load_correction",
]
