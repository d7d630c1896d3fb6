"""What ``batchsense train --json`` prints: what was trained, how far, and how noisy it was."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model, Note, ResolvedEstimate, finite
from batchsense.reports.wording import number

if TYPE_CHECKING:
    from batchsense.questions.train.request import TrainRequest
    from batchsense.training.running import Ranks
    from batchsense.training.training_job import TrainedRun, TrainingSettings


#: Standard errors that make a difference clear, though the lowest of many means was chosen.
_CLEARLY = 4.0
#: So many means at least, or the first and the last are not apart.
_LEAST_MEANS = 3


class LossPoint(Model):
    """The loss over a stretch of steps."""

    step: int = Field(description="The last step of the stretch.")
    loss: float = Field(description="Mean loss of its minibatches.")


class SizeChange(Model):
    """The first batch size of a schedule, or a change of it."""

    step: int = Field(description="Steps made before.")
    examples: int = Field(description="Examples consumed before, over all processes.")
    batch_size: int = Field(description="From there on, over all processes.")
    learning_rate: float = Field(description="From there on, of the first parameter group.")
    reason: str = Field(description="start, written, or what was measured.")


class TrainResult(Model):
    """What a training came to."""

    target: str
    examples: int = Field(description="Seen by all processes together, repetitions counted.")
    steps: int = Field(description="Optimizer steps, also those before a checkpoint.")
    stopped_by: Literal["loss", "steps", "epochs", "signal"]
    final_loss: float = Field(description="Mean loss of the last 20 minibatches.")
    final_loss_error: float | None = Field(
        description="Its standard error, from the spread of these; null after a single step."
    )
    target_loss: float | None = Field(description="What --loss asked for.")
    seconds: float = Field(description="In the training loop, also before a checkpoint.")
    noise_scale: ResolvedEstimate = Field(
        description="Of the gradient over the last measured steps, in examples."
    )
    critical_batch_size: Estimate = Field(
        description="Integrated over the measured steps: where training takes twice the fewest "
        "steps and twice the fewest examples."
    )
    batch_size: int = Field(
        description="Examples per step over all processes; with a schedule, at the end."
    )
    schedule: str | None = Field(description="What --schedule asked for.")
    couple: Literal["lr", "temperature", "seesaw"] | None = Field(
        description="What the learning rate did when the batch size changed; null if it stayed."
    )
    batch_sizes: list[SizeChange] = Field(
        description="The first batch size of a schedule and every change; empty without one."
    )
    learning_rate: float | None = Field(description="Of the first parameter group.")
    learning_rate_from: int | None = Field(
        description="The batch size that the job's own learning rate belongs to; null if unknown: "
        "then it was kept."
    )
    processes: int
    nodes: int | None = Field(description="Machines; null where nothing says.")
    backend: Literal["gloo", "nccl"] | None = Field(description="null for one process.")
    combined: Literal["mean", "sum", "ratio", "inexact"] | None = Field(
        description="How the losses of the parts of a step make that of the whole, by the audit; "
        "null where a step is one part."
    )
    resumed_at: int | None = Field(description="The step of the checkpoint it went on from.")
    curve: list[LossPoint] = Field(description="Stretches of equal length, 256 at most.")

    @property
    def missed(self) -> bool:
        """Whether the last minibatches are above the loss asked for, whatever ended the run."""
        return self.target_loss is not None and not self.final_loss <= self.target_loss

    @classmethod
    def of(
        cls,
        trained: TrainedRun,
        request: TrainRequest,
        settings: TrainingSettings,
        ranks: Ranks,
    ) -> TrainResult:
        """Turn what was trained into its JSON form."""
        record, noise = trained.record, trained.noise
        changes = [SizeChange(**dataclasses.asdict(switch)) for switch in trained.switches]
        why = "no step of the run was measured" if noise is None else "fewer than 16 measured steps"
        critical = None if noise is None else noise.critical_batch_size
        return cls(
            target=request.target,
            examples=record.examples,
            steps=record.steps,
            stopped_by=trained.stopped_by,
            final_loss=record.loss,
            final_loss_error=finite(record.loss_error),
            target_loss=request.loss,
            seconds=record.seconds,
            noise_scale=ResolvedEstimate.missing(why, resolved=False)
            if noise is None
            else ResolvedEstimate.of(noise.noise_scale, resolved=noise.resolved),
            critical_batch_size=Estimate.missing(why)
            if critical is None
            else Estimate.of(critical),
            batch_size=changes[-1].batch_size if changes else settings.batch_size,
            schedule=request.schedule,
            couple=settings.couple,
            batch_sizes=changes,
            learning_rate=trained.learning_rate,
            learning_rate_from=settings.learning_rate_batch_size,
            processes=ranks.world_size,
            nodes=ranks.nodes,
            backend=ranks.backend,
            combined=trained.combined,
            resumed_at=trained.resumed_at,
            curve=[LossPoint(step=step, loss=loss) for step, loss in record.curve],
        )

    def what_the_loss_did(self) -> list[Note]:
        """Say where the loss did not fall, or was once clearly lower than at the end.

        Compared are means over at least as many steps as the last one has.
        """
        means = _means(self.curve)
        if self.final_loss_error is None or len(means) < _LEAST_MEANS:
            return []
        # Each mean errs about as the last does, so a difference by the root of two more.
        clear = _CLEARLY * math.sqrt(2) * self.final_loss_error
        last = f"{number(self.final_loss)} ± {number(self.final_loss_error, 2)} at the end"
        rate = "" if self.learning_rate is None else f", now {number(self.learning_rate)},"
        lowest = min(means, key=lambda mean: mean.loss)
        if self.final_loss > lowest.loss + clear:
            return [
                Note(
                    code="loss_was_lower",
                    message=f"The loss was {number(lowest.loss)} up to step {lowest.step:,} and is "
                    f"{last}. The learning rate{rate} may be too large for the batch size: see "
                    "whether a smaller one holds it.",
                )
            ]
        start = min(self.curve[0], means[0], key=lambda mean: mean.loss)
        if self.final_loss > start.loss - clear:
            return [
                Note(
                    code="loss_did_not_fall",
                    message=f"The loss was {number(start.loss)} up to step {start.step:,} and is "
                    f"{last}: no fall beyond its noise. The learning rate{rate} may be too large "
                    "or too small.",
                )
            ]
        return []

    def levers_that_did_nothing(self, request: TrainRequest) -> list[Note]:
        """Say which options of several processes meant nothing, and what one of them costs."""
        if self.processes > 1:
            if request.sync_every == 1:
                return []
            return [
                Note(
                    code="local_steps",
                    message=f"Each process stepped by itself for {request.sync_every} steps at a "
                    "time. What that costs in steps to a loss is not known beforehand: compare the "
                    "loss with that of a run without --sync-every.",
                )
            ]
        asked = {
            "--compress": request.compress is not None,
            "--bucket-cap": request.bucket_cap is not None,
            "--sync-every": request.sync_every > 1,
        }
        named = " and ".join(name for name, given in asked.items() if given)
        if not named:
            return []
        return [
            Note(
                code="one_process",
                message=f"{named} did nothing: there was one process. Start several with torchrun.",
            )
        ]


def _means(curve: list[LossPoint]) -> list[LossPoint]:
    """Means over at least :data:`SMOOTHED_STEPS` steps each, in order."""
    from batchsense.training.running.record import SMOOTHED_STEPS

    found, total, begun, before = [], 0.0, 0, 0
    for point in curve:
        total += point.loss * (point.step - before)
        before = point.step
        if point.step - begun >= SMOOTHED_STEPS:
            found.append(LossPoint(step=point.step, loss=total / (point.step - begun)))
            total, begun = 0.0, point.step
    return found
