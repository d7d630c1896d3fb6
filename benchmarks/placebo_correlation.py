"""What a placebo of independent features cannot show: noise whose features go together.

The labels of the bladder study (57 arrays, 5 batches, cancer of three levels), 2,000 features with
batch shifts of the size of the study. Once the features are independent, once they are correlated
as the residuals of its first 2,000 probes are. Over many draws: the mean share of p <= 0.05, the
range that holds 95 % of the draws, and how many features are called at q <= 0.05.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import record

from batchsense.experiments import CombatCorrection, LinearCorrection, Table, testing
from batchsense.experiments.diagnosis.component import batch_component
from batchsense.experiments.statistics.multiplicity import benjamini_hochberg
from batchsense.experiments.statistics.tail_areas import f_p_value
from batchsense.variation.linear import factor

Floats = npt.NDArray[np.float64]

DRAWS = 400
BLADDER = Path(__file__).resolve().parents[1] / "tests" / "references" / "bladder" / "input.npz"


def p_values(table: Table, plain: Floats) -> dict[str, Floats]:
    """Test cancer after each pipeline, with ordinary F tests."""

    def of(found: testing.ContrastTests) -> Floats:
        return np.asarray(found.factors[0].p_value)

    before = testing.ContrastOptions(shrink=False, ignore_batches=True)
    rescaled = replace(before, values="corrected")
    ordinary = testing.ContrastOptions(shrink=False)
    linear = LinearCorrection(keep=("cancer",)).fit(table, "batch").transform(table)
    combat = CombatCorrection(keep=("cancer",)).fit(table, "batch").transform(table)
    centred = table.values - table.values.mean(axis=0)
    explained = ((factor(plain).basis.T @ centred) ** 2).sum(axis=0)
    left = (centred**2).sum(axis=0) - explained
    n, levels = plain.shape
    statistic = (explained / (levels - 1)) / (left / (n - levels))
    return {
        "uncorrected": f_p_value(statistic, levels - 1, n - levels),
        "linear": of(testing.test(linear, "cancer", options=before)),
        "combat": of(testing.test(combat, "cancer", options=rescaled)),
        "model": of(testing.test(table, "cancer", "batch", options=ordinary)),
    }


def summary(rates: list[float], called: list[int]) -> dict[str, Any]:
    """Put the draws together."""
    low, high = np.quantile(rates, [0.025, 0.975])
    return {
        "mean_rate": float(np.mean(rates)),
        "standard_error": float(np.std(rates, ddof=1) / np.sqrt(len(rates))),
        "rate_95_percent_range": [float(low), float(high)],
        "mean_called": float(np.mean(called)),
        "median_called": float(np.median(called)),
        "called_95_percent_range": np.quantile(called, [0.025, 0.975]).tolist(),
        "draws_with_a_call": float(np.mean(np.array(called) > 0)),
    }


def main() -> None:
    """Draw both kinds of noise, and count."""
    parser = record.options(__doc__ or "", "placebo_correlation")
    parser.add_argument("--draws", type=int, default=DRAWS)
    arguments = parser.parse_args()
    began, cpu = time.time(), time.process_time()
    given = np.load(BLADDER)
    sheet = {"batch": given["batch"].tolist(), "cancer": given["cancer"].tolist()}
    batches, cancer = (np.unique(sheet[name], return_inverse=True)[1] for name in sheet)
    indicators, plain = np.eye(5)[batches], np.eye(3)[cancer]
    observations = np.asarray(given["expression"], dtype=np.float64).T
    component = batch_component(observations, indicators, plain, np.random.default_rng(0))
    assert component is not None
    residuals = factor(np.hstack([plain, indicators])).residuals(observations)
    likeness = residuals / np.sqrt((residuals**2).sum(axis=0))
    rows, features = likeness.shape
    results: dict[str, Any] = {}
    seeds = np.random.SeedSequence(arguments.seed).spawn(2)
    for kind, seed in zip(("independent", "correlated"), seeds, strict=True):
        rng = np.random.default_rng(seed)
        rates: dict[str, list[float]] = {}
        called: dict[str, list[int]] = {}
        for _ in range(arguments.draws):
            if kind == "independent":
                noise, shifts = rng.normal(size=(rows, features)), rng.normal(size=(5, features))
            else:
                noise = rng.normal(size=(rows, rows)) @ likeness
                shifts = rng.normal(size=(5, rows)) @ likeness
            values = noise + component.relative_sd * shifts[batches]
            for name, p in p_values(Table.from_arrays(values, sheet), plain).items():
                rates.setdefault(name, []).append(float((p <= 0.05).mean()))
                called.setdefault(name, []).append(int((benjamini_hochberg(p) <= 0.05).sum()))
        results[kind] = {name: summary(rates[name], called[name]) for name in rates}
        for name, found in results[kind].items():
            print(kind, name, found)
    record.write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        draws=arguments.draws,
        features=features,
        shift_sd=component.relative_sd,
        results=results,
    )


if __name__ == "__main__":
    main()
