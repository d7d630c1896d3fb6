"""What every result of a table says of itself: a line, a data frame, and both in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING

from typing_extensions import override

if TYPE_CHECKING:
    import pandas as pd

#: Rows and columns of a frame that a notebook shows of its ends.
_ROWS, _COLUMNS = 10, 12


class Shown(ABC):
    """Base of results; a dataclass of it is declared with ``repr=False``."""

    __slots__ = ()

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """The numbers as a data frame."""

    @abstractmethod
    def headline(self) -> str:
        """What was found, in one line."""

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.headline()}>"

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        table = frame.to_html(max_rows=_ROWS, max_cols=_COLUMNS, show_dimensions=True, border=0)
        return f"<p><b>{type(self).__name__}</b>: {escape(self.headline())}</p>{table}"


def per_cent(share: float) -> str:
    """A share as a reader of one line wants it.

    Examples
    --------
    >>> per_cent(0.372)
    '37 %'
    """
    return f"{100 * share:.2g} %" if abs(share) < 0.995 else f"{100 * share:.0f} %"
