"""The page of ``batchsense test``, and what its figures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.plots.tested import (
    has_trend,
    plot_leading_features,
    plot_mean_difference,
    plot_p_values,
    plot_trend,
    plot_volcano,
)
from batchsense.questions.test import text
from batchsense.questions.test.result import Q_LIMIT
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.expression.features import MOST_POINTS
from batchsense.reports.figures.expression.heat_map import MOST_COLUMNS, MOST_ROWS
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number

if TYPE_CHECKING:
    from batchsense.experiments import Table
    from batchsense.experiments.testing import ContrastTests
    from batchsense.questions.test.result import ContrastTestsResult


def contrast_report(
    envelope: Envelope[ContrastTestsResult],
    found: ContrastTests | None = None,
    command_line: str | None = None,
    table: Table | None = None,
) -> str:
    """The page of tests; with the table that was tested, its leading features are drawn."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        model=text.model_sentence(result),
        libraries=None if result.counts is None else text.library_table(result.counts),
        headlines=text.headlines(result),
        untested=sum(result.untested.values()),
        prices=text.price_rows(result),
        pictures=[]
        if found is None
        else [_pictures(found, table, k) for k in range(min(len(found.effects), MOST_DRAWN))],
        trend=None if found is None else _trend(found),
        tables=text.feature_tables(result),
    )


#: Contrasts beyond this number are in the tables only: figures of one take up to 250 kB.
MOST_DRAWN = 3
#: Contrasts with a heat map, which takes as much again.
MOST_MAPS = 1


def _pictures(found: ContrastTests, table: Table | None, place: int) -> list[Picture]:
    """Volcano, difference over mean, p-values and heat map of one contrast."""
    one = found.effects[place]
    called = int((one.q_value <= Q_LIMIT).sum())
    tested = int((one.p_value >= 0).sum())
    name = str(one.contrast)
    finding = (
        f"Every point is a feature: to the right what is higher, to the left what is lower; the "
        f"higher a point, the less it is chance. {number(called)} of {number(tested)} features are "
        f"called at q ≤ {Q_LIMIT:g}"
    )
    finding += ": those on or above the dashed line." if called else "."
    if max(called, tested - called) > MOST_POINTS:
        finding += f" Of each kind at most {MOST_POINTS:,} are drawn, evenly by p."
    against = "The same effects over the mean of each feature; named are those with the smallest p."
    small = int((one.p_value <= Q_LIMIT).sum())
    spread = (
        f"Without any effect the bars would reach the dashed line; {number(small)} of "
        f"{number(tested)} features have p ≤ 0.05, and chance alone would give "
        f"{number(round(0.05 * tested))}."
    )
    drawn = [
        Picture.of(plot_volcano(found, place), f"effects-{place}", name, finding),
        Picture.of(
            plot_mean_difference(found, place), f"means-{place}", f"{name} by mean", against
        ),
        Picture.of(plot_p_values(found, place), f"p-values-{place}", f"p-values of {name}", spread),
    ]
    if table is not None and place < MOST_MAPS and tested > 1:
        drawn.append(_heat_map(found, table, place))
    return drawn


def _heat_map(found: ContrastTests, table: Table, place: int) -> Picture:
    tested = int((found.effects[place].p_value >= 0).sum())
    what = "log counts per million" if found.counts is not None else "the values as they were given"
    finding = (
        f"The {min(MOST_ROWS, tested)} features with the smallest p: {what}, each in its standard "
        "deviations; nothing was taken out. Neighbours are alike (average linkage). Chosen by this "
        "very test, they set its levels apart even in noise; look at the batches as well."
    )
    if len(table.specimens) > MOST_COLUMNS:
        finding += f" Drawn are {MOST_COLUMNS} of {number(len(table.specimens))} specimens, evenly."
    ax = plot_leading_features(found, table, place)
    title = f"Leading features of {found.effects[place].contrast}"
    return Picture.of(ax, f"leading-{place}", title, finding)


def _trend(found: ContrastTests) -> Picture | None:
    if not has_trend(found):
        return None
    finding = (
        "Counts scatter by their size; the curve gives each count its precision weight (voom)."
        if found.precision is not None
        else "The variance that features lend each other follows their mean: the curve."
    )
    points = len(found.mean if found.precision is None else found.precision.sizes)
    if points > MOST_POINTS:
        finding += f" Drawn are {MOST_POINTS} of {points:,} features, evenly by size."
    return Picture.of(plot_trend(found), "trend", "Scatter and size", finding)
