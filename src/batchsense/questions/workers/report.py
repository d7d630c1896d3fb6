"""The page of ``batchsense workers``, and what its figure says."""

from __future__ import annotations

from batchsense.questions.workers import text
from batchsense.questions.workers.result import PredictionResult, WorkersResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.training.workers import StepPoint, draw_workers
from batchsense.reports.page import Picture, render


def workers_report(envelope: Envelope[WorkersResult], command_line: str | None = None) -> str:
    """The page of predicted steps."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        pictures={"steps": _steps(result)},
        headline=text.headline(result),
        turning=text.turning_sentence(result),
        evidence=text.evidence_sentence(result),
        predictions=text.prediction_rows(result),
        caption=text.lever_caption(result),
        levers=text.lever_rows(result),
    )


def _steps(result: WorkersResult) -> Picture:
    """Seconds of a step at one batch size, else examples a second."""
    by_step = result.held == "batch_size"
    points = [_point(one, by_step) for one in result.predictions]
    steps = [
        (one.nodes, one.workers, one.micro_batch, one.batch_size) for one in result.predictions
    ]
    best = result.best
    place = steps.index((best.nodes, best.workers, best.micro_batch, best.batch_size))
    first = min(points, key=lambda point: point.workers)
    ideal = None
    if result.held != "rows":
        power = -1 if by_step else 1
        ideal = [first.value * (one.workers / first.workers) ** power for one in points]
    unit = "seconds of a step" if by_step else "examples a second"
    ax = draw_workers(points, place, unit, ideal)
    return Picture.of(
        ax, "steps", unit.capitalize() + " by workers", text.comparison_sentence(result)
    )


def _point(one: PredictionResult, by_step: bool) -> StepPoint:
    ends = one.seconds.estimate, one.seconds.low, one.seconds.high, one.measured_seconds
    value, low, high, measured = (
        end if by_step or end is None else one.batch_size / end for end in ends
    )
    return StepPoint(
        one.workers,
        value or 0.0,
        min(low or 0.0, high or 0.0),
        max(low or 0.0, high or 0.0),
        measured,
        bool(one.flags),
    )
