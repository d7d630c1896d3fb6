"""Exact squared gradient norms of chosen examples of a workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.example_gradients.norms import Norms
from batchsense.training.example_gradients.one_by_one import (
    Fallback,
    chosen_for_check,
    compare,
    formed_one_by_one,
    measured_alone,
    undisturbed,
)
from batchsense.training.example_gradients.recorder import PLAIN_MEAN, LossForm, PerExampleNorms
from batchsense.training.workload import (
    Loss,
    Workload,
    admitted,
    borrowed_randomness,
    count_examples,
    loss_gradient,
    scalar_loss,
    take_examples,
    trainable,
)


def per_example_squared_norms(
    workload: Workload,
    chosen: Sequence[int] | Any,
    *,
    model: nn.Module | None = None,
    form: LossForm = PLAIN_MEAN,
    micro_batch_size: int | None = None,
    fallback: Fallback = "auto",
    self_check: bool = True,
    progress: Progress = silent,
) -> Norms:
    """Measure :math:`|g_i|^2` for chosen examples, and the squared norm of their mean gradient.

    Parameters that a rule covers cost no more than a backward pass; the gradients of the others are
    formed one by one, as ``fallback`` says; "none" leaves them in ``refused``. ``chosen`` are
    indices, or a minibatch as ``workload.minibatch`` makes it, which is taken apart. The ``model``
    is used as it is, by default a copy of the workload's; no ``.grad`` is touched, and a
    ``loss_scale`` of the form does not matter. ``micro_batch_size`` limits memory. Dropout stays
    on: each example has a mask of its own, and a parameter in ``fallback`` has seen other masks
    than the rest.

    ``self_check`` first compares three examples in a minibatch with the same examples alone,
    without dropout. It costs four small backward passes; leave it out when the same model was
    checked before.

    Raises DataError: the examples are coupled, so that no per-example gradient exists; the loss is
    not the stated mean or sum; or the self-check fails, naming the layer.
    """
    admitted(workload)
    model = workload.fresh_model() if model is None else model
    if not _are_indices(chosen):
        workload, chosen = _apart(model, workload.loss, chosen, form.example_dim)
    indices = [int(index) for index in chosen]
    if not indices:
        raise DataError("no example was chosen; give at least one index")
    if micro_batch_size is not None and micro_batch_size < 1:
        raise DataError(f"micro_batch_size is {micro_batch_size}; it counts examples")
    left_out: tuple[str, ...] = ()
    measure = _Measurement(workload, model, form, fallback)
    if self_check:
        left_out = measure.checked(chosen_for_check(indices))
    return measure(indices, micro_batch_size or len(indices), left_out, progress)


def minibatch_squared_norms(
    model: nn.Module,
    loss: Loss,
    minibatch: Any,
    *,
    form: LossForm = PLAIN_MEAN,
    micro_batch_size: int | None = None,
    fallback: Fallback = "auto",
    self_check: bool = True,
    progress: Progress = silent,
) -> Norms:
    """Measure the squared gradient norm of each example of a minibatch, for a model as it is.

    Tensors that have the number of examples as size of ``form.example_dim`` are taken apart, lists
    of that length too, the rest is passed on. Arguments and errors are as for
    :func:`per_example_squared_norms`.
    """
    workload, every = _apart(model, loss, minibatch, form.example_dim)
    return per_example_squared_norms(
        workload,
        every,
        model=model,
        form=form,
        micro_batch_size=micro_batch_size,
        fallback=fallback,
        self_check=self_check,
        progress=progress,
    )


def _are_indices(chosen: Any) -> bool:
    if isinstance(chosen, (Tensor, Mapping)) or not isinstance(chosen, (Sequence, np.ndarray)):
        return False
    return all(isinstance(index, (int, np.integer)) for index in chosen)


class _Measurement:
    """One workload, model and way of measuring, applied to the check and then to all examples."""

    def __init__(
        self, workload: Workload, model: nn.Module, form: LossForm, fallback: Fallback
    ) -> None:
        self._workload = workload
        self._model = model
        self._form = replace(form, loss_scale=1.0)
        self._fallback: Fallback = fallback
        self._joint_loss = 0.0
        self._half = False

    def checked(self, few: Sequence[int]) -> tuple[str, ...]:
        """Compare a few examples with themselves alone; return the parameters no rule covers."""
        with borrowed_randomness(0), undisturbed(self._model):
            together = self(few, len(few), (), silent)
            alone = measured_alone(self._workload, self._model, few)
            found = self._joint_loss, together.by_parameter
            compare(alone, found, self._form.reduction, self._model, self._half)
        return (*together.fallback, *together.refused)

    def __call__(
        self, indices: Sequence[int], at_once: int, left_out: Sequence[str], progress: Progress
    ) -> Norms:
        """Measure by rules, then form the rest one by one."""
        several = at_once < len(indices)
        recorder = PerExampleNorms(
            self._model, form=self._form, accumulate=several, leave_out=left_out
        )
        with recorder:
            for start in range(0, len(indices), at_once):
                part = indices[start : start + at_once]
                minibatch = self._workload.minibatch(part)
                with recorder.watching(len(part)):
                    loss = scalar_loss(self._workload, self._model, minibatch)
                self._joint_loss = loss.item()
                # Into nobody's ``.grad``.
                loss_gradient(loss, trainable(self._model))
                progress("differentiating", start + len(part), len(indices))
        norms = recorder.result()
        self._half = recorder.in_half_precision
        rest = tuple(norms.refused)
        if not rest or self._fallback == "none":
            return norms
        dim = self._form.example_dim
        formed = formed_one_by_one(
            self._workload, self._model, rest, indices, self._fallback, dim, progress
        )
        return norms.joined(rest, *formed)


class _Apart:
    """A minibatch as a data set: its examples, in minibatches of any of them."""

    def __init__(self, minibatch: Any, count: int, example_dim: int) -> None:
        self._minibatch = minibatch
        self._count = count
        self._example_dim = example_dim

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int, /) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [take_examples(self._minibatch, indices, self._count, self._example_dim)]


def _apart(
    model: nn.Module, loss: Loss, minibatch: Any, example_dim: int
) -> tuple[Workload, range]:
    """A workload of the examples of one minibatch, and the indices of all of them."""
    count = count_examples(minibatch, example_dim)
    workload = Workload(
        model=model,
        loss=loss,
        examples=_Apart(minibatch, count, example_dim),
        optimizer=torch.optim.SGD,
        collate=lambda parts: parts[0],
    )
    return workload, range(count)
