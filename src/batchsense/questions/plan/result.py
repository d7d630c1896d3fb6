"""What ``batchsense plan --json`` prints: a batch size, why, and how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Estimate, Model, Note, ResolvedEstimate, finite

if TYPE_CHECKING:
    from batchsense.training import TrainingPlan
    from batchsense.training.planning.workers import WorkersPlan
    from batchsense.training.workers.from_probe import WhiteBox


class StepTimeResult(Model):
    """Time of a training step on this machine: c0 + c1 · batch size."""

    c0_seconds: float = Field(description="Fixed part of a step, in seconds.")
    c1_seconds_per_example: float = Field(description="Seconds for each further example.")
    fixed: Estimate = Field(description="c0 with its interval, in seconds.")
    per_example: Estimate = Field(description="c1 with its interval, in seconds per example.")
    overhead_batch_size: Estimate = Field(
        description="c0/c1 in examples: where the fixed part equals the part per example."
    )
    batch_sizes: list[int] = Field(description="The sizes that were timed.")
    typical_seconds: list[float] = Field(
        description="Time of a step at each: lower quartile of the readings."
    )
    misfit: float = Field(description="Largest relative distance of these from the line.")
    rounds: int = Field(description="Readings of each size.")
    fetch_share: float = Field(description="Part of a step spent on reading and collating.")


class MemoryResult(Model):
    """Peak memory of a training step."""

    peak_bytes: int | None = Field(
        description="Most bytes alive at once in a step at the advised batch size: weights, "
        "gradients, optimizer state, minibatch and activations, without the interpreter."
    )
    max_batch_size: int | None = Field(description="Most examples that fit, with margin.")
    bytes_per_example: float | None = Field(description="What one more example costs at the peak.")
    usable_bytes: int | None = Field(description="Bytes a step may take, margin taken off.")
    source: str | None = Field(description="Where the limit comes from.")
    checked_batch_size: int | None = Field(
        description="A size, larger than those extrapolated from, at which a real step was traced."
    )
    checked_error: float | None = Field(
        description="Measured over predicted peak there, minus one."
    )
    reason: str | None = Field(default=None, description="Why something is null.")


class RunResult(Model):
    """The short training run behind the critical batch size."""

    batch_size: int = Field(description="Examples per step of the run.")
    steps: int
    initial_loss: float = Field(description="Mean loss over the first tenth of the run.")
    final_loss: float = Field(description="Mean loss over the last tenth of the run.")


class NoiseResult(Model):
    """Gradient noise at the weights where the short run ended."""

    noise_scale: ResolvedEstimate = Field(
        description="trace_covariance over squared_gradient_norm, in examples."
    )
    trace_covariance: Estimate = Field(description="Variance of the gradient of one example.")
    squared_gradient_norm: Estimate = Field(
        description="Squared length of the mean gradient, without bias; may be negative."
    )
    examples_used: int
    examples_needed: int = Field(description="About how many more would resolve the noise scale.")


class LearningRateResult(Model):
    """How the learning rate follows the batch size."""

    rule: Literal["linear", "saturating", "square_root", "unchanged"]
    validity: str = Field(description="What the rule assumes.")
    factor: float = Field(description="New over old learning rate.")
    from_batch_size: int = Field(description="The size that today's learning rate belongs to.")
    to_batch_size: int
    beta2: float | None = Field(description="Adam's second decay rate, where it changes.")
    epsilon: float | None = Field(description="Adam's ε, where it changes.")
    weight_decay: float | None = Field(description="AdamW's weight decay, where it changes.")


class TradeOffResult(Model):
    """One choice of batch size and what it costs."""

    batch_size: int
    relative_time: Estimate = Field(
        description="Training time over the least that memory and data allow, over all values in "
        "the intervals of noise and step time."
    )
    relative_examples: Estimate = Field(description="Examples spent over the fewest possible.")
    relative_steps: Estimate = Field(description="Steps over the fewest possible.")
    efficient: bool = Field(description="False where a smaller size is both faster and cheaper.")


class RungResult(Model):
    """A guarantee and the least batch size that keeps it."""

    guarantee: Literal["mean_square", "calibrated", "chebyshev", "bounded", "verified"]
    batch_size: int | None = Field(description="Null where this guarantee cannot be given.")
    assumes: str = Field(description="What has to be believed; or why there is no batch size.")
    needed: str | None = Field(
        default=None, description="What would make the guarantee possible, where it is not."
    )


class StreamedResult(Model):
    """The advice where minibatches come from a stream whose rows are alike in part."""

    file: str = Field(description="The table that is streamed.")
    batch_size: int = Field(description="Rows of a minibatch that are worth the advice.")
    design_effect: float = Field(description="batch_size over independent, but for rounding.")
    independent: int = Field(description="The advised batch size, of independent examples.")


class WorkersChoiceResult(Model):
    """Some workers, and the batch size at which they train fastest."""

    workers: int
    batch_size: int = Field(description="Examples of a step in all.")
    micro_batch: int = Field(description="Examples of one worker.")
    step_seconds: Estimate
    relative_time: Estimate = Field(description="Training time over that of the fastest choice.")
    relative_cost: Estimate = Field(description="Worker-seconds over those of the cheapest.")
    saved: Estimate | None = Field(
        description="Part of the time saved against the choice before it; null for the first."
    )
    paid: Estimate | None = Field(description="Part of the cost added against the same.")


class WorkersResult(Model):
    """What each number of workers takes and costs; intervals are of 80 %."""

    choices: list[WorkersChoiceResult] = Field(description="Ascending by workers.")
    fastest: int = Field(description="Workers with the least training time.")
    cheapest: int = Field(description="Workers with the fewest worker-seconds.")
    knee: int = Field(description="Workers with the least product of both.")
    network: str = Field(description="What the exchange is predicted from.")

    @classmethod
    def of(cls, plan: WorkersPlan | None, box: WhiteBox | None) -> WorkersResult | None:
        """Turn a :class:`~batchsense.training.planning.workers.WorkersPlan` into its JSON form."""
        if plan is None:
            return None
        network = "a switched link of the given rate, with all overlap or none"
        if box is not None:
            kinds = " or ".join(link.kind for link in box.links) or "no"
            network = f"a probe of {box.probe.workers} workers: {kinds} link"
        return cls.like(
            plan,
            choices=[WorkersChoiceResult.like(one) for one in plan.choices],
            network=network,
        )


class PlanResult(Model):
    """The advised batch size, what decides it, what it is worth and what is unsure."""

    target: str
    batch_size: int = Field(description="The advice, in examples.")
    drop_last: bool = Field(
        description="Whether an epoch's last, smaller minibatch must be dropped; see the doubts."
    )
    optimum: Estimate = Field(description="The time-optimal size before limits and rounding.")
    binding: Literal["noise", "overhead", "memory", "data", "maximum", "precision", "minimum"] = (
        Field(description="What decides the advice.")
    )
    critical_batch_size: ResolvedEstimate = Field(
        description="Where training takes twice the fewest steps and twice the fewest examples."
    )
    run: RunResult
    noise: NoiseResult
    step_time: StepTimeResult
    memory: MemoryResult
    learning_rate: float | None = Field(
        description="For the advised size; null if the size of today's is unknown."
    )
    learning_rate_rule: LearningRateResult | None
    pareto: list[TradeOffResult] = Field(description="Choices, ascending by batch size.")
    cheapest: int = Field(description="The allowed size that spends the fewest examples.")
    knee: int = Field(description="The size with the least product of time and examples.")
    fastest: int = Field(description="The allowed size with the least training time.")
    worst_excess: float = Field(
        description="Most that the advice may take longer than the best choice within the limits, "
        "as a part of that, over all values in the intervals of noise and step time."
    )
    tolerance: list[RungResult] = Field(description="Empty unless a tolerance was asked for.")
    batch_size_today: int | None
    examples: int = Field(description="Examples in the data set.")
    parameters: int = Field(description="Trained numbers in the model.")
    optimizer: Literal["sgd", "adam", "other"]
    workers: WorkersResult | None = Field(
        default=None, description="Null unless workers were asked about."
    )
    doubts: list[Note] = Field(description="What the plan is unsure of.")
    stream: StreamedResult | None = Field(
        default=None, description="How many rows of a stream are worth batch_size; see --stream."
    )

    def batch_size_of(self, workers: int) -> int:
        """The advice for a number of workers, where they were asked about; else for one."""
        choices = [] if self.workers is None else self.workers.choices
        return next((o.batch_size for o in choices if o.workers == workers), self.batch_size)

    @classmethod
    def of(
        cls, plan: TrainingPlan, target: str, workers: WorkersResult | None = None
    ) -> PlanResult:
        """Turn a :class:`~batchsense.training.TrainingPlan` into its JSON form."""
        advice, path, noise, rate = plan.advice, plan.path, plan.noise, plan.learning_rate
        return cls(
            target=target,
            batch_size=advice.batch_size,
            drop_last=any(doubt.code == "last_minibatch" for doubt in plan.doubts),
            optimum=Estimate.of(advice.optimum),
            binding=advice.binding,
            critical_batch_size=ResolvedEstimate.of(
                path.critical_batch_size, resolved=path.resolved
            ),
            run=RunResult.like(path),
            noise=NoiseResult.like(
                noise,
                noise_scale=ResolvedEstimate.of(noise.noise_scale, resolved=noise.resolved),
            ),
            step_time=_step_time(plan),
            memory=_memory(plan),
            learning_rate=None if rate is None else rate.learning_rate,
            learning_rate_rule=None if rate is None else LearningRateResult.like(rate),
            pareto=[TradeOffResult.like(row) for row in advice.table],
            cheapest=advice.cheapest,
            knee=advice.knee,
            fastest=advice.fastest,
            worst_excess=advice.worst_excess,
            tolerance=[RungResult.like(rung) for rung in plan.tolerance],
            batch_size_today=plan.batch_size_today,
            examples=plan.check.examples,
            parameters=plan.check.parameters,
            optimizer=plan.family,
            workers=workers,
            doubts=[Note(code=doubt.code, message=doubt.message) for doubt in plan.doubts],
        )


def _step_time(plan: TrainingPlan) -> StepTimeResult:
    timed = plan.step_time
    return StepTimeResult.like(
        timed,
        c0_seconds=timed.fixed.estimate,
        c1_seconds_per_example=timed.per_example.estimate,
        batch_sizes=[int(size) for size in timed.batch_sizes],
        typical_seconds=[float(time) for time in timed.typical],
    )


def _memory(plan: TrainingPlan) -> MemoryResult:
    envelope, limit = plan.envelope, plan.memory
    if envelope is None or limit is None:
        reason = next((d.message for d in plan.doubts if d.code == "memory_unresolved"), None)
        nothing = dict.fromkeys(MemoryResult.model_fields)
        return MemoryResult(**{**nothing, "reason": reason})
    size = plan.advice.batch_size
    return MemoryResult(
        peak_bytes=envelope.peak_bytes(size),
        max_batch_size=limit.max_batch_size,
        bytes_per_example=finite(envelope.bytes_per_example(size)),
        usable_bytes=limit.usable_bytes,
        source=limit.source,
        checked_batch_size=envelope.checked_batch_size,
        checked_error=envelope.checked_error,
        reason=limit.source if limit.max_batch_size is None else None,
    )
