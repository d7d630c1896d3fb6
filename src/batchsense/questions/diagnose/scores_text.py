"""What specimens cluster by, as text."""

from __future__ import annotations

from collections.abc import Sequence

from batchsense.questions.diagnose.result import ComponentResult, KeptResult
from batchsense.questions.diagnose.scores_result import ClusteringResult, ScoresResult
from batchsense.reports.columns import columns, paragraph
from batchsense.reports.wording import number, percent, span

#: Components that the table shows, the largest; the document and the report have all.
SHOWN_COMPONENTS = 3


def component_line(found: ComponentResult, batch_name: str) -> str:
    """Say how far the batches lie apart, in units of the residual standard deviation."""
    ends = span(found.low, found.high)
    apart = (
        "nothing is left within them"
        if found.relative_sd is None
        else f"the standard deviation between them is {number(found.relative_sd)} times that within"
    )
    return paragraph(
        f"Variance component of {batch_name}: {number(found.estimate)} (95 % interval {ends}) "
        f"beside {number(found.within)} within: {apart}. Negative for "
        f"{number(found.negative_features)} features."
    )


def clustering_lines(scores: ScoresResult) -> list[str]:
    """Lay out silhouettes, neighbours and distances of every label, and the verdict of them."""
    header = ["label", "distance R² (by chance)", "p", "own label among 5 nearest (by chance)", "p"]
    header += ["silhouette", "p"]
    rows = [
        [
            one.name,
            distance_cell(one),
            number(one.p_distance, 2),
            f"{percent(one.neighbours)} ({percent(one.neighbours_by_chance)})",
            number(one.p_neighbours, 2),
            "–" if one.silhouette is None else _signed(one.silhouette),
            number(one.p_silhouette, 2),
        ]
        for one in scores.clusterings
    ]
    lines = [
        paragraph(scores.sentence),
    ]
    if rows:
        part = percent(sum(scores.explained))
        lines += [
            f"In the first {len(scores.explained)} principal components ({part} of the variance), "
            "labels permuted within the others",
            columns(header, rows),
        ]
    lines += [
        paragraph(f"{one.name} cannot be told: {one.reason}.")
        for one in scores.clusterings
        if one.reason is not None
    ]
    if scores.mixing:
        lines += ["Mixing among neighbours, beside labels permuted within the other factors"]
        lines.append(columns(*mixing_rows(scores)))
    return lines


def mixing_rows(scores: ScoresResult) -> tuple[list[str], list[list[str]]]:
    """Lay out LISI and kBET, each beside what permuted labels give."""
    header = ["measure", "value", "by chance", "95 % of permuted labels", "p"]
    rows = []
    for one in scores.mixing:
        how = percent if one.measure == "kBET" else _two
        unknown = one.by_chance is None or one.low is None or one.high is None
        told = ["–", "–"] if unknown else [how(one.by_chance), f"{how(one.low)} to {how(one.high)}"]
        measure = f"{one.measure} of {one.name} ({MEANINGS[one.measure]})"
        rows.append([measure, how(one.value), *told, number(one.p_value, 2)])
    return header, rows


#: What each measure counts.
MEANINGS = {
    "iLISI": "effective batches near a specimen",
    "cLISI": "effective levels near a specimen",
    "kBET": "neighbourhoods rejected",
}


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def distance_cell(one: ClusteringResult) -> str:
    """Write distance R², and what as many labels have by chance."""
    chance = one.distance_r2_by_chance
    return f"{percent(one.distance_r2)} ({'–' if chance is None else percent(chance)})"


def component_lines(scores: ScoresResult) -> list[str]:
    """Lay out R² of the first components on each factor."""
    names = list(scores.overall)
    header = ["component", "variance", *(f"{name}: R² alone, partial, p" for name in names)]
    rows = []
    for place, part in enumerate(scores.explained[:SHOWN_COMPONENTS], start=1):
        found = {one.name: one for one in scores.components if one.component == place}
        cells = [
            f"{found[name].r2_alone:.2f}, "
            + (
                "–"
                if found[name].r2_partial is None
                else f"{found[name].r2_partial:.2f}, {p_value(found[name].p_holm)}"
            )
            for name in names
        ]
        rows.append([str(place), percent(part), *cells])
    together = [f"{scores.overall[name]:.2f}" for name in names]
    rows.append(["all", percent(sum(scores.explained)), *together])
    return [
        "Principal components on each factor (p corrected for their number, Holm)",
        columns(header, rows),
    ]


def contrast_sentences(kept: Sequence[KeptResult]) -> list[str]:
    """Say which differences between three levels or more can be told, and how well."""
    sentences = []
    for one in kept:
        told = [c.contrast for c in one.contrasts if c.estimable]
        lost = [c.contrast for c in one.contrasts if not c.estimable]
        if lost:
            estimable = f"estimable are {', '.join(told)}" if told else "none is estimable"
            sentences.append(
                f"Differences of {one.name}: {estimable}; not estimable: {', '.join(lost)}."
            )
        elif len(told) > 1:
            ranked = sorted(one.contrasts, key=lambda contrast: contrast.effective_n)
            ends = [f"{c.effective_n:,.1f} ({c.contrast})" for c in (ranked[0], ranked[-1])]
            sentences.append(
                f"Differences of {one.name}: all {len(told)} are estimable, with an effective n of "
                f"{ends[0]} to {ends[1]}."
            )
    return sentences


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """Write a p-value; none so small that only rounding is left of it."""
    return "below 10⁻¹⁶" if value is not None and value < 1e-16 else number(value, 2)
