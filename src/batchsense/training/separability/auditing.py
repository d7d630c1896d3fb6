"""The audit of a loss: screen it, split it many times, name what it is and what to do."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from torch import nn

from batchsense.progress import Progress, silent
from batchsense.training.separability.design import AuditDesign, DesignFields
from batchsense.training.separability.kind.bias import (
    bias_of,
    plausible,
    powerless,
    withheld_bias,
)
from batchsense.training.separability.kind.decision import (
    COARSE,
    COARSE_NOTE,
    decided_kind,
    silent_kind,
)
from batchsense.training.separability.kind.denominators import two_denominators
from batchsense.training.separability.kind.evidence import Evidence, candidates_of, gather
from batchsense.training.separability.kind.ratio import example_counter, named_ratio, ratio_bias
from batchsense.training.separability.kind.structure import Structure
from batchsense.training.separability.leakage.tracing import located_sources
from batchsense.training.separability.preparation import (
    Auditable,
    Opened,
    as_workload,
    chosen_examples,
    opened,
    terms_of,
)
from batchsense.training.separability.probe.screening import rescreened
from batchsense.training.separability.remedies.advice import fix_for, source_in_loss, verdict_of
from batchsense.training.separability.remedies.consequences import (
    accumulation,
    ddp,
    equal_accumulation,
    uneven,
)
from batchsense.training.separability.report import (
    Bias,
    Consequences,
    FoundNormaliser,
    Kind,
    SeparabilityReport,
    Source,
)


def audit(
    workload: Auditable,
    model: nn.Module | None = None,
    minibatch: Any = None,
    micro_batch: int = 8,
    *,
    seed: int = 0,
    progress: Progress = silent,
    **design: Unpack[DesignFields],
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
    seed : int
        Seed of the choice of examples, the partitions and the loss's random numbers.
    progress : Progress
        Told after each partition.
    **design
        Any other field of :class:`AuditDesign`: ``partitions=8``, ``bias_tolerance=0.05``.

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
    chosen = AuditDesign(micro_batch, **design)
    job = as_workload(workload, model, minibatch)
    batch_size = chosen.batch_size if minibatch is None else len(job.examples)
    progress("auditing partitions", 0, chosen.partitions)
    taken = chosen_examples(job, batch_size, micro_batch, seed)
    first = opened(job, taken, micro_batch, chosen.precision, seed)
    if first.separable:
        return _clean_report(first, chosen)
    terms = terms_of(job, chosen.terms or {}, first, micro_batch, chosen.precision)
    found = _decided(first, chosen, progress)
    if found.structure.kind == "mean" and found.evidence.screening.exact:
        if found.first.equal:
            return _clean_report(found.first, chosen, found.notes)
        if found.first.split.mean_gap < COARSE:
            loose = dataclasses.replace(found.first.screening, tolerance=COARSE)
            first = dataclasses.replace(found.first, screening=loose)
            return _clean_report(first, chosen, (COARSE_NOTE,))
        found = dataclasses.replace(found, structure=Structure("interacting"))
    return _full_report(found, terms, chosen)


def assert_minibatch_safe(
    workload: Auditable,
    model: nn.Module | None = None,
    minibatch: Any = None,
    micro_batch: int = 8,
    *,
    seed: int = 0,
    progress: Progress = silent,
    **design: Unpack[DesignFields],
) -> SeparabilityReport:
    """Fail unless the average of micro-batch gradients is the gradient of the whole.

    Parameters
    ----------
    workload, model, minibatch, micro_batch, seed, progress, **design
        As for :func:`audit`; ``bias_tolerance`` is the relative bias that is called safe.

    Returns
    -------
    SeparabilityReport
        What was found, where it is safe.

    Raises
    ------
    AssertionError
        It is not safe, or that could not be resolved; says why and how to repair it.
    DataError, UnresolvedError
        The audit could not be made.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
    >>> def rms(model, x):
    ...     return model(x).square().mean().sqrt()
    >>> assert_minibatch_safe(rms, nn.Linear(3, 1), x)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    AssertionError: minibatch verdict "no" ...
    """
    __tracebackhide__ = True
    report = audit(workload, model, minibatch, micro_batch, seed=seed, progress=progress, **design)
    if not report.safe:
        where = "".join(f"\n  at {s.name}: {s.detail}" for s in report.sources)
        raise AssertionError(
            f'minibatch verdict "{report.verdict}" for this loss: {report.conclusion}{where}\n'
            f"  fix: {report.fix}"
        )
    return report


@dataclass(frozen=True, slots=True, eq=False)
class _Decided:
    """What was opened, all partitions, the kind that they show, and what limits that."""

    first: Opened
    evidence: Evidence
    structure: Structure
    notes: tuple[str, ...]


def _decided(first: Opened, design: AuditDesign, progress: Progress) -> _Decided:
    """Measure partitions and decide the kind; without ties where shortened noise may break them."""
    screening = first.screening
    candidates = candidates_of(screening, design.normalisers)
    evidence = gather(screening, design.micro_batch, design.partitions, candidates, progress)
    evidence, structure, notes = decided_kind(evidence, design.alpha)
    doubtful = screening.randomness == "tied" and screening.probe.isolated.shortened_tie
    unequal = structure.kind == "mean" and not first.equal
    if doubtful and (unequal or structure.kind in ("interacting", "undecided")):
        screening.probe.isolated.broken_tie = "their shape follows the length of the padding"
        first = dataclasses.replace(first, screening=rescreened(screening.probe, screening.seed))
        return _decided(first, design, progress)
    return _Decided(
        dataclasses.replace(first, screening=evidence.screening), evidence, structure, notes
    )


def _clean_report(
    first: Opened, design: AuditDesign, notes: tuple[str, ...] = ()
) -> SeparabilityReport:
    """Report a mean of independent terms."""
    screening, split, parts = first.screening, first.split, first.parts
    cost, tolerance = first.cost, screening.tolerance
    return SeparabilityReport(
        kind="mean",
        exact=True,
        verdict="yes" if tolerance < design.bias_tolerance else "unresolved",
        deviation=split.mean_gap,
        residual=split.residual,
        bias=None,
        normaliser=example_counter(
            screening.whole.minibatch,
            parts.minibatches,
            [screening.probe.count, *map(len, parts.places)],
        ),
        sources=(),
        consequences=Consequences(
            gradient_accumulation=equal_accumulation(split.mean_gap, split.scale),
            ddp=ddp(screening, design.world_size, exact_mean=True),
            uneven_last=uneven(screening, design.micro_batch, parts),
        ),
        scale=split.scale,
        fix=fix_for("mean", None, (), "yes", None, design.bias_tolerance),
        cost=cost,
        notes=(*first.notes, *notes),
        **_common(first, design),
    )


def _full_report(
    found: _Decided, terms: tuple[Source, ...], design: AuditDesign
) -> SeparabilityReport:
    """Report what many partitions show."""
    first, evidence, notes = found.first, found.evidence, found.notes
    screening, cost = first.screening, first.cost
    screening.refuse_drift()
    structure, normaliser = _named(found.structure, evidence)
    bias, withheld = _stated_bias(structure.kind, normaliser, evidence, design.alpha)
    kind = structure.kind
    limits: tuple[str, ...] = ()
    in_loss = source_in_loss(kind, structure.normaliser, normaliser)
    if in_loss is not None:
        sources: tuple[Source, ...] = (in_loss,)
    else:
        sources, limits = located_sources(screening)
    if kind == "mean":  # statistics saw no bias; a leak says that the examples interact
        sources = tuple(source for source in sources if source.strength is not None)
        kind = "interacting" if sources else "mean"
    repaired = "ratio" if normaliser is not None else kind
    verdict = verdict_of(repaired, bias, screening.exact, design.bias_tolerance)
    deviation = evidence.deviation
    if screening.exact and deviation < screening.tolerance:  # only the uneven partition shows it
        verdict, deviation = "no", first.split.mean_gap
    elif verdict == "yes" and _moved_by_lengths(first) > design.bias_tolerance:
        verdict = "unresolved"
        apart = "With the shortest and the longest examples in micro-batches of their own"
        limits += (f"{apart} the gradient differs by {_moved_by_lengths(first):.2g}·|G|.",)
    if bias is not None and (few := powerless(bias, design.alpha)) is not None:
        limits += (few,)
    return SeparabilityReport(
        kind=kind,
        exact=screening.exact,
        verdict=verdict,
        deviation=deviation,
        residual=structure.residual,
        bias=bias,
        bias_withheld=withheld,
        normaliser=normaliser,
        sources=(*terms, *sources),
        consequences=Consequences(
            gradient_accumulation=accumulation(evidence),
            ddp=ddp(screening, design.world_size, exact_mean=False),
            uneven_last=uneven(screening, design.micro_batch),
        ),
        scale=evidence.scale,
        fix=fix_for(kind, normaliser, sources, verdict, bias, design.bias_tolerance),
        cost=cost,
        notes=(*first.notes, *notes, *limits),
        **_common(first, design),
    )


def _moved_by_lengths(first: Opened) -> float:
    """How far the gradient moved with examples of like length together; 0 if all are alike."""
    varying = first.screening.exact and np.ptp(first.screening.probe.lengths) > 0
    return first.split.mean_gap if varying else 0.0


def _named(structure: Structure, evidence: Evidence) -> tuple[Structure, FoundNormaliser | None]:
    """Name what a ratio, or two terms of a sum of ratios, divide by."""
    if structure.kind == "interacting" and (two := two_denominators(evidence)) is not None:
        return structure, FoundNormaliser(f"{two[0]}, and {two[1]}", None, additive=False)
    return named_ratio(structure, evidence)


def _stated_bias(
    kind: Kind, normaliser: FoundNormaliser | None, evidence: Evidence, alpha: float
) -> tuple[Bias | None, str | None]:
    """The bias of the averaged gradient, or why it is withheld."""
    screening = evidence.screening
    if screening.exact and evidence.deviation < screening.tolerance:
        what = "are padded to other lengths" if np.ptp(screening.probe.lengths) else "are unequal"
        return None, f"that shows only where micro-batches {what}"
    why = None if kind == "sum" else withheld_bias(evidence)
    if why is not None:
        return None, why
    computed = ratio_bias(evidence, normaliser, alpha) if kind == "ratio" else None
    return plausible(computed, evidence) or bias_of(evidence, alpha), None


def _common(first: Opened, design: AuditDesign) -> dict[str, Any]:
    """The fields that say what was audited, and how."""
    screening = first.screening
    stochastic = screening.stochastic and screening.noise_matters()
    return {
        "stochastic": stochastic,
        "kind_without_noise": silent_kind(screening, design.micro_batch) if stochastic else None,
        "tolerance": screening.tolerance,
        "floor": screening.floor,
        "batch_size": screening.probe.count,
        "micro_batch": design.micro_batch,
        "parameters": screening.probe.parameters,
        "level": 1 - design.alpha,
        "bias_tolerance": design.bias_tolerance,
        "precision": screening.probe.precision,
    }
