"""The audit of a loss: screen it, split it many times, name what it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.separability.kind.discovery import example_counter, named_ratio
from batchsense.training.separability.kind.evidence import (
    Evidence,
    bias_of,
    exact_kind,
    gather,
    judged_kind,
)
from batchsense.training.separability.kind.normalisers import (
    Normaliser,
    candidate_normalisers,
    tensors_held_by,
)
from batchsense.training.separability.kind.ratio_bias import ratio_bias
from batchsense.training.separability.kind.screening import mixed, noise_matters, refuse_drift
from batchsense.training.separability.kind.structure import Kind, Structure, pure_scale
from batchsense.training.separability.kind.vanishing_gradients import settled_kind
from batchsense.training.separability.leakage.source_search import (
    sources_of,
    strangers_to,
    terms_of,
)
from batchsense.training.separability.preparation import (
    Opened,
    as_workload,
    chosen_examples,
    opened,
)
from batchsense.training.separability.remedies.advice import fix_for, verdict_of
from batchsense.training.separability.remedies.consequences import accumulation, ddp, uneven
from batchsense.training.separability.report import (
    Consequences,
    SeparabilityReport,
    Source,
)
from batchsense.training.workload.workload import Loss, Workload
from batchsense.variation.gram import LEAST_REPETITIONS


@dataclass(frozen=True, slots=True)
class _Settings:
    """How an audit is done; see :func:`audit`."""

    micro_batch: int
    partitions: int
    alpha: float
    bias_tolerance: float
    world_size: int
    precision: str
    seed: int


def audit(
    workload: Workload | Loss,
    model: nn.Module | None = None,
    minibatch: Any = None,
    micro_batch: int = 8,
    *,
    batch_size: int = 64,
    partitions: int = 24,
    alpha: float = 0.01,
    bias_tolerance: float = 0.01,
    world_size: int = 2,
    normalisers: Mapping[str, Normaliser] | None = None,
    terms: Mapping[str, Loss] | None = None,
    precision: str = "float64",
    seed: int = 0,
    progress: Progress = silent,
) -> SeparabilityReport:
    r"""Tell whether a loss may be mini-batched, accumulated and distributed.

    The n examples of a minibatch are cut into K parts. With G the gradient of the loss over all
    and g_k over part k, the audit measures

    .. math:: d = \frac1K \sum_k g_k - G

    in float64 on a private copy of the model, with each example's random numbers (dropout) the
    same in every company. d is zero for every partition, to rounding, exactly if the loss is a
    mean of independent terms; one partition decides that. If it is not zero, ``partitions`` random
    partitions tell what combines the parts (G = Σ c_k g_k), what a ratio divides by, and whether d
    is a bias or only noise.

    Parameters
    ----------
    workload : Workload or callable
        The training job; or a loss function ``loss(model, minibatch)``, with the next two.
    model : torch.nn.Module, optional
        The model, where the first argument is a loss function.
    minibatch : object, optional
        A collated minibatch whose tensors share their first size, likewise.
    micro_batch : int
        Examples per part.
    batch_size : int
        Examples of a workload to audit at once, rounded down to a multiple of ``micro_batch``;
        at least four micro-batches.
    partitions : int
        Random partitions for kind and bias, at least 6.
    alpha : float
        Level of the test for a bias; the ends of its interval have confidence 1 − alpha.
    bias_tolerance : float
        Relative bias that is called safe where no bias is detected.
    world_size : int
        Processes for the prediction of DDP.
    normalisers : mapping, optional
        Further candidates for what a ratio divides by: functions of a minibatch, by name.
    terms : mapping, optional
        The terms of the loss by name, each ``term(model, minibatch)``; those that are no means are
        named among the sources.
    precision : str
        ``"float64"``, ``"float32"`` or ``"bfloat16"``.
    seed : int
        Seed of the choice of examples, the partitions and the loss's random numbers.
    progress : Progress
        Told after each partition.

    Returns
    -------
    SeparabilityReport
        Kind, deviation, bias, normaliser, sources, consequences and the fix.

    Raises
    ------
    DataError
        The workload cannot be audited: too few examples, a loss that fails, has no gradient, keeps
        state between calls or is not reproducible, examples that change at each reading.
    UnresolvedError
        The gradient vanishes at these parameters.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(64, 5, generator=generator), torch.arange(64) % 3
    >>> weight = torch.tensor([1.0, 2.0, 4.0])
    >>> def loss(model, minibatch):
    ...     return nn.functional.cross_entropy(model(minibatch[0]), minibatch[1], weight=weight)
    >>> report = audit(loss, nn.Linear(5, 3), (x, y))
    >>> report.kind, report.normaliser.name, report.verdict
    ('ratio', 'weight[minibatch[1]]', 'no')
    """
    settings = _Settings(
        micro_batch, partitions, alpha, bias_tolerance, world_size, precision, seed
    )
    _check(settings)
    job = as_workload(workload, model, minibatch)
    if minibatch is not None:
        batch_size = len(job.examples)
    progress("auditing partitions", 0, partitions)
    taken = chosen_examples(job, batch_size, micro_batch, seed)
    first = opened(job, taken, micro_batch, precision, seed)
    if first.separable:
        return _clean_report(first, settings)
    found = _terms(job, terms or {}, first, settings)
    return _full_report(job, first, found, normalisers or {}, settings, progress)


def _check(settings: _Settings) -> None:
    """Refuse settings that cannot give an answer."""
    if settings.partitions < LEAST_REPETITIONS:
        raise DataError(
            f"{settings.partitions} cannot show a bias; give at least {LEAST_REPETITIONS}",
            where="partitions",
        )
    if not 0 < settings.alpha < 0.5:
        raise DataError(f"{settings.alpha} is not between 0 and 0.5", where="alpha")
    if not settings.bias_tolerance > 0:
        raise DataError(f"{settings.bias_tolerance} is not positive", where="bias_tolerance")
    if settings.world_size < 2:
        raise DataError(f"{settings.world_size} is fewer than two processes", where="world_size")


def _clean_report(first: Opened, settings: _Settings) -> SeparabilityReport:
    """Report a mean of independent terms."""
    probe, screening = first.probe, first.screening
    cost = probe.examples_used / probe.count
    scale = pure_scale(
        np.mean([part.gradient for part in first.parts], axis=0), screening.whole.gradient
    )[0]
    deviation, tolerance = first.split.mean_gap, screening.tolerance
    structure = Structure("mean")
    stochastic = screening.stochastic and noise_matters(probe, screening, settings.seed)
    return SeparabilityReport(
        kind="mean",
        kind_without_noise=_silent_kind(first, settings) if stochastic else None,
        exact=True,
        stochastic=stochastic,
        verdict="yes" if tolerance < settings.bias_tolerance else "unresolved",
        deviation=deviation,
        residual=first.split.residual,
        bias=None,
        normaliser=example_counter(
            screening.whole.minibatch,
            [part.minibatch for part in first.parts],
            [probe.count, *map(len, first.places)],
        ),
        sources=(),
        consequences=Consequences(
            gradient_accumulation=accumulation(deviation, scale, len(first.parts), tolerance),
            ddp=ddp(probe, screening, settings.world_size, True, settings.seed),
            uneven_last=uneven(
                probe,
                screening,
                settings.micro_batch,
                settings.seed,
                (first.places, first.parts),
            ),
        ),
        scale=scale,
        fix=fix_for(structure, None, (), "yes", None, settings.bias_tolerance),
        cost=cost,
        notes=first.notes,
        **_common(first, settings),
    )


def _full_report(
    job: Workload,
    first: Opened,
    terms: tuple[Source, ...],
    normalisers: Mapping[str, Normaliser],
    settings: _Settings,
    progress: Progress,
) -> SeparabilityReport:
    """Measure many partitions and report what they show."""
    probe, screening, seed = first.probe, first.screening, settings.seed
    candidates = candidate_normalisers(
        screening.whole.minibatch, normalisers, tensors_held_by(job.loss)
    )
    evidence = gather(
        probe,
        screening,
        settings.micro_batch,
        settings.partitions,
        candidates,
        seed,
        progress=progress,
    )
    exact = first.exact
    structure, notes = _structure(first, evidence, exact, settings)
    cost = probe.examples_used / probe.count
    refuse_drift(probe, screening, seed)
    structure, normaliser = named_ratio(
        structure, first, evidence, candidates, settings.micro_batch, seed
    )
    bias = ratio_bias(evidence, screening, normaliser, settings.alpha, seed) or bias_of(
        evidence, settings.alpha, seed
    )
    taken = set(first.taken)
    strangers = strangers_to(job, taken, probe.count, seed)
    sources, limits = sources_of(probe, screening, structure, normaliser, strangers, seed)
    if structure.kind == "mean":
        if sources_found := [source for source in sources if source.strength is not None]:
            structure = Structure("interacting")
            sources = tuple(sources_found)
        else:
            sources = ()
    verdict = verdict_of(structure, bias, exact, settings.bias_tolerance)
    stochastic = screening.stochastic and noise_matters(probe, screening, seed)
    return SeparabilityReport(
        kind=structure.kind,
        kind_without_noise=_silent_kind(first, settings) if stochastic else None,
        exact=exact,
        stochastic=stochastic,
        verdict=verdict,
        deviation=evidence.deviation,
        residual=structure.residual,
        bias=bias,
        normaliser=normaliser,
        sources=(*terms, *sources),
        consequences=Consequences(
            gradient_accumulation=accumulation(
                evidence.deviation, evidence.scale, len(first.parts), screening.tolerance
            ),
            ddp=ddp(probe, screening, settings.world_size, False, seed),
            uneven_last=uneven(probe, screening, settings.micro_batch, seed, None),
        ),
        scale=evidence.scale,
        fix=fix_for(structure, normaliser, sources, verdict, bias, settings.bias_tolerance),
        cost=cost,
        notes=(*first.notes, *notes, *limits),
        **_common(first, settings),
    )


def _structure(
    first: Opened, evidence: Evidence, exact: bool, settings: _Settings
) -> tuple[Structure, tuple[str, ...]]:
    """Decide the kind by equalities where they hold, else by statistics."""
    screening, probe = first.screening, first.probe
    if not exact:
        note = (
            "The random numbers of the loss could not be tied to its examples "
            f"({probe.isolated.broken_tie or 'they depend on the order of the examples'}), so "
            "its kind was judged by statistics."
        )
        return judged_kind(evidence, settings.alpha), (note,)
    if screening.order_matters:
        return Structure("interacting"), ()
    structure = exact_kind(evidence, screening.tolerance)
    if not structure.determined:
        structure = settled_kind(probe, screening, settings.micro_batch, settings.seed)
    if not structure.determined:
        note = (
            f"With a gradient of {probe.parameters} numbers a ratio or a function of an average "
            "cannot be told from an interaction of the examples."
        )
        return structure, (note,)
    return structure, ()


def _silent_kind(first: Opened, settings: _Settings) -> Kind | None:
    """Give the kind with dropout switched off; None if other random numbers remain."""
    probe, screening = first.probe, first.screening
    everyone = np.arange(probe.count)
    one, other = (
        probe.gradient(everyone, mixed(settings.seed, 51, k), "silent").gradient for k in (0, 1)
    )
    if np.linalg.norm(one - other) > screening.tolerance * np.linalg.norm(one):
        return None
    evidence = gather(
        probe,
        screening,
        settings.micro_batch,
        2,
        candidate_normalisers(
            screening.whole.minibatch, None, tensors_held_by(probe.workload.loss)
        ),
        mixed(settings.seed, 52),
        "silent",
    )
    return exact_kind(evidence, screening.tolerance).kind


def _terms(
    job: Workload, terms: Mapping[str, Loss], first: Opened, settings: _Settings
) -> tuple[Source, ...]:
    """Name the terms that are no means."""
    if not terms:
        return ()
    return terms_of(
        job, terms, first.taken, settings.micro_batch, settings.precision, settings.seed
    )


def _common(first: Opened, settings: _Settings) -> dict[str, Any]:
    """Give the fields that every report has."""
    return {
        "tolerance": first.screening.tolerance,
        "floor": first.screening.floor,
        "batch_size": first.probe.count,
        "micro_batch": settings.micro_batch,
        "parameters": first.probe.parameters,
        "level": 1 - settings.alpha,
        "bias_tolerance": settings.bias_tolerance,
        "precision": first.probe.precision,
    }
