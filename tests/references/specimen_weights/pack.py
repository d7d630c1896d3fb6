"""Pack what weights.R wrote. Usage: ``Rscript weights.R FOLDER; python pack.py FOLDER``."""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


def pack(folder: Path) -> None:
    """One array for each file, each table specimens by features."""
    found = {}
    for i in range(1, 9):
        sheet = np.fromfile(folder / f"{i}.sheet").reshape(-1, 2)
        found[f"{i}.sheet"] = sheet.astype(np.uint8)
        for name in ("values", "known"):
            found[f"{i}.{name}"] = np.fromfile(folder / f"{i}.{name}").reshape(len(sheet), -1)
        weights = np.fromfile(folder / f"{i}.weights")
        found[f"{i}.prior"] = weights[:1]
        found[f"{i}.plain"], found[f"{i}.precise"] = weights[1:].reshape(2, -1)
        found[f"{i}.tests"] = np.fromfile(folder / f"{i}.tests").reshape(-1, 2).T
    np.savez_compressed(HERE / "weights.npz", **found)


if __name__ == "__main__":
    pack(Path(sys.argv[1]))
