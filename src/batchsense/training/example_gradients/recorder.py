"""The context manager that measures inside a training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.errors import DataError, listed
from batchsense.training.example_gradients.backward_pass import Pass, Probes, assembled
from batchsense.training.example_gradients.coupling import coupling_error, refuse_coupled
from batchsense.training.example_gradients.norms import Norms
from batchsense.training.example_gradients.recording import (
    Recording,
    Watch,
)
from batchsense.training.example_gradients.rules import RULES
from batchsense.training.workload import leaves

#: Entries of the block after which the model is searched again for added or replaced parameters,
#: which is rare; frozen or freed ones are noticed at every entry.
_LOOK_EVERY = 32


@dataclass(frozen=True, slots=True)
class LossForm:
    """How a loss is made of its examples' losses, and where the model's tensors count examples.

    Attributes
    ----------
    reduction : {"mean", "sum"}
        Whether the loss is the mean or the sum over the examples of a minibatch.
    loss_scale : float or callable
        What that loss is multiplied with before ``backward``: ``scaler.get_scale`` of a
        ``GradScaler``, or 1/k when k accumulated losses are divided by k.
    example_dim : {0, 1}
        The dimension that counts examples; 1 for models that take positions first. Tensors with
        one dimension before the features have their examples there in either case.

    Raises
    ------
    DataError
        The reduction or the dimension is another.
    """

    reduction: Literal["mean", "sum"] = "mean"
    loss_scale: float | Callable[[], float] = 1.0
    example_dim: int = 0

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise DataError(f"reduction is {self.reduction!r}; use 'mean' or 'sum'")
        if self.example_dim not in (0, 1):
            raise DataError(f"example_dim is {self.example_dim!r}; use 0 or 1")


#: The loss is the mean over the examples, and not scaled.
PLAIN_MEAN = LossForm()


class PerExampleNorms:
    r"""Squared gradient norms of single examples, as a by-product of ``loss.backward()``.

    Inside the block, the model's forward is watched for operations that use parameters; when the
    backward pass brings the gradient δ of their output, :math:`|g_i|^2` follows from δ and the
    kept input, for a linear layer as :math:`\sum_{ts} (a_t \cdot a_s)(δ_t \cdot δ_s)`. Gradients
    are not altered, and evaluation under ``no_grad`` is not seen. Sources: Goodfellow (2015),
    arXiv:1510.01799; Li et al. (2022), "Large language models can be strong differentially private
    learners".

    The model is called as ``model(...)`` with a tensor that holds one entry for each example;
    otherwise see :meth:`watching`. ``accumulate`` keeps the mean gradient over all passes since the
    last reading, for A over all of them, in the memory of one more gradient. Parameters in
    ``leave_out`` are reported as refused without trying.

    A parameter that no rule covers is listed in ``Norms.refused``, with the reason, and is left out
    of Q and of A alike. A use that was missed is noticed: along a random direction, the examples'
    gradients must add up to the parameter's gradient. What cannot be noticed here is a tensor
    whose dimension ``example_dim`` has the size n by coincidence, such as one with positions first
    and as many of them. Measure a minibatch by ``minibatch_squared_norms`` once, which compares
    examples with themselves alone, and pass its ``fallback`` as ``leave_out``.

    Every forward pass of ``model`` after a backward pass begins a new pass, so the micro-batches of
    an accumulated step follow one another in the result. Results are those since the last reading;
    what is not read is kept. Layers under activation checkpointing are measured with
    ``use_reentrant=False`` (their inputs are then kept, which costs the memory that checkpointing
    saves) and refused otherwise.

    Raises DataError on entering: the model couples the examples, is compiled, or has nothing to
    train.

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...>
    >>> model = nn.Linear(1, 1, bias=False)
    >>> with PerExampleNorms(model) as norms:
    ...     loss = (model(torch.tensor([[1.0], [2.0]])) * torch.tensor([[3.0], [4.0]])).mean()
    ...     loss.backward()
    >>> norms.squared_norms()
    array([ 9., 64.])
    >>> round(norms.result().squared_mean_norm, 4)  # ((3 + 8) / 2)²
    30.25
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        form: LossForm = PLAIN_MEAN,
        accumulate: bool = False,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.form = form
        self._accumulate = accumulate
        self._left_out = tuple(leave_out)
        self._probes = Probes()
        self._find_parameters()
        self._handles: list[Any] = []
        self._depth = 0
        self._watching = False
        self._entered = 0
        self._checked_mode: bool | None = None
        self._read = False
        self._pass = Pass()
        self._passes: list[Pass] = []
        self._sums: dict[int, Tensor] = {}

    def _find_parameters(self) -> None:
        trained = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if not trained:
            raise DataError("the model has no parameter with requires_grad: nothing to measure")
        self._names = [name for name, _ in trained]
        self._parameters = [parameter for _, parameter in trained]
        self._all = list(self.model.parameters())
        self._was_trained = self._trained()
        self._numbers = [parameter.numel() for parameter in self._parameters]
        self._measured = list(range(len(trained))), tuple(self._names), 1.0
        constants = (*self.model.parameters(), *self.model.buffers())
        self._recording = Recording(
            self._parameters,
            self.form.example_dim,
            lambda uses, output: self._pass.take(uses, output),
            constants,
        )
        self._watch = Watch(self._recording, RULES)
        self._refused = self._recording.refused
        for index, (name, parameter) in enumerate(trained):
            if name in self._left_out:
                self._refused[index] = "left out on request"
            elif parameter.is_complex():
                self._refused[index] = "complex numbers"

    def _trained(self) -> list[bool]:
        return [parameter.requires_grad for parameter in self._all]

    def _find_parameters_again(self) -> None:
        known = [id(parameter) for parameter in self._parameters]
        if known != [id(p) for p in self.model.parameters() if p.requires_grad]:
            self._find_parameters()
            self.reset()

    def __enter__(self) -> Self:
        if self._checked_mode != self.model.training:
            refuse_coupled(self.model)
            self._checked_mode = self.model.training
        if self._handles:
            raise DataError("this PerExampleNorms is in use already; leave its block first")
        if self._entered % _LOOK_EVERY == 0 or self._trained() != self._was_trained:
            self._find_parameters_again()
        self._entered += 1
        for index, parameter in enumerate(self._parameters):
            hook = partial(self._finish, index)
            self._handles.append(parameter.register_hook(hook))  # type: ignore[no-untyped-call]
        before = self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True)
        after = self.model.register_forward_hook(self._after_forward, always_call=True)
        self._handles += [before, after]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._recording.begin(0)

    @contextmanager
    def watching(self, examples: int) -> Iterator[None]:
        """Watch a block that computes a loss, and say how many examples it is about.

        Needed where the model is not called as ``model(tensor, ...)``, and where parameters are
        used outside its forward, such as an embedding that serves as output layer in the loss.
        """
        self._begin(examples)
        self._depth += 1
        try:
            with self._watch:
                yield
        finally:
            self._depth -= 1

    def squared_norms(self) -> Floats:
        """Return |gᵢ|² over all parameters, of shape (n,), for the passes since the last reading.

        Raises DataError: no backward pass was recorded, the examples are coupled, or a parameter is
        refused; :meth:`result` gives what there is without it.
        """
        norms = self.result()
        if norms.refused:
            shown = listed([f"{name} ({reason})" for name, reason in norms.refused.items()], 3)
            raise DataError(
                f"no per-example gradient of {shown}; result() gives the norms of the others, "
                "per_example_squared_norms() those of all"
            )
        return norms.values

    def result(self) -> Norms:
        """Return the norms with their parts, for the passes since the last reading.

        Raises DataError: no backward pass was recorded, or the examples are coupled.
        """
        if self._recording.coupled:
            raise coupling_error(sorted(self._recording.coupled))
        self._close()
        if not self._passes:
            raise DataError(
                "no backward pass was recorded; call the model and loss.backward() inside the block"
            )
        self._read = True
        kept, names, covered = self._kept()
        return assembled(
            self._passes,
            kept,
            names,
            reduction=self.form.reduction,
            sums=self._sums if self._accumulate else None,
            covered=covered,
            refused={self._names[i]: self._refused[i] for i in sorted(self._refused)},
        )

    def reset(self) -> None:
        """Forget all passes, for example after a step that was skipped."""
        self._pass = Pass()
        self._passes.clear()
        self._sums.clear()
        self._read = False

    @property
    def in_half_precision(self) -> bool:
        """Whether any recorded gradient came in half precision, so that norms are as coarse."""
        return any(one.in_half_precision for one in self._passes)

    def _before_forward(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        examples = examples_of_call(args, kwargs, self.form.example_dim)
        if examples is None:
            raise DataError(
                "the model was called without a tensor, so the number of examples is unknown; "
                "compute the loss inside `with norms.watching(examples=n):`"
            )
        self._begin(examples)
        self._watching = True
        self._watch.__enter__()  # type: ignore[no-untyped-call]

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        self._depth -= 1
        if self._depth == 0 and self._watching:
            self._watching = False
            self._watch.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def _begin(self, examples: int) -> None:
        """Begin a forward pass; if a backward pass has ended, it was a pass of its own."""
        if self._pass.begun:
            self._close()
        if self._read and torch.is_grad_enabled():
            self.reset()
        self._pass.forget_arrivals()
        self._pass.announced = examples
        self._recording.begin(examples)

    def _finish(self, index: int, gradient: Tensor) -> None:
        current = self._pass
        if not current.begun:
            current.scale = self._current_scale()
        if index in self._refused:
            current.problems.setdefault(index, self._refused[index])
        current.finish(index, gradient, self._probes)
        if self._accumulate:
            self._add(index, gradient, current)

    def _current_scale(self) -> float:
        scale = self.form.loss_scale
        factor = float(scale() if callable(scale) else scale)
        if not 0 < factor < math.inf:
            raise DataError(f"loss_scale is {factor}; give the positive factor of the loss")
        return factor

    def _add(self, index: int, gradient: Tensor, current: Pass) -> None:
        examples = current.examples or current.announced
        weight = (examples if self.form.reduction == "mean" else 1) / current.scale
        gradient = gradient.detach()
        gradient = gradient.to_dense() if gradient.is_sparse else gradient
        if index in self._sums:
            self._sums[index].add_(gradient, alpha=weight)
        else:
            self._sums[index] = gradient * weight

    def _close(self) -> None:
        if not self._pass.begun:
            return
        ended, self._pass = self._pass, Pass()
        ended.settle()
        if ended.examples == 0:
            raise DataError(
                "a backward pass came without a forward pass of the model, so its examples are "
                "unknown; compute the loss inside `with norms.watching(examples=n):`"
            )
        if ended.other_size:
            raise DataError(
                f"one loss is made of forward passes over {ended.examples} and over "
                f"{ended.other_size} examples, so it is not a mean over examples"
            )
        self._refused.update(ended.problems)
        self._passes.append(ended)

    def _kept(self) -> tuple[list[int], tuple[str, ...], float]:
        if not self._refused:
            return self._measured
        kept = [i for i in range(len(self._names)) if i not in self._refused]
        covered = sum([self._numbers[i] for i in kept]) / sum(self._numbers)
        return kept, tuple([self._names[i] for i in kept]), covered


def examples_of_call(
    args: Sequence[Any], kwargs: Mapping[str, Any], example_dim: int
) -> int | None:
    """Count the examples that a model is called with, by its first tensor; None without one."""
    first = args[0] if args and isinstance(args[0], Tensor) else None
    if first is None:
        first = next(iter(leaves((args, kwargs))), None)
    if first is None or first.dim() == 0:
        return None
    return first.shape[example_dim if first.dim() > example_dim else 0]
