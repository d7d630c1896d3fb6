"""How the losses of the parts of a step, micro-batches and processes, make that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError
from batchsense.notes import Note
from batchsense.progress import Progress, silent
from batchsense.training.running import Ranks, Scaling
from batchsense.training.separability import accumulate, audit
from batchsense.training.separability.remedies.accumulation import Accumulation
from batchsense.training.workload import (
    Workload,
    borrowed_randomness,
    differentiated,
    scalar_loss,
    trainable,
)


# Without annotations, because torch compares them and does not know them as text.
def _bf16_compress_hook(group, bucket):  # type: ignore[no-untyped-def]
    # torch refuses its own hook, by its name, on gloo, which adds bfloat16 all the same.
    return default_hooks.bf16_compress_hook(group, bucket)


Compression: TypeAlias = Literal["fp16", "bf16"]

_HOOKS = {"fp16": default_hooks.fp16_compress_hook, "bf16": _bf16_compress_hook}
#: Examples whose loss tells which parameters it depends on: two, because BatchNorm takes no less.
_TRIED = 2
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

    Gives mean, sum, ratio or inexact, and the factors on the losses; None for shares of the
    examples. ``local`` says that each process steps by itself, so that only its own parts are put
    together; ``inexact`` allows the mean over the examples where there is no exact rule.

    Raises UnresolvedError: the parts do not add up.
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


class _LossModule(nn.Module):
    """The loss as a module, so that all of it lies inside DistributedDataParallel.

    A loss may use any part of the model, not only call it.
    """

    def __init__(self, workload: Workload, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train(model.training)
        self._loss = workload.loss

    def forward(self, minibatch: Any) -> Tensor:
        return self._loss(self.model, minibatch)

    def train(self, mode: bool = True) -> _LossModule:
        self.training = mode  # the modes of parts of the model are the user's
        return self


def called_in_ranks(
    workload: Workload,
    model: nn.Module,
    ranks: Ranks,
    sync_every: int = 1,
    compress: Compression | None = None,
    bucket_cap_mb: float | None = None,
) -> nn.Module:
    """Make the module that the loop calls: the loss, inside DistributedDataParallel where needed.

    Every process must call; with ``sync_every`` above 1 all begin with the weights of the first.
    """
    module = _LossModule(workload, model)
    if ranks.alone:
        return module
    if sync_every > 1:
        for tensor in [*model.parameters(), *model.buffers()]:
            distributed.broadcast(tensor.data, 0)
        return module
    wrapped = DistributedDataParallel(
        module,
        bucket_cap_mb=bucket_cap_mb,
        find_unused_parameters=_leaves_some_out(workload),
    )
    if compress is not None:
        wrapped.register_comm_hook(None, _HOOKS[compress])
    return wrapped


def _leaves_some_out(workload: Workload) -> bool:
    """Whether the loss does not depend on every trained parameter; DDP waits for all otherwise."""
    model = workload.fresh_model()
    rows = range(min(_TRIED, len(workload.examples)))
    with borrowed_randomness(0):
        loss = scalar_loss(workload, model, workload.minibatch(rows))
    return not loss.requires_grad or None in differentiated(loss, trainable(model))
