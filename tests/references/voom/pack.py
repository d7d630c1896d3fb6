"""Pack what voom.R wrote: all of the small simulated tables, some of the weights.

Usage: ``Rscript voom.R FOLDER; python pack.py FOLDER``.
"""

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
EVERY = 37


def pack(folder: Path) -> None:
    """Keep every 37th weight, so that the file stays small."""
    found = {}
    with (folder / "studies.csv").open() as stream:
        for study in csv.DictReader(stream):
            name = study["name"]
            if not name.startswith("simulated"):
                continue
            counts = np.fromfile(folder / f"{name}.counts").reshape(-1, int(study["genes"]))
            found[f"{name}.counts"] = counts.astype(np.uint32)
            found[f"{name}.options"] = np.array([int(study["trend"]), int(study["robust"])])
            found[f"{name}.sheet"] = np.fromfile(folder / f"{name}.sheet").astype(np.uint8)
            found[f"{name}.kept"] = np.fromfile(folder / f"{name}.kept") > 0
            found[f"{name}.factors"] = np.fromfile(folder / f"{name}.libraries")[len(counts) :]
            found[f"{name}.weights"] = np.fromfile(folder / f"{name}.weights")[::EVERY]
            tests = np.fromfile(folder / f"{name}.tests").reshape(5, -1)
            found[f"{name}.t"], found[f"{name}.p"] = tests[1], tests[2]
            if (quality := folder / f"{name}.quality").exists():
                found[f"{name}.quality"] = np.fromfile(quality)
                tests = np.fromfile(folder / f"{name}.qualitytests").reshape(5, -1)
                found[f"{name}.quality_t"] = tests[1]
            if name == "simulated01":
                found[f"{name}.trend"] = np.fromfile(folder / f"{name}.trend").reshape(2, -1)[1]
                found[f"{name}.logcpm"] = np.fromfile(folder / f"{name}.logcpm")
    np.savez_compressed(HERE / "simulated.npz", **found)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
