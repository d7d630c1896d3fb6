"""The declared kinds of columns of a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnKinds:
    """Columns of the sheet whose kind the user declares; the entries tell the kind of the others.

    Attributes
    ----------
    categorical : sequence of str
        Columns that are categories, even where every entry is a number.
    numeric : sequence of str
        Columns that are numbers.
    """

    categorical: Sequence[str] = ()
    numeric: Sequence[str] = ()
