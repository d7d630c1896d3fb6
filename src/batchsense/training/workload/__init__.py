"""What is trained: model, loss, examples and optimizer, read, checked and run without a trace.

The other chapters come in through here.
"""

from __future__ import annotations

from batchsense.blame import described, place_now
from batchsense.training.workload.checks import (
    WorkloadCheck,
    admitted,
    check_workload,
    coupled_modules,
    least_part,
    refuse_sum,
)
from batchsense.training.workload.gradients import (
    NOT_OF_THE_MODEL,
    backward,
    differentiated,
    flat_gradient,
    flattened,
    gram_matrix,
    loss_gradient,
    refuse_complex,
    scalar_loss,
    why_not_finite,
)
from batchsense.training.workload.minibatches import (
    cloned,
    count_examples,
    example_axis_of,
    has_list_of_examples,
    identical,
    leaves,
    measured_parts,
    named_tensors,
    rebuilt,
    size_of,
    take_examples,
)
from batchsense.training.workload.target import (
    BUILT_IN,
    charlm_workload,
    digits_workload,
    load_named,
    load_target,
)
from batchsense.training.workload.workload import (
    Examples,
    Loss,
    OptimizerFactory,
    Workload,
    borrowed_randomness,
    moving_optimizer,
    random_state,
    seed_torch,
    set_random_state,
    still_optimizer,
    trainable,
)

__all__ = [
    "BUILT_IN",
    "NOT_OF_THE_MODEL",
    "Examples",
    "Loss",
    "OptimizerFactory",
    "Workload",
    "WorkloadCheck",
    "admitted",
    "backward",
    "borrowed_randomness",
    "charlm_workload",
    "check_workload",
    "cloned",
    "count_examples",
    "coupled_modules",
    "described",
    "differentiated",
    "digits_workload",
    "example_axis_of",
    "flat_gradient",
    "flattened",
    "gram_matrix",
    "has_list_of_examples",
    "identical",
    "least_part",
    "leaves",
    "load_named",
    "load_target",
    "loss_gradient",
    "measured_parts",
    "moving_optimizer",
    "named_tensors",
    "place_now",
    "random_state",
    "rebuilt",
    "refuse_complex",
    "refuse_sum",
    "scalar_loss",
    "seed_torch",
    "set_random_state",
    "size_of",
    "still_optimizer",
    "take_examples",
    "trainable",
    "why_not_finite",
]
