"""Text to values: labels as the user wrote them, numbers read strictly, missing marks."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Collection, Iterable
from datetime import date, datetime

import numpy as np

from batchsense.errors import listed

#: Marks of a missing value in files of text, which have no other way to say so. ``None`` and
#: ``none`` are labels: "no treatment" is often so named.
MISSING = frozenset({"", "NA", "N/A", "#N/A", "NaN", "nan", "<NA>", "NULL", "null"})


#: What programs make of a missing entry when they turn it into text: hardly ever a label.
STRINGIFIED = frozenset({"NaN", "nan", "<NA>", "NaT"})
#: The missing entries of pandas, by the names of their types: it may not be installed.
_OF_PANDAS = ("NAType", "NaTType")


def cell_text(cell: str) -> str | None:
    """The label in a cell of a text file or workbook; None for a mark of a missing one.

    Examples
    --------
    >>> cell_text(" May "), cell_text("NA"), cell_text("")
    ('May', None, None)
    """
    text = cell.strip()
    return None if text in MISSING else text


def label_text(value: object) -> str | None:
    """A stored label as text: whole numbers without a point, None where it is missing.

    What stores labels (Parquet, AnnData, data frames, Python) also stores what is missing, so the
    text ``"NA"`` is a label there; an empty text names nothing, and is missing everywhere.

    Examples
    --------
    >>> label_text(3.0), label_text(" May "), label_text(float("nan")), label_text("NA")
    ('3', 'May', None, 'NA')
    """
    if type(value) is str:
        return value.strip() or None
    if value is None or value is np.ma.masked or type(value).__name__ in _OF_PANDAS:
        return None
    if isinstance(value, np.datetime64):  # whose item() is a number of nanoseconds
        return None if np.isnat(value) else str(np.datetime_as_string(value, unit="auto"))
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value).strip() or None


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
    """Whether a label is a finite number.

    Examples
    --------
    >>> is_number("3.5"), is_number("May"), is_number("inf")
    (True, False, False)
    """
    try:
        return math.isfinite(number(text))
    except ValueError:
        return False


#: What stands in numbers as people and other programs write them: thousands separators, a comma,
#: a minus sign that is no hyphen.
_OTHER_SIGNS = str.maketrans({"\u2212": "-", **dict.fromkeys(", '\u2019\u00a0\u202f\u2009")})
_COMMAS = "its numbers have commas; write them with a point and without thousands separators"


def why_no_number(text: str) -> str:
    """Say what keeps a text from being a number that a reader would see in it; else nothing.

    Examples
    --------
    >>> why_no_number("1,5") == why_no_number("1.234,5")
    True
    >>> why_no_number("1 234"), why_no_number("<0.1")
    ('write numbers without thousands separators', 'leave out what is below a limit of detection')
    >>> why_no_number("\u22121"), why_no_number("5 %"), why_no_number("low")
    ('write a hyphen for the minus sign', 'write 0.05 for 5 %', '')
    """
    plain = text.strip().translate(_OTHER_SIGNS)
    whole = plain.replace(".", "")
    if "," in text and whole.lstrip("+-").isdigit():
        return _COMMAS
    if is_number(plain):
        if "\u2212" in text:
            return "write a hyphen for the minus sign"
        return _COMMAS if "," in text else "write numbers without thousands separators"
    if text.count(".") > 1 and whole.lstrip("+-").isdigit():
        return "write numbers without thousands separators"
    if plain[:1] in ("<", ">") and is_number(plain.lstrip("<>=")):
        return "leave out what is below a limit of detection"
    return "write 0.05 for 5 %" if is_number(plain.rstrip("%")) else ""


def nearly_numbers(labels: Collection[str]) -> str:
    """Say what keeps labels from being numbers, where most of them are; else nothing.

    Examples
    --------
    >>> nearly_numbers({"1,5", "2"})
    'its numbers have commas; write them with a point and without thousands separators'
    >>> nearly_numbers({"31", "40", "52", "unknown"})
    "all but 'unknown' are numbers; leave unknown ones out"
    >>> nearly_numbers({"low", "high", "3"}), nearly_numbers({"1", "2"})
    ('', '')
    """
    others = sorted(label for label in labels if not is_number(label))
    if others and all(is_number(label.replace(",", "")) for label in others):
        return _COMMAS
    numbers = len(labels) - len(others)
    if others and numbers > max(2, len(others)):
        return f"all but {listed(map(repr, others), 3)} are numbers; leave unknown ones out"
    return ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that offers the known name nearest to one; nothing where none is near.

    Examples
    --------
    >>> did_you_mean("btach", ["Batch", "drug"])
    "did you mean 'Batch'? "
    """
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1)
    return f"did you mean {lower[near[0]]!r}? " if near else ""


def look(label: str) -> str:
    """What a label looks like: equal for labels that a reader would take for the same.

    Case, the encoding of accents, invisible characters, runs of spaces and the way in which a
    number is written make no difference.

    Examples
    --------
    >>> look("May") == look("may\u200b"), look("1.0") == look("01"), look("1a") == look("1b")
    (True, True, False)
    """
    if label.isascii() and label.isidentifier():  # most ids, quickly
        return label.casefold()
    if label.isascii() and label[:1].isalpha():  # no number, and nothing to normalise
        return " ".join(label.casefold().split())
    if is_number(label):
        return repr(float(label) + 0.0)
    plain = unicodedata.normalize("NFKC", label)
    seen = "".join(mark for mark in plain if unicodedata.category(mark) != "Cf")
    return " ".join(seen.casefold().split())
