"""Tables in and out: matrices with the sheets of their specimens, matched by id."""

from batchsense.experiments.tables.alignment import Alignment, align
from batchsense.experiments.tables.anndata_objects import from_anndata, into_anndata
from batchsense.experiments.tables.columns import Factor, batch_factor, kept_factors
from batchsense.experiments.tables.reading import read
from batchsense.experiments.tables.table import Source, Table
from batchsense.experiments.tables.writing import write
from batchsense.notes import Note

__all__ = [
    "Alignment",
    "Factor",
    "Note",
    "Source",
    "Table",
    "align",
    "batch_factor",
    "from_anndata",
    "into_anndata",
    "kept_factors",
    "read",
    "write",
]
