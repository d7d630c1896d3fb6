"""ComBat-seq (Zhang, Parmigiani and Johnson 2020): counts stay counts."""

from batchsense.experiments.correction.combat_seq.correction import (
    CombatSeqCorrection,
    FittedCombatSeq,
)

__all__ = ["CombatSeqCorrection", "FittedCombatSeq"]
