"""Layouts: who goes into which batch, planned so that nothing wanted goes with the batches."""

from batchsense.experiments.layout.planning import plan_layout
from batchsense.experiments.layout.plates import Plates
from batchsense.experiments.layout.result import Layout
from batchsense.experiments.layout.rules import LayoutRules
from batchsense.experiments.layout.sheet import SheetColumns, write_sheet
from batchsense.experiments.layout.wells import PlateRules
from batchsense.experiments.layout.worth import FactorWorth

__all__ = [
    "FactorWorth",
    "Layout",
    "LayoutRules",
    "PlateRules",
    "Plates",
    "SheetColumns",
    "plan_layout",
    "write_sheet",
]
