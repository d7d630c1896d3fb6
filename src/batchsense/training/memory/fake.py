"""The memory envelope of a model that no machine at hand could hold: tensors without data."""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError
from batchsense.progress import Progress, silent
from batchsense.training.memory.allocations import (
    AllocationTrace,
    Held,
    Ledger,
    stored,
    two_training_steps,
    uncollected,
)
from batchsense.training.memory.envelope import MemoryEnvelope, envelope_of_traces
from batchsense.training.memory.example_sizes import examples_to_trace
from batchsense.training.memory.probing import surroundings
from batchsense.training.workload import Workload, admitted, borrowed_randomness, leaves

#: Any four equally spaced sizes would do, as nothing is computed; not 1 or 2, as in ``probing``.
_SIZES = (3, 7, 11, 15)
#: Kernels that take working memory inside one operation, where no dispatch sees it: measured on
#: the CPU, a step of a convolutional net was .72 to .96 and of an LSTM .12 to .18 of the truth.
_HIDDEN = (nn.modules.conv._ConvNd, nn.RNNBase)

ResultT = TypeVar("ResultT")
_ASKS_FOR_VALUES = (DataDependentOutputException, DynamicOutputShapeException)


class _Fakes(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Fake tensors whose copies stay in the same mode, so that models can be deep-copied."""

    def __deepcopy__(self, memo: Mapping[int, Any]) -> _Fakes:
        return self


def fake_memory_envelope(
    load: Callable[[], Workload], *, seed: int = 0, progress: Progress = silent
) -> MemoryEnvelope:
    """Follow training steps on tensors that have a shape and no data, and extend to all sizes.

    Nothing is allocated or computed, so the model may be of any size. What an operation allocates
    and frees inside is not seen: with convolutions and recurrent modules, which are named, the
    envelope is a lower bound; elsewhere it was within 1 % of a real step.

    Parameters
    ----------
    load : callable
        Makes the Workload; called while new tensors are fake. Its model must be built inside.
    seed : int
        Seed of the model's own randomness.
    progress : Progress
        Told after each trace.

    Returns
    -------
    MemoryEnvelope
        As :func:`fit_memory_envelope`, never checked against a real step.

    Raises
    ------
    DataError
        The Workload cannot be made or evaluated without data.
    UnresolvedError
        As :func:`fit_memory_envelope`.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> def workload():
    ...     inputs = torch.zeros(64, 1_000_000)
    ...     return Workload(
    ...         nn.Linear(1_000_000, 1_000),
    ...         lambda model, minibatch: model(minibatch[0]).square().mean(),
    ...         TensorDataset(inputs),
    ...         lambda parameters: torch.optim.AdamW(parameters),
    ...     )
    >>> fake_memory_envelope(workload).breakdown(64)["optimizer"]
    8000008008
    """
    with borrowed_randomness(seed), _fakes(), uncollected():
        workload = _without_data(load)
        admitted(workload)
        model = workload.model
        lists, differing = _without_data(lambda: examples_to_trace(workload))
        traces = []
        for done, size in enumerate(_SIZES, start=1):
            indices = [int(index) for index in np.resize(lists[0], size)]
            traces.append(_without_data(partial(_trace, workload, model, indices)))
            progress("following steps without data", done, len(_SIZES))
        envelope = envelope_of_traces(traces, _SIZES)
    hidden = tuple(
        f"{name or 'model'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if isinstance(module, _HIDDEN)
    )
    return replace(envelope, differing_examples=differing, lower_bound=hidden)


@contextlib.contextmanager
def _fakes() -> Iterator[None]:
    with warnings.catch_warnings():
        # deepcopy asks fake tensors for a pointer, which warns; it is not used.
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        with _Fakes(allow_non_fake_inputs=True):
            yield


def _without_data(run: Callable[[], ResultT]) -> ResultT:
    try:
        return run()
    except (BatchsenseError, *_ASKS_FOR_VALUES) as error:
        cause = error if isinstance(error, _ASKS_FOR_VALUES) else error.__cause__
        if not isinstance(cause, _ASKS_FOR_VALUES):
            raise
    raise DataError(
        f"the code asks for the value of a tensor ({described(cause)}), and without data there is "
        "none; measure with real steps, without --fake"
    ) from cause


def _trace(workload: Workload, model: nn.Module, indices: list[int]) -> AllocationTrace:
    minibatch = workload.minibatch(indices)
    known = [*model.parameters(), *model.buffers(), *leaves(minibatch)]
    before, after = surroundings(workload, model, minibatch, len(indices))
    recorder = _Recorder(known, before)
    with recorder:
        two_training_steps(workload, model, minibatch, mark=recorder.mark)
    return recorder.ledger.trace(after)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every new storage that an operation returns, and its end."""

    def __init__(self, known: Iterable[Tensor], before: Iterable[Held]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ledger = Ledger(before)
        self._known = {tensor.untyped_storage()._cdata for tensor in stored(known)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        returned = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in stored(x for x in tree_leaves(returned) if isinstance(x, Tensor)):
                self._note(tensor.untyped_storage(), str(func))
        return returned

    def mark(self, name: str, tensors: Iterable[Tensor]) -> None:
        self.ledger.marked(name, [one.untyped_storage()._cdata for one in stored(tensors)])

    def _note(self, storage: Any, operation: str) -> None:
        key = storage._cdata
        if key in self._known or self.ledger.knows(key) or not storage.nbytes():
            return
        self.ledger.allocated(key, operation, storage.nbytes())
        weakref.finalize(storage, self.ledger.freed, key).atexit = False
