"""Which columns of a sheet hold categories and which hold numbers, where that is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnKinds:
    """Columns whose kind is declared; the kind of all others is read off their entries.

    Attributes
    ----------
    categorical : sequence of str
        Columns of numbers that are categories.
    numeric : sequence of str
        Columns of few whole numbers that count.

    Examples
    --------
    >>> ColumnKinds(categorical=["dose"])
    ColumnKinds(categorical=['dose'], numeric=())
    """

    categorical: Sequence[str] = ()
    numeric: Sequence[str] = ()

    def completed(self, known: Mapping[str, str]) -> ColumnKinds:
        """These, and the kinds of further columns."""
        declared = {*self.categorical, *self.numeric}
        more = {name: kind for name, kind in known.items() if name not in declared}
        return ColumnKinds(
            [*self.categorical, *(name for name, kind in more.items() if kind == "categorical")],
            [*self.numeric, *(name for name, kind in more.items() if kind == "numeric")],
        )
