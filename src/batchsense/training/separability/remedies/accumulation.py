"""Remedies for losses that can be split exactly: the right scale for every micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from batchsense.arrays import Floats
from batchsense.errors import DataError, UnresolvedError
from batchsense.training.separability.kind.normalisers import Normaliser, weighed
from batchsense.training.separability.report import Kind, SeparabilityReport

#: Sums a number over all processes.
AllReduce = Callable[[float], float]


@dataclass(frozen=True, slots=True, eq=False)
class Accumulation:
    """How to put the gradient of a minibatch together from micro-batches, exactly.

    Multiply the loss of micro-batch k by its scale before ``backward()``, and nothing else: no
    further division by the number of micro-batches.

    Attributes
    ----------
    kind : str
        mean, sum or ratio.
    normaliser : str
        What the weights count.

    Examples
    --------
    >>> plan = Accumulation("mean", "examples", lambda minibatch: float(len(minibatch)))
    >>> plan.scales([torch.zeros(6, 2), torch.zeros(2, 2)])
    array([0.75, 0.25])
    """

    kind: Kind
    normaliser: str
    _weight: Normaliser
    _additive: bool = True

    @property
    def needs_whole(self) -> bool:
        """Whether the weights of the parts do not add up, so that all examples are collated."""
        return self.kind == "ratio" and not self._additive

    def scales(self, micro_batches: Sequence[Any], *, whole: Any = None) -> Floats:
        """The scale of each micro-batch: n_k/n, 1, or w_k/W.

        Parameters
        ----------
        micro_batches : sequence
            All collated micro-batches of one optimizer step; labels suffice, the model is not
            run.
        whole : object, optional
            The collated whole, needed where W is not the sum of the w_k (padding to the longest).

        Returns
        -------
        array of shape (micro_batches,)
            One factor each.

        Raises
        ------
        DataError
            There is nothing to count, or ``whole`` is needed.
        """
        weights, total = self._weighed(micro_batches, whole)
        return weights / total if self.kind != "sum" else np.ones(len(weights))

    def ddp_scales(
        self,
        micro_batches: Sequence[Any],
        world_size: int,
        all_reduce: AllReduce | None = None,
        *,
        whole: Any = None,
    ) -> Floats:
        """The scales for one process of DistributedDataParallel, which averages gradients.

        The scale is w_k · world_size / W with W summed over the micro-batches of *all* processes;
        it undoes the average. A backend that adds gradients needs ``world_size=1`` here.

        Parameters
        ----------
        micro_batches : sequence
            This process's micro-batches of one optimizer step.
        world_size : int
            How many processes DDP averages over.
        all_reduce : callable, optional
            Sums a number over all processes; ``torch.distributed.all_reduce`` by default.
        whole : object, optional
            The collated examples of all processes, where W is no sum.

        Returns
        -------
        array of shape (micro_batches,)
            One factor each.
        """
        if world_size < 1:
            raise DataError(f"{world_size} is fewer than one process", where="world_size")
        if self.kind == "sum":
            return np.full(len(micro_batches), float(world_size))
        weights, total = self._weighed(micro_batches, whole, reduced=whole is None)
        if whole is None:
            total = (all_reduce or summed_over_processes)(total)
        if total == 0:
            raise DataError(_NOTHING.format(self.normaliser), where="micro_batches")
        return weights * world_size / total

    def _weighed(
        self, micro_batches: Sequence[Any], whole: Any, reduced: bool = False
    ) -> tuple[Floats, float]:
        if len(micro_batches) == 0:
            raise DataError("there are none", where="micro_batches")
        weights = np.array([weighed(self._weight, part, self.normaliser) for part in micro_batches])
        if whole is not None:
            total = weighed(self._weight, whole, self.normaliser)
        elif self._additive:
            total = float(weights.sum())
        else:
            raise DataError(
                f"{self.normaliser} of the whole is not the sum over its parts; give "
                "whole=collate(all examples of the step)",
                where="whole",
            )
        if total == 0 and not reduced and self.kind != "sum":
            raise DataError(_NOTHING.format(self.normaliser), where="micro_batches")
        if self.kind == "ratio":
            # A loss that survives an empty micro-batch divides by 1 there.
            weights = np.where(weights == 0, 1.0, weights)
        return weights, total


_NOTHING = "{} is zero for the whole step: nothing to average"


def accumulate(report: SeparabilityReport) -> Accumulation:
    """Derive the exact way to accumulate the gradient of an audited loss.

    Parameters
    ----------
    report : SeparabilityReport
        What :func:`audit` found.

    Returns
    -------
    Accumulation
        Its ``scales`` for gradient accumulation and ``ddp_scales`` for several processes.

    Raises
    ------
    UnresolvedError
        No fixed scales exist (composite, interacting), or the normaliser has no name yet.

    Examples
    --------
    >>> from batchsense.training.separability import audit
    >>> generator = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(32, 3, generator=generator), torch.arange(32) % 2
    >>> def loss(model, b):
    ...     weight = torch.tensor([1.0, 9.0])
    ...     return torch.nn.functional.cross_entropy(model(b[0]), b[1], weight=weight)
    >>> plan = accumulate(audit(loss, torch.nn.Linear(3, 2), (x, y), partitions=6))
    >>> plan.scales([(x[:1], y[:1]), (x[1:2], y[1:2])])
    array([0.1, 0.9])
    """
    if report.kind == "mean" and report.verdict != "yes":
        raise UnresolvedError("the audit did not establish a mean of independent terms")
    if report.kind == "sum":
        return Accumulation("sum", "none", lambda minibatch: 1.0)
    normaliser = report.normaliser
    if report.kind not in ("mean", "ratio"):
        raise UnresolvedError(
            f"a loss of kind {report.kind!r} has no fixed scales",
            needed=report.fix[0].lower() + report.fix[1:].rstrip("."),
        )
    if normaliser is None or normaliser.weight is None:
        name = "the normaliser" if normaliser is None else normaliser.name
        raise UnresolvedError(
            f"{name} cannot be read off a collated minibatch",
            needed="scale micro-batch k by w_k/W yourself, with the weights that you know",
        )
    return Accumulation(report.kind, normaliser.name, normaliser.weight, normaliser.additive)


def summed_over_processes(number: float) -> float:
    """Sum a number over all processes of the default process group.

    Raises DataError: there is no process group.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        raise DataError(
            "torch.distributed is not initialised; call init_process_group, or give a function "
            "that sums a number over the processes",
            where="all_reduce",
        )
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(number, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(total)
    return float(total)
