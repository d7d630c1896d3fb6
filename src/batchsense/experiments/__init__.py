"""Batches you suffer: batch effects diagnosed, told apart from biology, and corrected.

Read a matrix with its sheet (:func:`read`), see what varies with the batches (:func:`diagnose`),
and remove it without what is wanted (:class:`LinearCorrection`), or be told why that is impossible.
"""

from batchsense.experiments.builtin import digits_table, scene_table
from batchsense.experiments.correction import (
    Corrected,
    Correction,
    FittedCorrection,
    FittedLinear,
    LinearCorrection,
    correct,
)
from batchsense.experiments.diagnosis import Diagnosis, KeptDiagnosis, Null, Share, diagnose
from batchsense.experiments.notes import Note
from batchsense.experiments.simulate import Planted, plant
from batchsense.experiments.tables import Table, read, write
from batchsense.experiments.validation import BatchGap, batch_gap

__all__ = [
    "BatchGap",
    "Corrected",
    "Correction",
    "Diagnosis",
    "FittedCorrection",
    "FittedLinear",
    "KeptDiagnosis",
    "LinearCorrection",
    "Note",
    "Null",
    "Planted",
    "Share",
    "Table",
    "batch_gap",
    "correct",
    "diagnose",
    "digits_table",
    "plant",
    "read",
    "scene_table",
    "write",
]
