"""Labels that look missing: one rule for every form in which a sheet is stored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from batchsense.errors import DataError
from batchsense.experiments import ColumnKinds, Table, from_anndata, read
from batchsense.experiments.design import read_design

MARKS = ["", "NA", "N/A", "NaN", "nan", "<NA>", "NULL", "null", "None", "none", "NaT"]
#: Texts that mean a missing label in files that store text only.
IN_TEXT = {"", "NA", "N/A", "NaN", "nan", "<NA>", "NULL", "null"}
#: What programs make of a missing entry when they turn it into text.
STRINGIFIED = {"NaN", "nan", "<NA>", "NaT"}
FORMS = ["csv", "tsv", "xlsx", "parquet text", "parquet category", "h5ad", "AnnData", "Python"]


def stored(form: str, labels: list[str], folder) -> Table:
    """Make a table whose sheet was stored in one form."""
    ids = [f"s{i}" for i in range(len(labels))]
    values = pd.DataFrame(np.random.default_rng(0).normal(size=(len(ids), 3)), ids, [*"xyz"])
    sheet = pd.DataFrame({"id": ids, "arm": ["u", "v"] * (len(ids) // 2), "batch": labels})
    if form in ("parquet category", "h5ad", "AnnData"):
        sheet["batch"] = sheet["batch"].astype("category")
    if form == "Python":
        return Table.from_arrays(values.to_numpy(), dict(sheet), ids)
    if form in ("AnnData", "h5ad"):
        data = AnnData(values, obs=sheet.set_index("id"))
        if form == "AnnData":
            return from_anndata(data)
        data.write_h5ad(folder / "m.h5ad")
        return read(folder / "m.h5ad")
    values.to_csv(folder / "m.csv")
    kind = form.split()[0]
    path = folder / f"s.{kind}"
    if kind == "parquet":
        sheet.to_parquet(path)
    elif kind == "xlsx":
        sheet.to_excel(path, index=False)
    else:
        sheet.to_csv(path, index=False, sep={"csv": ",", "tsv": "\t"}[kind])
    return read(folder / "m.csv", path)


@pytest.mark.parametrize("form", FORMS)
def test_one_rule(form, tmp_path):
    """Text files have marks for missing labels; what stores them has labels, and says so."""
    for mark in MARKS:
        table = stored(form, ["May", "May", mark, mark, "July", "July"], tmp_path)
        text_only = form in ("csv", "tsv", "xlsx")
        if mark == "" or (text_only and mark in IN_TEXT):
            with pytest.raises(DataError, match="has no label for '") as refused:
                read_design(table, "batch")
            assert text_only == ("NA, NaN and null mean" in str(refused.value))
            continue
        kinds = ColumnKinds()
        if mark in STRINGIFIED and "batch" not in table.categorical:
            with pytest.raises(DataError, match="programs write where a label is missing"):
                read_design(table, "batch")
            kinds = ColumnKinds(categorical=["batch"])
        design = read_design(table, "batch", kinds=kinds)
        assert set(design.batches.levels) == {"May", "July", mark}
        noted = [note.where for note in design.notes if note.code == "label_like_missing"]
        assert noted == ([] if mark.lower() == "none" else [(mark,)])
        kept = read_design(table, "arm", ["batch"], kinds)
        assert set(kept.kept[0].levels) == {"May", "July", mark}


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.datetime64("NaT")])
def test_missing_entries_of_every_kind(missing):
    """What Python, NumPy and pandas call missing is missing."""
    table = Table.from_arrays([[1.0], [2.0], [3.0]], {"batch": ["a", "b", missing]})

    assert table.sheet["batch"] == ("a", "b", None)
