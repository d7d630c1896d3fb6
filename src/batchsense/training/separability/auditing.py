"""The audit of a loss: screen it, split it many times, name what it is and what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from torch import Tensor, nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.separability.kind.evidence import (
    Evidence,
    bias_of,
    candidates_of,
    decided_kind,
    gather,
    silent_kind,
)
from batchsense.training.separability.kind.mean_length import LEAST_REPETITIONS
from batchsense.training.separability.kind.ratio import example_counter, named_ratio, ratio_bias
from batchsense.training.separability.leakage.tracing import located_sources
from batchsense.training.separability.preparation import (
    Auditable,
    Opened,
    as_workload,
    chosen_examples,
    opened,
    quick_audit,
    terms_of,
)
from batchsense.training.separability.remedies.advice import (
    accumulation,
    ddp,
    fix_for,
    source_in_loss,
    uneven,
    verdict_of,
)
from batchsense.training.separability.report import Consequences, SeparabilityReport, Source
from batchsense.training.workload import Workload, admitted


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
    screening = first.screening
    candidates = candidates_of(screening, chosen.normalisers)
    evidence = gather(screening, micro_batch, chosen.partitions, candidates, progress)
    return _full_report(first, evidence, terms, chosen)


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


def _clean_report(first: Opened, design: AuditDesign) -> SeparabilityReport:
    """Report a mean of independent terms."""
    screening, split, parts = first.screening, first.split, first.parts
    cost, count, tolerance = first.cost, len(parts.places), screening.tolerance
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
            gradient_accumulation=accumulation(split.mean_gap, split.scale, count, tolerance),
            ddp=ddp(screening, design.world_size, exact_mean=True),
            uneven_last=uneven(screening, design.micro_batch, parts),
        ),
        scale=split.scale,
        fix=fix_for("mean", None, (), "yes", None, design.bias_tolerance),
        cost=cost,
        notes=first.notes,
        **_common(first, design),
    )


def _full_report(
    first: Opened, evidence: Evidence, terms: tuple[Source, ...], design: AuditDesign
) -> SeparabilityReport:
    """Report what many partitions show."""
    screening, alpha, tolerance = first.screening, design.alpha, design.bias_tolerance
    structure, notes = decided_kind(evidence, alpha)
    cost = first.cost
    screening.refuse_drift()
    structure, normaliser = named_ratio(structure, evidence)
    bias = ratio_bias(evidence, normaliser, alpha) or bias_of(evidence, alpha)
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
    verdict = verdict_of(kind, bias, screening.exact, tolerance)
    return SeparabilityReport(
        kind=kind,
        exact=screening.exact,
        verdict=verdict,
        deviation=evidence.deviation,
        residual=structure.residual,
        bias=bias,
        normaliser=normaliser,
        sources=(*terms, *sources),
        consequences=Consequences(
            gradient_accumulation=accumulation(
                evidence.deviation, evidence.scale, len(first.parts.places), screening.tolerance
            ),
            ddp=ddp(screening, design.world_size, exact_mean=False),
            uneven_last=uneven(screening, design.micro_batch),
        ),
        scale=evidence.scale,
        fix=fix_for(kind, normaliser, sources, verdict, bias, tolerance),
        cost=cost,
        notes=(*first.notes, *notes, *limits),
        **_common(first, design),
    )


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


#: A bias above this part of the gradient means that another batch size is another objective. A
#: choice: below it noise scales, which are rarely known to a fifth, are still of use.
ANOTHER_OBJECTIVE = 0.2


def check_objective(workload: Workload, seed: int = 0) -> list[Note]:
    """Audit a loss before its noise is measured: warn where it is no mean, refuse where it must.

    Noise scales, their 1/n law and every plan suppose a mean over independent examples. A loss that
    misses it by a little (a token mean, BatchNorm) is measured with a caution. Where examples
    interact so that the gradient of 8 is biased by more than a fifth against that of 64 (in-batch
    negatives, energies of particles), the batch size is a part of the objective.

    The notes are ``loss_not_a_mean``, ``loss_undecided`` or ``not_audited``; none if all is well.

    Raises
    ------
    DataError
        As :func:`~batchsense.training.workload.admitted`.
    UnresolvedError
        The objective changes with the batch size.

    Examples
    --------
    >>> from batchsense.training import load_target
    >>> check_objective(load_target("digits"))
    []
    """
    admitted(workload)
    try:
        quick = quick_audit(workload, seed=seed)
    except UnresolvedError:  # the gradient vanishes: the noise will say so with numbers
        return []
    except DataError as error:
        return [Note("not_audited", f"Whether the loss is a mean is not known: {error}.")]
    if quick.verdict == "yes":
        return []
    if quick.verdict == "unresolved":
        return [Note("loss_undecided", quick.message)]
    if quick.kind in ("interacting", "composite") and quick.deviation > ANOTHER_OBJECTIVE:
        _refuse_another_objective(workload, seed)
    return [Note("loss_not_a_mean", f"{quick.message} Until then noise scales are approximate.")]


def _refuse_another_objective(workload: Workload, seed: int) -> None:
    report = audit(workload, seed=seed)
    if report.bias is None or not report.bias.detected:
        return
    size = report.bias.size
    if size.low <= ANOTHER_OBJECTIVE:
        return
    where = f" ({report.sources[0].name})" if report.sources else ""
    raise UnresolvedError(
        f"the objective itself changes with the batch size: examples interact{where}, and the "
        f"gradient of minibatches of 8 is biased by {size.estimate:.0%} of its length "
        f"({size.low:.0%} to {size.high:.0%}) against that of {report.batch_size}. No noise scale "
        "chooses such a batch size",
        "a loss that is a mean over independent examples, or a batch size chosen by what it does "
        "to the result; 'batchsense audit' names the source",
    )
