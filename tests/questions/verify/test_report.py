"""The report of a checked plan: the figure draws the sweep, the page says the verdict."""

import numpy as np
import pytest

from batchsense.questions.verify.report import verify_report
from batchsense.questions.verify.result import SweptSizeResult, VerifyResult
from batchsense.questions.verify.text import verdict_sentence, verify_notes, verify_text
from batchsense.reports.envelope import Envelope, Estimate, ResolvedEstimate
from batchsense.reports.figures.laws import draw_sweep


def number(value: float | None, low: float | None, high: float | None) -> Estimate:
    """Write an estimate."""
    missing = None if None not in (value, low, high) else "no bound"
    return Estimate(estimate=value, low=low, high=high, reason=missing)


def result(**changes: object) -> VerifyResult:
    """Make a verdict on three sizes."""
    sizes = [
        SweptSizeResult(
            batch_size=size,
            reached=True,
            steps=steps,
            orders=[steps * 0.9, steps / 0.9],
            learning_rate_multiplier=1.0,
            at_edge=False,
            seconds_per_step=0.001,
            seconds_to_target=0.001 * steps,
            relative_time=steps / 60,
        )
        for size, steps in ((10, 300.0), (50, 100.0), (250, 60.0))
    ]
    values: dict[str, object] = {
        "target": "digits",
        "verdict": "confirmed",
        "batch_size": 50,
        "regret": number(0.05, 0.0, 0.12),
        "allowed_regret": 0.15,
        "fastest": 250,
        "target_loss": 0.3,
        "minimum_steps": number(50, 40, 60),
        "critical_batch_size": ResolvedEstimate(estimate=50, low=40, high=70, resolved=True),
        "planned_critical_batch_size": number(60, 30, 100),
        "ratio_to_plan": number(0.83, 0.67, 1.17),
        "misfit": 0.02,
        "sizes": sizes,
        "complete": True,
        "budget_seconds": 60.0,
        "run_seconds": 10.0,
    }
    return VerifyResult(**(values | changes))  # type: ignore[arg-type]


def codes(**changes: object) -> list[str]:
    """Give the codes of the notes on a verdict."""
    return [note.code for note in verify_notes(result(**changes))]


def test_the_figure_draws_every_run_and_the_law() -> None:
    """Each order is a point; the line is S_min (1 + B_crit/B); the advice is a level."""
    ax = draw_sweep([10, 50], [[300.0, 320.0], [100.0]], 50.0, 50.0, 32)
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in ax.get_lines()}

    assert lines["one order"].tolist() == [[10, 300], [10, 320], [50, 100]]
    sizes, steps = lines["fitted law"].T
    np.testing.assert_allclose(steps, 50 * (1 + 50 / sizes))
    assert lines["mean"][1].tolist() == pytest.approx([50, 100])
    assert lines["advised"][:, 0].tolist() == [32, 32]


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({}, "The advice of 50 examples holds: it takes 5 % longer"),
        ({"verdict": "refuted"}, "The advice of 50 examples is refuted: "),
        ({"verdict": "not_refuted"}, "The advice of 50 examples is not refuted, but not confirmed"),
        (
            {"verdict": "refuted", "regret": number(None, None, None)},
            "The advice of 50 examples is refuted: training with it did not reach",
        ),
        (
            {"verdict": "not_refuted", "regret": number(None, None, None)},
            "Training with the advised 50 examples did not reach the target within the budget",
        ),
    ],
)
def test_the_answer_comes_first(changes: dict[str, object], begins: str) -> None:
    """One sentence, the same in text and page, with the interval where there is one."""
    found = result(**changes)
    envelope = Envelope[VerifyResult](command="verify", seed=0, result=found)

    assert verdict_sentence(found).startswith(begins)
    table = verify_text(envelope, lambda header, rows: f"{len(rows)} rows of {len(header)}")
    assert "3 rows of 7" in table
    assert verdict_sentence(found).split(":")[0] in verify_report(envelope)


def test_notes_say_what_is_odd() -> None:
    """Nothing where all is well; else a code for each."""
    slow = result().sizes[1].model_copy(update={"learning_rate_multiplier": 4.0})
    missed = result().sizes[0].model_copy(update={"reached": False, "steps": None})

    assert codes() == []
    assert codes(complete=False) == ["budget_spent"]
    assert codes(sizes=[slow]) == ["learning_rate_off"]
    assert codes(ratio_to_plan=number(0.25, 0.2, 0.4)) == ["critical_batch_size_off"]
    assert codes(sizes=[missed]) == ["target_not_reached"]
    assert codes(misfit=0.3) == ["law_misfit"]
    assert [n.code for n in verify_notes(result(), closest_target=False)] == ["other_target_loss"]
