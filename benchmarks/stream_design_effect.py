"""The design effect of a stream, predicted from 64 random blocks and measured on its minibatches.

Six tables of 262,144 rows, nine sizes of block and pool. Measured are the first minibatches of the
pools of many epochs, in the order in which a stream gives them. Twenty pilots of each table say how
often the upper end of the prediction covers the exact value.

    python benchmarks/stream_design_effect.py [-o benchmarks/results/stream_design_effect.json]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common.record import options, write
from numpy.typing import NDArray

from batchsense.storage.rows import open_rows
from batchsense.training.streaming import design_effect, plan_stream
from batchsense.training.streaming.order import Part, StreamOrder
from batchsense.training.streaming.pilot import read_pilot

ROWS, BATCH_SIZE, PILOTS, POOLS = 1 << 18, 128, 20, 800
BLOCKS, SIZES = (8, 64, 256), (32, 128, 512)


def tables(seed: int) -> dict[str, NDArray[np.float64]]:
    """Tables whose rows are alike in different ways."""
    draw = np.random.default_rng(seed)
    noise = draw.normal(size=ROWS)
    lengths = draw.geometric(1 / 300, size=ROWS // 100)
    return {
        "sorted into 200 groups": np.repeat(np.sort(draw.normal(size=200)), ROWS // 200 + 1)[:ROWS],
        "two labels": (np.arange(ROWS) >= ROWS * 0.3).astype(float),
        "drift": np.linspace(-2, 2, ROWS) + noise,
        "runs": np.repeat(draw.normal(size=len(lengths)), lengths)[:ROWS] + noise,
        "heavy tails": np.repeat(draw.standard_t(3, size=1024), ROWS // 1024)
        + draw.standard_t(3, size=ROWS),
        "random": noise,
    }


def between(values: NDArray[np.float64], block: int) -> float:
    """The share of the variance that lies between the means of blocks, of the whole table."""
    means = values[: ROWS // block * block].reshape(-1, block).mean(axis=1)
    return float(means.var() / values.var())


def exact(
    values: NDArray[np.float64], block: int, pool: int, batch_size: int = BATCH_SIZE
) -> float:
    """The design effect from all blocks."""
    icc = 1.0 if block == 1 else (between(values, block) - 1 / block) / (1 - 1 / block)
    return design_effect(icc, batch_size, ROWS, block, pool)


def measured(values: NDArray[np.float64], block: int, pool: int) -> tuple[float, float]:
    """The design effect of minibatches, and its Monte-Carlo error."""
    order = StreamOrder(ROWS, block, pool, BATCH_SIZE, 1, seed=1)
    centred = values - values.mean()
    # Up to four minibatches of a pool, and pools of as many epochs as it takes.
    each = min(4, block * pool // BATCH_SIZE)
    squares = []
    whole = max(min(ROWS // (block * pool), 8), 1)
    for turn in range(POOLS):
        epoch, number = divmod(turn, whole)
        rows = order.rows_of(epoch, Part(number, 0, each * BATCH_SIZE))
        means = centred[rows].reshape(each, BATCH_SIZE).mean(axis=1)
        squares.append(float((means**2).mean()))
    scale = values.var() / BATCH_SIZE
    return float(np.mean(squares) / scale), float(np.std(squares) / scale / POOLS**0.5)


def study(seed: int) -> dict[str, Any]:
    cells = []
    defaults = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, values in tables(seed).items():
            file = Path(folder, "rows.npy")
            np.save(file, values[:, None])
            source = open_rows(file)
            pilots = [read_pilot(source, 10**9, seed=one).clusterings for one in range(PILOTS)]
            for block in BLOCKS:
                found = [next(c for c in pilot if c.block == block).icc for pilot in pilots]
                for pool in SIZES:
                    truth, (value, error) = (
                        exact(values, block, pool),
                        measured(values, block, pool),
                    )

                    def effect(icc: float, block: int = block, pool: int = pool) -> float:
                        return design_effect(min(max(icc, 0.0), 1.0), BATCH_SIZE, ROWS, block, pool)

                    predicted = effect(found[0].estimate)
                    cells.append(
                        {
                            "table": name,
                            "block": block,
                            "pool": pool,
                            "predicted": round(predicted, 4),
                            "measured": round(value, 4),
                            "monte_carlo_error": round(error, 4),
                            "exact": round(truth, 4),
                            "within": bool(
                                abs(predicted / value - 1) <= 0.15
                                or abs(predicted - value) <= 2 * error
                            ),
                            "covered_of_20": sum(
                                effect(one.high) >= truth * (1 - 1e-9) for one in found
                            ),
                        }
                    )
                    print(cells[-1], flush=True)
            # With the defaults of the command, on rows of 1.5 KB.
            np.save(file, np.broadcast_to(values[:, None].astype("float32"), (ROWS, 384)))
            plan = plan_stream(file, 256, 256_000_000)
            defaults[name] = {
                "block": plan.block,
                "pool": plan.pool,
                "high": plan.design_effect.high,
                "estimate": plan.design_effect.estimate,
                "exact": exact(values, plan.block, plan.pool, 256),
            }
    covered = sum(cell["covered_of_20"] for cell in cells) / PILOTS / len(cells)
    return {
        "cells": cells,
        "within_share": sum(cell["within"] for cell in cells) / len(cells),
        "covered_share": covered,
        "exact_against_measured": float(
            np.max([abs(c["exact"] - c["measured"]) / c["monte_carlo_error"] for c in cells])
        ),
        "defaults": defaults,
    }


if __name__ == "__main__":
    given = options(__doc__, "stream_design_effect").parse_args()
    began = time.time()
    found = study(given.seed)
    write(
        given.output, given.seed, began, time.process_time(),
        rows=ROWS, batch_size=BATCH_SIZE, **found,
    )  # fmt: skip
