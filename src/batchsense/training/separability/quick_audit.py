"""The audit at the price of three gradients, for those who only want to know if all is well."""

from __future__ import annotations

from dataclasses import dataclass

from batchsense.training.separability.kind.structure import Kind, kind_of
from batchsense.training.separability.preparation import chosen_examples, opened
from batchsense.training.separability.report import Verdict
from batchsense.training.workload import Workload, admitted


@dataclass(frozen=True, slots=True)
class QuickAudit:
    """Whether the average of micro-batch gradients is the gradient of the whole, on one partition.

    Attributes
    ----------
    verdict : str
        ``"yes"``: it is, to rounding. ``"no"``: it is not; whether that is a bias or only noise, a
        full :func:`audit` tells. ``"unresolved"``: random numbers hide it.
    kind : str or None
        What one partition shows: ``"interacting"`` stands for every kind that needs more of them.
    deviation : float
        ‖mean_k g_k − G‖ / ‖G‖.
    tolerance : float
        What counted as zero.
    stochastic : bool
        Whether the loss draws random numbers.
    message : str
        One or two sentences for the user: what was found and what to do.
    cost : float
        Gradients over all examples that it took.
    """

    verdict: Verdict
    kind: Kind | None
    deviation: float
    tolerance: float
    stochastic: bool
    message: str
    cost: float


def quick_audit(
    workload: Workload, *, seed: int = 0, batch_size: int = 64, micro_batch: int = 8
) -> QuickAudit:
    """Ask of a workload whether its loss is a mean of independent terms.

    Costs three gradients over ``batch_size`` examples in float64 (up to a dozen for a loss whose
    random numbers resist). The workload is left as it is, random generators included. Data sets
    smaller than four micro-batches are cut into smaller ones.

    Parameters
    ----------
    workload : Workload
        The training job.
    seed : int
        Seed of the choice of examples and of all random numbers.
    batch_size, micro_batch : int
        Examples at once, and per part.

    Returns
    -------
    QuickAudit
        Verdict, deviation and a message.

    Raises
    ------
    DataError
        The workload cannot be audited: fewer than four examples, a loss that fails, has no
        gradient, keeps state between calls or is not reproducible.
    UnresolvedError
        The gradient vanishes at these parameters.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> def workload(reduce):
    ...     def loss(model, minibatch):
    ...         return reduce(model(minibatch).square())
    ...
    ...     x = torch.randn(64, 3, generator=generator)
    ...     return Workload(torch.nn.Linear(3, 2), loss, x, torch.optim.SGD)
    >>> quick_audit(workload(torch.mean)).verdict
    'yes'
    >>> quick_audit(workload(torch.sum)).kind
    'sum'
    """
    size = max(1, min(micro_batch, admitted(workload) // 4))
    taken = chosen_examples(workload, batch_size, size, seed)
    first = opened(workload, taken, size, "float64", seed)
    cost = first.probe.examples_used / first.probe.count
    deviation, tolerance = first.split.mean_gap, first.screening.tolerance
    stochastic = first.screening.stochastic
    if first.separable:
        message = f"The loss is a mean of independent terms (deviation {deviation:.1e})."
        return QuickAudit("yes", "mean", deviation, tolerance, stochastic, message, cost)
    if not first.exact:
        message = (
            "The loss draws random numbers that hide whether its parts average to the whole; "
            "'batchsense audit' decides by statistics."
        )
        return QuickAudit("unresolved", None, deviation, tolerance, stochastic, message, cost)
    kind = (
        "interacting" if first.screening.order_matters else kind_of([first.split], tolerance).kind
    )
    return QuickAudit(
        "no", kind, deviation, tolerance, stochastic, _message(kind, deviation, size), cost
    )


def _message(kind: Kind, deviation: float, size: int) -> str:
    """Say what one partition showed."""
    if kind == "sum":
        return (
            "The loss is a sum over its examples, not a mean: its gradient grows with the batch "
            "size. Divide it by their number."
        )
    return (
        "The loss is not a mean of independent terms: the average gradient of micro-batches of "
        f"{size} differs by {deviation:.2g}·|G| from that of the whole. 'batchsense audit' tells "
        "why, whether it is a bias, and how to repair it."
    )
