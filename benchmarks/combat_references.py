"""How far ComBat packages are from R's sva: ours, scanpy, inmoose and neuroCombat side by side.

The input is the first 1,000 or 2,000 probes of the bladder data (57 arrays, 5 batches, cancer or an
age kept), the reference what sva 3.46.0 prints for every nth probe (``tests/references/bladder``).
Reported is the largest absolute difference (the data range from 3 to 14), or what else came out: an
error, or missing values where there was none. The others run in the Python that ``--peers-python``
names.

    python benchmarks/combat_references.py --peers-python /path/to/venv/bin/python

``--full FOLDER`` adds ours on all 22,283 probes, where ``tests/references/bladder/full.R`` wrote
what R gives for them into FOLDER.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import resource
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

REFERENCES = Path(__file__).resolve().parents[1] / "tests" / "references" / "bladder"
PEERS = ("scanpy", "inmoose", "neuroCombat")
WANTED = 1e-8


@dataclass(frozen=True)
class Case:
    """One option of ComBat on one input."""

    title: str
    reference: str
    probes: int = 1000
    keep: tuple[str, ...] = ()
    option: str = ""
    values: str = "plain"


CASES = (
    Case("nothing kept", "par_nomod"),
    Case("cancer kept", "par_mod", keep=("cancer",)),
    Case("mean-only", "par_nomod_meanonly", option="mean_only"),
    Case("mean-only, cancer kept", "par_mod_meanonly", keep=("cancer",), option="mean_only"),
    Case("reference batch 3", "par_nomod_ref3", option="reference"),
    Case("reference batch 3, cancer kept", "par_mod_ref3", keep=("cancer",), option="reference"),
    Case("non-parametric", "nonpar_nomod", option="nonparametric"),
    Case("non-parametric, cancer kept", "nonpar_mod", keep=("cancer",), option="nonparametric"),
    Case("5 % missing", "par_nomod_na2000", probes=2000, values="missing"),
    Case("5 % missing, cancer kept", "par_mod_na2000", 2000, ("cancer",), values="missing"),
    Case("age kept", "par_age", probes=2000, keep=("age",)),
    Case("age and cancer kept", "par_age_cancer", probes=2000, keep=("age", "cancer")),
    Case("constant inside a batch", "par_mod_zerovar", keep=("cancer",), values="constant"),
    Case("batch of one specimen", "single_sample_batch", keep=("cancer",), values="single"),
)


def given(case: Case) -> tuple[np.ndarray[Any, Any], dict[str, list[Any]]]:
    """Give the input of a case: probes × arrays, and the sheet."""
    with np.load(REFERENCES / "input.npz") as stored:
        whole = dict(stored)
    values = whole["expression"][: case.probes].copy()
    batch = whole["batch"].astype(int)
    if case.values == "missing":
        holes = np.unpackbits(whole["missing"], count=whole["expression"].size) > 0
        values[holes.reshape(whole["expression"].shape)[: case.probes]] = np.nan
    elif case.values == "constant":
        values[:10] = 5.0
        values[10:20, batch == 3] = 2.0
        values[20:30, batch == 3] = 0.0
    elif case.values == "single":
        batch[0] = 9
    sheet = {"batch": batch.tolist(), "age": whole["age"].tolist()}
    return values, {**sheet, "cancer": whole["cancer"].tolist()}


def ours(case: Case) -> np.ndarray[Any, Any]:
    """Correct with batchsense."""
    from batchsense.experiments import CombatCorrection, Table

    values, sheet = given(case)
    method = CombatCorrection(
        keep=case.keep,
        parametric=case.option != "nonparametric",
        mean_only=case.option == "mean_only",
        reference_batch="3" if case.option == "reference" else None,
    )
    table = Table.from_arrays(values.T, sheet)
    return np.asarray(method.fit(table, "batch").transform(table).values.T)


def scanpy(case: Case) -> Any:
    """Correct with scanpy, which has no options."""
    import anndata
    import pandas as pd
    import scanpy

    if case.option:
        raise ValueError("no such option")
    values, sheet = given(case)
    obs = pd.DataFrame({**sheet, "batch": pd.Categorical([str(b) for b in sheet["batch"]])})
    obs["cancer"] = obs["cancer"].astype("category")
    obs.index = obs.index.astype(str)
    table = anndata.AnnData(values.T.copy(), obs=obs)
    return scanpy.pp.combat(table, key="batch", covariates=case.keep or None, inplace=False).T


def inmoose(case: Case) -> Any:
    """Correct with inmoose."""
    import pandas as pd
    from inmoose.pycombat import pycombat_norm

    values, sheet = given(case)
    kept = pd.DataFrame({name: sheet[name] for name in case.keep}) if case.keep else None
    return pycombat_norm(
        pd.DataFrame(values),
        sheet["batch"],
        covar_mod=kept,
        par_prior=case.option != "nonparametric",
        mean_only=case.option == "mean_only",
        ref_batch=3 if case.option == "reference" else None,
    )


def neurocombat(case: Case) -> Any:
    """Correct with neuroCombat."""
    import pandas as pd
    from neuroCombat import neuroCombat

    values, sheet = given(case)
    return neuroCombat(
        dat=values,
        covars=pd.DataFrame(sheet),
        batch_col="batch",
        categorical_cols=["cancer"] if "cancer" in case.keep else None,
        continuous_cols=["age"] if "age" in case.keep else None,
        parametric=case.option != "nonparametric",
        mean_only=case.option == "mean_only",
        ref_batch=3 if case.option == "reference" else None,
    )["data"]


PACKAGES = {"batchsense": ours, "scanpy": scanpy, "inmoose": inmoose, "neuroCombat": neurocombat}


def outcome(package: str, case: Case) -> float | str:
    """Give the largest difference from R, or what happened instead."""
    with np.load(REFERENCES / "corrected.npz") as stored:
        reference = stored[case.reference]
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = np.asarray(PACKAGES[package](case), dtype=np.float64)
    except (Exception, SystemExit) as error:
        return f"error: {type(error).__name__}: {' '.join(str(error).split())[:80]}"
    found = found[:: case.probes // len(reference)]
    expected = np.isnan(reference)
    if not np.array_equal(np.isnan(found), expected):
        share = (np.isnan(found) & ~expected).mean() / (~expected).mean()
        return f"{share:.0%} of the values missing, without an error"
    return float(np.nanmax(np.abs(found - reference)))


#: What full.R writes, and the options of ours that belong to it.
FULL: dict[str, dict[str, Any]] = {
    "par_nomod": {},
    "par_mod": {},
    "par_nomod_meanonly": {"mean_only": True},
    "par_mod_meanonly": {"mean_only": True},
    "par_nomod_ref3": {"reference": 2},
    "par_mod_ref3": {"reference": 2},
    "par_age": {},
    "par_nomod_holes": {},
    "par_mod_holes": {},
    "nonpar_nomod_2000": {"parametric": False},
    "nonpar_mod_2000": {"parametric": False},
    "nonpar_mod_meanonly_500": {"parametric": False, "mean_only": True},
    "nonpar_mod_ref3_500": {"parametric": False, "reference": 2},
    "nonpar_mod_holes_500": {"parametric": False},
    "par_mod_ref3_meanonly_500": {"reference": 2, "mean_only": True},
    "par_mod_meanonly_holes_500": {"mean_only": True},
    "par_age_holes_500": {},
    "alone_mod_ref3_500": {"reference": 2},
    "alone_mod_holes_500": {},
    "rbe_mod": {},
}


def full(folder: Path) -> dict[str, float]:
    """Compare ours with everything that full.R wrote; rbe is limma's linear removal."""
    from batchsense.experiments.correction.combat.model import fit_combat
    from batchsense.experiments.correction.linear import fit_linear
    from batchsense.experiments.correction.two_passes.statistics import BatchStatistics

    def printed(name: str) -> np.ndarray[Any, Any]:
        (path,) = folder.glob(f"{name}__*.f64")
        rows, columns = map(int, path.stem.split("__")[1:])
        values = np.fromfile(path).reshape((rows, columns), order="F")
        return np.where(np.isnan(values), np.nan, values)

    found = {}
    for name, options in FULL.items():
        reference = printed(name)
        values = printed("holes" if "holes" in name else "input")[: len(reference)].T
        kept = printed("age" if "age" in name else "mod")
        kept = kept[:, :0] if "nomod" in name else kept
        batch_labels = printed("batch").ravel()
        if "alone" in name:
            batch_labels[0] = 9
        codes = np.unique(batch_labels, return_inverse=True)[1]
        empty = BatchStatistics.empty(codes.max() + 1, values.shape[1], kept.shape[1])
        seen = empty.add(values, codes, kept)
        if name.startswith("rbe"):
            corrected = fit_linear(seen).affine().apply(values, codes).T
        else:
            corrected = fit_combat(seen, **options).affine().apply(values, codes, kept).T
        assert np.array_equal(np.isnan(corrected), np.isnan(reference)), name
        found[name] = float(np.nanmax(np.abs(corrected - reference)))
        print(f"{name:32s} {found[name]:.1e}")
    return found


