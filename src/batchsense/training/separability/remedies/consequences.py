"""What happens to the gradient under accumulation, over processes, and with an uneven end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from batchsense.arrays import Places
from batchsense.errors import DataError
from batchsense.training.separability.kind.screening import (
    Screening,
    measured_parts,
    mixed,
    partition,
)
from batchsense.training.separability.kind.structure import pure_scale
from batchsense.training.separability.probe.probe import GradientProbe, Measured
from batchsense.training.separability.remedies.compare import (
    GradientComparison,
    compare_gradients,
    named_factor,
)
from batchsense.training.separability.report import Consequence
from batchsense.training.workload.workload import Workload

_RELIABLE = 0.01


def predict_ddp(
    workload: Workload,
    shards: Sequence[Sequence[int]],
    *,
    precision: str = "float64",
    seed: int = 0,
) -> GradientComparison:
    """Predict, in one process, what DistributedDataParallel makes of a loss.

    Each rank r takes the gradient g_r over its shard and DDP averages them; the full gradient G is
    over all shards together.

    Parameters
    ----------
    workload : Workload
        Model, loss and examples.
    shards : sequence of sequences of int
        The indices of the examples of each rank.
    precision : str
        Of the computation.
    seed : int
        Seed of the loss's random numbers; every rank has its own.

    Returns
    -------
    GradientComparison
        Of mean_r g_r with G; the scale is named if it is the world size or its inverse.

    Examples
    --------
    >>> import torch
    >>> workload = Workload(
    ...     torch.nn.Linear(2, 1),
    ...     lambda model, x: model(x).square().sum(),
    ...     torch.randn(8, 2, generator=torch.Generator().manual_seed(0)),
    ...     torch.optim.SGD,
    ... )
    >>> predict_ddp(workload, [range(4), range(4, 8)]).factor
    '1/world'
    """
    if len(shards) < 2 or any(len(shard) == 0 for shard in shards):
        raise DataError("give at least two shards, none of them empty", where="shards")
    everyone = [int(index) for shard in shards for index in shard]
    probe = GradientProbe(workload, everyone, precision, seed)
    whole = probe.by_parameter(range(len(everyone)), mixed(seed, 20))
    ends = np.cumsum([0, *map(len, shards)])
    ranks = [
        probe.by_parameter(range(a, b), mixed(seed, 21, r))
        for r, (a, b) in enumerate(itertools.pairwise(ends))
    ]
    averaged = {name: sum(rank[name] for rank in ranks) / len(ranks) for name in whole}
    return compare_gradients(whole, averaged, {"world": len(shards)}, tolerance=1e-9)  # type: ignore[arg-type]


def accumulation(deviation: float, scale: float, parts: int, tolerance: float) -> Consequence:
    """Say what averaging equal micro-batches does."""
    if deviation < tolerance:
        return Consequence(deviation, scale, None, "The average equals the full gradient.")
    factor = named_factor(scale, {"K": parts})
    if factor == "1/K" and abs(deviation - abs(1 - scale)) < _RELIABLE * deviation:
        return Consequence(
            deviation,
            scale,
            factor,
            f"The average of {parts} micro-batches is 1/{parts} of the full gradient.",
        )
    return Consequence(
        deviation,
        scale,
        None,
        f"The average of {parts} micro-batches differs by {deviation:.3g}·|G|.",
    )


def ddp(
    probe: GradientProbe, screening: Screening, world_size: int, exact_mean: bool, seed: int
) -> Consequence:
    """Predict what averaging over processes does."""
    if exact_mean:
        return Consequence(
            0.0, 1.0, None, "The average over processes with equal shares is the full gradient."
        )
    size = probe.count // world_size
    if size < 1:
        return Consequence(None, None, None, "Not measured: fewer examples than processes.")
    order = np.random.default_rng([seed, 13]).permutation(probe.count)[: size * world_size]
    shards = [order[r * size : (r + 1) * size] for r in range(world_size)]
    gap, scale = _average_against_whole(probe, screening, order, shards, mixed(seed, 14))
    if gap < screening.tolerance:
        return Consequence(
            gap, scale, None, f"The average over {world_size} processes is the full gradient."
        )
    factor = named_factor(scale, {"N": world_size})
    if factor is not None and abs(gap - abs(1 - scale)) < _RELIABLE * gap:
        return Consequence(
            gap, scale, factor, f"Over {world_size} processes the gradient is {factor} times right."
        )
    return Consequence(
        gap, scale, None, f"Over {world_size} processes the gradient differs by {gap:.3g}·|G|."
    )


def uneven(
    probe: GradientProbe,
    screening: Screening,
    micro_batch: int,
    seed: int,
    mean_parts: tuple[list[Places], list[Measured]] | None,
) -> Consequence:
    """Measure the average of micro-batches of which the last has only half the examples.

    For a mean of independent terms, ``mean_parts`` are the measured equal parts: the full
    gradient follows from them, and only the halved part is measured.
    """
    short = micro_batch // 2
    if short < 1:
        return Consequence(None, None, None, "Not measured: micro-batches of one example.")
    if mean_parts is not None:
        places, parts = mean_parts
        last = measured_parts(probe, [places[-1][:short]], seed, screening.randomness)[0]
        g = np.array([*(part.gradient for part in parts[:-1]), last.gradient])
        sizes = np.array([micro_batch] * (len(parts) - 1) + [short], dtype=float)
        whole = sizes @ g / sizes.sum()
        gap = float(np.linalg.norm(g.mean(axis=0) - whole) / np.linalg.norm(whole))
        scale = pure_scale(g.mean(axis=0), whole)[0]
        return Consequence(
            gap,
            scale,
            None,
            f"With a last micro-batch of {short} a plain average gives its examples "
            f"{micro_batch / short:.3g} times the weight (deviation {gap:.3g}·|G|): weight each "
            "micro-batch by its number of examples.",
        )
    kept = np.random.default_rng([seed, 15]).permutation(probe.count)[: probe.count - short]
    cut = partition(len(kept), micro_batch, np.random.default_rng([seed, 16]))
    places = [kept[part] for part in cut]
    gap, scale = _average_against_whole(probe, screening, kept, places, mixed(seed, 17))
    return Consequence(
        gap,
        scale,
        None,
        f"With a last micro-batch of {len(places[-1])} the plain average differs by {gap:.3g}·|G|.",
    )


def _average_against_whole(
    probe: GradientProbe,
    screening: Screening,
    members: Places,
    parts: Sequence[Places],
    seed: int,
) -> tuple[float, float]:
    """Give the relative gap, and the nearest multiple, of an average of parts."""
    randomness = "silent" if screening.randomness == "free" else screening.randomness
    whole = probe.gradient(members, seed, randomness).gradient
    g = np.array([m.gradient for m in measured_parts(probe, parts, seed, randomness)])
    gap = float(np.linalg.norm(g.mean(axis=0) - whole) / np.linalg.norm(whole))
    return gap, pure_scale(g.mean(axis=0), whole)[0]
