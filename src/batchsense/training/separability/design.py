"""How much an audit measures, and what it calls safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.training.separability.kind.mean_length import LEAST_REPETITIONS


@dataclass(frozen=True, slots=True, eq=False)
class AuditDesign:
    """How much an audit measures, and what it calls safe.

    Attributes
    ----------
    micro_batch : int
        Examples per part.
    batch_size : int
        Examples of a workload to audit at once, rounded down to a multiple of ``micro_batch``;
        at least four micro-batches.
    partitions : int
        Random partitions for kind and bias, at least 6. With 24 a bias of 2 % of the gradient was
        found in every audit of the prototype, with 12 in a quarter of some.
    alpha : float
        Level of the test for a bias; the ends of its interval have confidence 1 − alpha.
    bias_tolerance : float
        Relative bias that is called safe where no bias is detected; 1 % is a judgement.
    world_size : int
        Processes for the prediction of DDP.
    precision : str
        ``"float64"``, ``"float32"`` or ``"bfloat16"``.
    normalisers : mapping, optional
        Further candidates for what a ratio divides by: functions of a minibatch, by name.
    terms : mapping, optional
        The terms of the loss by name, each ``term(model, minibatch)``; those that are no means are
        named among the sources.

    Raises
    ------
    DataError
        A field cannot give an answer.
    """

    micro_batch: int = 8
    batch_size: int = 64
    partitions: int = 24
    alpha: float = 0.01
    bias_tolerance: float = 0.01
    world_size: int = 2
    precision: str = "float64"
    normalisers: Mapping[str, Callable[[Any], float]] | None = None
    terms: Mapping[str, Callable[[nn.Module, Any], Tensor]] | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot give an answer."""
        if self.partitions < LEAST_REPETITIONS:
            raise DataError(
                f"{self.partitions} cannot show a bias; give at least {LEAST_REPETITIONS}",
                where="partitions",
            )
        if not 0 < self.alpha < 0.5:
            raise DataError(f"{self.alpha} is not between 0 and 0.5", where="alpha")
        if not self.bias_tolerance > 0:
            raise DataError(f"{self.bias_tolerance} is not positive", where="bias_tolerance")
        if self.world_size < 2:
            raise DataError(f"{self.world_size} is fewer than two processes", where="world_size")


class DesignFields(TypedDict, total=False):
    """The fields of :class:`AuditDesign` that :func:`audit` takes by keyword."""

    batch_size: int
    partitions: int
    alpha: float
    bias_tolerance: float
    world_size: int
    precision: str
    normalisers: Mapping[str, Callable[[Any], float]] | None
    terms: Mapping[str, Callable[[nn.Module, Any], Tensor]] | None
