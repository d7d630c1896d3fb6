"""Mean gradients of disjoint micro-batches with the squared gradients of their examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from batchsense.arrays import Floats, Integers
from batchsense.blame import described
from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.training.example_gradients import PerExampleNorms, per_example_squared_norms
from batchsense.training.gradient_noise.measure import MICRO_BATCHES
from batchsense.training.gradient_noise.report import LEAST_GROUPS
from batchsense.training.workload import Workload, admitted, borrowed_randomness, scalar_loss

#: Examples for which norms are compared with those of the examples alone, before all others.
_CHECKED_EXAMPLES = 4


@dataclass(frozen=True, slots=True, eq=False)
class ExampleGradients:
    """What K micro-batches of single examples gave, for P parameters and n examples.

    Attributes
    ----------
    vectors : list of torch.Tensor of shape (numbers,)
        The mean gradient of each micro-batch, over all trained parameters.
    sizes : array of shape (K,)
        Examples in each.
    squares : array of shape (P, K)
        Σ |gᵢ|² of each parameter over the examples of each micro-batch; NaN where unknown.
    values : array of shape (n,)
        |gᵢ|² over the parameters that are known.
    refused : mapping from name to str
        Parameters whose single gradients are unknown, and why.
    """

    vectors: list[Tensor]
    sizes: Integers
    squares: Floats
    values: Floats
    refused: Mapping[str, str]


def example_gradients(
    workload: Workload,
    examples: int,
    micro_batches: int = MICRO_BATCHES,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> ExampleGradients:
    """Give mean gradients of disjoint random micro-batches and the norms behind them, in one pass.

    A few examples are first compared with their gradients alone.

    Parameters
    ----------
    workload : Workload
        The training job; it is not changed.
    examples : int
        How many to draw at most.
    micro_batches : int
        Into how many parts to split them, at least 8.
    seed : int
        Seed of the draw and of the model's own randomness (dropout).
    progress : Progress
        Told after each micro-batch.

    Returns
    -------
    ExampleGradients
        Vectors and squares.

    Raises
    ------
    UnresolvedError
        Fewer than eight examples.
    DataError
        The examples are coupled (BatchNorm), norms differ from those of examples alone, or the
        workload cannot be evaluated.

    Examples
    --------
    >>> from batchsense.training import digits_workload
    >>> found = example_gradients(digits_workload(), examples=64, micro_batches=8)
    >>> found.squares.shape, found.values.shape, found.refused
    ((6, 8), (64,), {})
    """
    if micro_batches < LEAST_GROUPS:
        raise DataError(
            f"{micro_batches} micro-batches are too few; ask for {LEAST_GROUPS} or more"
        )
    population = admitted(workload)
    if population < LEAST_GROUPS:
        raise UnresolvedError(
            f"{population} examples are too few to see how gradients differ",
            f"{LEAST_GROUPS} or more examples",
        )
    order = np.random.default_rng(seed).permutation(population)
    per_example_squared_norms(workload, workload.minibatch(order[:_CHECKED_EXAMPLES]))
    drawn = min(examples, population)
    groups = min(micro_batches, drawn)
    size = drawn // groups
    vectors, parts = [], []
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        with PerExampleNorms(model) as recorder:
            for done, chosen in enumerate(order[: groups * size].reshape(groups, size), start=1):
                minibatch = workload.minibatch(chosen)
                model.zero_grad(set_to_none=True)
                with recorder.watching(size):
                    loss = scalar_loss(workload, model, minibatch)
                try:
                    loss.backward()  # type: ignore[no-untyped-call]
                except RuntimeError as error:
                    raise DataError(f"the backward pass raised {described(error)}") from error
                vectors.append(_flat([p.grad for _, p in trained], [p for _, p in trained]))
                parts.append(recorder.result())
                progress("measuring gradients of single examples", done, groups)
    unknown = np.full(size, np.nan)
    squares = [
        [float(part.by_parameter.get(name, unknown).sum()) for part in parts] for name, _ in trained
    ]
    return ExampleGradients(
        vectors=vectors,
        sizes=np.full(groups, size, dtype=np.int64),
        squares=np.array(squares),
        values=np.concatenate([part.values for part in parts]),
        refused=parts[-1].refused,
    )


def _flat(gradients: list[Tensor | None], parameters: list[torch.nn.Parameter]) -> Tensor:
    """Give all gradients as one vector on the CPU; zeros where the loss ignores a parameter."""
    pairs = zip(gradients, parameters, strict=True)
    dense = [torch.zeros_like(p) if g is None else g.to_dense() for g, p in pairs]
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in dense) else torch.float32
    vector = torch.cat([part.detach().reshape(-1).to("cpu", dtype) for part in dense])
    if not bool(torch.isfinite(vector).all()):
        raise DataError("the gradient is not finite although the loss is; check log(0) or 0/0")
    return vector
