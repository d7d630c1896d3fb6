"""The result: squared gradient norms of single examples, and of their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Squared gradient norms of n examples, in float64.

    With Q = ``mean_squared_norm`` and A = ``squared_mean_norm`` the unbiased estimates of noise and
    signal are τ̂ = n(Q − A)/(n − 1) and γ̂ = (nA − Q)/(n − 1).

    >>> norms = Norms(
    ...     parameters=("0.weight", "0.bias"),
    ...     parts=np.array([[3.0, 2.0], [1.0, 0.0]]),
    ...     mean_parts=np.array([2.0, 0.25]),
    ...     sizes=(2,),
    ...     covered=1.0,
    ... )
    >>> norms.values
    array([4., 2.])
    >>> norms.examples, norms.mean_squared_norm, norms.squared_mean_norm
    (2, 3.0, 2.25)
    """

    #: Names of the parameters that were measured. A shared one has the first of its names.
    parameters: tuple[str, ...]
    parts: Floats  #: What each parameter adds to :math:`|g_i|^2`; shape (parameters, n).
    #: What each parameter adds to :math:`|\bar g|^2`. None if several passes were recorded without
    #: ``accumulate=True``; shape (parameters,).
    mean_parts: Floats | None
    #: Examples in each recorded pass; they follow one another in ``values``.
    sizes: tuple[int, ...]
    covered: float  #: Share of the trained numbers whose norms come from the backward pass itself.
    #: Parameters whose per-example gradients were formed one by one.
    fallback: tuple[str, ...] = ()
    #: Parameters left out, with the reason. Empty when ``values`` is complete.
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def examples(self) -> int:
        """The number of examples, n."""
        return int(self.parts.shape[1])

    @property
    def values(self) -> Floats:
        r""":math:`|g_i|^2` over all measured parameters, of shape (n,)."""
        return np.asarray(self.parts.sum(axis=0))

    @property
    def by_parameter(self) -> dict[str, Floats]:
        """The parts of ``values``, each of shape (n,), by parameter name."""
        return dict(zip(self.parameters, self.parts, strict=True))

    @property
    def mean_squared_norm(self) -> float:
        """Q, the mean over the examples of their squared norms."""
        return float(self.parts.sum()) / self.examples

    @property
    def squared_mean_norm(self) -> float:
        """A, the squared norm of the mean gradient over all n examples.

        Raises DataError: several passes were recorded and their mean gradient was not kept.
        """
        return float(self._kept_mean().sum())

    def sums(self, names: Sequence[str], last: int | None = None) -> Floats:
        """Return Σ |gᵢ|² of the named parameters, NaN where unknown.

        Over all examples, or the ``last`` ones recorded.
        """
        seen = self.parts if last is None else self.parts[:, -last:]
        found = dict(zip(self.parameters, seen.sum(axis=1).tolist(), strict=True))
        return np.array([found.get(name, np.nan) for name in names])

    def joined(self, names: tuple[str, ...], parts: Floats, mean_parts: Floats) -> Norms:
        """Return the norms with those of parameters that were formed one by one, as one pass."""
        own = self._kept_mean()
        return Norms(
            parameters=self.parameters + names,
            parts=np.concatenate([self.parts, parts]),
            mean_parts=np.concatenate([own, mean_parts]),
            sizes=(self.examples,),
            covered=self.covered,
            fallback=names,
        )

    def _kept_mean(self) -> Floats:
        if self.mean_parts is None:
            raise DataError(
                f"{len(self.sizes)} passes were recorded, and the mean gradient over all of them "
                "was not kept; use PerExampleNorms(..., accumulate=True)"
            )
        return self.mean_parts
