"""Measure the gradient of a loss on any part of a fixed set of examples, on a private copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from batchsense.arrays import Floats
from batchsense.errors import DataError
from batchsense.training.separability.probe.isolated_model import (
    IsolatedModel,
    Randomness,
    blamed_on,
)
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    cloned,
    differentiated,
    identical,
    refuse_complex,
    size_of,
    trainable,
    why_not_finite,
)

#: Places among the examples of a probe.
Members: TypeAlias = Sequence[int] | NDArray[Any]

#: Gradients longer than this are compared through a random sketch of :data:`SKETCH` numbers. At
#: 24 partitions of 8 parts, gradients of this length take 200 MB; a sketch keeps lengths to
#: sqrt(2 / SKETCH), about 1 %.
LONGEST = 131_072
SKETCH = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One gradient, flat, float64, or its sketch; the loss; the examples as they were before it."""

    gradient: Floats
    loss: float
    minibatch: Any


class GradientProbe:
    """A private copy of a workload that gives the gradient of any part of its examples.

    The chosen examples are read once and kept; ``seed`` is that of the reading and of the sketch,
    ``lengths`` how many numbers each example holds, ``parameters`` how many the full gradient has.

    Raises DataError: the model cannot be copied, has nothing to train, or the examples differ at
    each reading.
    """

    def __init__(
        self,
        workload: Workload,
        indices: Members,
        precision: str = "float64",
        seed: int = 0,
    ) -> None:
        admitted(workload)
        self.precision = precision
        self.isolated = IsolatedModel(workload.model, precision)
        kept = frozen_examples(workload, indices, seed)
        self.workload = dataclasses.replace(workload, model=self.isolated.model, examples=kept)
        self._read, self._indices = workload, {int(index) for index in indices}
        self.count = len(indices)
        self.lengths = np.array([size_of(example) for example in kept])
        self.parameters = sum(_length(p) for p in trainable(self.isolated.model))
        self._spent = [0]
        self._sketch = _Sketch(self.parameters, seed) if self.parameters > LONGEST else None

    @property
    def examples_used(self) -> int:
        """How many examples have been differentiated so far, also at shifted parameters."""
        return self._spent[0]

    @property
    def sketched(self) -> bool:
        """Whether gradients are compared through a random sketch."""
        return self._sketch is not None

    def gradient(
        self,
        members: Members,
        seed: int = 0,
        randomness: Randomness = "free",
        restore: bool = True,
        elsewhere: int | None = None,
    ) -> Measured:
        """Measure the gradient of the loss over the examples at these places, in their order.

        Raises DataError: the loss fails, is no finite scalar, or does not depend on the model's
        parameters.
        """
        flat, loss, minibatch = self._flat(members, seed, randomness, restore, elsewhere)
        vector = flat if self._sketch is None else self._sketch.of(flat)
        return Measured(vector.cpu().numpy().astype(np.float64), loss, minibatch)

    def by_parameter(self, members: Members, seed: int = 0) -> dict[str, Tensor]:
        """The gradient of every trained parameter by name, flat, in float64."""
        flat, _, _ = self._flat(members, seed)
        return _by_name(flat, self.isolated.model)

    def minibatch_of(self, members: Members) -> Any:
        """Collate copies of some examples, in the audited precision."""
        return self._collated(self._copies(members))

    def _copies(self, members: Members) -> list[Any]:
        return [cloned(self.workload.examples[int(k)]) for k in members]

    def _collated(self, copies: list[Any]) -> Any:
        workload = dataclasses.replace(self.workload, examples=copies)
        return self.isolated.in_precision(workload.minibatch(range(len(copies))))

    def left_by(
        self, step: Callable[[nn.Module, Sequence[Any]], Any], parts: Sequence[Members], seed: int
    ) -> dict[str, Tensor]:
        """The gradients that ``step(model, micro_batches)`` leaves, by name; empty if none."""
        model = self.isolated.ready("free")
        micro_batches = [cloned(self.minibatch_of(part)) for part in parts]
        with self.isolated.conditions([], True, seed, "free"), blamed_on("step"):
            step(model, micro_batches)
        return {
            name: torch.zeros(0) if p.grad is None else p.grad.reshape(-1)
            for name, p in _named(model)
        }

    def strangers(self, seed: int) -> list[Any]:
        """Read as many examples of the workload that are not kept; fewer if there are no others."""
        generator = np.random.default_rng([seed, 33])
        everyone = generator.permutation(len(self._read.examples))
        others = [int(k) for k in everyone if int(k) not in self._indices]
        with borrowed_randomness(seed), blamed_on("examples", "one could not be read"):
            return [cloned(self._read.examples[k]) for k in others[: self.count]]

    def shifted(self, size: float, seed: int) -> GradientProbe:
        """The same probe at parameters moved at random by ``size`` of their own spread."""
        other = object.__new__(GradientProbe)
        other.__dict__.update(self.__dict__)
        moved = self.isolated.copied().model
        generator = np.random.default_rng(seed)
        with torch.no_grad():
            for parameter in trainable(moved):
                scale = float(parameter.abs().square().mean().sqrt()) or 1.0
                step = torch.as_tensor(generator.normal(size=tuple(parameter.shape)))
                parameter.add_(size * scale * step.to(parameter))
        other.isolated = IsolatedModel(moved, self.precision)
        return other

    def _flat(
        self,
        members: Members,
        seed: int,
        randomness: Randomness = "free",
        restore: bool = True,
        elsewhere: int | None = None,
    ) -> tuple[Tensor, float, Any]:
        places = [int(member) for member in members]
        model = self.isolated.ready(randomness, restore)
        parameters = trainable(model)
        whole = len(places) == self.count
        copies = self._copies(places)  # outside: every call inside is looked at
        with self.isolated.conditions(places, whole, seed, randomness, elsewhere):
            minibatch = self._collated(copies)
            loss = _scalar_loss(self.workload, model, cloned(minibatch))
            gradients = _differentiated(loss, parameters)
        self._spent[0] += len(places)
        flat = torch.cat([_real(g, p) for g, p in zip(gradients, parameters, strict=True)])
        value = float(loss.detach())
        _refuse_what_is_not_finite(value, flat, model, minibatch)
        return flat, value, minibatch


