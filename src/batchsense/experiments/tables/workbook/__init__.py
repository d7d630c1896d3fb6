"""Excel workbooks (.xlsx) as matrices and sheets: streamed, bounded by the cells that are there."""

from batchsense.experiments.tables.workbook.reading import (
    SUFFIX,
    read_matrix,
    read_sheet,
    split,
    worksheets,
)

__all__ = ["SUFFIX", "read_matrix", "read_sheet", "split", "worksheets"]