def be_worker(package: str) -> None:
    """Run all cases with one package, and print what came out."""
    found = {case.title: outcome(package, case) for case in CASES}
    print(json.dumps({"version": importlib.metadata.version(package), "cases": found}))


def cpu_seconds() -> float:
    """Give the time of this process and of those it ran."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    from common import record

    parser = record.options(__doc__.splitlines()[0], "combat_references")
    parser.add_argument("--peers-python", default=sys.executable, help="Python with the peers.")
    parser.add_argument("--full", type=Path, help="Folder that full.R has filled.")
    arguments = parser.parse_args()
    began = time.time()
    results: dict[str, Any] = {}
    for package in PACKAGES:
        python = sys.executable if package == "batchsense" else arguments.peers_python
        done = subprocess.run(
            [python, __file__, "--worker", package], capture_output=True, text=True, check=False
        )
        try:
            results[package] = json.loads(done.stdout.strip().splitlines()[-1])
        except (IndexError, json.JSONDecodeError):
            print(f"{package} left out: {done.stderr.strip()[-200:]}", file=sys.stderr)
    for case in CASES:
        cells = (results[package]["cases"][case.title] for package in results)
        shown = (f"{cell:.1e}" if isinstance(cell, float) else cell[:40] for cell in cells)
        print(f"{case.title:32s}", *(f"{cell:42s}" for cell in shown))
    worst = max(cell for cell in results["batchsense"]["cases"].values())
    record.write(
        arguments.output,
        arguments.seed,
        began,
        cpu_seconds(),
        reference="R 4.2.2, sva 3.46.0, bladderbatch 1.36.0",
        wanted={"largest_difference": WANTED},
        largest_difference=worst,
        packages=results,
        all_probes=None if arguments.full is None else full(arguments.full),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        be_worker(sys.argv[2])
    else:
        main()
