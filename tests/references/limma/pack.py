"""Export the inputs of limma.R, and pack its outputs with an excerpt of the full-size run."""

import csv
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
EVERY = 10


def export(folder: Path) -> None:
    """Write the inputs of R as raw doubles, column by column."""
    given = np.load(HERE.parent / "bladder" / "input.npz")
    expression = given["expression"]
    missing = np.unpackbits(given["missing"], count=expression.size).reshape(expression.shape)
    expression.T.tofile(folder / "complete")
    np.where(missing, np.nan, expression).T.tofile(folder / "missing")
    with (folder / "sheet.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["batch", "cancer"])
        lines.writerows(zip(given["batch"].tolist(), given["cancer"].tolist(), strict=True))


def pack(folder: Path, full: Path, counts: Path) -> None:
    """Keep every tenth probe of each result; of the full-size run all inputs of the shrinkage."""
    f_tests = {
        "bladder": np.load(full)["sva_fpvalue_batch"][:2000:EVERY, 0],
        "counts": np.load(counts)["fpvalue_counts"][:, 0],
    }
    np.savez_compressed(HERE / "f_tests.npz", **f_tests)
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("simulated"):
            found[path.name] = np.fromfile(path).reshape(-1, 400).T
        elif path.name.startswith(("complete_", "missing_")):
            found[path.name] = np.fromfile(path).reshape(-1, 2000).T[::EVERY]
    np.savez_compressed(HERE / "excerpt.npz", **found)
    whole = np.load(full)
    sigma = whole["limma_s2post_sigma_F_Fp"]
    robust = whole["limma_robust_trend_dfp_s2p_s2post_t2_p2"]
    np.savez_compressed(
        HERE / "full.npz",
        sigma=sigma[:, 1],
        mean=whole["limma_toptable_coef2"][:, 1],
        prior=whole["limma_dfprior_s2prior"].ravel(),
        s2_post=sigma[::EVERY, 0],
        robust=robust[::EVERY, :3],
        outlier_df=robust[robust[:, 0] < robust[:, 0].max(), 0],
    )


if __name__ == "__main__":
    if sys.argv[1] == "export":
        export(Path(sys.argv[2]))
    else:
        pack(*map(Path, sys.argv[2:5]))
