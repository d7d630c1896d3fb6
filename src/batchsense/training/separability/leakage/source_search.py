"""Name where the examples of a minibatch meet, in the model or in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from batchsense.errors import BatchsenseError
from batchsense.training.separability.kind.evidence import EXAMPLE_FREE_TERM
from batchsense.training.separability.kind.screening import (
    Screening,
    measured_parts,
    mixed,
    partition,
    screen,
)
from batchsense.training.separability.kind.structure import Structure, kind_of, split_of
from batchsense.training.separability.leakage.output_changes import ROUNDING_MOVEMENT
from batchsense.training.separability.leakage.tracing import (
    Stage,
    averaging_sources,
    leaking_sources,
)
from batchsense.training.separability.probe.isolation import seeded
from batchsense.training.separability.probe.probe import GradientProbe
from batchsense.training.separability.report import FoundNormaliser, Source
from batchsense.training.workload.minibatches import cloned
from batchsense.training.workload.workload import Loss, Workload, trainable

_MOST_TRACED = 61


def sources_of(
    probe: GradientProbe,
    screening: Screening,
    structure: Structure,
    normaliser: FoundNormaliser | None,
    strangers: list[Any],
    seed: int,
) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Name the sources of a deviation, and say what could not be searched.

    Returns
    -------
    sources : tuple of Source
        First to last; at least one.
    notes : tuple of str
        Limits of the search.
    """
    if structure.kind == "sum":
        return (Source("loss", "loss", "it adds its terms without dividing by their number"),), ()
    if structure.kind == "ratio" and normaliser is not None:
        return (Source("loss", "loss", f"it divides by its own {normaliser.name}"),), ()
    if structure.kind == "composite":
        what = (
            EXAMPLE_FREE_TERM
            if structure.normaliser == EXAMPLE_FREE_TERM
            else "a non-linear function of sums over the examples, or weights that move with the "
            "parameters"
        )
        return (Source("loss", "loss", what),), ()
    if screening.order_matters:
        first: tuple[Source, ...] = (
            Source("loss", "loss", "the order of the examples changes the gradient"),
        )
    else:
        first = ()
    try:
        found = _searched(probe, strangers, seed)
    except BatchsenseError as error:
        return first or (Source("loss", "loss", "not located"),), (
            f"The source was not searched: {error}.",
        )
    return first + found or (Source("loss", "loss", "not located"),), ()


def terms_of(
    workload: Workload,
    terms: Mapping[str, Loss],
    places: Sequence[int],
    micro_batch: int,
    precision: str,
    seed: int,
) -> tuple[Source, ...]:
    """Name the terms of a loss that are no means of independent terms, with their kind."""
    found = []
    for number, (name, term) in enumerate(terms.items()):
        probe = GradientProbe(_with_loss(workload, term), places, precision, seed)
        screening = screen(probe, mixed(seed, 31, number))
        generator = np.random.default_rng([seed, 32, number])
        parts = measured_parts(
            probe,
            partition(probe.count, micro_batch, generator),
            mixed(seed, 31, number),
            screening.randomness,
        )
        g = np.array([part.gradient for part in parts])
        split = split_of(screening.whole.gradient, g, {}, probe.parameters)
        kind = kind_of([split], screening.tolerance).kind
        if kind != "mean":
            found.append(Source(name, "term", f"{kind}; alone it deviates by {split.mean_gap:.2g}"))
    return tuple(found)


def strangers_to(workload: Workload, taken: set[int], wanted: int, seed: int) -> list[Any]:
    """Read examples that are not among those audited; fewer or none if there are no others."""
    generator = np.random.default_rng([seed, 33])
    others = [k for k in generator.permutation(len(workload.examples)) if int(k) not in taken]
    with seeded(seed):
        return [cloned(workload.examples[int(k)]) for k in others[:wanted]]


def _searched(probe: GradientProbe, strangers: list[Any], seed: int) -> tuple[Source, ...]:
    """Search modules, then the loss's own code, then the averages it takes."""
    examples = list(probe.workload.examples[k] for k in range(probe.count))
    if len(strangers) < len(examples) // 2:
        half = len(examples) // 2
        examples, strangers = examples[:half], [*strangers, *examples[half:]]
    count = _telling_count(probe, len(examples))
    workload = probe.workload

    def collate(chosen: list[Any]) -> Any:
        return _with_examples(workload, chosen).minibatch(range(len(chosen)))

    stage = Stage(probe.isolated, workload.loss, collate, seed)
    tolerance = ROUNDING_MOVEMENT[probe.precision][1]
    sources = leaking_sources(stage, examples[:count], strangers, tolerance)
    if sources:
        return sources
    lines = dict.fromkeys(averaging_sources(stage, examples[:count]))
    where = f": {'; '.join(list(lines)[:4])}" if lines else ""
    return (
        Source(
            "loss",
            "loss",
            "no output of an example depends on the others; the examples meet where they are put "
            f"together{where}",
        ),
    )


def _telling_count(probe: GradientProbe, most: int) -> int:
    """Choose a number of examples that no tensor of the model has as a size."""
    sizes = {size for p in trainable(probe.isolated.model) for size in p.shape}
    most = min(most, _MOST_TRACED)
    for count in range(most, max(2, most // 2), -1):
        if not any(size % count == 0 for size in sizes if size):
            return count
    return most


def _with_loss(workload: Workload, loss: Loss) -> Workload:
    """Give the workload with another loss."""
    return Workload(workload.model, loss, workload.examples, workload.optimizer, workload.collate)


def _with_examples(workload: Workload, examples: list[Any]) -> Workload:
    """Give the workload with other examples."""
    return Workload(workload.model, workload.loss, examples, workload.optimizer, workload.collate)
