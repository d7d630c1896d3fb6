"""Where the loss of one example depends on the others, no per-example gradient exists."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from batchsense.errors import DataError, listed
from batchsense.training.workload import coupled_modules

_REMEDY = (
    "so the loss of one example depends on the others and no per-example gradient exists; run "
    "`batchsense audit`, or put these modules in eval mode if they are frozen"
)


def refuse_coupled(model: nn.Module) -> None:
    """Raise if a module, in the mode it is going to run in, is known to mix the examples.

    Raises DataError: a BatchNorm uses the statistics of the minibatch, an embedding divides
    gradients by how often the minibatch holds a token, or the model is compiled or spread over
    threads, where its operations cannot be watched.

    >>> refuse_coupled(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval())
    >>> refuse_coupled(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    Traceback (most recent call last):
    batchsense.errors.DataError: 1 (BatchNorm1d): mixes the examples of a minibatch, so the loss ...
    """
    coupled = list(coupled_modules(model))
    for name, module in model.named_modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.scale_grad_by_freq:
            coupled.append(f"{name or 'model'} ({type(module).__name__})")
        elif isinstance(module, nn.DataParallel):
            raise DataError(
                "nn.DataParallel runs the model in threads of its own; use one device or "
                "DistributedDataParallel",
                where=name or "model",
            )
        elif _is_compiled(module):
            raise DataError(
                "the model is compiled, so its operations cannot be watched; measure the model as "
                "it was before torch.compile",
                where=name or "model",
            )
    if coupled:
        raise coupling_error(coupled)


def coupling_error(names: Iterable[str]) -> DataError:
    """Return the error that says why there is nothing to measure."""
    names = list(names)
    verb = "mixes" if len(names) == 1 else "mix"
    return DataError(f"{verb} the examples of a minibatch, {_REMEDY}", where=listed(names))


def _is_compiled(module: nn.Module) -> bool:
    if getattr(module, "_compiled_call_impl", None) is not None:
        return True
    return type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod")
