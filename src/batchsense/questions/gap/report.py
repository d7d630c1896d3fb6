"""The page of ``batchsense gap``, and what its figures say."""

from __future__ import annotations

from batchsense.questions.gap import text
from batchsense.questions.gap.result import GapResult, WayResult
from batchsense.questions.gap.text import WAY_NAMES, batch_rows, capital, chosen_batches
from batchsense.reports.columns import headings
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.batches import draw_folds
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.page import DataTable, Picture, render
from batchsense.reports.wording import spread


def gap_report(envelope: Envelope[GapResult], command_line: str | None = None) -> str:
    """The page of a model on batches left out."""
    result = envelope.answer()
    errors, *folds = _gap_pictures(result)
    return render(
        __file__,
        envelope,
        command_line,
        task=text.task_sentence(result),
        verdict=text.capital(text.verdict_word(result)),
        sentence=text.verdict_sentence(result),
        changes=text.change_sentences(result),
        guess=text.guess_sentence(result),
        sizes=spread([one.specimens for one in result.ways[0].by_batch]),
        ways=[row[:-1] for row in text.way_rows(result)[1]],  # the figures say on how many
        errors=errors,
        folds=folds,
    )


#: At most so many batches are drawn, so that a figure of 0.21 inch a batch stays on one page.
DRAWN = 40


def _gap_pictures(result: GapResult) -> list[Picture]:
    return [_errors(result), *(_folds(result, way) for way in result.ways)]


def _errors(result: GapResult) -> Picture:
    scale, unit = _unit(result)
    rows = []
    for way in result.ways:
        for name, value in (("shuffled", way.shuffled), (f"{result.batch} left out", way.left_out)):
            rows.append(Row.of(f"{WAY_NAMES[way.correction]}, {name}", value, scale))
    ax = draw_intervals(rows, f"{result.measure}{unit}", "mean over batches")
    finding = (
        f"The {result.measure} on shuffled folds and on a {result.batch} left out. The intervals "
        "are over batches, for other batches like these; the two errors of a pair are measured on "
        "the same rows, so their difference is better known than either."
    )
    return Picture.of(ax, "errors", f"{capital(result.measure)} in two ways of testing", finding)


def _folds(result: GapResult, way: WayResult) -> Picture:
    scale, unit = _unit(result)
    shown = [way.by_batch[k] for k in chosen_batches(result, DRAWN)]
    ax = draw_folds(
        [[one.shuffled, one.left_out] for one in shown],
        [one.batch_label for one in shown],
        ("shuffled folds", f"{result.batch} left out"),
        (f"{result.measure}{unit}", result.batch),
        scale,
        max(max(b.shuffled, b.left_out) for each in result.ways for b in each.by_batch),
    )
    name = WAY_NAMES[way.correction]
    of = "" if len(shown) == len(way.by_batch) else f" The {DRAWN} with the largest gaps are drawn."
    finding = (
        f"Left out, {way.batches_worse} of {len(way.by_batch)} batches are predicted worse, "
        f"{way.batches_equal} equally well, {way.batches_better} better.{of}"
    )
    table = None
    if way.correction == "none":
        header, rows = batch_rows(result, len(way.by_batch))
        caption = f"{capital(result.measure)} of each {result.batch}, shuffled / left out"
        table = DataTable(caption, headings(header), rows, folded=True)
    title = f"Each {result.batch}, {name}"
    return Picture.of(ax, f"folds-{way.correction}", title, finding, table)


def _unit(result: GapResult) -> tuple[float, str]:
    return (100.0, " (%)") if result.measure == "error rate" else (1.0, "")
