"""Validation across batches: what shuffled folds promise, and what a new batch gets."""

from __future__ import annotations

from batchsense.experiments.validation.comparison import CorrectedGap, GapComparison, compare_gaps
from batchsense.experiments.validation.folds import ShuffledFolds
from batchsense.experiments.validation.gap import BatchGap, batch_gap
from batchsense.experiments.validation.models import PlainModel

__all__ = [
    "BatchGap",
    "CorrectedGap",
    "GapComparison",
    "PlainModel",
    "ShuffledFolds",
    "batch_gap",
    "compare_gaps",
]
