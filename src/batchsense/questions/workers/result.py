"""What ``batchsense workers --json`` prints: every step, which is slower, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field

from batchsense.reports.envelope import Estimate, Model

if TYPE_CHECKING:
    from batchsense.training.workers import (
        Comparison,
        StepConfiguration,
        StepPrediction,
        TurningPoint,
    )
    from batchsense.training.workers.evidence import StepEvidence


#: What is the same in every step; rows if they were listed one by one.
Held = Literal["batch_size", "micro_batch", "rows"]


class StepResult(Model):
    """How a step is spread."""

    nodes: int
    workers: int = Field(description="In all.")
    micro_batch: int = Field(description="Examples of one worker in one pass.")
    accumulation: int = Field(description="Passes of a worker between two exchanges of gradients.")
    batch_size: int = Field(description="Examples of the step, over all workers and passes.")


class PredictionResult(StepResult):
    """The time of one step."""

    seconds: Estimate = Field(description="Wall time of an optimizer step.")
    examples_per_second: float = Field(description="At the estimate.")
    measured_seconds: float | None = Field(description="What was measured; null if it was not.")
    time_to_target: float | None = Field(
        description="Training time to a given loss over that of the best, at the estimate; null "
        "without a noise scale."
    )
    flags: list[str] = Field(description="Codes of what makes it doubtful; empty if nothing does.")


class ComparisonResult(Model):
    """Whether the second of two takes longer for the same number of examples."""

    # "from" is a word of Python; the document has it all the same.
    model_config = ConfigDict(serialize_by_alias=True)

    from_: StepResult = Field(alias="from", description="The one with fewer workers, or nodes.")
    to: StepResult
    verdict: Literal["slower", "faster", "undecided"] = Field(description="Of `to`.")


class LeverResult(Model):
    """Something that would change the time of the step with the most workers."""

    name: str
    words: str = Field(description="What is done.")
    batch_size: int = Field(description="Examples of the step with it.")
    seconds: Estimate = Field(description="Wall time of the step with it.")
    ratio: Estimate = Field(description="Seconds per example with it over those without.")
    option: str = Field(description="How `batchsense train` is told; empty where it is not.")


class FormResult(Model):
    """A form of the step time that the predictions rest on."""

    form: str
    weight: float


class TurningResult(Model):
    """Where more workers stop paying at a fixed batch size."""

    batch_size: int
    workers: Estimate = Field(description="The number with the least time, on the fewest nodes.")
    searched: int = Field(description="The most workers that were searched.")

    @classmethod
    def of(cls, found: TurningPoint) -> TurningResult:
        """Turn it into its JSON form."""
        reason = f"more than {found.searched} workers, twice those measured, were not searched"
        bounded = found.workers.bounded
        workers = Estimate.of(found.workers, None if bounded else reason)
        return cls(batch_size=found.batch_size, workers=workers, searched=found.searched)


class WorkersResult(Model):
    """The answer of ``batchsense workers``."""

    held: Held = Field(
        description="What is the same in every step; rows if they were listed one by one."
    )
    predictions: list[PredictionResult] = Field(
        description="In the order in which they were asked."
    )
    comparisons: list[ComparisonResult] = Field(
        description="Pairs with one batch size, and with one micro-batch unless they are too many."
    )
    best: StepResult = Field(
        description="The least time per example, or with a noise scale to a given loss."
    )
    best_certain: bool = Field(
        description="Whether every comparison with the best is decided, and no flag casts doubt."
    )
    slower_for_certain: bool = Field(
        description="Whether the most workers asked about are slower for certain than fewer."
    )
    turning: TurningResult | None = Field(description="null unless the batch size is fixed.")
    levers: list[LeverResult] = Field(description="Of the step with the most workers.")
    model: list[FormResult]
    measured: int = Field(description="Configurations that were measured.")
    measured_in_words: str

    @classmethod
    def of(
        cls,
        evidence: StepEvidence,
        predictions: Sequence[StepPrediction],
        comparisons: Sequence[Comparison],
        held: Held,
        noise_scale: float | None,
    ) -> WorkersResult:
        """Turn what was found into its JSON form."""
        costs = [_cost(one, noise_scale or 0.0, noise_scale is not None) for one in predictions]
        place = min(range(len(costs)), key=costs.__getitem__)
        best = predictions[place].configuration
        # The most workers; of several spreads of them the fastest speaks for them.
        most = max(one.configuration.workers for one in predictions)
        largest = min(
            (one for one in predictions if one.configuration.workers == most),
            key=lambda one: -one.examples_per_second,
        ).configuration
        known = dict(evidence.measured)
        fixed = best.batch_size if held == "batch_size" else None
        turning = evidence.turning(fixed) if evidence.turning and fixed is not None else None
        return cls(
            held=held,
            predictions=[
                PredictionResult(
                    **_step(one.configuration),
                    seconds=Estimate.of(one.seconds),
                    examples_per_second=one.examples_per_second,
                    measured_seconds=known.get(one.configuration),
                    time_to_target=None if noise_scale is None else cost / costs[place],
                    flags=list(one.flags),
                )
                for one, cost in zip(predictions, costs, strict=True)
            ],
            comparisons=[
                ComparisonResult(
                    **{"from": StepResult(**_step(one.first))},
                    to=StepResult(**_step(one.second)),
                    verdict=one.verdict,
                )
                for one in comparisons
            ],
            best=StepResult(**_step(best)),
            best_certain=not predictions[place].flags
            and all(
                one.verdict != "undecided" for one in comparisons if best in (one.first, one.second)
            ),
            slower_for_certain=any(
                one.verdict == "slower" and one.second == largest and one.first.workers < most
                for one in comparisons
            ),
            turning=None if turning is None else TurningResult.of(turning),
            levers=[
                LeverResult.like(one, batch_size=one.configuration.batch_size)
                for one in evidence.levers(largest)
            ],
            model=[FormResult(form=name, weight=weight) for name, weight in evidence.forms],
            measured=len(evidence.measured),
            measured_in_words=evidence.described,
        )


def _step(one: StepConfiguration) -> dict[str, int]:
    return {name: getattr(one, name) for name in StepResult.model_fields}


def _cost(one: StepPrediction, noise_scale: float, to_target: bool) -> float:
    """Seconds per example, or what is proportional to those until a given loss."""
    examples = one.configuration.batch_size
    per_example = one.seconds.estimate / examples
    # Steps to a loss go with 1 + noise scale / batch size, so examples with batch size + noise.
    return per_example * (examples + noise_scale) if to_target else per_example
