"""The figures of surrogate variables: how many exceed chance, and the specimens along them."""

from __future__ import annotations

from batchsense.questions.surrogates.result import SurrogatesResult
from batchsense.reports.figures.points import draw_points
from batchsense.reports.page import DataTable, Picture
from batchsense.reports.wording import number


def surrogate_pictures(result: SurrogatesResult) -> list[Picture]:
    """Each surrogate over the order of the specimens: an unknown batch often shows as steps."""
    pictures = []
    order = list(range(1, len(result.specimens) + 1))
    for k, one in enumerate(result.surrogates[:4]):
        ax = draw_points(
            order,
            one.values,
            [one.name] * len(order),
            "surrogate",
            "specimens in the order of the matrix",
            one.name,
        )
        rows = [
            [name, number(value, 4)]
            for name, value in zip(result.specimens[:60], one.values, strict=False)
        ]
        table = DataTable(
            f"{one.name}, the first {len(rows)} specimens",
            [("specimen", ""), (one.name, "n")],
            rows,
            folded=True,
        )
        finding = "Steps or drifts along the order of the matrix hint at when things were done."
        title = f"{one.name} in the order of the matrix"
        pictures.append(Picture.of(ax, f"surrogate-{k}", title, finding, table))
    return pictures
