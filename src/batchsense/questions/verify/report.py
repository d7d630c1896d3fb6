"""The page of ``batchsense verify``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.verify.result import VerifyResult
from batchsense.questions.verify.text import verdict_sentence
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.laws import draw_sweep
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number


def verify_report(envelope: Envelope[VerifyResult], command_line: str | None = None) -> str:
    """The page of a checked plan."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        sentence=verdict_sentence(result),
        sweep=_sweep_picture(result),
    )


def _sweep_picture(result: VerifyResult) -> Picture | None:
    least, critical = result.minimum_steps.estimate, result.critical_batch_size.estimate
    reached = [size for size in result.sizes if size.reached]
    if least is None or critical is None or not reached:
        return None
    finding = (
        "Every point is a training run to the same loss, at the best learning rate found for its "
        "batch size. Far left, twice the examples mean half the steps; far right "
        f"{number(least, 2)} steps are needed however many examples each has. The bend is the "
        f"critical batch size, {number(critical, 2)} examples."
    )
    ax = draw_sweep(
        [size.batch_size for size in reached],
        [size.orders for size in reached],
        least,
        critical,
        result.batch_size,
    )
    return Picture.of(ax, "sweep", "Steps to the target loss", finding)
