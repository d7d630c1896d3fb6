"""Counts as counts: which features say something, how deep libraries are, and their logarithms."""

from batchsense.experiments.counts.expression import ExpressionRule
from batchsense.experiments.counts.log_counts import log_cpm, log_cpm_for_weights
from batchsense.experiments.counts.preparing import (
    PreparedCounts,
    log_count_table,
    own_log_count_table,
    prepare_counts,
)
from batchsense.experiments.counts.trimmed_means import tmm_factors

__all__ = [
    "ExpressionRule",
    "PreparedCounts",
    "log_count_table",
    "log_cpm",
    "log_cpm_for_weights",
    "own_log_count_table",
    "prepare_counts",
    "tmm_factors",
]
