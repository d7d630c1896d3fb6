"""What ``batchsense verify --json`` prints: whether a plan's advice holds, by a sweep."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from batchsense.questions.plan.result import PlanResult
from batchsense.reports.envelope import Estimate, Model, ResolvedEstimate, finite
from batchsense.variation.interval import Interval

if TYPE_CHECKING:
    from batchsense.training.verify import Advice, Sweep, SweptSize, Verdict, Verification

# That of batchsense.training.gradient_noise, which is not loaded for this.
_RESOLVED_RATIO = 4.0


class SweptSizeResult(Model):
    """One batch size of the sweep."""

    batch_size: int
    reached: bool = Field(description="Whether the target loss was reached.")
    steps: float | None = Field(description="Steps to the target: geometric mean over orders.")
    orders: list[float] = Field(description="Steps with each order of the examples.")
    learning_rate_multiplier: float | None = Field(
        description="The fastest learning rate over that of the plan's rule."
    )
    at_edge: bool = Field(description="Whether a faster learning rate may lie beyond those tried.")
    seconds_per_step: float
    seconds_to_target: float | None
    relative_time: float | None = Field(description="Over the least of all sizes.")


class VerifyResult(Model):
    """The advice, what a sweep measured, and the verdict."""

    target: str
    verdict: Literal["confirmed", "not_refuted", "refuted"] = Field(
        description="confirmed: the regret is certainly within what is allowed; refuted: it is "
        "certainly not; not_refuted: neither."
    )
    batch_size: int = Field(description="The advised size.")
    regret: Estimate = Field(
        description="Time to the target at the advised size over the least of the swept sizes, "
        "minus one."
    )
    allowed_regret: float
    fastest: int = Field(description="The swept size with the least time.")
    target_loss: float = Field(description="The loss that every run had to reach.")
    minimum_steps: Estimate = Field(description="S_min: steps that no batch size avoids.")
    critical_batch_size: ResolvedEstimate = Field(description="B_crit, fitted to the sweep.")
    planned_critical_batch_size: Estimate = Field(description="B_crit as the plan has it.")
    ratio_to_plan: Estimate = Field(description="Swept over planned B_crit.")
    misfit: float = Field(description="Root mean square of log steps about the fitted law.")
    sizes: list[SweptSizeResult] = Field(description="Ascending by batch size.")
    complete: bool = Field(description="Whether every planned run fitted into the budget.")
    budget_seconds: float
    run_seconds: float = Field(description="Time of all runs, earlier calls included.")

    @classmethod
    def of(
        cls, checked: Verification, plan: PlanResult, target: str, budget: float
    ) -> VerifyResult:
        """Turn a :class:`~batchsense.training.verify.Verification` into its JSON form."""
        verdict, found = checked.verdict, checked.sweep
        critical = verdict.law.critical_batch_size
        return cls(
            target=target,
            verdict=verdict.outcome,
            batch_size=checked.advice.batch_size,
            regret=_regret(verdict),
            allowed_regret=verdict.allowed,
            fastest=verdict.fastest,
            target_loss=checked.advice.target_loss,
            minimum_steps=Estimate.of(verdict.law.minimum_steps),
            critical_batch_size=ResolvedEstimate.of(
                critical, resolved=critical.bounded and critical.ratio <= _RESOLVED_RATIO
            ),
            planned_critical_batch_size=Estimate.like(plan.critical_batch_size),
            ratio_to_plan=Estimate.of(verdict.ratio_to_plan),
            misfit=verdict.law.misfit,
            sizes=[_size(size, found, verdict) for size in found.sizes],
            complete=found.complete,
            budget_seconds=budget,
            run_seconds=found.seconds,
        )


def advice_of(plan: PlanResult, target_loss: float | None = None) -> Advice:
    """Take from a plan what a sweep can check."""
    from batchsense.training.planning.batch_size import used_critical_batch_size
    from batchsense.training.verify import Advice

    critical = plan.critical_batch_size
    interval = Interval(
        math.inf if critical.estimate is None else critical.estimate,
        critical.low or 0.0,
        math.inf if critical.high is None else critical.high,
        critical.level,
    )
    fits = plan.memory.max_batch_size
    rule = plan.learning_rate_rule
    return Advice(
        batch_size=plan.batch_size,
        critical_batch_size=interval,
        used_critical_batch_size=used_critical_batch_size(interval),
        target_loss=plan.run.final_loss if target_loss is None else target_loss,
        learning_rate_batch_size=plan.run.batch_size if rule is None else rule.from_batch_size,
        steps=plan.run.steps,
        run_batch_size=plan.run.batch_size,
        largest=plan.examples if fits is None else min(plan.examples, fits),
        side=_side(plan.binding),
    )


def _side(binding: str) -> Literal["smaller", "larger", "both"]:
    if binding == "maximum":
        return "smaller"
    return "larger" if binding in ("minimum", "precision") else "both"


def _regret(verdict: Verdict) -> Estimate:
    """Write the regret; without a time at the advised size there is no number."""
    if verdict.advised_reached:
        return Estimate.of(verdict.regret)
    reason = "the advised size did not reach the target"
    return Estimate.missing(reason, level=verdict.regret.level)


def _size(size: SweptSize, found: Sweep, verdict: Verdict) -> SweptSizeResult:
    time = verdict.seconds_to_target.get(size.batch_size)
    least = min(verdict.seconds_to_target.values())
    return SweptSizeResult(
        batch_size=size.batch_size,
        reached=bool(size.steps),
        steps=size.mean_steps if size.steps else None,
        orders=list(size.steps),
        learning_rate_multiplier=finite(size.multiplier),
        at_edge=size.at_edge,
        seconds_per_step=found.step_seconds[size.batch_size],
        seconds_to_target=time,
        relative_time=None if time is None else time / least,
    )
