"""Batches you choose: the batch size of a training run, measured, decided and explained."""

from __future__ import annotations

from batchsense.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "torch":
        raise
    raise MissingExtraError("Training workloads", "training") from None

from batchsense.training.example_gradients import LossForm
from batchsense.training.gradient_noise import (
    GradientNoiseMeter,
    LayerNoise,
    MeterReport,
    NoiseReport,
    NoiseSurvey,
    PathNoise,
    ShortRun,
    measure_gradient_noise,
    survey_gradient_noise,
)
from batchsense.training.learning_rate import LearningRate, rescale
from batchsense.training.memory import (
    MemoryEnvelope,
    MemoryLimit,
    fake_memory_envelope,
    fit_memory_envelope,
    memory_limit,
)
from batchsense.training.planning.batch_size import BatchSizePlan, Limits, plan_batch_size
from batchsense.training.planning.plan import PlanRequirements, TrainingPlan, plan_training
from batchsense.training.planning.trade_off import TradeOff
from batchsense.training.step_time import StepTime, fit_step_time, measure_step_time
from batchsense.training.streaming import (
    BlockStream,
    StreamPlan,
    plan_stream,
    shuffle_rows,
)
from batchsense.training.tolerance import ToleranceRung, plan_tolerance
from batchsense.training.workload import (
    Workload,
    WorkloadCheck,
    charlm_workload,
    check_workload,
    digits_workload,
    load_target,
)

__all__ = [
    "BatchSizePlan",
    "BlockStream",
    "GradientNoiseMeter",
    "LayerNoise",
    "LearningRate",
    "Limits",
    "LossForm",
    "MemoryEnvelope",
    "MemoryLimit",
    "MeterReport",
    "NoiseReport",
    "NoiseSurvey",
    "PathNoise",
    "PlanRequirements",
    "ShortRun",
    "StepTime",
    "StreamPlan",
    "ToleranceRung",
    "TradeOff",
    "TrainingPlan",
    "Workload",
    "WorkloadCheck",
    "charlm_workload",
    "check_workload",
    "digits_workload",
    "fake_memory_envelope",
    "fit_memory_envelope",
    "fit_step_time",
    "load_target",
    "measure_gradient_noise",
    "measure_step_time",
    "memory_limit",
    "plan_batch_size",
    "plan_stream",
    "plan_tolerance",
    "plan_training",
    "rescale",
    "shuffle_rows",
    "survey_gradient_noise",
]
