"""Ids that another program rewrote: as R's make.names leaves them, or written in another way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from batchsense.experiments.tables.text import look

#: Words that are no names in R.
_RESERVED = {"if", "else", "repeat", "while", "function", "for", "next", "break", "in"} | {
    *("TRUE", "FALSE", "NULL", "Inf", "NaN", "NA"),
    *("NA_integer_", "NA_real_", "NA_complex_", "NA_character_"),
}
#: What pipelines add to the name of a specimen: kinds of files, and steps of an alignment.
_ADDED = re.compile(
    r"(\.|_)?(Aligned\.sortedByCoord\.out|sorted|counts|dedup|markdup|bam|sam|cram|txt|tsv|csv|gz)$"
)


def as_r_names(text: str) -> str:
    r"""The name that R makes of a text when it reads a table (``make.names``).

    Signs other than letters, digits, ``.`` and ``_`` become ``.``; what does not begin like a
    name gets an ``X``; reserved words get a ``.``.

    Examples
    --------
    >>> as_r_names("s-1"), as_r_names("1 a"), as_r_names(".5"), as_r_names("if")
    ('s.1', 'X1.a', 'X.5', 'if.')
    """
    name = text if re.match(r"[^\W\d_]|\.(?!\d)", text) else f"X{text}"
    name = "".join(sign if sign.isalnum() or sign in "._" else "." for sign in name)
    return f"{name}." if name in _RESERVED else name


def partners_by_r_names(ids: Sequence[str], entries: Iterable[str]) -> dict[str, str]:
    """For each id the entry of the sheet it was made of; empty unless each has exactly one.

    Entries are taken as they are where they match, else by :func:`as_r_names`.

    Examples
    --------
    >>> partners_by_r_names(["s.1", "X2"], ["s-1", "2"])
    {'s.1': 's-1', 'X2': '2'}
    >>> partners_by_r_names(["s.1"], ["s-1", "s 1"])
    {}
    """
    known = list(dict.fromkeys(entries))
    exact = set(known)
    made: dict[str, list[str]] = {}
    for entry in known:
        made.setdefault(as_r_names(entry), []).append(entry)
    partners: dict[str, str] = {}
    for name in ids:
        found = [name] if name in exact else made.get(name, [])
        # With an entry that is spelt so as well, R would have numbered the second.
        if len(found) != 1:
            return {}
        partners[name] = found[0]
    return partners if len(set(partners.values())) == len(partners) else {}


def look_alikes(ids: Iterable[str], entries: Iterable[str]) -> Mapping[str, str]:
    """Pairs of an id and an entry that a reader would take for the same specimen.

    They differ in case, spaces, invisible signs, the way a number is written, a folder in front, or
    what a pipeline adds to a name.

    Examples
    --------
    >>> look_alikes(["S1", "/data/s2.sorted.bam", "s-3", "x"], ["s1", "s2", "s_3"])
    {'S1': 's1', '/data/s2.sorted.bam': 's2', 's-3': 's_3'}
    """
    known: dict[str, str] = {}
    for entry in entries:
        known.setdefault(_seen(entry), entry)
    return {name: known[seen] for name in ids if (seen := _seen(name)) in known}


def _seen(name: str) -> str:
    stem = PurePosixPath(name.strip().replace("\\", "/")).name or name
    while (shorter := _ADDED.sub("", stem)) not in ("", stem):
        stem = shorter
    return re.sub(r"[\W_]+", ".", look(as_r_names(look(stem)))).strip(".").removeprefix("x")
