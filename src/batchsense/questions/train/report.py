"""The page of ``batchsense train``, and what its figure says."""

from __future__ import annotations

from batchsense.questions.train import text
from batchsense.questions.train.result import TrainResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.training.losses import draw_losses
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number


def train_report(envelope: Envelope[TrainResult], command_line: str | None = None) -> str:
    """The page of a training."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        pictures={"curve": _curve(result)} if len(result.curve) > 1 else {},
        headline=text.headline(result),
        loss=text.loss_words(result),
        work=text.work_sentence(result),
        noise=text.noise_sentence(result),
        schedule=text.schedule_sentence(result) if result.batch_sizes else "",
        sizes=text.size_rows(result),
        curve=text.curve_rows(result),
    )


def _curve(result: TrainResult) -> Picture:
    steps, losses = zip(*((point.step, point.loss) for point in result.curve), strict=True)
    ax = draw_losses(steps, losses, result.target_loss)
    finding = (
        f"The loss went from {number(losses[0])} to {number(losses[-1])} in {result.steps:,} steps."
    )
    return Picture.of(ax, "curve", "The loss of the minibatches", finding)
