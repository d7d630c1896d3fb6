"""What the intervals and p-values of a diagnosis hold: for which batches, and for whom permuted.

Intervals: experiments whose batches are drawn from a population, again and again. How often do the
intervals of the variance component and of the share hold the value of the batches at hand, and how
often that of the population?

Permutations: a drug acts, the batches do nothing, and the drug is uneven over them. How often is
p ≤ 0.05 for the batches, with labels permuted within the drug, and among all specimens?

    python benchmarks/diagnosis_calibration.py -o benchmarks/results/diagnosis_calibration.json
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common.record import options, write

from batchsense.experiments import Table
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.component import batch_component
from batchsense.experiments.diagnosis.scores import score
from batchsense.experiments.diagnosis.shares import share_of_variance

FEATURES, REPEATS, PERMUTATIONS = 60, 400, 99
SIZES = [(2, 24), (3, 24), (6, 24), (12, 48)]
#: Share of the specimens of the first batch, and of the others of the second, that are treated.
TREATED = [0.5, 0.75, 0.9]


def coverage(batch_count: int, specimens: int, seed: int) -> dict[str, Any]:
    """Draw batches from a population; count which truth the intervals hold."""
    held = dict.fromkeys(("component_at_hand", "component", "share_at_hand", "share"), 0)
    constant = np.ones((specimens, 1))
    batches = np.eye(batch_count)[np.arange(specimens) % batch_count]
    for trial in range(REPEATS):
        rng = np.random.default_rng([seed, batch_count, trial])
        loadings = rng.normal(size=(2, FEATURES)) / np.sqrt(2)
        effects = rng.normal(size=(batch_count, 2)) @ loadings
        population = float((loadings**2).sum()) / FEATURES
        around = batches @ (effects - effects.mean(axis=0))
        at_hand = float((around**2).sum()) / FEATURES / (specimens - specimens / batch_count)
        observations = batches @ effects + rng.normal(size=(specimens, FEATURES))
        component = batch_component(observations, batches, constant, rng)
        share = share_of_variance(observations, batches, constant, rng, 1)
        assert component is not None
        assert share is not None
        for name, truth in (("_at_hand", at_hand), ("", population)):
            between = truth * (specimens - specimens / batch_count)
            held["component" + name] += truth in component.component
            held["share" + name] += between / (between + specimens - 1) in share.share
    rates = {name: count / REPEATS for name, count in held.items()}
    return {"batches": batch_count, "specimens": specimens, **rates}


def false_positives(treated: float, numeric: bool, keep: bool, seed: int) -> dict[str, Any]:
    """Let the drug act and the batches not; count p ≤ 0.05 for the batches."""
    month = np.repeat(["May", "July"], 20)
    some = round(20 * treated)
    drug = np.repeat([1.0, 0.0, 1.0, 0.0], [some, 20 - some, 20 - some, some])
    found: dict[str, list[float]] = {}
    for trial in range(REPEATS):
        rng = np.random.default_rng([seed, trial])
        dose = drug + (0.3 * rng.normal(size=40) if numeric else 0.0)
        values = rng.normal(size=(40, 30)) + 2 * dose[:, None] * rng.normal(size=30)
        labels = dose if numeric else np.where(drug > 0, "yes", "no")
        table = Table.from_arrays(values, {"month": month, "drug": labels})
        design = read_design(table, "month", ["drug"] if keep else [])
        judged = score(values, design, rng, PERMUTATIONS)
        share = share_of_variance(
            values, design.batches.indicators(), design.wanted()[0], rng, PERMUTATIONS
        )
        assert judged is not None
        assert share is not None
        batches = judged.clusterings[0]
        for name in ("p_distance", "p_neighbours", "p_silhouette"):
            found.setdefault(name, []).append(float(getattr(batches, name)))
        found.setdefault("p_share", []).append(share.null.p_value)
    rates = {name: float(np.mean(np.array(p) <= 0.05)) for name, p in found.items()}
    kind = "number" if numeric else "factor"
    return {"treated": treated, "drug": kind, "kept": keep, **rates}


def main() -> None:
    """Run both studies."""
    parser = options(str(__doc__).splitlines()[0], "diagnosis_calibration")
    chosen = parser.parse_args()
    began, cpu = time.time(), time.process_time()
    intervals = [coverage(*size, chosen.seed) for size in SIZES]
    permutations = [
        false_positives(treated, numeric, keep, chosen.seed)
        for treated in TREATED
        for numeric, keep in ((False, True), (False, False), (True, True))
    ]
    spent = time.process_time() - cpu
    write(
        chosen.output, chosen.seed, began, spent,
        repeats=REPEATS, intervals=intervals, permutations=permutations,
    )  # fmt: skip


if __name__ == "__main__":
    main()
