"""How much gradients differ between examples, and what that says about the batch size."""

from __future__ import annotations

from batchsense.training.gradient_noise.estimators import (
    NoiseMoments,
    moments_of_examples,
    noise_of_two_sizes,
)
from batchsense.training.gradient_noise.layers import LayerNoise
from batchsense.training.gradient_noise.measure import (
    enough_examples,
    measure_gradient_noise,
    micro_batch_gradients,
)
from batchsense.training.gradient_noise.meter.meter import GradientNoiseMeter
from batchsense.training.gradient_noise.meter.pooling import MeterReport
from batchsense.training.gradient_noise.path import (
    PathNoise,
    PathRecords,
    critical_batch_size_of_path,
    record_short_run,
)
from batchsense.training.gradient_noise.report import (
    NoiseReport,
    Ratio,
    fieller_ratio,
    is_resolved,
    noise_report,
    pool_moments,
)
from batchsense.training.gradient_noise.survey import (
    NoiseSurvey,
    ShortRun,
    survey_gradient_noise,
)

__all__ = [
    "GradientNoiseMeter",
    "LayerNoise",
    "MeterReport",
    "NoiseMoments",
    "NoiseReport",
    "NoiseSurvey",
    "PathNoise",
    "PathRecords",
    "Ratio",
    "ShortRun",
    "critical_batch_size_of_path",
    "enough_examples",
    "fieller_ratio",
    "is_resolved",
    "measure_gradient_noise",
    "micro_batch_gradients",
    "moments_of_examples",
    "noise_of_two_sizes",
    "noise_report",
    "pool_moments",
    "record_short_run",
    "survey_gradient_noise",
]
