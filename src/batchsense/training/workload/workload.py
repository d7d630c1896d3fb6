"""What a user trains: model, loss, examples and optimizer in one object.

Everything that measures works on fresh copies made here, so that the user's model, its buffers and
its gradients are the same after a measurement as before.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset, default_collate

from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError, UnresolvedError

#: numpy's old generator takes seeds of 32 bits.
_MAX_SEED = 2**32


class Examples(Protocol):
    """An indexable data set with a length, such as any map-style ``torch`` data set or a list."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def __getitem__(self, index: int, /) -> Any:
        """Return one example."""


#: ``loss(model, minibatch)``: the mean over the examples of the minibatch, a scalar tensor.
Loss: TypeAlias = Callable[[nn.Module, Any], Tensor]
#: ``optimizer(parameters)``: a new optimizer for these parameters.
OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """A training job, as much of it as batchsense needs to know.

    Attributes
    ----------
    model : torch.nn.Module
        The model, at the weights and in the mode (train or eval) to be measured.
    loss : callable
        ``loss(model, minibatch)`` gives a scalar tensor, the *mean* over the examples of the
        minibatch. Use the model that is passed in, not one from outside.
    examples : indexable data set
        ``len(examples)`` and ``examples[i]``; the data are read from the main process.
    optimizer : callable
        ``optimizer(parameters)`` gives a new ``torch.optim.Optimizer``.
    collate : callable, optional
        Turns a list of examples into a minibatch; ``torch``'s ``default_collate`` by default. What
        it returns is passed to ``loss`` as it is: move it to the model's device in either.
    batch_size : int, optional
        The batch size in use today. The optimizer's learning rate is taken to belong to it.

    Examples
    --------
    >>> points = torch.linspace(-1, 1, 8).reshape(8, 1)
    >>> workload = Workload(
    ...     model=nn.Linear(1, 1),
    ...     loss=lambda model, minibatch: (model(minibatch[0]) - minibatch[1]).square().mean(),
    ...     examples=TensorDataset(points, 3 * points),
    ...     optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    ... )
    >>> [tensor.shape for tensor in workload.minibatch([0, 3, 5])]
    [torch.Size([3, 1]), torch.Size([3, 1])]
    """

    model: nn.Module
    loss: Loss
    examples: Examples
    optimizer: OptimizerFactory
    collate: Callable[[list[Any]], Any] | None = None
    batch_size: int | None = None

    def minibatch(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Any:
        """Fetch and collate the examples at ``indices``.

        Parameters
        ----------
        indices : sequence of int
            Which examples, in which order; repetitions are allowed.

        Returns
        -------
        object
            What ``collate`` makes of them.

        Raises
        ------
        DataError
            An example cannot be read, or the examples cannot be collated.
        """
        wanted = [int(index) for index in indices]
        if self.collate is None and isinstance(self.examples, TensorDataset):
            chosen = torch.as_tensor(wanted)
            return [tensor[chosen] for tensor in self.examples.tensors]
        fetched = self.fetch(wanted)
        try:
            return default_collate(fetched) if self.collate is None else self.collate(fetched)
        except BatchsenseError:
            raise
        except Exception as error:
            name = "default_collate" if self.collate is None else "collate"
            raise DataError(
                f"{name} could not join {len(wanted)} examples: {described(error)}; "
                "give Workload(collate=...) a function that makes a minibatch of them"
            ) from error

    def fresh_model(self) -> nn.Module:
        """Copy the model with its buffers and mode, without gradients.

        Raises
        ------
        DataError
            The model cannot be copied.
        """
        try:
            model = copy.deepcopy(self.model)
        except Exception as error:
            raise DataError(
                f"the model cannot be copied ({described(error)}), and measuring on the model "
                "itself would change it; let the function that makes the Workload build it"
            ) from error
        model.zero_grad(set_to_none=True)
        return model

    def fresh_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Make an optimizer for a copy of the model.

        Raises
        ------
        DataError
            The optimizer cannot be made, or holds other parameters than the copy's.
        """
        parameters = trainable(model)
        try:
            optimizer = self.optimizer(parameters)
        except Exception as error:
            raise DataError(f"the optimizer could not be made: {described(error)}") from error
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise DataError(
                f"optimizer(parameters) returned {type(optimizer).__name__}; "
                "return a torch.optim.Optimizer"
            )
        own = {id(parameter) for parameter in parameters}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not held <= own:
            raise DataError(
                "optimizer(parameters) optimises other parameters than those it is given; build "
                "it from its argument, because measurements run on a copy of the model"
            )
        if isinstance(optimizer, torch.optim.LBFGS):
            raise DataError(
                "LBFGS calls a closure over all examples in each step, which no minibatch is; give "
                "an optimizer that steps once a minibatch, such as SGD or Adam"
            )
        return optimizer

    def fetch(self, indices: Sequence[int]) -> list[Any]:
        """Read the examples at ``indices``, all at once where the data set can.

        Raises
        ------
        DataError
            An example cannot be read.
        """
        many = getattr(self.examples, "__getitems__", None)
        try:
            if many is not None:
                return list(many(list(indices)))
            return [self._one(index) for index in indices]
        except BatchsenseError:
            raise
        except Exception as error:
            what = f"{len(indices)} of the examples"
            raise DataError(f"{what} could not be read: {described(error)}") from error

    def _one(self, index: int) -> Any:
        try:
            return self.examples[index]
        except BatchsenseError:
            raise
        except Exception as error:
            raise DataError(f"examples[{index}] could not be read: {described(error)}") from error


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained, each once even if shared.

    >>> len(trainable(nn.Linear(2, 1)))
    2
    """
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def still_optimizer(workload: Workload, model: nn.Module) -> torch.optim.Optimizer:
    """Make the workload's optimizer with learning rate zero, for measuring time and memory.

    It computes and stores what it always does, but the weights stay where the user put them, so
    that repeated steps are alike.

    Raises DataError: as :meth:`Workload.fresh_optimizer`.

    >>> from batchsense.training import load_target
    >>> workload = load_target("digits")
    >>> still_optimizer(workload, workload.fresh_model()).param_groups[0]["lr"]
    0.0
    """
    optimizer = workload.fresh_optimizer(model)
    for group in optimizer.param_groups:
        rate = group.get("lr")
        if isinstance(rate, torch.Tensor):
            rate.zero_()
        elif rate is not None:
            group["lr"] = 0.0
    return optimizer


def moving_optimizer(workload: Workload, model: nn.Module) -> torch.optim.Optimizer:
    """Make the workload's optimizer for a run in which the weights are to move.

    Raises DataError: as :meth:`Workload.fresh_optimizer`.
    Raises UnresolvedError: its learning rate is zero.
    """
    optimizer = workload.fresh_optimizer(model)
    # Some optimizers hold None, and find a rate of their own.
    rates = [group.get("lr") for group in optimizer.param_groups]
    if all(rate is not None and float(rate) == 0 for rate in rates):
        raise UnresolvedError(
            "the learning rate of the optimizer is 0, so that no step moves the weights",
            "the learning rate that is trained with, without warm-up",
        )
    return optimizer


@contextlib.contextmanager
def borrowed_randomness(seed: int) -> Iterator[None]:
    """Seed Python's, numpy's and torch's global generators inside the block, restore them after.

    The user's model and data set may draw from any of them (dropout, augmentation), so a result is
    repeatable only if all three are seeded, and harmless only if all three are restored.
    """
    before = random_state()
    try:
        random.seed(seed)
        np.random.seed(seed % _MAX_SEED)  # noqa: NPY002
        seed_torch(seed)
        yield
    finally:
        set_random_state(before)


def random_state() -> tuple[Any, ...]:
    """Where Python's, numpy's and torch's generators are, also those of the GPUs in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002 - user code draws from this generator
        torch.get_rng_state(),
        torch.cuda.get_rng_state_all() if in_use else [],
    )


def set_random_state(state: tuple[Any, ...]) -> None:
    """Put all generators where :func:`random_state` found them."""
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])
    if state[3]:
        torch.cuda.set_rng_state_all(state[3])


def seed_torch(seed: int) -> None:
    """Seed torch's generators of the CPU and of the devices in use.

    ``torch.manual_seed`` does the same, but formats a traceback for every device not in use.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
