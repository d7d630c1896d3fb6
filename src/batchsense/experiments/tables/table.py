"""A table of observations and the sheet that describes its specimens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.experiments.row_labels import column_names, labelled_sheet
from batchsense.experiments.tables.frames import frame_numbers, own_frame
from batchsense.experiments.tables.matrix import dense, refuse_magnitude
from batchsense.experiments.tables.overlap import Aside, set_aside
from batchsense.experiments.tables.text import label_text
from batchsense.experiments.value_kinds import ValueKind, ValuesRead, read_values, value_notes
from batchsense.notes import Note

Orientation = Literal["specimens × features", "features × specimens"]
#: A column of the sheet: one label per specimen, None where it is missing.
Column = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table came from, and how its file is laid out.

    Attributes
    ----------
    matrix, sheet : str
        Paths, or a description such as ``"built-in digits"``.
    orientation : str
        How the matrix lies in its file, told by the ids.
    id_column : str
        The column of the sheet that holds the specimen ids.
    corner : str or None
        The text above the row ids; None where the header has no such cell.
    dtype : str
        The type of the numbers in the file: ``"float32"``, ``"float64"``, or that of whole numbers
        (for text ``"int64"`` where every number is written in digits only).
    layer : str or None
        The layer of an AnnData file that was read; None for its ``X`` and for other files.
    sheet_columns : tuple of str
        Columns of the matrix itself that are its sheet, where both are one wide table.
    """

    matrix: str
    sheet: str
    orientation: Orientation = "specimens × features"
    id_column: str = "id"
    corner: str | None = "id"
    dtype: str = "float64"
    layer: str | None = None
    sheet_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Observations of specimens, with their sheet; always specimens × features in memory.

    Attributes
    ----------
    values : array of shape (specimens, features)
        The observations; NaN where a value is missing, never infinite.
    specimens, features : tuple of str
        Ids, in the order of the matrix file.
    sheet : mapping of str to tuple
        The columns of the sheet, aligned to ``specimens`` by id; None where a label is missing.
    source : Source
        Where it came from.
    categorical : frozenset of str
        Columns that the source itself declares to be categories, whatever their labels look like.
    notes : tuple of Note
        What reading it brought to light.
    values_are : str or None
        What the values are (``"counts"``, ``"log"``, ``"intensities"``, ``"bounded"`` or
        ``"numbers"``), where that is declared.
    aside : Aside or None
        Columns of the sheet that the matrix holds as well: left out of the features.
    """

    values: Floats
    specimens: tuple[str, ...]
    features: tuple[str, ...]
    sheet: Mapping[str, Column]
    source: Source
    categorical: frozenset[str] = frozenset()
    notes: tuple[Note, ...] = ()
    values_are: ValueKind | None = None
    aside: Aside | None = None

    @property
    def orientation(self) -> Orientation:
        """How the matrix lies in its file."""
        return self.source.orientation

    def values_read(self) -> ValuesRead:
        """As what the values are read; see :func:`~batchsense.experiments.read`."""
        return self.values_read_of(self.values)

    def values_read_of(self, part: npt.NDArray[Any]) -> ValuesRead:
        """The same where a part of the values stands for all."""
        try:
            return read_values(part, self.values_are)
        except DataError as error:
            raise DataError(error.message, self.source.matrix) from None

    def remarked(self, part: npt.NDArray[Any] | None = None, where: str = "") -> Table:
        """The same table with notes on what its values are, or a part of them does."""
        values = self.values if part is None else part
        found = value_notes(values, self.values_read_of(values), where, self.features)
        return replace(self, notes=(*self.notes, *found))

    @classmethod
    def from_frame(
        cls, frame: Any, sheet: Sequence[str], id_column: str | None = None, **more: Any
    ) -> Table:
        """Make a table of one data frame that holds the features and the columns of the sheet.

        Parameters
        ----------
        frame : data frame of pandas, polars, Arrow or another library with their protocols
            A row per specimen.
        sheet : sequence of str
            Its columns that are labels; the others are features.
        id_column : str, optional
            Its column of ids; by default the index of a pandas frame, else ids are made.
        **more
            As for :meth:`from_arrays`.

        Raises
        ------
        DataError
            A column is not there, or as :meth:`from_arrays`.

        Examples
        --------
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"cell": ["a", "b"], "month": ["May", "July"], "gene": [1.0, 2.0]})
        >>> table = Table.from_frame(frame, ["month"], "cell")
        >>> table.specimens, table.features, table.sheet["month"]
        (('a', 'b'), ('gene',), ('May', 'July'))
        """
        own = own_frame(frame, "frame")
        wanted = [*sheet, *([] if id_column is None else [id_column])]
        if isinstance(sheet, str) or not hasattr(own, "columns"):
            raise DataError("give a data frame, and a list of its columns that are the sheet")
        if missing := [name for name in wanted if name not in own.columns]:
            raise DataError(f"there is no column {listed(map(repr, missing))}", where="frame")
        if id_column is not None:
            own = own.set_index(id_column)
        return cls.from_arrays(own.drop(columns=list(sheet)), own[list(sheet)], **more)

    @classmethod
    def from_arrays(
        cls,
        values: npt.ArrayLike,
        sheet: Mapping[str, Iterable[object]],
        specimens: Sequence[str] | None = None,
        features: Sequence[str] | None = None,
        name: str = "arrays",
        categorical: Iterable[str] = (),
        values_are: ValueKind | None = None,
    ) -> Table:
        """Make a table from arrays, whose rows are in one order, or from pandas objects, by label.

        What carries an index is matched by it, never by position, and its labels are the ids;
        ``specimens`` are the labels of observations that carry none.

        Parameters
        ----------
        values : array, sparse matrix or data frame of shape (specimens, features)
            The observations, of any type of numbers; NaN where a value is missing. Frames may be
            those of pandas, polars, Arrow and others with their protocols. An array in double
            precision is not copied: leave it as it is while the table is in use.
        sheet : mapping of str to iterable, or data frame
            Columns of labels, one entry per specimen.
        specimens, features : sequence of str, optional
            Ids; by default the labels that ``values`` or ``sheet`` carry, else ``specimen 1`` and
            ``feature 1`` onwards.
        name : str
            What to call the source in messages.
        categorical : iterable of str
            Columns of the sheet that are categories even if their labels are numbers.
        values_are : {"counts", "log", "intensities", "bounded", "numbers"}, optional
            What the values are; else that is told by their looks where it matters.

        Raises
        ------
        DataError
            Wrong shape, infinite values, text, duplicate ids, a column of another length, labels
            that differ, a feature with the name of a column and other content, or a sparse matrix
            that would take more than 4 GB.

        Examples
        --------
        >>> table = Table.from_arrays([[1.0, 2.0], [3.0, 4.0]], {"month": ["May", "July"]})
        >>> table.sheet["month"], table.features
        (('May', 'July'), ('feature 1', 'feature 2'))

        By label:

        >>> import pandas as pd
        >>> frame = pd.DataFrame({"gene": [1.0, 2.0]}, index=["s1", "s2"])
        >>> table = Table.from_arrays(frame, {"month": pd.Series({"s2": "July", "s1": "May"})})
        >>> table.specimens, table.sheet["month"]
        (('s1', 's2'), ('May', 'July'))
        """
        values, sheet = own_frame(values, "values"), own_frame(sheet, "sheet")
        own_features = column_names(values, "values")
        ids, sheet = labelled_sheet(values, sheet, specimens)
        if features is not None and own_features not in (None, tuple(map(str, features))):
            raise DataError("features and the columns of values differ; give one", where=name)
        if isinstance(values, np.ma.MaskedArray):  # asarray would show what the mask hides
            values = np.where(np.ma.getmaskarray(values), np.nan, values.data)
        given = values if hasattr(values, "toarray") else np.asarray(frame_numbers(values, name))
        array, dtype = dense(given, name, copy=False)
        if array.ndim != 2:
            raise DataError(f"the observations must have two axes, not {array.ndim}", where=name)
        rows, columns = array.shape
        rows_ids = _names(ids, "specimen", rows)
        column_ids = _names(own_features if features is None else features, "feature", columns)
        if (len(rows_ids), len(column_ids)) != array.shape:
            raise DataError(
                f"{len(rows_ids)} specimen ids and {len(column_ids)} feature ids do not fit "
                f"a matrix of shape {array.shape}",
                where=name,
            )
        column_names(sheet, name)
        if twice := repeated([str(key) for key in sheet]):
            raise DataError(
                f"sheet columns occur more than once: {listed(map(repr, twice))}", where=name
            )
        labels = {str(key): tuple(map(label_text, entry)) for key, entry in sheet.items()}
        for key, entry in labels.items():
            if len(entry) != rows:
                raise DataError(
                    f"sheet column {key!r} has {len(entry)} entries for {rows} specimens",
                    where=name,
                )
        first = next(iter(labels), "")
        entries = labels.get(first, ())
        if entries != rows_ids and sorted(map(str, entries)) == sorted(rows_ids):
            raise DataError(
                f"column {first!r} of the sheet holds the ids of the specimens in another order; "
                "make it the index of the sheet, to be matched by label",
                where=name,
            )
        declared = frozenset(categorical)
        source = Source(name, name, dtype=dtype)
        table = cls(array, rows_ids, column_ids, labels, source, declared, values_are=values_are)
        check(table)
        return set_aside(table)


def _names(given: Sequence[str] | None, kind: str, count: int) -> tuple[str, ...]:
    if given is None:
        return tuple(f"{kind} {place + 1}" for place in range(count))
    return tuple(map(str, given))


def check(table: Table) -> None:
    """Refuse what no analysis can use: too few rows, duplicate ids, values that cannot be squared.

    Raises
    ------
    DataError
        Naming the rows and columns concerned.
    """
    where = table.source.matrix
    for kind, ids in (("specimen", table.specimens), ("feature", table.features)):
        if twice := repeated(ids):
            raise DataError(
                f"{kind} ids occur more than once: {listed(map(repr, twice))}; make them unique",
                where=where,
            )
    rows, columns = table.values.shape
    if rows < 2 or columns < 1:
        raise DataError(
            f"{rows} specimens and {columns} features are too few; "
            "at least 2 specimens and 1 feature are needed",
            where=where,
        )
    # The ends of each feature, without a copy of the matrix; fmax and fmin pass over NaN.
    ends = np.fmax.reduce(table.values, axis=0), np.fmin.reduce(table.values, axis=0)
    sizes = np.maximum(*np.abs(ends))
    columns_with = np.flatnonzero(np.isinf(sizes))
    infinite = np.argwhere(np.isinf(table.values[:, columns_with]))
    if len(infinite):
        cells = (f"{table.specimens[i]} / {table.features[columns_with[j]]}" for i, j in infinite)
        raise DataError(
            f"infinite values (specimen / feature): {listed(cells)}; "
            "replace them, or leave the cells empty if they are missing",
            where=where,
        )
    refuse_magnitude(sizes, [f"feature {name!r}" for name in table.features], where)


def repeated(ids: Sequence[str]) -> list[str]:
    """List the ids that occur more than once, in the order of their second occurrence.

    Examples
    --------
    >>> repeated(["a", "b", "a", "c", "b"])
    ['a', 'b']
    """
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for name in ids:
        if name in seen:
            twice[name] = None
        seen.add(name)
    return list(twice)
