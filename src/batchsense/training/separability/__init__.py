"""May this loss be mini-batched, accumulated, distributed: the audit and its remedies."""

from batchsense.training.separability.auditing import assert_minibatch_safe, audit
from batchsense.training.separability.design import AuditDesign
from batchsense.training.separability.kind.particles import (
    InteractionOrder,
    PairMinibatch,
    interaction_order,
    pair_minibatches,
)
from batchsense.training.separability.leakage.leakage import LeakageReport, leakage
from batchsense.training.separability.remedies.accumulation import Accumulation, accumulate
from batchsense.training.separability.remedies.chunking import ChunkedGradient, chunked_gradient
from batchsense.training.separability.remedies.comparison import GradientComparison, audit_step
from batchsense.training.separability.report import (
    Bias,
    Consequence,
    Consequences,
    FoundNormaliser,
    SeparabilityReport,
    Source,
)

__all__ = [
    "Accumulation",
    "AuditDesign",
    "Bias",
    "ChunkedGradient",
    "Consequence",
    "Consequences",
    "FoundNormaliser",
    "GradientComparison",
    "InteractionOrder",
    "LeakageReport",
    "PairMinibatch",
    "SeparabilityReport",
    "Source",
    "accumulate",
    "assert_minibatch_safe",
    "audit",
    "audit_step",
    "chunked_gradient",
    "interaction_order",
    "leakage",
    "pair_minibatches",
]
