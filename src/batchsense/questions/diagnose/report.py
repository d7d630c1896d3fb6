"""The page of ``batchsense diagnose``, and what its figures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchsense.questions.diagnose import placebo_text
from batchsense.questions.diagnose.placebo_result import PlaceboResult
from batchsense.questions.diagnose.placebo_text import BEFORE, headline
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.diagnose.scores_result import ScoresResult
from batchsense.questions.diagnose.scores_text import (
    contrast_sentences,
    distance_cell,
    mixing_rows,
    p_value,
)
from batchsense.questions.diagnose.text import block_sentence, interaction_sentence
from batchsense.questions.plane import (
    coloured_planes,
    colouring,
    relative_picture,
)
from batchsense.reports.columns import headings
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.batches import draw_design
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.figures.scores import draw_scores
from batchsense.reports.page import DataTable, Picture, render
from batchsense.reports.wording import percent, with_interval

if TYPE_CHECKING:
    from batchsense.experiments import Diagnosis, Table


def diagnose_report(
    envelope: Envelope[DiagnoseResult],
    found: Diagnosis | None = None,
    table: Table | None = None,
    command_line: str | None = None,
) -> str:
    """The page of a diagnosis."""
    result = envelope.answer()
    parts = result.batch.columns
    batches = [one.name for one in parts] or [result.batch.name]
    of_labels = [one.name for one in parts if one.kind == "categorical"] if parts else batches
    names = [*batches, *(one.name for one in result.kept)]
    labels = [*of_labels, *(one.name for one in result.kept if one.kind == "categorical")]
    drawn = ([], "") if table is None else colouring(table, names, labels, MOST_PLANES)
    coloured, undrawn = drawn
    return render(
        __file__,
        envelope,
        command_line,
        shares=_share_picture(result),
        uncrossed=[*interaction_sentence(envelope), *block_sentence(result)],
        designs=_design_pictures(result),
        contrasts=contrast_sentences(result.kept),
        distance_cell=distance_cell,
        components=None if result.scores is None else _scores_picture(result.scores),
        mixing=None if result.scores is None else _mixing(result.scores),
        placebo=None if result.placebo is None else _placebo(result.placebo, result.batch.name),
        planes=[] if found is None or table is None else coloured_planes(table, coloured),
        relative=relative_picture(table, of_labels[0]) if table and of_labels else None,
        undrawn=undrawn,
    )


def _mixing(scores: ScoresResult) -> tuple[list[tuple[str, str]], list[list[str]]] | None:
    header, rows = mixing_rows(scores)
    return (headings(header), rows) if rows else None


def _placebo(found: PlaceboResult, batch_name: str) -> dict[str, object]:
    header, rows = placebo_text.placebo_rows(found, batch_name)
    return {
        "introduction": placebo_text.introduction(found),
        "picture": _placebo_picture(found, batch_name),
        "columns": [
            (name, "n") if place > 1 else (name.capitalize(), "")
            for place, name in enumerate(header)
        ],
        "rows": rows,
        "remarks": placebo_text.remarks(found, batch_name),
    }


#: A design with more cells than this is not drawn: it would be taller than a page.
MOST_CELLS = 600
#: Factors that colour the plane of principal components, the batches among them.
MOST_PLANES = 5


def _share_picture(result: DiagnoseResult) -> Picture | None:
    terms = [(result.batch.name, result.batch.share)]
    terms += [(kept.name, kept.share) for kept in result.kept]
    if result.interaction is not None:
        terms.append((result.interaction.name, result.interaction.share))
    drawn = [
        Row.of(name, share, 100, share.null_high, share.raw)
        for name, share in terms
        if share.estimate is not None
    ]
    if not drawn:
        return None
    share = result.batch.share
    if share.estimate is None:
        finding = f"Nothing of {result.batch.name} is left beside what is to be kept."
    else:
        finding = (
            f"The batches ({result.batch.name}) account for "
            f"{with_interval(share, ' %', scale=100)} of the variance, chance subtracted. With "
            f"chance it is {percent(share.raw)}; shuffled labels give {percent(share.null_mean)} "
            f"on average, and more than {percent(share.null_high)} in one of 20 shuffles."
        )
    ax = draw_intervals(
        drawn, "share of the variance (%)", "chance subtracted", "shuffled labels, 95 %"
    )
    return Picture.of(ax, "shares", "Share of the variance", finding)


def _design_pictures(result: DiagnoseResult) -> list[Picture]:
    name, levels = result.batch.name, list(result.batch.levels)
    pictures = []
    for index, kept in enumerate(result.kept):
        if kept.counts is None or len(kept.counts) * len(levels) > MOST_CELLS:
            continue
        counts = np.array(list(kept.counts.values()))
        empty = int((counts == 0).sum())
        finding = (
            f"Every level of {kept.name} occurs in every {name}, "
            f"{counts.min()} to {counts.max()} times."
            if empty == 0
            else f"{empty} of {counts.size} combinations of {kept.name} and {name} have no "
            "specimen (crosses)."
        )
        ax = draw_design(counts, list(kept.counts), levels, kept.name, name)
        table = DataTable(
            f"Specimens of each {kept.name} (rows) in each {name} (columns)",
            headings([kept.name, *levels, "all"]),
            [[level, *map(str, row), str(sum(row))] for level, row in kept.counts.items()],
        )
        title = f"Specimens by {kept.name} and {name}"
        pictures.append(Picture.of(ax, f"design-{index}", title, finding, table))
    return pictures


def _scores_picture(scores: ScoresResult) -> Picture:
    r2: dict[str, list[float | None]] = {name: [] for name in scores.overall}
    for one in scores.components:
        r2[one.name].append(one.r2_alone)
    ax = draw_scores(scores.explained, r2)
    each = ", ".join(f"{name} {percent(value)}" for name, value in scores.overall.items())
    finding = (
        f"Of the variance along these {len(scores.explained)} components, which hold "
        f"{percent(sum(scores.explained))} of all, each factor alone explains: {each}."
    )
    columns = [("Component", "n"), ("Variance", "n")]
    columns += [(f"{name}: {kind}", "n") for name in r2 for kind in ("R²", "partial", "p (Holm)")]
    rows = []
    for place, part in enumerate(scores.explained, start=1):
        row = [str(place), percent(part)]
        for one in scores.components:
            if one.component == place:
                row += [f"{one.r2_alone:.3f}", _two(one.r2_partial), p_value(one.p_holm)]
        rows.append(row)
    table = DataTable("R² of each component on each factor", columns, rows, folded=True)
    return Picture.of(ax, "scores", "What the principal components go with", finding, table)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


#: More rows than this are not drawn, so that the figure stays low; the table has them all.
MOST_ROWS = 24


def _placebo_picture(found: PlaceboResult, batch_name: str) -> Picture | None:
    rows = [
        Row.of(
            f"{one.factor}: {BEFORE.get(one.pipeline, f'{batch_name} in the model')}", one.rate, 100
        )
        for one in found.outcomes
        if one.rate.estimate is not None
    ]
    if not rows:
        return None
    ax = draw_intervals(
        rows[:MOST_ROWS],
        f"noise with p ≤ {found.alpha:g} (%)",
        "false-positive rate",
        reference=100 * found.alpha,
        reference_label="as it should be",
    )
    finding = headline(found, batch_name)
    if len(rows) > MOST_ROWS:
        finding += f" The first {MOST_ROWS} of {len(rows)} are drawn."
    return Picture.of(ax, "placebo", "False-positive rates", finding)
