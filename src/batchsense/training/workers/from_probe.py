"""Predict steps from a probe: the white box, whose parts were measured one by one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.training.workers.prediction import (
    LEVEL,
    Comparison,
    StepConfiguration,
    StepPrediction,
    Verdict,
    verdict_of,
)
from batchsense.training.workers.probing.compute import Compute, fit_compute
from batchsense.training.workers.probing.link import (
    Link,
    fit_link,
    given_link,
    told_classes,
)
from batchsense.training.workers.probing.overlap import Exchange, step_seconds
from batchsense.training.workers.probing.readings import Probe
from batchsense.variation.interval import Interval

#: Standard deviation of log(measured / predicted) that is allowed for in every prediction: raw
#: repeats know nothing of what the law leaves out. Of the steps of the network laboratory
#: (benchmarks/netlab) nine in ten lay within twice of it.
_MODEL_ERROR = 0.04
#: Standard errors to each side of an interval at LEVEL.
_REACH = 1.2816
#: Beyond this multiple of the workers that were measured a prediction is flagged.
_FAR_WORKERS = 2
#: Local steps of all workers at once over those of one alone, from which they disturb each other.
_DISTURBED = 1.15


@dataclass(frozen=True, slots=True, eq=False)
class WhiteBox:
    """The fitted parts of a probe."""

    probe: Probe  #: What was measured.
    compute: dict[int, Compute]  #: By the number of workers that computed at once.
    links: tuple[Link, ...]  #: Those that the readings do not exclude; empty for one worker.
    #: By each number of workers whose exchange was measured, that of its own readings.
    measured: dict[int, Link]
    exchange: Exchange  #: The real buckets.
    #: Standard deviation of the log of measured over predicted seconds.
    model_error: float = _MODEL_ERROR

    def compute_of(self, workers: int) -> Compute:
        """Local steps where so many workers compute at once; of all where it was not measured."""
        return self.compute.get(workers, self.compute[max(self.compute)])

    @property
    def disturbance(self) -> float:
        """Local steps of all workers at once over those of one alone, at the larger micro-batch."""
        alone, together = self.compute[min(self.compute)], self.compute[max(self.compute)]
        size = together.largest
        return float(together.step_seconds(size)[0] / alone.step_seconds(size)[0])

    def seconds(
        self, configuration: StepConfiguration, link: Link | None, exchange: Exchange | None = None
    ) -> Floats:
        """Seconds of a step, each draw."""
        compute = self.compute_of(configuration.workers)
        if link is None:  # one worker
            link = given_link(bytes_per_second=math.inf, round_seconds=0.0, kind="switched")
        return step_seconds(
            compute,
            link,
            exchange or self.exchange,
            configuration.workers,
            configuration.micro_batch,
            configuration.accumulation,
        )

    def interval(self, draws: Floats, errors: float = 1.0) -> Interval:
        """The interval of seconds, or of a ratio with ``errors`` times the error of one step."""
        logs = np.log(draws)
        low, high = np.quantile(logs, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        reach = _REACH * self.model_error * errors
        centre = logs[0]
        return Interval(
            float(np.exp(centre)),
            float(np.exp(centre - np.hypot(max(centre - low, 0.0), reach))),
            float(np.exp(centre + np.hypot(max(high - centre, 0.0), reach))),
            LEVEL,
        )


def fit_white_box(probe: Probe, *, seed: int = 0) -> WhiteBox:
    """Fit the parts of a probe.

    Real steps of the probe, if there are any, raise the error of the model to their own distance
    from what the parts predict.

    Raises UnresolvedError: a single micro-batch, or an exchange of a single size.
    """
    compute = fit_compute(probe.compute, seed=seed)
    links: tuple[Link, ...] = ()
    measured = {}
    if probe.allreduce:
        kinds = told_classes(probe.allreduce)
        links = tuple(fit_link(probe.allreduce, kind, seed=seed) for kind in kinds)
        for workers in sorted({reading.workers for reading in probe.allreduce}):
            rows = [reading for reading in probe.allreduce if reading.workers == workers]
            measured[workers] = fit_link(rows, kinds[0], seed=seed)
    box = WhiteBox(probe, compute, links, measured, Exchange(probe.buckets))
    off = [
        abs(math.log(float(np.median(step.seconds)) / predicted))
        for step, predicted in zip(probe.steps, checked_seconds(box), strict=True)
    ]
    return replace(box, model_error=max(_MODEL_ERROR, *off, 0.0))


def checked_seconds(box: WhiteBox) -> tuple[float, ...]:
    """What the parts predict of each real step of the probe."""
    return tuple(
        float(
            box.seconds(
                StepConfiguration(1, step.workers, step.micro_batch),
                links_for(box, step.workers)[0],
            )[0]
        )
        for step in box.probe.steps
    )


def predict_from_probe(
    probe: Probe | WhiteBox, configurations: Sequence[StepConfiguration]
) -> tuple[StepPrediction, ...]:
    """Predict the seconds of steps, in the order of the configurations.

    Where the probe cannot tell a shared link from a switched one, and the answers differ, the
    interval reaches over both and the flag ``link_class_unknown`` says so.

    Parameters
    ----------
    probe : Probe or WhiteBox
        What was measured, or its fit.
    configurations : sequence of StepConfiguration
        Of which steps.

    Returns
    -------
    tuple of StepPrediction
        With 80 % intervals and flags of :data:`~batchsense.training.workers.FLAGS`.

    Raises
    ------
    UnresolvedError
        Several workers are asked about, and the probe measured no exchange.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> from batchsense.training.workers import measure_probe
    >>> probe = measure_probe(load_target("digits"), seconds=0.1)
    >>> (alone,) = predict_from_probe(probe, [StepConfiguration(1, 1, 16)])
    >>> 0 < alone.seconds.low < alone.seconds.high, alone.flags
    (True, ())
    """
    box = probe if isinstance(probe, WhiteBox) else fit_white_box(probe)
    return tuple(_predicted(box, configuration) for configuration in configurations)


def links_for(box: WhiteBox, workers: int) -> tuple[Link | None, ...]:
    """The links that a number of workers may have: for those measured, their own readings.

    One worker has none, which is one way to have a link.

    Raises UnresolvedError: the probe measured no exchange.
    """
    if workers == 1:
        return (None,)
    if not box.links:
        raise UnresolvedError(
            f"the probe ran with one worker and says nothing of the exchange between {workers}",
            f"a probe under torchrun: torchrun --nproc_per_node {min(workers, 4)} -m batchsense "
            f"probe {box.probe.target} -o probe.json",
        )
    if workers in box.measured:
        return (box.measured[workers],)
    return box.links


def _predicted(box: WhiteBox, configuration: StepConfiguration) -> StepPrediction:
    links = links_for(box, configuration.workers)
    found = [box.interval(box.seconds(configuration, link)) for link in links]
    flags = list(_flags(box, configuration))
    centres = [one.estimate for one in found]
    # Where the exchange is hidden or small, both classes predict the same: no flag.
    if math.log(max(centres) / min(centres)) > box.model_error:
        flags.append("link_class_unknown")
    return StepPrediction(configuration, joined(found), tuple(flags))


def joined(intervals: Sequence[Interval]) -> Interval:
    """An interval over several, with the middle of their estimates by ratio.

    >>> joined([Interval(1.0, 0.9, 1.1, 0.8), Interval(4.0, 3.0, 5.0, 0.8)])
    Interval(estimate=2.0, low=0.9, high=5.0, level=0.8)
    """
    centres = [one.estimate for one in intervals]
    return Interval(
        math.sqrt(min(centres) * max(centres)),
        min(one.low for one in intervals),
        max(one.high for one in intervals),
        LEVEL,
    )


def _flags(box: WhiteBox, configuration: StepConfiguration) -> Sequence[str]:
    probe, compute = box.probe, box.compute_of(configuration.workers)
    size, workers = configuration.micro_batch, configuration.workers
    possible = {
        "workers_beyond": workers > _FAR_WORKERS * probe.workers,
        "micro_batch_outside": not compute.smallest / 2 <= size <= 2 * compute.largest,
        "regime_unmeasured": workers > 1 and (configuration.nodes > 1) != (probe.nodes > 1),
        "workers_disturb": workers not in (1, probe.workers) and box.disturbance > _DISTURBED,
    }
    return [code for code, holds in possible.items() if holds]


def compare_from_probe(
    probe: Probe | WhiteBox, first: StepConfiguration, second: StepConfiguration
) -> Comparison:
    """Whether the second configuration takes longer for the same number of examples.

    Decided only where the 80 % interval of the ratio of seconds per example has one side of 1, for
    every link that the probe does not exclude.

    Raises UnresolvedError: as :func:`predict_from_probe`.
    """
    box = probe if isinstance(probe, WhiteBox) else fit_white_box(probe)
    verdicts: set[Verdict] = set()
    for links in _pairs(links_for(box, first.workers), links_for(box, second.workers)):
        per_example = [
            box.seconds(one, link) / one.batch_size
            for one, link in zip((first, second), links, strict=True)
        ]
        # The errors of two steps of one model: as if they were independent, which errs on the
        # side of "undecided".
        ratio = box.interval(per_example[1] / per_example[0], math.sqrt(2))
        verdicts.add(verdict_of(ratio))
    return Comparison(first, second, verdicts.pop() if len(verdicts) == 1 else "undecided")


def _pairs(
    first: tuple[Link | None, ...], second: tuple[Link | None, ...]
) -> Iterable[tuple[Link | None, Link | None]]:
    """What two steps may have as links; where both are open, they are of one class."""
    if len(first) == len(second):
        return zip(first, second, strict=True)
    return product(first, second)
