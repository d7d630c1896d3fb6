"""The sentences of a plan follow from its numbers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from batchsense.notes import Note
from batchsense.questions.plan.result import PlanResult, TradeOffResult
from batchsense.questions.plan.text import advice, remarks
from batchsense.reports.envelope import Estimate
from batchsense.training.planning.batch_size import Limits, plan_batch_size
from batchsense.training.planning.doubts import ranked
from batchsense.training.step_time import fit_step_time
from batchsense.variation.interval import Interval


def about(estimate: float, low: float, high: float) -> Estimate:
    """With an interval of 95 %."""
    return Estimate(estimate=estimate, low=low, high=high, level=0.95)


def plan(today: Estimate, advised: Estimate, binding: str = "noise", **more: Any) -> PlanResult:
    """Of 96 examples, from 32."""
    rows = [
        TradeOffResult.model_construct(batch_size=size, relative_time=time, efficient=size < 96)
        for size, time in ((32, today), (96, advised))
    ]
    return PlanResult.model_construct(
        target="mine",
        batch_size=96,
        batch_size_today=32,
        drop_last=False,
        pareto=rows,
        binding=binding,
        learning_rate=None,
        learning_rate_rule=None,
        **more,
    )


@pytest.mark.parametrize(
    ("today", "advised", "end"),
    [
        ((1.4, 1.2, 1.6), (1.0, 1.0, 1.03), "today's size 1.40 times (1.20 to 1.60)."),
        ((1.1, 1.02, 1.3), (1.0, 1.0, 1.05), "(1.02 to 1.30); the intervals overlap."),
        ((1.02, 1.0, 1.04), (1.0, 1.0, 1.03), "which is as good."),
    ],
)
def test_the_advice_says_what_a_change_would_gain(today: Any, advised: Any, end: str) -> None:
    """In one sentence, with both intervals."""
    said = advice(plan(about(*today), about(*advised)))

    assert said.startswith("Recommended batch size for mine: 96 examples (today: 32); training ")
    assert said.endswith(end)


def test_no_row_contradicts_the_advice() -> None:
    """What a tolerance asks for is slower, and said to be asked for."""
    found = plan(about(1, 1, 1.1), about(2, 1.8, 2.2), "precision")

    assert remarks(found.pareto[1], found) == ["recommended for the tolerance"]
    assert remarks(found.pareto[0], found) == ["today"]
    assert "overlap" not in advice(found)


@pytest.mark.parametrize("today", [44, 45, 50, 56, 61])
def test_no_size_of_the_table_is_faster_than_the_advice(today: int) -> None:
    """Neither a round number nor the one in use."""
    timed = fit_step_time([2, 8, 32], [[0.012, 0.018, 0.042]] * 5)
    found = plan_batch_size(
        Interval(250, 160, 400), timed, Limits(examples=10_000), include=(today,)
    )
    times = {row.batch_size: row.relative_time.estimate for row in found.table}

    assert times[found.batch_size] == min(times.values())
    assert next(r for r in found.table if r.batch_size == found.batch_size).efficient


def test_doubts_are_ranked_by_what_they_move() -> None:
    """What nothing is known of, then an open interval, then noise that has grown, then rates."""
    path: Any = SimpleNamespace(critical_batch_size=Interval(40, 2.5, 640))
    codes = [
        "learning_rate_rule",
        "adaptive_optimizer",
        "beginning_only",
        "critical_batch_size_unresolved",
        "coupled_examples",
    ]
    order = [d.code for d in ranked([Note(code, "") for code in codes], path, noise_now=4 * 40)]

    assert order == codes[::-1]
    early = [d.code for d in ranked([Note(code, "") for code in codes], path, noise_now=40)]
    assert early[2] == "adaptive_optimizer"
