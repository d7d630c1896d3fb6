"""The page of ``batchsense layout``, and what its figures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from batchsense.plots.plane import grouped
from batchsense.questions.layout import text
from batchsense.questions.layout.result import BalancedFactor, LayoutResult
from batchsense.questions.layout.text import batch_rows
from batchsense.reports.columns import headings
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.batches import draw_design, draw_strips
from batchsense.reports.figures.plate import PlateGrid, draw_plate
from batchsense.reports.page import DataTable, Picture, render
from batchsense.reports.wording import spread

if TYPE_CHECKING:
    from batchsense.experiments import Layout
    from batchsense.experiments.tables.columns import Factor


def layout_report(
    envelope: Envelope[LayoutResult],
    found: Layout | None = None,
    command_line: str | None = None,
) -> str:
    """The page of a layout."""
    result = envelope.answer()
    header, rows = text.worth_rows(result)
    worst = max(one.vif or float("inf") for one in result.factors)
    return render(
        __file__,
        envelope,
        command_line,
        headline=f"Largest VIF {worst:.3f}",
        score=text.score_sentence(result),
        plates_sentence=text.plates_sentence(result),
        sizes=spread([one.specimens for one in result.batches]),
        worth_columns=[(name, "" if name in {"factor", "between"} else "n") for name in header],
        worth_rows=rows,
        drawn=_factor_pictures(result, found),
        plates=_plate_pictures(found),
    )


#: A factor with more levels × batches than this is not drawn: it would be taller than a page.
MOST_CELLS = 600
#: So many plates are drawn, four rows of two; the sheet has the wells of all.
MOST_PLATES = 8
#: Groups beyond this number are not told apart on a plate, as in every figure with signs.
MOST_GROUPS = 20


def _factor_pictures(result: LayoutResult, found: Layout | None) -> list[Picture]:
    names = [one.name for one in result.batches]
    pictures = []
    for index, one in enumerate(result.factors):
        title = f"{one.name} by {result.column}"
        if one.counts is not None:
            if len(one.counts) * len(names) > MOST_CELLS:
                continue
            counts = np.array(list(one.counts.values()))
            ax = draw_design(counts, list(one.counts), names, one.name, result.column)
            gap = int((counts.max(axis=1) - counts.min(axis=1)).max())
            finding = (
                f"Each level of {one.name} occurs equally often in every batch."
                if gap == 0
                else f"Between batches the count of a level differs by {gap} at most."
            )
        elif found is not None:
            kept = next(kept for kept in found.design.kept if kept.name == one.name)
            values = kept.values if kept.values is not None else np.zeros(0)
            ax = draw_strips(values, found.codes, names, one.name, result.column)
            means = [cell.mean for cell in one.by_batch or []]
            finding = f"The means of the batches lie between {min(means):.4g} and {max(means):.4g}."
        else:
            continue
        pictures.append(Picture.of(ax, f"factor-{index}", title, finding, _table(result, one)))
    return pictures


def _plate_pictures(found: Layout | None) -> list[Picture]:
    if found is None or found.plates is None:
        return []
    plates, kept = found.plates, found.design.kept[0]
    labels, levels = _groups(kept)
    pictures = []
    for b, name in enumerate(found.batch_levels[:MOST_PLATES]):
        here = np.flatnonzero(found.codes == b)
        ax = draw_plate(
            PlateGrid(
                plates.rows,
                plates.columns,
                plates.reference_wells[b].tolist(),
                plates.empty_wells.tolist(),
            ),
            plates.wells[here].tolist(),
            [labels[i] for i in here],
            levels,
            kept.name,
        )
        title = f"{found.column} {name}"
        finding = f"{len(here)} specimens by {kept.name}"
        if found.reference_specimens:
            finding += "; R marks a reference"
        if len(plates.empty_wells):
            finding += "; a cross marks a well that stays empty"
        pictures.append(Picture.of(ax, f"plate-{b}", title, f"{finding}.", None))
    return pictures


def _groups(kept: Factor) -> tuple[list[str], list[str]]:
    if kept.values is None:
        if len(kept.levels) <= MOST_GROUPS:
            return [kept.levels[code] for code in kept.codes], list(kept.levels)
        return [kept.name] * len(kept.codes), [kept.name]
    thirds = grouped(kept)
    return [thirds.levels[code] for code in thirds.codes], list(thirds.levels)


def _table(result: LayoutResult, one: BalancedFactor) -> DataTable:
    header, rows = batch_rows(result, one)
    caption = f"{one.name} (rows) in each {result.column} (columns)"
    return DataTable(caption, headings(header), rows, folded=True)
