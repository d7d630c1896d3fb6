"""How many hidden leaks between two of 64 examples are found, by strength and precision.

A network adds a little of one example's hidden vector to another's; source, target, weights and
data change with every seed. Found means: exactly that ordered pair is reported, and the module is
named. Clean networks of the same kind must stay silent.

    python benchmarks/audit_leaks.py [-o benchmarks/results/audit_leaks.json]
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common.record import options, write
from torch import Tensor, nn

from batchsense.training.separability import leakage

CASES = [("float64", 1e-3), ("float64", 1e-6), ("float32", 1e-3), ("bfloat16", 0.3)]


class OnePair(nn.Module):
    """Adds a part of one example's vector to another's."""

    def __init__(self, source: int, target: int, strength: float) -> None:
        super().__init__()
        self.source, self.target, self.strength = source, target, strength

    def forward(self, h: Tensor) -> Tensor:
        """Leak."""
        extra = torch.zeros_like(h)
        extra[self.target] = self.strength * h[self.source]
        return h + extra


def network(seed: int, strength: float) -> tuple[nn.Module, tuple[int, int]]:
    """Hide one leak in a network."""
    source, target = (int(k) for k in np.random.default_rng(seed).choice(64, 2, replace=False))
    torch.manual_seed(seed)
    leak = OnePair(source, target, strength)
    return nn.Sequential(nn.Linear(6, 8), leak, nn.Tanh(), nn.Linear(8, 3)), (source, target)


def study(precision: str, strength: float, repetitions: int, first_seed: int) -> dict[str, Any]:
    """Count exact findings, and alarms of the same networks without the leak."""
    found = located = alarms = 0
    for seed in range(first_seed, first_seed + repetitions):
        x = torch.randn(128, 6, generator=torch.Generator().manual_seed(seed))
        model, pair = network(seed, strength)
        report = leakage(model, x[:64], x[64:], precision=precision, seed=seed)
        found += [p[:2] for p in report.pairs] == [pair]
        located += bool(report.sources) and report.sources[0].name == "1"
        clean, _ = network(seed, 0.0)
        alarms += leakage(clean, x[:64], x[64:], precision=precision, seed=seed).leaks
    return {
        "precision": precision,
        "strength": strength,
        "planted": repetitions,
        "pair_found": found,
        "module_named": located,
        "false_alarms": alarms,
    }


def main() -> None:
    parser = options(__doc__ or "", "audit_leaks")
    parser.add_argument("--repetitions", type=int, default=100)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    began, cpu = time.time(), time.process_time()
    cases = []
    for precision, strength in CASES:
        cases.append(study(precision, strength, chosen.repetitions, chosen.seed))
        print(cases[-1], flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        examples=64,
        cases=cases,
    )


if __name__ == "__main__":
    main()
