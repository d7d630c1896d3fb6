"""Questions about specimens of which a matrix may hold several rows: replicates, or cells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typing_extensions import override

from batchsense.progress import Progress
from batchsense.questions.option import Option, options_of
from batchsense.questions.table_request import FilesRequest

if TYPE_CHECKING:
    from batchsense.experiments import Table


class AggregatedRequest(FilesRequest):
    """Base of the questions that can make one specimen of several rows first."""

    aggregate: Annotated[
        tuple[str, ...],
        Option(
            "Make one specimen of all rows with the same entry, such as a donor: counts are "
            "summed, other values averaged; repeated, of each combination.",
            metavar="COL",
            of="column",
            label="One specimen for each",
        ),
    ] = ()

    @override
    def table(self, progress: Progress) -> Table:
        """Read the files, and aggregate the rows where that is asked."""
        from batchsense.experiments import aggregate

        table = super().table(progress)
        if not self.aggregate:
            return table
        return aggregate(table, self.aggregate, self._named_columns(table.sheet))

    @override
    def in_pieces(self) -> str | None:
        if self.aggregate:
            return "reads sums of one pass, which --aggregate does not go by; leave out one of them"
        return super().in_pieces()

    def _named_columns(self, columns: Iterable[str]) -> list[str]:
        """The columns that other options name, alone or within a contrast."""
        words: list[str] = []
        for one in options_of(type(self)):
            given = getattr(self, one.field)
            if one.option.of in ("column", "contrast") and one.field not in (
                "aggregate",
                "id_column",
            ):
                words.extend([given] if isinstance(given, str) else given or ())
        return [
            column
            for column in columns
            if column in words
            or any(re.search(rf"(?<!\w){re.escape(column)}(?!\w)", word) for word in words)
        ]
