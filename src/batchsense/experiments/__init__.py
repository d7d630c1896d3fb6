"""Batches you suffer: batch effects diagnosed, told apart from biology, and corrected.

Read a matrix with its sheet (:func:`read`), see what varies with the batches (:func:`diagnose`),
and remove it without what is wanted (:class:`LinearCorrection`, :class:`CombatCorrection`), or be
told why that is impossible. What does not fit in memory is corrected on disk
(:func:`correct_store`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchsense.experiments.aggregation import aggregate
from batchsense.experiments.beyond_memory import StoredTable, on_disk
from batchsense.experiments.builtin import digits_table, scene_table
from batchsense.experiments.correction import (
    CombatCorrection,
    CombatSeqCorrection,
    Corrected,
    Correction,
    FittedCombat,
    FittedCombatSeq,
    FittedCorrection,
    FittedLinear,
    Gathered,
    LearnedBatch,
    LinearCorrection,
    MergeableCorrection,
    correct,
    load_correction,
)
from batchsense.experiments.diagnosis import (
    Diagnosis,
    FactorShare,
    FeatureComponents,
    KeptDiagnosis,
    Null,
    RandomShares,
    Share,
    TwoFactorShares,
    VarianceComponents,
    diagnose,
    two_factor_shares,
    variance_components,
    variance_components_by_feature,
)
from batchsense.experiments.kinds import ColumnKinds
from batchsense.experiments.layout import (
    FactorWorth,
    Layout,
    LayoutRules,
    PlateRules,
    Plates,
    SheetColumns,
    plan_layout,
)
from batchsense.experiments.out_of_core import (
    Cluster,
    CorrectedStore,
    StoredMatrix,
    ThisProcess,
    connected,
    correct_store,
)
from batchsense.experiments.placebo import Placebo, PureNoise, placebo
from batchsense.experiments.placebos import FactorPlacebo, Placebos, placebos
from batchsense.experiments.simulate import Planted, PlantedEffects, plant
from batchsense.experiments.surrogates import Estimation, Likeness, Surrogates, find_surrogates
from batchsense.experiments.tables import Table, from_anndata, into_anndata, read, write
from batchsense.experiments.testing import (
    Blocks,
    ContrastOptions,
    ContrastTests,
    Difference,
    EffectTest,
    FactorTest,
    PlainTest,
    Refused,
    removal_matrix,
    test,
)
from batchsense.experiments.validation import (
    BatchGap,
    CorrectedGap,
    GapComparison,
    PlainModel,
    ShuffledFolds,
    batch_gap,
    compare_gaps,
)
from batchsense.notes import Note

if TYPE_CHECKING:
    from batchsense.experiments.correction.estimator import BatchCorrector

__all__ = [
    "BatchCorrector",
    "BatchGap",
    "Blocks",
    "Cluster",
    "ColumnKinds",
    "CombatCorrection",
    "CombatSeqCorrection",
    "ContrastOptions",
    "ContrastTests",
    "Corrected",
    "CorrectedGap",
    "CorrectedStore",
    "Correction",
    "Diagnosis",
    "Difference",
    "EffectTest",
    "Estimation",
    "FactorPlacebo",
    "FactorShare",
    "FactorTest",
    "FactorWorth",
    "FeatureComponents",
    "FittedCombat",
    "FittedCombatSeq",
    "FittedCorrection",
    "FittedLinear",
    "GapComparison",
    "Gathered",
    "KeptDiagnosis",
    "Layout",
    "LayoutRules",
    "LearnedBatch",
    "Likeness",
    "LinearCorrection",
    "MergeableCorrection",
    "Note",
    "Null",
    "Placebo",
    "Placebos",
    "PlainModel",
    "PlainTest",
    "Planted",
    "PlantedEffects",
    "PlateRules",
    "Plates",
    "PureNoise",
    "RandomShares",
    "Refused",
    "Share",
    "SheetColumns",
    "ShuffledFolds",
    "StoredMatrix",
    "StoredTable",
    "Surrogates",
    "Table",
    "ThisProcess",
    "TwoFactorShares",
    "VarianceComponents",
    "aggregate",
    "batch_gap",
    "compare_gaps",
    "connected",
    "correct",
    "correct_store",
    "diagnose",
    "digits_table",
    "find_surrogates",
    "from_anndata",
    "into_anndata",
    "load_correction",
    "on_disk",
    "placebo",
    "placebos",
    "plan_layout",
    "plant",
    "read",
    "removal_matrix",
    "scene_table",
    "test",
    "two_factor_shares",
    "variance_components",
    "variance_components_by_feature",
    "write",
]


def __getattr__(name: str) -> Any:
    """Load what needs scikit-learn only when it is asked for."""
    if name == "BatchCorrector":
        from batchsense.experiments.correction.estimator import BatchCorrector

        return BatchCorrector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
