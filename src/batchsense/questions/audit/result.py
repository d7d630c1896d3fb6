"""What ``batchsense audit --json`` prints: may the loss be split, why not, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.training.separability import SeparabilityReport

Kind = Literal["mean", "sum", "ratio", "composite", "interacting", "undecided"]


class BiasResult(Estimate):
    """The mean deviation over random partitions, relative to the full gradient."""

    detected: bool = Field(description="Whether the sign-flip test rejects 'no bias'.")
    p_value: float | None = Field(description="Split-half test; null where nothing is random.")
    p_value_sign_flip: float | None = Field(description="Sign-flip test, which decides.")
    over_noise: float | None = Field(description="Bias over the noise of one micro-batch.")
    partitions: int = Field(
        description="Partitions averaged over; for a ratio, computed from the measured ones."
    )


class SourceResult(Model):
    """A place where the examples of a minibatch meet."""

    name: str = Field(description="Path of a module, name of a loss term, or 'loss'.")
    place: Literal["module", "term", "loss"]
    detail: str
    where: str | None = Field(description="file:line of the operation, where it was found.")
    strength: float | None = Field(
        description="How far outputs moved when other examples were replaced, relative to size."
    )


class ConsequenceResult(Model):
    """What happens to the gradient under one way of splitting."""

    deviation: float | None = Field(
        description="|split gradient − full gradient| over |full gradient|; null if not measured."
    )
    scale: float | None = Field(description="The nearest multiple of the full gradient.")
    factor: str | None = Field(description="Its name, if the whole error is a factor: '1/K'.")
    message: str
    low: float | None = Field(description="The least deviation of those that were measured.")
    high: float | None = Field(description="The largest; the deviation is their root mean square.")
    splits: int = Field(description="How many ways of splitting were measured.")


class ConsequencesResult(Model):
    """The three usual ways of splitting a minibatch."""

    gradient_accumulation: ConsequenceResult
    ddp: ConsequenceResult
    uneven_last: ConsequenceResult


class AuditResult(Model):
    """May this loss be mini-batched, accumulated and distributed."""

    target: str
    kind: Kind = Field(description="How the loss of a set is made of terms of its examples.")
    kind_without_noise: Kind | None = Field(
        description="The same with dropout off; null without random numbers, or with others."
    )
    exact: bool = Field(description="Whether the kind rests on equalities, not on statistics.")
    stochastic: bool = Field(description="Whether the loss draws random numbers.")
    verdict: Literal["yes", "no", "unresolved"]
    conclusion: str = Field(description="What was found, and how far the test reaches.")
    deviation: float = Field(description="Root mean square of |mean of parts − whole| / |whole|.")
    residual: float | None = Field(
        description="What no linear combination of the parts reaches; null if not needed."
    )
    bias: BiasResult
    normaliser: str | None = Field(
        description="What a ratio, or the terms of a sum of ratios, divide by; else null."
    )
    normaliser_alternatives: list[str] = Field(
        description="Other counts that fit these examples as well."
    )
    sources: list[SourceResult] = Field(description="Where examples meet, first to last.")
    consequences: ConsequencesResult
    fix: str
    micro_batch: int = Field(description="Examples per part.")
    minibatch: int = Field(description="Examples audited at once.")
    parameters: int
    tolerance: float = Field(description="What counted as zero, relative to the gradient.")
    bias_tolerance: float = Field(description="The relative bias that was called safe.")
    precision: Literal["float64", "float32", "bfloat16"]
    cost: float = Field(description="Gradients over the minibatch that the decision took.")

    @classmethod
    def of(cls, report: SeparabilityReport, target: str) -> AuditResult:
        """Turn a :class:`~batchsense.training.separability.SeparabilityReport` into JSON form."""
        normaliser = report.normaliser if report.kind != "mean" else None
        parts = report.consequences
        return cls.like(
            report,
            target=target,
            bias=_bias(report),
            normaliser=None if normaliser is None else normaliser.name,
            normaliser_alternatives=[] if normaliser is None else list(normaliser.also),
            sources=[SourceResult.like(source) for source in report.sources],
            consequences=ConsequencesResult(
                gradient_accumulation=ConsequenceResult.like(parts.gradient_accumulation),
                ddp=ConsequenceResult.like(parts.ddp),
                uneven_last=ConsequenceResult.like(parts.uneven_last),
            ),
            minibatch=report.batch_size,
        )


def _bias(report: SeparabilityReport) -> BiasResult:
    if report.bias is None:
        missing = report.bias_withheld is not None
        return BiasResult(
            estimate=None if missing else 0.0,
            low=None if missing else 0.0,
            high=None if missing else report.tolerance,
            reason=report.bias_withheld,
            level=report.level,
            detected=False,
            p_value=None,
            p_value_sign_flip=None,
            over_noise=None,
            partitions=report.consequences.gradient_accumulation.splits if missing else 1,
        )
    return BiasResult.like(report.bias, **Estimate.of(report.bias.size).model_dump())
