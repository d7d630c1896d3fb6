"""Validation across batches: what shuffled folds promise, and what a new batch gets."""

from __future__ import annotations

from batchsense.experiments.validation.comparison import CorrectedGap, GapComparison, compare_gaps
from batchsense.experiments.validation.gap import BatchGap, batch_gap

__all__ = ["BatchGap", "CorrectedGap", "GapComparison", "batch_gap", "compare_gaps"]
