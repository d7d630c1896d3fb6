"""Rows that carry labels of their own, as pandas objects do: brought into one order, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from batchsense.errors import DataError, listed

#: Labels shown of each side: enough to see how they are written.
_SHOWN = 3
#: What to do where labels do not fit, in the same words everywhere.
_REMEDY = (
    "give both the same index, or, where their rows are in the same order all the same, values "
    "without one (.to_numpy())"
)


@dataclass(frozen=True, slots=True)
class RowLabels:
    """The labels that the rows of something carry."""

    name: str  #: What messages call it
    #: One for each row, as text: 7 and "7" are one label, as they are in files.
    labels: tuple[str, ...]
    #: Whether they only count the rows from 0, as pandas does where nobody named them.
    counts: bool = False


def row_labels(given: Any, name: str) -> RowLabels | None:
    """The labels of the rows of a data frame or series; None for arrays and lists.

    Examples
    --------
    >>> import pandas as pd
    >>> row_labels(pd.Series([1.0, 2.0], index=["s1", "s2"]), "y").labels
    ('s1', 's2')
    >>> row_labels([1.0, 2.0], "y") is None
    True
    """
    if is_annotated(given):
        raise DataError(
            "an AnnData object stands where a matrix is expected; give its data frame, "
            "data.to_df(), which keeps the ids (data.to_df(layer=...) for a layer)",
            where=name,
        )
    index: Any = getattr(given, "index", None)
    if not hasattr(index, "nlevels"):  # the index of a list is a method
        return None
    refuse_levels(index, name)
    return RowLabels(name, tuple(_text(label) for label in index), _counts(index))


def is_annotated(given: Any) -> bool:
    """Whether something is an AnnData object, told without loading anndata."""
    return hasattr(given, "obs_names") and hasattr(given, "var_names")


def refuse_levels(index: Any, name: str, what: str = "index") -> None:
    """Refuse an index of pandas that has several levels: an id is one label."""
    if getattr(index, "nlevels", 1) == 1:
        return
    levels = [f"number {k + 1}" if one is None else str(one) for k, one in enumerate(index.names)]
    remedy = (
        "keep the level with the ids, and make the others columns with reset_index(level=...)"
        if what == "index"
        else "join them into one name for each column"
    )
    raise DataError(
        f"the {what} has {index.nlevels} levels ({listed(levels)}), and an id is one label; "
        f"{remedy}",
        where=name,
    )


def in_one_order(named: Mapping[str, Any]) -> dict[str, Any]:
    """Bring things with one row per specimen, by their names, into the order of the first of them.

    Those with labels are matched by label; those without are taken as they are. Where the first has
    no labels, the others must agree in their order as well, for nothing tells which is meant.
    """
    found = [labels for name, given in named.items() if (labels := row_labels(given, name))]
    if not found:
        return dict(named)
    leader, first = found[0], next(iter(named))
    ordered = dict(named)
    for mine in found[1:]:
        unlabelled = "" if leader.name == first else first
        ordered[mine.name] = in_order_of(leader, mine, named[mine.name], unlabelled)
    return ordered


def in_order_of(leader: RowLabels, mine: RowLabels, given: Any, unlabelled: str = "") -> Any:
    """Bring one thing into the order of another's labels.

    ``unlabelled`` names what both describe where that carries no labels itself.
    """
    if mine.labels == leader.labels:
        return given
    both = f"{mine.name} and {leader.name}"
    theirs, ours = set(mine.labels), set(leader.labels)
    if theirs != ours:
        sides = [
            f"only in {one.name} {listed(map(repr, extra), _SHOWN)}"
            for one, other in ((mine, ours), (leader, theirs))
            if (extra := [label for label in dict.fromkeys(one.labels) if label not in other])
        ]
        raise DataError(f"{both} carry different labels: {'; '.join(sides)}; {_REMEDY}")
    if len(theirs) < len(mine.labels) or len(ours) < len(leader.labels):
        raise DataError(
            f"{both} carry the same labels in another order, and some occur more than once; make "
            "them unique, or give the rows in one order"
        )
    if mine.counts or leader.counts:
        counting = mine.name if mine.counts else leader.name
        raise DataError(
            f"{both} carry the same numbers in another order, and those of {counting} only count "
            f"its rows, so they may go together by number or by place; {_REMEDY}"
        )
    if unlabelled:
        raise DataError(
            f"{both} carry the same labels in another order, and {unlabelled} carries none, so "
            f"nothing tells which order it has; {_REMEDY}"
        )
    place = {label: row for row, label in enumerate(mine.labels)}
    return given.iloc[[place[label] for label in leader.labels]]


def labelled_sheet(
    values: Any, sheet: Mapping[str, Any], specimens: Sequence[str] | None = None
) -> tuple[Sequence[str] | None, Mapping[str, Any]]:
    """The ids of specimens, where anything tells them, and the sheet in the order of the values.

    Without values the first of its columns gives the order. Ids are the labels of ``values``, else
    ``specimens``, else the labels of the sheet.

    Examples
    --------
    >>> import pandas as pd
    >>> sheet = pd.DataFrame({"month": ["May", "July"]}, index=["s2", "s1"])
    >>> ids, ordered = labelled_sheet([[1.0], [2.0]], sheet, ["s1", "s2"])
    >>> ids, list(ordered["month"])
    (('s1', 's2'), ['July', 'May'])
    """
    framed = hasattr(sheet, "columns")
    parts = {"sheet": sheet} if framed else {_column(key): one for key, one in sheet.items()}
    own, ids = row_labels(values, "values"), None
    if specimens is not None:
        ids = tuple(_text(one) for one in specimens)
        leader = row_labels(specimens, "specimens") or RowLabels("specimens", ids)
        for name, one in parts.items():
            mine = row_labels(one, name)
            # Beside a plain list of ids, a sheet that only counts its rows carries no labels.
            if mine is not None and not (mine.counts and leader.labels is ids):
                parts[name] = in_order_of(leader, mine, one)
        if own is not None and not own.counts and own.labels != ids:
            raise DataError("specimens and the index of values differ; give one of them")
    else:
        ordered = in_one_order(parts if values is None else {"values": values, **parts})
        parts = {name: ordered[name] for name in parts}
        labels = [own, *(row_labels(one, name) for name, one in parts.items())]
        ids = next((one.labels for one in labels if one is not None and not one.counts), None)
    return ids, parts["sheet"] if framed else {key: parts[_column(key)] for key in sheet}


def _column(key: object) -> str:
    return f"sheet column {key!r}"


def column_names(frame: Any, name: str) -> tuple[str, ...] | None:
    """The names of the columns of a data frame; None where they only count, and for arrays."""
    columns = getattr(frame, "columns", None)
    if columns is None or callable(columns):
        return None
    refuse_levels(columns, name, "header")
    return None if _counts(columns) else tuple(_text(one) for one in columns)


def _text(label: Any) -> str:
    # Tables are made with the help of this module.
    from batchsense.experiments.tables.text import label_text

    return label_text(label) or repr(label)


def _counts(index: Any) -> bool:
    return bool(type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1)
