"""What ``batchsense noise --json`` prints: how noisy the gradient is, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.questions.plan.result import RunResult
from batchsense.reports.envelope import Estimate, Model, ResolvedEstimate

if TYPE_CHECKING:
    from batchsense.training import NoiseSurvey, PathNoise


class LayerNoiseResult(Model):
    """The part of one layer in the noise."""

    name: str = Field(description="The module that holds the parameters; empty for the model.")
    parameters: int = Field(description="Trained numbers in it.")
    noise_share: Estimate = Field(description="Its part of trace_covariance; all add up to 1.")
    noise_scale: ResolvedEstimate = Field(description="Of this layer alone, in examples.")


class GradientNoiseResult(Model):
    """Gradient noise at the present weights, and along a short run from there."""

    target: str
    noise_scale: ResolvedEstimate = Field(
        description="trace_covariance over squared_gradient_norm, in examples: the batch size at "
        "which the error of the gradient is as long as the gradient."
    )
    trace_covariance: Estimate = Field(description="Variance of the gradient of one example.")
    squared_gradient_norm: Estimate = Field(
        description="Squared length of the mean gradient, without bias; may be negative."
    )
    examples_used: int = Field(description="Drawn without replacement.")
    examples_needed: int = Field(
        description="About how many more would resolve the noise scale; 0 if it is resolved."
    )
    needed_at_least: bool = Field(description="Whether examples_needed is only a lower bound.")
    critical_batch_size: ResolvedEstimate = Field(
        description="Where training takes twice the fewest steps and twice the fewest examples; "
        "integrated over the run, so valid down to its final loss only."
    )
    run: RunResult | None = Field(description="The run behind it; null if none was asked for.")
    layers: list[LayerNoiseResult] = Field(description="In the order of the model.")
    method: Literal["micro_batches", "per_example"]
    micro_batches: int = Field(description="Parts into which the examples were split.")
    examples: int = Field(description="Examples in the data set.")
    parameters: int = Field(description="Trained numbers in the model.")
    batch_size_today: int | None

    @classmethod
    def of(cls, survey: NoiseSurvey, target: str, today: int | None) -> GradientNoiseResult:
        """Turn a :class:`~batchsense.training.NoiseSurvey` into its JSON form."""
        noise, path = survey.noise, survey.path
        return cls.like(
            noise,
            target=target,
            noise_scale=ResolvedEstimate.of(noise.noise_scale, resolved=noise.resolved),
            critical_batch_size=_critical(path),
            run=None if path is None else RunResult.like(path),
            layers=[
                LayerNoiseResult.like(
                    layer,
                    noise_scale=ResolvedEstimate.of(layer.noise_scale, resolved=layer.resolved),
                )
                for layer in survey.layers
            ],
            method="per_example" if survey.single_examples else "micro_batches",
            micro_batches=survey.micro_batches,
            examples=survey.check.examples,
            parameters=survey.check.parameters,
            batch_size_today=today,
        )


def _critical(path: PathNoise | None) -> ResolvedEstimate:
    if path is None:
        return ResolvedEstimate.missing("there was no run", resolved=False)
    return ResolvedEstimate.of(path.critical_batch_size, resolved=path.resolved)
