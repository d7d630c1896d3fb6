"""Surrogate variables: columns for the batches that nobody wrote down."""

from batchsense.experiments.surrogates.estimation import Estimation
from batchsense.experiments.surrogates.finding import Surrogates, find_surrogates
from batchsense.experiments.surrogates.likeness import Likeness

__all__ = ["Estimation", "Likeness", "Surrogates", "find_surrogates"]
