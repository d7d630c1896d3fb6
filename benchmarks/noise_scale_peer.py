"""How often the noise scale is right within a factor of two, at equal examples, beside a peer.

A small net is trained on the digits; at three moments the noise scale of its 1,797 examples is
known exactly. In each repeat every estimator sees the same examples, drawn in two ways: 2,048 with
replacement, as from an endless stream, or one shuffled pass over the data set. The estimators:

- ours from the norms of single examples (:func:`minibatch_squared_norms`);
- ours from 32 micro-batches, as ``measure_gradient_noise``;
- ours from the distinct examples of an endless stream, each once, as a part of the 1,797: what
  batchsense does with a data set, from which it never draws an example twice;
- traintools as its tracker does by default: minibatches of 128, each split in two, moving averages
  of both parts;
- traintools' ``estimate_gns`` on all examples at 2 (its default) to as many splits as it takes.

The peer is not a dependency. Install it beside, and name the folder:

    pip install --target /tmp/peer traintools==0.6.2 --no-deps
    PYTHONPATH=/tmp/peer python benchmarks/noise_scale_peer.py
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from common.record import options, write
from common.tasks import DIGITS_SGD
from torch.nn import functional
from torch.utils.data import TensorDataset

from batchsense.training import Workload
from batchsense.training.example_gradients import minibatch_squared_norms
from batchsense.training.gradient_noise import micro_batch_gradients, moments_of_examples
from batchsense.training.gradient_noise.estimators import moments_of_layers
from batchsense.training.workload.gradients import gram_matrix

MOMENTS = (300, 1000, 3000)
STREAM, STREAM_REPEATS, PASS_REPEATS = 2048, 60, 30
SPLITS = (2, 8, 32, 128)
WITHIN = 2.0


def trained(steps: int, seed: int) -> Workload:
    workload = DIGITS_SGD.build()
    model, rng = workload.fresh_model(), np.random.default_rng(seed)
    optimizer = workload.fresh_optimizer(model)
    for _ in range(steps):
        optimizer.zero_grad()
        minibatch = workload.minibatch(rng.integers(len(workload.examples), size=32))
        workload.loss(model, minibatch).backward()
        optimizer.step()
    return replace(workload, model=model)


def ratio(tau: float, gamma: float) -> float:
    return tau / gamma if gamma > 0 else float("inf")


def ours(workload: Workload, rows: np.ndarray, population: int | None) -> dict[str, float]:
    """Estimate from single examples and from micro-batches; ``population`` if none came twice."""
    minibatch = workload.minibatch(rows)
    norms = minibatch_squared_norms(workload.fresh_model(), workload.loss, minibatch)
    single = moments_of_examples(
        norms.mean_squared_norm, norms.squared_mean_norm, len(rows), population
    )
    drawn = replace(workload, examples=TensorDataset(*minibatch))
    vectors, sizes = micro_batch_gradients(drawn, len(rows))
    tau, gamma = moments_of_layers([gram_matrix(vectors)], sizes, population=population)[0]
    return {
        "ours, single examples": ratio(single.trace_covariance, single.squared_gradient_norm),
        "ours, 32 micro-batches": ratio(tau, gamma),
    }


def theirs(peer: Any, workload: Workload, rows: np.ndarray) -> dict[str, float]:
    """Ask the peer, by default and at every number of splits."""
    model, loss = workload.fresh_model(), functional.cross_entropy
    inputs, classes = workload.minibatch(rows)
    tracker, smoothed = peer.GNSEstimator(), 0.0
    for start in range(0, len(rows) - 127, 128):
        part = slice(start, start + 128)
        raw = peer.estimate_gns(model, loss, inputs[part], classes[part])
        smoothed = tracker.update_from_estimates(raw.tr_sigma, raw.g_squared, 128).gns
    answers = {"traintools tracker (default)": smoothed}
    for splits in (*SPLITS, len(rows) // 2):
        found = peer.estimate_gns(model, loss, inputs, classes, n_splits=splits)
        name = "most" if splits > max(SPLITS) else splits
        answers[f"traintools estimate_gns, {name} splits"] = found.gns
    return answers


def study(workload: Workload, peer: Any, seed: int) -> dict[str, Any]:
    """Compare all estimators at one moment."""
    population = len(workload.examples)
    truth = ours(workload, np.arange(population), population)["ours, single examples"]
    rng = np.random.default_rng(seed)
    result: dict[str, Any] = {"truth": truth}
    for name, repeats in (("stream", STREAM_REPEATS), ("one_pass", PASS_REPEATS)):
        answers: dict[str, list[float]] = {}
        for _ in range(repeats):
            if name == "stream":
                rows, known = rng.integers(population, size=STREAM), None
            else:
                rows, known = rng.permutation(population), population
            found = ours(workload, rows, known)
            if known is None:
                distinct = ours(workload, np.unique(rows), population)
                found["ours, distinct examples"] = distinct["ours, single examples"]
            if peer is not None:
                found |= theirs(peer, workload, rows)
            for estimator, value in found.items():
                answers.setdefault(estimator, []).append(value)
        errors = {key: np.abs(np.log(np.array(v) / truth)) for key, v in answers.items()}
        result[name] = {
            key: {
                "within_twofold": float(np.mean(error <= np.log(WITHIN))),
                "median_factor_off": float(np.exp(np.median(error))),
            }
            for key, error in errors.items()
        }
    return result


def main() -> None:
    chosen = options(__doc__ or "", "noise_scale_peer").parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        import traintools as peer  # type: ignore[import-not-found]

        skipped = None
    except ModuleNotFoundError:
        peer = None
        skipped = "traintools is not installed; the head of this script says how"
        print(skipped, file=sys.stderr)
    began, cpu, rows = time.time(), time.process_time(), []
    for steps in MOMENTS:
        row = {"steps": steps, **study(trained(steps, chosen.seed), peer, chosen.seed)}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    write(
        chosen.output,
        chosen.seed,
        began,
        time.process_time() - cpu,
        peer=getattr(peer, "__version__", None),
        peer_skipped=skipped,
        repeats={"stream": STREAM_REPEATS, "one_pass": PASS_REPEATS},
        mean_within_twofold={
            way: {
                key: float(np.mean([row[way][key]["within_twofold"] for row in rows]))
                for key in rows[0][way]
            }
            for way in ("stream", "one_pass")
        },
        moments=rows,
    )


if __name__ == "__main__":
    main()
