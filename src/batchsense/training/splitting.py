"""How the losses of the parts of a step, micro-batches and processes, make that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.running import Ranks, Scaling
from batchsense.training.separability import accumulate, audit
from batchsense.training.separability.remedies.accumulation import Accumulation
from batchsense.training.workload import Workload

#: Examples of a part in the audit, its own default.
_AUDITED = 8
INEXACT = Note(
    "inexact",
    "The gradient of a step is the mean over its parts, which is not that of the whole minibatch "
    "for this loss; it changes with the number of parts. `batchsense audit` says how.",
)


def combination(
    workload: Workload,
    ranks: Ranks,
    *,
    split: bool,
    local: bool = False,
    inexact: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[str | None, Scaling | None]:
    """Ask the audit how the losses of parts are put together; nothing for a single part.

    Parameters
    ----------
    workload : Workload
        Whose loss.
    ranks : Ranks
        The processes that share a step.
    split : bool
        Whether a step has several parts.
    local : bool
        Whether each process steps by itself, so that only its own parts are put together.
    inexact : bool
        Take the mean over the examples of the parts where there is no exact rule.
    seed : int
        Of the audit.
    progress : Progress
        Told of the audit.

    Returns
    -------
    str or None, Scaling or None
        mean, sum, ratio or inexact, and the factors on the losses; None for shares of the examples.

    Raises
    ------
    UnresolvedError
        The parts do not add up.
    """
    if not split:
        return None, None
    try:
        # An audit needs four parts of a minibatch; a small data set gets small ones.
        part = max(1, min(_AUDITED, len(workload.examples) // 4))
        report = audit(workload, micro_batch=part, seed=seed, progress=progress)
        rule = accumulate(report)
    except UnresolvedError as error:
        if inexact:
            return "inexact", None
        raise UnresolvedError(
            f"the gradients of parts of this loss do not add up to that of a minibatch: {error}",
            "one process without --accumulate, or --inexact to train on the mean over the parts",
        ) from None
    if rule.kind == "mean" and rule.normaliser == "examples":
        return "mean", None
    sharers = 1 if local else ranks.world_size
    return rule.kind, _scaling(rule, sharers, ranks)


def _scaling(rule: Accumulation, sharers: int, ranks: Ranks) -> Scaling:
    def summed(total: float) -> float:
        return total if sharers == 1 else float(ranks.summed(total))

    def scaling(minibatches: Sequence[Any], collate_all: Callable[[], Any]) -> Floats:
        whole = collate_all() if rule.needs_whole else None
        return rule.ddp_scales(minibatches, sharers, summed, whole=whole)

    return scaling
