"""What people want to compare: sums of level means, interactions, designs written as formulas."""

from batchsense.experiments.contrasts.combination import Combination
from batchsense.experiments.contrasts.formula import Formula, read_formula

__all__ = ["Combination", "Formula", "read_formula"]
