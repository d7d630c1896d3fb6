"""What a set of measured steps covers, and what of a configuration lies outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.errors import UnresolvedError
from batchsense.training.workers.prediction import StepConfiguration

#: What a flag means, by its code.
FLAGS = {
    "links_unmeasured": "nothing was measured over links of this kind",
    "regime_unmeasured": "this kind of spread was not measured: one node, two nodes, or more",
    "nodes_beyond": "more than twice the nodes that were measured",
    "workers_beyond": "more than twice the workers that were measured",
    "micro_batch_outside": "a micro-batch less than half the smallest, or more than twice the "
    "largest, that was measured",
    "link_class_unknown": "the probe cannot tell a shared link from a switched one, and the "
    "interval reaches over both",
    "workers_disturb": "workers of one machine slow each other down, by another factor for another "
    "number of them",
}
#: How far beyond what was measured a prediction stands without a flag. At 4 a few predictions of
#: public tables were off by 72 % without one, at 2 the worst was off by 38 %.
_TRUSTED_BEYOND = 2
#: Fewer configurations than this leave the forms open: with 4 the error was 69 %.
FEWEST = 5
#: One standard deviation of what a kind of spread that was not measured takes beside its measured
#: neighbour, as a factor: a switch and a shared medium differ twofold from 4 workers on, and
#: between two nodes single connections have taken up to 2.1 times as long.
REGIME_FACTOR = 2.0
#: The same where no link of the kind was measured at all.
_LINKS_FACTOR = 10.0


def regime(configuration: StepConfiguration) -> str:
    """The kind of spread: which links the gradients cross.

    Two nodes are a kind of their own: their times lie on no line with three and more.

    >>> regime(StepConfiguration(1, 4, 8)), regime(StepConfiguration(3, 3, 8))
    ('one node', 'several nodes')
    """
    if configuration.workers == 1:
        return "one worker"
    return {1: "one node", 2: "two nodes"}.get(configuration.nodes, "several nodes")


@dataclass(frozen=True, slots=True)
class MeasuredRange:
    """What was measured."""

    regimes: frozenset[str]  #: Kinds of spread; see :func:`regime`.
    #: The largest.
    most_nodes: int
    most_workers: int
    most_per_node: int
    micro_batches: tuple[int, int]  #: The smallest and the largest.
    configurations: int  #: How many.

    @classmethod
    def of(cls, configurations: Sequence[StepConfiguration]) -> MeasuredRange:
        """Look what configurations cover.

        Raises UnresolvedError: fewer than five, or none with one worker or with several: what is
        still needed.

        >>> MeasuredRange.of([StepConfiguration(1, 1, 8)])
        Traceback (most recent call last):
        batchsense.errors.UnresolvedError: 1 configuration was measured, ...
        """
        sizes = [one.micro_batch for one in configurations]
        found = cls(
            frozenset(regime(one) for one in configurations),
            max(one.nodes for one in configurations),
            max(one.workers for one in configurations),
            max(int(np.ceil(one.per_node)) for one in configurations),
            (min(sizes), max(sizes)),
            len(configurations),
        )
        found._check(configurations)
        return found

    def _check(self, configurations: Sequence[StepConfiguration]) -> None:
        if self.configurations < FEWEST:
            many = self.configurations > 1
            said = f"{self.configurations} configuration{'s were' if many else ' was'} measured, "
            reason = f"{said}and fewer than {FEWEST} fit almost any form"
        elif "one worker" not in self.regimes:
            reason = (
                "no step with one worker was measured, so compute cannot be told from the exchange "
                "of gradients"
            )
        elif self.regimes == {"one worker"}:
            reason = "no step with several workers was measured, so nothing is known of the links"
        else:
            return
        have = {(one.nodes, one.workers, one.micro_batch) for one in configurations}
        missing = [one for one in self.advised() if one not in have]
        if "one worker" not in self.regimes:
            missing = missing[:1]
        needed = max(FEWEST - self.configurations, 1)
        raise UnresolvedError(reason, measurements(missing[:needed]))

    def advised(self) -> list[tuple[int, int, int]]:
        """Where measuring tells most: nodes, workers and micro-batch, the first ones first.

        One worker, the full node, four nodes with one worker each, four full nodes; each with a
        small and a large micro-batch. Which rows are measured mattered more than the form.
        """
        low, high = self.micro_batches
        high = high if high > low else 4 * low
        per_node = max(self.most_per_node, 2 if self.most_nodes == 1 else 1)
        several = max(self.most_nodes, 4)
        spreads = [(1, 1), (1, per_node), (several, several), (several, several * per_node)]
        distinct = dict.fromkeys(spreads)
        return [(nodes, workers, size) for nodes, workers in distinct for size in (low, high)]

    def flags(self, configuration: StepConfiguration) -> tuple[str, ...]:
        """Codes of what makes a prediction doubtful; their words are in ``FLAGS``."""
        found = []
        kind = regime(configuration)
        if self.slower_by(configuration) > REGIME_FACTOR:
            found.append("links_unmeasured")
        elif kind not in self.regimes:
            found.append("regime_unmeasured")
        if configuration.nodes > _TRUSTED_BEYOND * self.most_nodes:
            found.append("nodes_beyond")
        if configuration.workers > _TRUSTED_BEYOND * self.most_workers:
            found.append("workers_beyond")
        low, high = self.micro_batches
        if not low <= _TRUSTED_BEYOND * configuration.micro_batch <= _TRUSTED_BEYOND**2 * high:
            found.append("micro_batch_outside")
        return tuple(found)

    def slower_by(self, configuration: StepConfiguration) -> float:
        """One standard deviation, as a factor, of what is unknown of the links; 1 if measured."""
        kind = regime(configuration)
        if kind in self.regimes or kind == "one worker":
            return 1.0
        if kind != "one node" and self.regimes & {"two nodes", "several nodes"}:
            return REGIME_FACTOR
        return _LINKS_FACTOR


def measurements(rows: Sequence[tuple[int, int, int]]) -> str:
    """Configurations to measure, in words.

    >>> measurements([(1, 1, 8), (4, 4, 8)])
    'steps of nodes=1, workers=1, micro_batch=8; nodes=4, workers=4, micro_batch=8'
    """
    named = (f"nodes={n}, workers={k}, micro_batch={b}" for n, k, b in rows)
    return f"steps of {'; '.join(named)}"
