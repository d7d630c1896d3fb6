"""Surrogate variables on simulated unknown batches, beside R's sva on the same data.

60 experiments of 42 specimens and 2,000 features in three hidden months (see
tests/references/surrogates, which holds what R found). For each way of estimating two surrogates:
the largest principal angle between their space and that of the months, and the rate of false
positives at 0.05 of an F test of the treatment on the features that it does not change, with the
surrogates as covariates. Beside them: no surrogates, and the months themselves.

    python benchmarks/surrogates_unknown.py -o benchmarks/results/surrogates_unknown.json
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from common.record import options, write

from batchsense.experiments.statistics.confounding import analyse
from batchsense.experiments.surrogates.estimation import (
    f_test,
    reweighted_surrogates,
    surrogate_count,
    two_step_surrogates,
)

REFERENCES = Path(__file__).resolve().parents[1] / "tests" / "references" / "surrogates"
Floats = np.ndarray[Any, np.dtype[np.float64]]


def recipe() -> ModuleType:
    """Load the script that made the experiments for R."""
    spec = importlib.util.spec_from_file_location("pack", REFERENCES / "pack.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(REFERENCES / "pack.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def angle(found: Floats, truth: Floats) -> float:
    """Largest principal angle in degrees, the constant taken out; 90 if a direction is missing."""
    bases = [np.linalg.svd(m - m.mean(axis=0), full_matrices=False) for m in (found, truth)]
    first, second = (u[:, s > 1e-9 * max(s[0], 1e-300)] for u, s, _ in bases)
    if first.shape[1] < second.shape[1]:
        return 90.0
    cosines = np.linalg.svd(first.T @ second, compute_uv=False)
    return float(np.degrees(np.arccos(min(1.0, cosines.min()))))


def present(columns: Floats) -> Floats:
    """Drop columns that R did not give."""
    return columns[:, ~np.isnan(columns).any(axis=0)]


def study(made: ModuleType, share: float, r: Any) -> dict[str, Any]:
    """Run every method on the experiments of one share."""
    place = made.SHARES.index(share)
    angles: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    counts, r2 = [], []
    for repetition in range(made.REPETITIONS):
        planted = made.experiment(share, repetition)
        observations = planted.table.values
        treated = (np.array(planted.table.sheet["drug"]) == "yes").astype(float)[:, None]
        month = np.array(planted.table.sheet["month"])
        months = (month[:, None] == np.unique(month)).astype(float)
        constant = np.ones((len(month), 1))
        nulls = observations[:, planted.drug_effect == 0]
        r2.append(analyse(treated, months).r2)
        ways = {
            "batchsense reweighted": reweighted_surrogates(
                observations, treated, constant, 2
            ).values,
            "batchsense two-step": two_step_surrogates(observations, treated, constant, 2).values,
            "R sva irw": present(r["irw"][place, repetition]),
            "R sva two-step": present(r["two_step"][place, repetition]),
            "no surrogates": np.empty((len(month), 0)),
            "months known": months[:, 1:],
        }
        for name, values in ways.items():
            base = np.hstack([constant, values])
            p = f_test(nulls, np.hstack([base, treated]), base)
            rates.setdefault(name, []).append(float((p < 0.05).mean()))
            if "batchsense" in name or "sva" in name:
                angles.setdefault(name, []).append(angle(values, months))
        design = np.hstack([constant, treated])
        counts.append(
            surrogate_count(observations, design, np.random.default_rng(repetition)).count
        )
    return {
        "treated_share": share,
        "r2_of_treatment_with_month": float(np.mean(r2)),
        "experiments": made.REPETITIONS,
        "angle_to_truth_degrees": {
            name: {"median": float(np.median(found)), "largest": max(found)}
            for name, found in angles.items()
        },
        "false_positive_rate_at_0.05": {
            name: {"mean": float(np.mean(found)), "largest": max(found)}
            for name, found in rates.items()
        },
        "surrogates_counted_right": {
            "batchsense": int((np.array(counts) == 2).sum()),
            "R sva num.sv": int((r["counts"][place] == 2).sum()),
        },
    }


def main() -> None:
    arguments = options(__doc__ or "", "surrogates_unknown").parse_args()
    began, cpu = time.time(), time.process_time()
    made, r = recipe(), np.load(REFERENCES / "simulation.npz")
    studies = []
    for share in made.SHARES:
        studies.append(study(made, share, r))
        print(studies[-1])
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        r="R 4.2.2, sva 3.46.0",
        studies=studies,
    )


if __name__ == "__main__":
    main()
