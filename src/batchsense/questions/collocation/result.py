"""What ``batchsense collocation --json`` prints: the error, and the phases that led to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.reports.envelope import Model, finite

if TYPE_CHECKING:
    from batchsense.training.collocation.problems import CollocationProblem
    from batchsense.training.collocation.solving import CollocationReport


class PointCount(Model):
    """Points of one condition in a step."""

    condition: str
    count: int


class PhaseResult(Model):
    """A stretch with one optimizer and one number of points."""

    name: Literal["adam", "gauss-newton"]
    reason: str = Field(description="Why it began.")
    points: list[PointCount]
    steps: int
    cpu_seconds: float
    relative_l2: float | None = Field(description="At its end; null without a reference.")


class Constant(Model):
    """A constant that was found with the solution."""

    name: str
    found: float
    true: float


class HistoryPoint(Model):
    """The weights after a step."""

    step: int
    cpu_seconds: float
    validation_loss: float
    relative_l2: float | None


class CollocationResult(Model):
    """A solved problem."""

    problem: str
    relative_l2: float | None = Field(
        description="Of the weights that are kept, over all outputs at the points of the "
        "reference; null without one."
    )
    reference: str | None = Field(description="What the error is measured against.")
    target_error: float | None = Field(description="What --error asked for.")
    stopped_by: Literal["seconds", "error", "steps"]
    parameters: int = Field(description="That were trained.")
    exact: list[str] = Field(description="Conditions that hold by the form of the network.")
    soft: list[str] = Field(description="Conditions that are terms of the loss.")
    points: list[PointCount] = Field(description="Of the last phase, in each step.")
    steps: int
    cpu_seconds: float = Field(description="Processor time of this process, also before --resume.")
    validation_loss: float = Field(description="Of the kept weights, on points of no step.")
    constants: list[Constant]
    phases: list[PhaseResult]
    history: list[HistoryPoint] = Field(description="Every tenth step, thinned to 200 at most.")

    @classmethod
    def of(
        cls,
        problem: CollocationProblem,
        report: CollocationReport,
        name: str,
        target_error: float | None,
    ) -> CollocationResult:
        """Turn a report into its JSON form."""
        from batchsense.training.workload import trainable

        rows = [
            HistoryPoint(step=s, cpu_seconds=t, validation_loss=loss, relative_l2=finite(error))
            for s, t, loss, error in report.history
        ]
        stride = -(-len(rows) // 200)
        phases = [
            PhaseResult.like(
                phase,
                points=[PointCount(condition=c, count=n) for c, n in phase.points.items()],
            )
            for phase in report.phases
        ]
        return cls(
            problem=name,
            relative_l2=finite(report.relative_l2),
            reference=problem.reference_kind,
            target_error=target_error,
            stopped_by=report.stopped_by,
            parameters=sum(one.numel() for one in trainable(report.model)),
            exact=list(problem.exact),
            soft=[one.name for one in problem.conditions],
            points=phases[-1].points,
            steps=report.steps,
            cpu_seconds=report.cpu_seconds,
            validation_loss=report.validation_loss,
            constants=[
                Constant(name=one, found=float(read(report.model).detach()), true=true)
                for one, (read, true) in problem.unknowns.items()
            ],
            phases=phases,
            history=rows[::stride],
        )
