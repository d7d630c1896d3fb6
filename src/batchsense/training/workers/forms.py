r"""Four forms of the time of a step: how compute and the exchange of gradients add up or overlap.

With :math:`C = c_0 + c_1 b` the compute of one pass over b examples, K workers on N nodes,
:math:`G = K/N`, and :math:`p(a, x)` between the sum and the larger of two times,

.. math::

    \text{ring} &: p(C, R), \quad R = 2(K-1)\,a + 2\tfrac{K-1}{K}\,w

    \text{no overlap} &: C + R

    \text{split} &: C/3 + p(2C/3, R) + o

    \text{hierarchical} &: p\bigl(C, 2(G-1)\,a_r + 2\tfrac{G-1}{G}\,w_r
        + [a_n \log_2 N + 2\tfrac{N-1}{N}\,w_n](1 + h(G-1))\bigr)

where *a* (seconds a message) and *w* (seconds for all gradients) are those between nodes if there
are several, else those within one. Between two nodes alone both are multiplied by a factor of
their own. Gradients are exchanged in the last pass only: A passes take (A−1)·C more.

References
----------
Thakur, Rabenseifner, Gropp (2005), "Optimization of collective communication operations in MPICH";
Qiao et al. (2021), "Pollux", OSDI.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchsense.arrays import Floats
from batchsense.training.workers.prediction import StepConfiguration


@dataclass(frozen=True, slots=True)
class Spread:
    """Configurations as columns."""

    #: As in :class:`~batchsense.training.workers.StepConfiguration`; shape (configurations,).
    nodes: Floats
    workers: Floats
    per_node: Floats
    micro_batch: Floats
    passes: Floats
    #: By how much every message takes longer than the parameters say; shape (..., configurations).
    slower_links: float | Floats = 1.0

    @classmethod
    def of(cls, configurations: Sequence[StepConfiguration]) -> Spread:
        """Turn configurations into columns.

        >>> Spread.of([StepConfiguration(2, 8, 32)]).per_node
        array([4.])
        """
        rows = [
            (one.nodes, one.workers, one.per_node, one.micro_batch, one.accumulation)
            for one in configurations
        ]
        return cls(*np.array(rows, dtype=float).reshape(-1, 5).T)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the time of a step."""

    name: str  #: As published.
    #: Its parameters in order; ``s`` is the logit of how sharply times overlap, all others are
    #: logarithms.
    parameters: tuple[str, ...]
    #: Takes the compute of the last pass and parameters by name (logarithms undone), gives the
    #: seconds of that pass with the exchange of gradients.
    exchange: Callable[[Floats, dict[str, Floats], Spread], Floats]

    def seconds(self, theta: Floats, spread: Spread) -> Floats:
        """Seconds of a step, of shape (..., configurations), for parameters (..., parameters).

        >>> theta = np.log([0.01, 0.001, 0.002, 0.1, 0.001, 0.05, 1.0])
        >>> spread = Spread.of([StepConfiguration(1, 1, 90), StepConfiguration(2, 2, 90)])
        >>> FORMS["no overlap"].seconds(theta, spread).round(4).tolist()  # .1, and .1 + .104
        [0.1, 0.204]
        """
        columns = np.moveaxis(theta, -1, 0)[..., None]
        named = {
            name: value if name == "s" else np.exp(np.clip(value, -_LARGEST, _LARGEST))
            for name, value in zip(self.parameters, columns, strict=True)
        }
        compute = named["c0"] + named["c1"] * spread.micro_batch
        links = spread.slower_links * np.where(spread.nodes == 2, named["two"], 1.0)
        last = self.exchange(compute, named, replace(spread, slower_links=links))
        seconds: Floats = (spread.passes - 1) * compute + last
        return seconds


#: Logarithms beyond are as good as infinite or none; a search that strays must not overflow.
_LARGEST = 60.0


def _overlapped(one: Floats, other: Floats, logit: Floats) -> Floats:
    """Between the sum (sharpness 1) and the larger (sharpness 10) of two times."""
    sharpness = 1 + 9 / (1 + np.exp(-np.clip(logit, -_LARGEST, _LARGEST)))
    most = np.maximum(one, other)
    least = np.minimum(one, other)
    together: Floats = most * (1 + (least / most) ** sharpness) ** (1 / sharpness)
    return together


def _ring_seconds(named: dict[str, Floats], spread: Spread) -> Floats:
    """Seconds of a ring all-reduce over the slower of the links it crosses."""
    between = spread.nodes > 1
    message = np.where(between, named["a_between"], named["a_within"])
    gradients = np.where(between, named["w_between"], named["w_within"])
    rounds = 2 * (spread.workers - 1)
    once: Floats = rounds * message + rounds / spread.workers * gradients
    return once * spread.slower_links


def _ring(compute: Floats, named: dict[str, Floats], spread: Spread) -> Floats:
    return _overlapped(compute, _ring_seconds(named, spread), named["s"])


def _no_overlap(compute: Floats, named: dict[str, Floats], spread: Spread) -> Floats:
    together: Floats = compute + _ring_seconds(named, spread)
    return together


def _split(compute: Floats, named: dict[str, Floats], spread: Spread) -> Floats:
    # A backward pass costs about twice the forward pass, and only it can hide the exchange.
    behind = _overlapped(2 * compute / 3, _ring_seconds(named, spread), named["s"])
    return compute / 3 + behind + named["o"] * (spread.workers > 1)


def _hierarchical(compute: Floats, named: dict[str, Floats], spread: Spread) -> Floats:
    nodes, beside = spread.nodes, spread.per_node - 1
    within = 2 * beside * named["a_within"] + 2 * beside / spread.per_node * named["w_within"]
    between = named["a_between"] * np.log2(nodes) + 2 * (nodes - 1) / nodes * named["w_between"]
    exchange = (within + between * (1 + named["h"] * beside)) * spread.slower_links
    return _overlapped(compute, exchange, named["s"])


_LINKS = ("a_between", "w_between", "a_within", "w_within", "two")
FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form("ring", ("c0", "c1", *_LINKS, "s"), _ring),
        Form("split", ("c0", "c1", *_LINKS, "o", "s"), _split),
        Form("hierarchical", ("c0", "c1", *_LINKS, "h", "s"), _hierarchical),
        Form("no overlap", ("c0", "c1", *_LINKS), _no_overlap),
    )
}
