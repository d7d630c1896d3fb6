"""Counts as counts: which features say something, how deep each library is, and their logarithms.

Rules of the field, from the papers that define them: a filter by expression, TMM factors, log
counts per million. What a test makes of them is in :mod:`batchsense.experiments.testing`.
"""

from batchsense.experiments.counts.expression import ExpressionRule, expression_rule
from batchsense.experiments.counts.log_counts import log_cpm, log_cpm_for_weights
from batchsense.experiments.counts.preparing import (
    PreparedCounts,
    log_count_table,
    prepare_counts,
)
from batchsense.experiments.counts.trimmed_means import tmm_factors

__all__ = [
    "ExpressionRule",
    "PreparedCounts",
    "expression_rule",
    "log_count_table",
    "log_cpm",
    "log_cpm_for_weights",
    "prepare_counts",
    "tmm_factors",
]
