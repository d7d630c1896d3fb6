"""Text to values: labels as the user wrote them, numbers read strictly, missing marks."""

from __future__ import annotations

import math
from datetime import date, datetime

import numpy as np

#: Marks of a missing value. ``None`` and ``none`` are labels: "no treatment" is often so named.
MISSING = frozenset({"", "NA", "N/A", "#N/A", "NaN", "nan", "<NA>", "NULL", "null"})


def label_text(value: object) -> str | None:
    """Give a label as text: whole numbers without a point, None where it is missing.

    Examples
    --------
    >>> label_text(3.0), label_text(" May "), label_text(float("nan")), label_text("NA")
    ('3', 'May', None, None)
    """
    if value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    text = str(value).strip()
    return None if text in MISSING or text == "NaT" else text


def number(text: str) -> float:
    """Read one number strictly: NaN for a missing mark, ValueError for anything else.

    Examples
    --------
    >>> number("1e-3"), number(" NA ")
    (0.001, nan)
    >>> number("1_000")
    Traceback (most recent call last):
    ValueError: not a number: '1_000'
    """
    stripped = text.strip()
    if stripped in MISSING:
        return math.nan
    # Python reads "1_000" as a thousand; a data file means something else by it.
    if "_" in stripped:
        raise ValueError(f"not a number: {text!r}")
    return float(stripped)


def is_number(text: str) -> bool:
    """Tell whether a label is a finite number.

    Examples
    --------
    >>> is_number("3.5"), is_number("May"), is_number("inf")
    (True, False, False)
    """
    try:
        return math.isfinite(number(text))
    except ValueError:
        return False
