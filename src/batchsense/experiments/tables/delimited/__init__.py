"""Delimited text (.csv, .tsv, .txt, each also .gz) as matrices and sheets, read strictly."""

from batchsense.experiments.tables.delimited.reading import (
    named_columns,
    read_matrix,
    read_sheet,
    sheet_of,
)

__all__ = ["named_columns", "read_matrix", "read_sheet", "sheet_of"]
