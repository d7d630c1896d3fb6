"""How balanced layouts are, how fast, and how far from the least score that whole numbers allow.

Trials with three arms, sex and age, 96 specimens in 4 batches and 384 in 8. The lower bound is
exact for the categorical columns: the counts of arms and sexes in each batch are whole numbers that
add up to those of the sheet, and the least score over all such counts is found by dynamic
programming; age can only add to it. Layouts of the whole command are compared with it, with 200
random layouts and with the goal of 0.003 within one second of CPU time.

    python benchmarks/layout_balance.py -o benchmarks/results/layout_balance.json
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from common.record import options, write

from batchsense.experiments import plan_layout
from batchsense.experiments.layout.allocation import balance_basis

DESIGNS = [(96, 4), (384, 8)]
TRIALS = 20


def sheet(specimens: int, seed: int, equal_arms: bool) -> dict[str, Any]:
    """Draw a trial."""
    rng = np.random.default_rng(seed)
    arms = rng.permutation(np.arange(specimens) % 3)
    if not equal_arms:
        arms = rng.integers(0, 3, specimens)
    return {
        "id": [f"s{i}" for i in range(specimens)],
        "treatment": ["abc"[arm] for arm in arms],
        "sex": rng.choice(["f", "m"], specimens).tolist(),
        "age": rng.normal(60, 10, specimens).round(1).tolist(),
    }


def lower_bound(drawn: dict[str, Any], batch_count: int) -> float:
    """Give the least score of arms and sex over all whole counts, by dynamic programming."""
    arm = np.array(drawn["treatment"])
    wanted = np.column_stack([arm == "a", arm == "b", np.array(drawn["sex"]) == "f"]).astype(float)
    held = len(arm) // batch_count
    centred = wanted - wanted.mean(axis=0)
    coding = np.linalg.lstsq(centred, balance_basis(wanted), rcond=None)[0]
    mean = wanted.mean(axis=0) * held
    near = [range(int(np.floor(x)) - 1, int(np.ceil(x)) + 2) for x in mean]
    choices = [
        (float((((np.array(one) - mean) @ coding) ** 2).sum()) / held, one)
        for one in itertools.product(*near)
    ]
    reached: dict[tuple[int, ...], float] = {(0, 0, 0): 0.0}
    for _ in range(batch_count):
        after: dict[tuple[int, ...], float] = {}
        for sums, cost in reached.items():
            for more, one in choices:
                key = tuple(a + b for a, b in zip(sums, one, strict=True))
                if cost + more < after.get(key, np.inf):
                    after[key] = cost + more
        reached = after
    return reached[tuple(int(total) for total in wanted.sum(axis=0))]


def study(specimens: int, batch_count: int, equal_arms: bool, seed: int) -> dict[str, Any]:
    """Plan many trials of one kind."""
    found: list[dict[str, float]] = []
    for trial in range(TRIALS):
        drawn = sheet(specimens, seed + trial, equal_arms)
        began = time.process_time()
        layout = plan_layout(drawn, batch_count, ["treatment", "sex", "age"], seed=trial)
        spent = time.process_time() - began
        found.append(
            {
                "score": layout.score,
                "bound": lower_bound(drawn, batch_count),
                "random_best": float(layout.random_scores.min()),
                "random_mean": float(layout.random_scores.mean()),
                "largest_vif": max(f.entanglement.confounding.vif for f in layout.factors),
                "cpu_seconds": spent,
            }
        )
    column = {name: np.array([one[name] for one in found]) for name in found[0]}
    return {
        "specimens": specimens,
        "batches": batch_count,
        "arms": "of equal size" if equal_arms else "drawn at random",
        "trials": TRIALS,
        "score": {"mean": column["score"].mean(), "largest": column["score"].max()},
        "score_at_most_0.003": int((column["score"] <= 0.003).sum()),
        "lower_bound": {"mean": column["bound"].mean(), "largest": column["bound"].max()},
        "lower_bound_at_most_0.003": int((column["bound"] <= 0.003).sum()),
        "largest_excess_over_bound": float((column["score"] - column["bound"]).max()),
        "random_layouts": {
            "mean": column["random_mean"].mean(),
            "best_of_200_mean": column["random_best"].mean(),
        },
        "largest_vif": column["largest_vif"].max(),
        "cpu_seconds": {
            "median": float(np.median(column["cpu_seconds"])),
            "largest": column["cpu_seconds"].max(),
        },
    }


def main() -> None:
    arguments = options(__doc__ or "", "layout_balance").parse_args()
    began, cpu = time.time(), time.process_time()
    # The first call loads modules; it is not part of a layout.
    plan_layout(sheet(12, 0, True), 2, ["treatment"])
    studies = []
    for (specimens, batch_count), equal in itertools.product(DESIGNS, (True, False)):
        studies.append(study(specimens, batch_count, equal, arguments.seed))
        print(studies[-1])
    goal = {"score": 0.003, "cpu_seconds": 1.0, "largest_vif": 1.01}
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        goal=goal,
        studies=studies,
    )


if __name__ == "__main__":
    main()
