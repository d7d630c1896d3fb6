"""The page of ``batchsense collocation``: solution, residual, and the error on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchsense.questions.collocation import text
from batchsense.questions.collocation.result import CollocationResult
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.images import draw_field
from batchsense.reports.figures.training.losses import draw_error
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number

if TYPE_CHECKING:
    from batchsense.training.collocation.problems import CollocationProblem
    from batchsense.training.collocation.solving import CollocationReport

#: Points of a picture: more only make the page larger.
_DRAWN = 1500


def collocation_report(
    envelope: Envelope[CollocationResult],
    problem: CollocationProblem,
    report: CollocationReport,
    command_line: str | None = None,
) -> str:
    """The page of a solved problem."""
    result = envelope.answer()
    pictures = {}
    if len(result.history) > 1 and result.relative_l2 is not None:
        pictures["error"] = _error(result)
    return render(
        __file__,
        envelope,
        command_line,
        pictures=pictures,
        fields=_fields(problem, report),
        headline=text.headline(result),
        conditions=text.conditions_sentence(result),
        constants=text.constant_sentences(result),
        rows=text.phase_rows(result),
        last_points=text.points_words(result.phases[-1]),
    )


def _error(result: CollocationResult) -> Picture:
    ax = draw_error(
        [row.cpu_seconds for row in result.history],
        [row.relative_l2 or np.nan for row in result.history],
        [sum(p.cpu_seconds for p in result.phases[:k]) for k in range(1, len(result.phases))],
        result.target_error,
    )
    last = result.history[-1].relative_l2
    finding = (
        f"The weights that are kept have an error of {number(result.relative_l2)}, those of the "
        f"last look {number(last)}; lines mark where a phase begins."
    )
    return Picture.of(ax, "error", "Error against the reference, by processor time", finding)


def _fields(problem: CollocationProblem, report: CollocationReport) -> list[Picture]:
    """The first output and the size of the residual, where the domain is a plane."""
    import torch

    from batchsense.training.collocation.conditions import condition_residual

    first = problem.conditions[0]
    points = first.points if problem.validation is None else torch.from_numpy(problem.validation)
    if points.shape[1] != 2:
        return []
    points = points[:: -(-len(points) // _DRAWN)]
    with torch.no_grad():
        values = report.model(points)[:, 0].numpy()
    sizes = condition_residual(first, report.model, points).detach().norm(dim=1).numpy()
    places = points.numpy()
    found = f"It goes from {number(values.min())} to {number(values.max())}."
    worst = "(" + ", ".join(f"{one:.2g}" for one in places[sizes.argmax()]) + ")"
    left = (
        f"Root mean square {number(float(np.sqrt((sizes**2).mean())))}; largest at {worst} with "
        f"{number(float(sizes.max()))}."
    )
    return [
        Picture.of(draw_field(places, values), "solution", "The solution", found),
        Picture.of(
            draw_field(places, sizes, sequential=True),
            "residual",
            f"What is left of {first.name}",
            left,
        ),
    ]
