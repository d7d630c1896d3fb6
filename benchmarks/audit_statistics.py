"""How often the audit cries wolf, and how often it misses one: false alarms and power.

Every repetition has other examples, parameters, random numbers and partitions. Clean losses are
those whose parts average to the whole in expectation but not exactly, so that only statistics can
judge: U-statistics, and random numbers that cannot be tied to the examples. Both tests are
counted; the sign-flip test is the one that decides.

    python benchmarks/audit_statistics.py [-o benchmarks/results/audit_statistics.json]
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.record import options, write

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "training" / "separability"))

from loss_zoo import named

from batchsense.training.separability import audit
from batchsense.training.separability.kind.bias import bias_of
from batchsense.training.separability.kind.evidence import gather
from batchsense.training.separability.preparation import chosen_examples, opened

ALPHA = 0.01
CLEAN = [
    "pairwise_ranking",
    "unbiased_mean_discrepancy",
    "dropout_drawn_by_numpy",
    "noise_drawn_example_by_example",
]
BIASED = ["batch_norm", "token_mean", "contrastive_of_pairs", "class_weights"]
EXACT = ["cross_entropy", "dropout", "masked_attention", "variational_autoencoder"]


def judged(name: str, seed: int) -> Any:
    """Measure 24 partitions of one loss and test them."""
    workload = named(name).build(seed)
    first = opened(workload, chosen_examples(workload, 64, 8, seed), 8, "float64", seed)
    return bias_of(gather(first.screening, 8, 24, {}), ALPHA)


def counted(name: str, repetitions: int, first_seed: int) -> dict[str, Any]:
    """Count rejections and coverage of one loss over many seeds."""
    seeds = range(first_seed, first_seed + repetitions)
    found = [judged(name, seed) for seed in seeds]
    squares = [math.copysign(b.size.estimate**2, b.size.estimate) for b in found]
    mean_square = float(np.mean(squares))
    return {
        "audits": repetitions,
        "rejected_by_sign_flip": sum(b.p_value_sign_flip < ALPHA for b in found),
        "rejected_by_split_half": sum(b.p_value < ALPHA for b in found),
        "rejected_by_either": sum(min(b.p_value, b.p_value_sign_flip) < ALPHA for b in found),
        "root_mean_squared_bias": math.copysign(math.sqrt(abs(mean_square)), mean_square),
        "median_upper_bound": float(np.median([b.size.high for b in found])),
    }


def whole_audits(name: str, repetitions: int, first_seed: int) -> dict[str, Any]:
    """Count what complete audits say, with the biases that they computed."""
    seeds = range(first_seed, first_seed + repetitions)
    found = [audit(named(name).build(seed), seed=seed) for seed in seeds]
    biases = [report.bias.size.estimate for report in found if report.bias is not None]
    return {
        "audits": repetitions,
        "verdicts": {v: sum(r.verdict == v for r in found) for v in ("yes", "no", "unresolved")},
        "detected": sum(r.bias is not None and r.bias.detected for r in found),
        "bias_quartiles": [float(q) for q in np.quantile(biases, (0.25, 0.5, 0.75))]
        if biases
        else None,
    }


def main() -> None:
    parser = options(__doc__ or "", "audit_statistics")
    parser.add_argument("--clean", type=int, default=105, help="audits of each clean loss")
    parser.add_argument("--biased", type=int, default=60, help="audits of each biased loss")
    parser.add_argument("--whole", type=int, default=12, help="complete audits of each")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    began, cpu, first = time.time(), time.process_time(), chosen.seed
    clean = {name: counted(name, chosen.clean, first) for name in CLEAN}
    biased = {name: counted(name, chosen.biased, first) for name in BIASED}
    total = sum(row["audits"] for row in clean.values())
    alarms = sum(row["rejected_by_sign_flip"] for row in clean.values())
    whole = {name: whole_audits(name, chosen.whole, first) for name in [*EXACT, *BIASED[:2]]}
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        alpha=ALPHA,
        sizes={"batch_size": 64, "micro_batch": 8, "partitions": 24},
        clean=clean,
        false_alarms={"audits": total, "alarms": alarms, "rate": alarms / total},
        biased=biased,
        whole_audits=whole,
    )
    print(f"{alarms} false alarms in {total} audits")


if __name__ == "__main__":
    main()
