"""An assertion for test suites: this loss may be mini-batched."""

from __future__ import annotations

from typing import Any

from torch import nn

from batchsense.training.separability.auditing import audit
from batchsense.training.separability.report import SeparabilityReport
from batchsense.training.workload.workload import Loss, Workload


def assert_minibatch_safe(
    workload: Workload | Loss,
    model: nn.Module | None = None,
    minibatch: Any = None,
    micro_batch: int = 8,
    *,
    bias_tolerance: float = 0.01,
    **options: Any,
) -> SeparabilityReport:
    """Fail unless the average of micro-batch gradients is the gradient of the whole.

    Parameters
    ----------
    workload, model, minibatch, micro_batch
        As for :func:`audit`.
    bias_tolerance : float
        Relative bias that is called safe where no bias is detected.
    **options
        Further options of :func:`audit`.

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
    report = audit(
        workload, model, minibatch, micro_batch, bias_tolerance=bias_tolerance, **options
    )
    if not report.safe:
        where = "".join(f"\n  at {s.name}: {s.detail}" for s in report.sources)
        raise AssertionError(
            f'minibatch verdict "{report.verdict}" for this loss: {report.conclusion}{where}\n'
            f"  fix: {report.fix}"
        )
    return report