def frozen_examples(workload: Workload, indices: Members, seed: int) -> list[Any]:
    """Read the examples twice with the same random numbers and refuse those that differ."""
    kept = []
    for index in indices:
        readings = []
        for _ in range(2):
            with borrowed_randomness(seed), blamed_on(f"examples[{index}]", "it could not be read"):
                readings.append(cloned(workload.examples[int(index)]))
        if not identical(*readings):
            raise DataError(
                "two readings of it differ although all random generators were seeded alike; a "
                "difference of gradients would then be a difference of data. Switch off its "
                "random augmentation, or draw it from torch's, numpy's or Python's global "
                "generator",
                where=f"examples[{index}]",
            )
        kept.append(readings[0])
    return kept


def mixed(seed: int, *keys: int) -> int:
    """Make an independent seed from a seed and keys."""
    return int(np.random.SeedSequence([seed, *keys]).generate_state(1)[0])


def _scalar_loss(workload: Workload, model: nn.Module, minibatch: Any) -> Tensor:
    with blamed_on("loss"):
        loss = workload.loss(model, minibatch)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else None
        raise DataError(
            f"it returned {shape or type(loss).__name__}; return a scalar tensor", where="loss"
        )
    refuse_complex(loss)
    if not loss.requires_grad:
        raise DataError(
            "it has no gradient with respect to the model that it is given; use that model, "
            "outside torch.no_grad(), and do not detach its output",
            where="loss",
        )
    return loss.reshape(())


def _differentiated(loss: Tensor, parameters: list[nn.Parameter]) -> Sequence[Tensor | None]:
    with blamed_on("loss", "its gradient fails"):
        gradients = differentiated(loss, parameters)
    if all(gradient is None for gradient in gradients):
        raise DataError(
            "it does not depend on the parameters of the model that it is given; use that model, "
            "not one from outside",
            where="loss",
        )
    return gradients


def _refuse_what_is_not_finite(
    loss: float, gradient: Tensor, model: nn.Module, minibatch: Any
) -> None:
    if not np.isfinite(loss):
        why = why_not_finite(minibatch)
        raise DataError(f"it is {loss:g}, not a finite number; {why}", where="loss")
    if bool(torch.isfinite(gradient).all()):
        return
    parts = _by_name(gradient, model)
    name = next(name for name, part in parts.items() if not torch.isfinite(part).all())
    raise DataError(f"its gradient with respect to {name} is not finite", where="loss")


def _named(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def _by_name(gradient: Tensor, model: nn.Module) -> dict[str, Tensor]:
    named = _named(model)
    parts = torch.split(gradient, [_length(parameter) for _, parameter in named])
    return dict(zip((name for name, _ in named), parts, strict=True))


def _length(parameter: Tensor) -> int:
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def _real(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    """Flatten one gradient to float64; a missing one is zero."""
    if gradient is None:
        return torch.zeros(_length(parameter), dtype=torch.float64, device=parameter.device)
    dense = gradient.detach().to_dense() if gradient.is_sparse else gradient.detach()
    real = torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense
    return real.reshape(-1).to(torch.float64)


class _Sketch:
    """A random linear map to fewer numbers that keeps lengths to about one in a hundred."""

    def __init__(self, size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed + 1)
        self._bucket = torch.randint(SKETCH, (size,), generator=generator)
        self._sign = torch.randint(2, (size,), generator=generator, dtype=torch.int8) * 2 - 1

    def of(self, vector: Tensor) -> Tensor:
        """Sketch one vector."""
        self._bucket = self._bucket.to(vector.device)
        self._sign = self._sign.to(vector.device)
        summed = torch.zeros(SKETCH, dtype=vector.dtype, device=vector.device)
        return summed.index_add_(0, self._bucket, vector * self._sign)
