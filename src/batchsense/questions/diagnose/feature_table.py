"""The shares of every feature as a delimited table."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchsense.experiments.diagnosis.by_feature import FeatureShares


def feature_table(found: FeatureShares, delimiter: str = "\t") -> str:
    """Write one row per feature, with full precision.

    Columns: ``feature``; for each term ``TERM share``, ``low``, ``high``, ``raw``, ``alone`` (not
    for an interaction) and ``p``; ``shared``; ``residual`` with ``low``, ``high`` and ``raw``;
    ``component``; ``reason``. Cells without a number are empty, and the reason says why.
    """
    named = []
    for term in found.terms:
        parts = {"share": term.share, "low": term.low, "high": term.high, "raw": term.raw}
        if term.alone is not None:
            parts["alone"] = term.alone
        parts["p"] = term.p_value
        named += [(f"{term.name} {kind}", numbers) for kind, numbers in parts.items()]
    named += [
        ("shared", found.shared),
        ("residual", found.residual),
        ("residual low", found.residual_low),
        ("residual high", found.residual_high),
        ("residual raw", found.residual_raw),
        ("component", found.component),
    ]
    stream = io.StringIO()
    lines = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    lines.writerow(["feature", *(name for name, _ in named), "reason"])
    columns = [numbers.tolist() for _, numbers in named]
    for feature, *numbers, reason in zip(found.features, *columns, found.reasons, strict=True):
        lines.writerow([feature, *map(_cell, numbers), reason])
    return stream.getvalue()


def _cell(value: float) -> str:
    """Write a number so that it reads back unchanged; nothing where there is none."""
    return "" if math.isnan(value) else repr(value)
