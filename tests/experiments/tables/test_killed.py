"""A process that is killed while it writes leaves no result, or a whole one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest

from batchsense.experiments import read

#: Writes the same result again and again, after a first one that says how long that takes.
WRITER = """
import sys, time
from batchsense.experiments import read, write
table = read(*sys.argv[1:3])
begin = time.monotonic()
write(table, table.values / 3, sys.argv[3] + sys.argv[4])
print(time.monotonic() - begin, flush=True)
number = 0
while True:
    number += 1
    write(table, table.values / 3, f"{sys.argv[3]}{number}{sys.argv[4]}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".csv.gz", ".h5ad", ".zarr", ""])
def test_killed_while_writing(tmp_path, kind):
    """After each of five kills at random moments, every file under a final name is complete."""
    rng = np.random.default_rng(len(kind))
    values = rng.normal(size=(60, 3000))
    ids, genes = [f"s{i}" for i in range(60)], [f"g{j}" for j in range(3000)]
    sheet = pd.DataFrame({"id": ids, "lane": [*"abc"] * 20})
    sheet.to_csv(tmp_path / "sheet.csv", index=False)
    pd.DataFrame(values, ids, genes).to_csv(tmp_path / "m.csv")
    source = tmp_path / ("m.csv" if kind == ".csv.gz" else f"in{kind}")
    if kind in (".h5ad", ".zarr"):
        anndata = pytest.importorskip("anndata")
        data = anndata.AnnData(values, sheet.set_index("id"), pd.DataFrame(index=genes))
        if kind == ".h5ad":
            data.write_h5ad(source)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                data.write_zarr(source)
    elif kind == "":
        make_folder(source, values.T, ids, genes)

    for attempt in range(5):
        prefix = tmp_path / f"o{attempt}_"
        words = [sys.executable, "-c", WRITER, source, tmp_path / "sheet.csv", prefix, kind]
        with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            seconds = float(writer.stdout.readline())
            time.sleep(rng.uniform(0, 2 * seconds))
            writer.send_signal(signal.SIGKILL)
        for path in tmp_path.glob(f"o{attempt}_*"):
            if kind in (".h5ad", ".zarr"):
                load = anndata.read_h5ad if kind == ".h5ad" else anndata.read_zarr
                assert np.array_equal(load(path).layers["batchsense"], values / 3)
                assert read(path).values.shape == values.shape
            else:
                assert np.array_equal(read(path, tmp_path / "sheet.csv").values, values / 3)


def make_folder(folder, values, barcodes, features):
    """Write a folder as 10x Genomics does."""
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    folder.mkdir()
    mmwrite(folder / "matrix.mtx", coo_array(values))
    (folder / "barcodes.tsv").write_text("\n".join(barcodes) + "\n")
    (folder / "features.tsv").write_text("\n".join(features) + "\n")
