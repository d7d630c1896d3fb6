"""Diagnosis of batch effects: shares of variance, confounding, one verdict."""

from batchsense.experiments.diagnosis.block_share import BlockShare, share_of_blocks
from batchsense.experiments.diagnosis.by_feature import (
    FeatureShares,
    TermByFeature,
    shares_by_feature,
)
from batchsense.experiments.diagnosis.clustering import Clustering, clusterings
from batchsense.experiments.diagnosis.component import BatchComponent, batch_component
from batchsense.experiments.diagnosis.crossed import (
    FactorShare,
    RandomShares,
    TwoFactorShares,
    two_factor_shares,
)
from batchsense.experiments.diagnosis.diagnosis import Diagnosis, KeptDiagnosis, diagnose
from batchsense.experiments.diagnosis.neighbourhoods.mixing import Mixing, kbet, lisi
from batchsense.experiments.diagnosis.one_way import (
    FeatureComponents,
    VarianceComponents,
    variance_components,
    variance_components_by_feature,
)
from batchsense.experiments.diagnosis.scores import ComponentScore, Scores, score
from batchsense.experiments.diagnosis.shares import Null, Share, share_of_variance
from batchsense.experiments.diagnosis.verdict import Verdict, judge

__all__ = [
    "BatchComponent",
    "BlockShare",
    "Clustering",
    "ComponentScore",
    "Diagnosis",
    "FactorShare",
    "FeatureComponents",
    "FeatureShares",
    "KeptDiagnosis",
    "Mixing",
    "Null",
    "RandomShares",
    "Scores",
    "Share",
    "TermByFeature",
    "TwoFactorShares",
    "VarianceComponents",
    "Verdict",
    "batch_component",
    "clusterings",
    "diagnose",
    "judge",
    "kbet",
    "lisi",
    "score",
    "share_of_blocks",
    "share_of_variance",
    "shares_by_feature",
    "two_factor_shares",
    "variance_components",
    "variance_components_by_feature",
]
