"""What ``batchsense.experiments`` exports, and where it is defined: read at run time too."""

from .aggregation import aggregate
from .beyond_memory import StoredTable, on_disk
from .builtin import digits_table, scene_table
from .correction.combat.correction import CombatCorrection, FittedCombat
from .correction.combat_seq.correction import CombatSeqCorrection, FittedCombatSeq
from .correction.estimator import BatchCorrector
from .correction.gathered import Gathered
from .correction.interface import Corrected, Correction, FittedCorrection, LearnedBatch
from .correction.linear import FittedLinear, LinearCorrection, correct
from .correction.loading import load_correction
from .diagnosis.crossed import FactorShare, RandomShares, TwoFactorShares, two_factor_shares
from .diagnosis.diagnosis import Diagnosis, KeptDiagnosis, diagnose
from .diagnosis.one_way import (
    FeatureComponents,
    VarianceComponents,
    variance_components,
    variance_components_by_feature,
)
from .diagnosis.shares import Null, Share
from .kinds import ColumnKinds
from .layout.planning import plan_layout
from .layout.plates import Plates
from .layout.result import Layout
from .layout.rules import LayoutRules
from .layout.sheet import SheetColumns
from .layout.wells import PlateRules
from .layout.worth import FactorWorth
from .out_of_core import (
    Cluster,
    CorrectedStore,
    StoredMatrix,
    ThisProcess,
    connected,
    correct_store,
)
from .placebo import Placebo, PureNoise, placebo
from .placebos import FactorPlacebo, Placebos, placebos
from .simulate import Planted, PlantedEffects, plant
from .surrogates.estimation import Estimation
from .surrogates.finding import Surrogates, find_surrogates
from .surrogates.likeness import Likeness
from .tables import Note, Table, from_anndata, into_anndata, read, write
from .testing import (
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
from .validation.comparison import CorrectedGap, GapComparison, compare_gaps
from .validation.folds import ShuffledFolds
from .validation.gap import BatchGap, batch_gap
from .validation.models import PlainModel

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
