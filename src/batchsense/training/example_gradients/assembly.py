"""From what the passes hold to the result, in the units of the examples' own losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from batchsense.arrays import Floats
from batchsense.training.example_gradients.backward_pass import Pass, norm
from batchsense.training.example_gradients.norms import Norms


def assembled(
    passes: Sequence[Pass],
    kept: Sequence[int],
    names: tuple[str, ...],
    *,
    reduction: str,
    sums: Mapping[int, Tensor] | None,
    covered: float,
    refused: Mapping[str, str],
) -> Norms:
    """Put passes together.

    Parameters
    ----------
    passes : sequence of Pass
        Settled ones, at least one.
    kept : sequence of int
        Indices of the parameters that every pass measured.
    names : tuple of str
        Their names.
    reduction : {"mean", "sum"}
        What the loss does over the examples of a pass.
    sums : mapping from parameter index to Tensor, or None
        Sums of the gradients of all examples, if they were kept.
    covered : float
        Share of the trained numbers that was measured.
    refused : mapping from name to str
        The other parameters, with the reason.

    Returns
    -------
    Norms
        Of all passes' examples.
    """
    several = len(passes) > 1
    parts = [_parts(one, kept, reduction) for one in passes]
    means = [_mean_parts(one, kept, reduction) for one in passes]
    sizes = tuple([one.examples for one in passes])
    mean: Floats | None = None if several else means[0]
    if several and sums is not None:
        lengths = {index: norm(gradient) for index, gradient in sums.items()}
        mean = (_to_numpy(lengths, kept) / sum(sizes)) ** 2
    return Norms(
        parameters=names,
        parts=np.concatenate(parts, axis=1) if several else parts[0],
        mean_parts=mean,
        sizes=sizes,
        pass_means=tuple([math.fsum(one.tolist()) for one in means]),
        covered=covered,
        refused=refused,
    )


def _parts(one: Pass, kept: Sequence[int], reduction: str) -> Floats:
    """Give squared norms of shape (parameters, n) of a pass; 0 where the loss ignores one."""
    norms = _to_numpy(one.norms, kept, one.examples)
    norms *= (one.examples if reduction == "mean" else 1.0) / one.scale
    norms *= norms
    return norms


def _mean_parts(one: Pass, kept: Sequence[int], reduction: str) -> Floats:
    """Give the squared norms of the parameters' mean gradients in a pass."""
    norms = _to_numpy(one.total_norms, kept)
    norms *= (1.0 if reduction == "mean" else 1.0 / one.examples) / one.scale
    norms *= norms
    return norms


def _to_numpy(values: Mapping[int, Tensor], wanted: Sequence[int], *shape: int) -> Floats:
    """Bring tensors to the CPU, one transfer for each device, as float64; 0 where there is none."""
    rows: dict[torch.device, list[int]] = {}
    for row, index in enumerate(wanted):
        if index in values:
            rows.setdefault(values[index].device, []).append(row)
    found: Floats = np.zeros((len(wanted), *shape))
    for there in rows.values():
        stacked = torch.stack([values[wanted[row]] for row in there]).cpu().numpy()
        if len(there) == len(wanted):
            return stacked.astype(np.float64)
        found[there] = stacked
    return found
