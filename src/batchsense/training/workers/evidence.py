"""What is known about the steps of a job, whichever way it was learned: a table or a probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from batchsense.notes import Note
from batchsense.training.workers.ensemble import StepModel
from batchsense.training.workers.prediction import (
    Comparison,
    StepConfiguration,
    StepPrediction,
)
from batchsense.training.workers.range import measurements, regime
from batchsense.training.workers.turning_point import TurningPoint, turning_point
from batchsense.variation.interval import Interval

Pairs = Sequence[tuple[StepConfiguration, StepConfiguration]]
#: How many passes the lever of accumulation puts between two exchanges.
_PASSES = 4


@dataclass(frozen=True, slots=True)
class Lever:
    """Something that would change the time of a step."""

    name: str  #: Its code.
    words: str  #: What is done, in a phrase.
    configuration: StepConfiguration  #: The step with it.
    seconds: Interval  #: Wall time of the step with it.
    ratio: Interval  #: Seconds per example with it over those without.
    option: str = ""  #: How ``batchsense train`` is told, where it can be.


@dataclass(frozen=True, slots=True)
class StepEvidence:
    """What predicts steps, and how it was learned."""

    #: Takes configurations, gives a :class:`StepPrediction` of each.
    predict: Callable[[Sequence[StepConfiguration]], tuple[StepPrediction, ...]]
    #: Takes pairs of configurations, gives a :class:`Comparison` of each.
    compare: Callable[[Pairs], tuple[Comparison, ...]]
    #: Takes a configuration, gives what would change its time.
    levers: Callable[[StepConfiguration], tuple[Lever, ...]]
    #: Takes a batch size, gives where more workers stop paying; None if nothing tells.
    turning: Callable[[int], TurningPoint] | None
    #: Steps that were measured, with their seconds.
    measured: tuple[tuple[StepConfiguration, float], ...]
    per_node: int  #: The most workers on a node that was measured.
    #: What the predictions rest on, with weights that add up to one.
    forms: tuple[tuple[str, float], ...]
    described: str  #: What was measured, in a phrase.
    #: Takes predictions, gives what measuring next would make firm, or None.
    needed: Callable[[Sequence[StepPrediction]], str | None]
    #: Takes the batch size and the most workers asked about, gives what else is certain.
    remarks: Callable[[int, int], tuple[Note, ...]] = lambda batch_size, workers: ()


def evidence_from_steps(model: StepModel) -> StepEvidence:
    """What a table of measured steps tells."""
    names = list(dict.fromkeys(fit.form.name for fit in model.draws))
    table = model.table
    count = len(table.configurations)
    repeated = "" if table.rows == count else f" in {table.rows:,} rows"
    return StepEvidence(
        predict=model.predict,
        compare=model.compare,
        levers=lambda configuration: step_levers(model, configuration),
        turning=lambda batch_size: turning_point(model, batch_size),
        measured=tuple(zip(table.configurations, table.seconds.tolist(), strict=True)),
        per_node=model.measured.most_per_node,
        forms=tuple((name, 1 / len(names)) for name in names),
        described=f"{count:,} configurations{repeated}",
        needed=lambda predictions: _needed(model, predictions),
    )


def step_levers(model: StepModel, configuration: StepConfiguration) -> tuple[Lever, ...]:
    """What would change the time of a step, each with the same model and the same draws.

    >>> from batchsense.training.workers import StepTable, fit_steps
    >>> rows = [StepConfiguration(1, k, b) for k in (1, 2, 4) for b in (8, 64)]
    >>> times = [0.02 + 0.001 * row.micro_batch + 0.3 * (row.workers > 1) for row in rows]
    >>> model = fit_steps(StepTable.of(list(zip(rows, times))))
    >>> [lever.name for lever in step_levers(model, rows[-1]) if lever.ratio.high < 1]
    ['half_the_bytes', 'faster_links', 'accumulation', 'larger_micro_batch']
    """
    if configuration.workers == 1:
        return ()
    passes = replace(configuration, accumulation=_PASSES * configuration.accumulation)
    larger = replace(configuration, micro_batch=2 * configuration.micro_batch)
    tried = (
        (
            "half_the_bytes",
            "gradients sent in half the bytes (fp16; over NCCL also bf16)",
            configuration,
            0.5,
            1,
        ),
        ("faster_links", "links twice as fast", configuration, 0.5, 0.5),
        ("accumulation", f"{_PASSES} times the passes between exchanges", passes, 1, 1),
        ("larger_micro_batch", "twice the examples of a worker", larger, 1, 1),
    )
    now = model.log_seconds([configuration]) - np.log(configuration.batch_size)
    found = []
    for name, words, changed, bytes_factor, messages_factor in tried:
        logs = model.log_seconds([changed], bytes_factor, messages_factor)
        # The form errs alike with and without: only what the draws disagree about counts.
        own = replace(model, spread=0.0)
        ratio = own.ratios(now, logs - np.log(changed.batch_size))[0]
        seconds = model.intervals(logs)[0]
        found.append(Lever(name, words, changed, seconds, ratio))
    return tuple(found)


def _needed(model: StepModel, predictions: Sequence[StepPrediction]) -> str | None:
    """The smallest and the largest micro-batch of the first spread of a kind not measured."""
    for prediction in predictions:
        one = prediction.configuration
        if regime(one) not in model.measured.regimes and not one.uneven:
            sizes = dict.fromkeys(model.measured.micro_batches)
            return measurements([(one.nodes, one.workers, size) for size in sizes])
    return None
