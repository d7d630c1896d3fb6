"""ComBat (Johnson, Li and Rabinovic 2007): shift and scale of every batch, shrunken."""

from batchsense.experiments.correction.combat.correction import CombatCorrection, FittedCombat

__all__ = ["CombatCorrection", "FittedCombat"]
