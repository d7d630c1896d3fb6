"""Ask before a batch size is chosen whether the objective depends on it."""

from __future__ import annotations

from batchsense.errors import DataError, UnresolvedError
from batchsense.notes import Note
from batchsense.training.separability.auditing import audit
from batchsense.training.separability.preparation import quick_audit
from batchsense.training.workload import Workload, admitted

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

    Raises DataError: as :func:`~batchsense.training.workload.admitted`.
    Raises UnresolvedError: the objective changes with the batch size.

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
