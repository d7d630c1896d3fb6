"""May this loss be mini-batched, accumulated, distributed: the audit and its remedies."""

from batchsense.training.separability.assertion import assert_minibatch_safe
from batchsense.training.separability.auditing import audit
from batchsense.training.separability.kind.interaction import InteractionOrder, interaction_order
from batchsense.training.separability.leakage.leakage import LeakageReport, leakage
from batchsense.training.separability.quick_audit import QuickAudit, quick_audit
from batchsense.training.separability.remedies.accumulation import Accumulation, accumulate
from batchsense.training.separability.remedies.chunking import ChunkedGradient, chunked_gradient
from batchsense.training.separability.remedies.compare import GradientComparison, compare_gradients
from batchsense.training.separability.remedies.consequences import predict_ddp
from batchsense.training.separability.remedies.pairs import PairMinibatch, pair_minibatches
from batchsense.training.separability.report import (
    Bias,
    Consequence,
    Consequences,
    FoundNormaliser,
    SeparabilityReport,
    Source,
)
from batchsense.training.separability.step_audit import audit_step

__all__ = [
    "Accumulation",
    "Bias",
    "ChunkedGradient",
    "Consequence",
    "Consequences",
    "FoundNormaliser",
    "GradientComparison",
    "InteractionOrder",
    "LeakageReport",
    "PairMinibatch",
    "QuickAudit",
    "SeparabilityReport",
    "Source",
    "accumulate",
    "assert_minibatch_safe",
    "audit",
    "audit_step",
    "chunked_gradient",
    "compare_gradients",
    "interaction_order",
    "leakage",
    "pair_minibatches",
    "predict_ddp",
    "quick_audit",
]
