"""Predicted against traced peak memory on jobs of many kinds, far beyond the probes.

Each job is measured once with its tensors in a ``TensorDataset`` and once with a data set that
makes a tensor for each example, as tutorials write it. Every step compared is a real one, traced
with the profiler, the loading of the next minibatch included. Beside it: the prediction without
data (``fake_memory_envelope``), with the modules for which it is known to be a lower bound, and
the CPU time of the measurement in plain steps of its largest probe.

    python benchmarks/memory_prediction.py [-o benchmarks/results/memory_prediction.json]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from common.memory_jobs import JOBS, as_tutorial
from common.record import options, write

from batchsense.errors import DataError
from batchsense.training import Workload, fake_memory_envelope, fit_memory_envelope
from batchsense.training.memory.allocations import two_training_steps, uncollected
from batchsense.training.memory.probing import trace_of_size

#: Batch sizes compared; the largest is 300 times the smallest probe of 4.
SIZES = (128, 512, 1200)


def ratios(workload: Workload, peak: Callable[[int], int], sizes: tuple[int, ...]) -> list[float]:
    """Predicted over traced at each size."""
    model = workload.fresh_model()
    count = len(workload.examples)
    found = []
    for size in sizes:
        with uncollected():
            traced = trace_of_size(workload, model, [k % count for k in range(size)]).peak_bytes
        found.append(peak(size) / traced)
    return found


def plain_steps(workload: Workload, size: int) -> float:
    """CPU seconds of a plain step of ``size`` examples: the fastest of five pairs."""
    model = workload.fresh_model()
    minibatch = workload.minibatch([k % len(workload.examples) for k in range(size)])
    seconds = []
    for _ in range(6):
        start = time.process_time()
        two_training_steps(workload, model, minibatch)
        seconds.append((time.process_time() - start) / 2)
    return min(seconds[1:])


def main() -> None:
    arguments = options(__doc__, "memory_prediction").parse_args()
    began, cpu = time.time(), time.process_time()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, make in JOBS.items():
        for form in ("tensors", "tutorial"):
            workload = make() if form == "tensors" else as_tutorial(make())
            start = time.process_time()
            envelope = fit_memory_envelope(workload)
            seconds = time.process_time() - start
            largest = envelope.checked_batch_size or envelope.probe_sizes[-1]
            row = {
                "job": name,
                "examples": form,
                "probe_sizes": envelope.probe_sizes,
                "checked_error": envelope.checked_error,
                "predicted_over_traced": ratios(workload, envelope.peak_bytes, SIZES),
                "cpu_seconds": seconds,
                "in_plain_steps": seconds / plain_steps(workload, largest),
            }
            if form == "tensors":
                try:
                    fake = fake_memory_envelope(make)
                    row["fake_over_traced"] = ratios(workload, fake.peak_bytes, SIZES)
                    row["fake_lower_bound"] = fake.lower_bound
                except DataError as refusal:
                    row["fake_refused"] = str(refusal)
            print(row, flush=True)
            rows.append(row)
    off = [abs(r - 1) for row in rows for r in row["predicted_over_traced"]]
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        sizes=SIZES,
        jobs=rows,
        within_1_percent=sum(one <= 0.01 for one in off) / len(off),
        worst=max(off),
    )


if __name__ == "__main__":
    main()
