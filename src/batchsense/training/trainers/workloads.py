"""A training job as its trainer describes it: model, loss, examples, optimizer, batch size."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from batchsense.blame import described
from batchsense.errors import BatchsenseError, DataError
from batchsense.training.workload import Loss, OptimizerFactory, Workload, trainable


def workload_from_loader(
    model: nn.Module,
    loss: Loss,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer | OptimizerFactory,
) -> Workload:
    """Make a workload of what a plain training loop has at hand.

    Parameters
    ----------
    model : torch.nn.Module
        The model, at the weights to be measured.
    loss : callable
        ``loss(model, minibatch)``: the mean over the examples of the minibatch.
    loader : torch.utils.data.DataLoader
        Its data set, collate function and batch size are taken.
    optimizer : torch.optim.Optimizer or callable
        The optimizer of the model, whose kind, groups and options are taken; or
        ``optimizer(parameters)``.

    Returns
    -------
    Workload
        For every question of training.

    Raises
    ------
    DataError
        The loader has no indexable data set, or draws examples with chances of its own; or the
        optimizer is not that of the model.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> rows = torch.utils.data.TensorDataset(torch.randn(64, 2), torch.randn(64, 1))
    >>> loader = DataLoader(rows, batch_size=16, shuffle=True)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> workload = workload_from_loader(
    ...     model, lambda m, rows: (m(rows[0]) - rows[1]).square().mean(), loader, optimizer
    ... )
    >>> workload.batch_size, len(workload.examples)
    (16, 64)
    """
    if not isinstance(loader, DataLoader):
        raise DataError(f"the loader is a {type(loader).__name__}; give a torch DataLoader")
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise DataError(
            "the loader streams its examples, and measuring draws them by number; give a loader "
            "of a data set with a length",
            where=type(loader.dataset).__name__,
        )
    if loader.batch_sampler is None:
        raise DataError(
            "the loader makes no minibatches (batch_size=None): what its data set gives would be "
            "put together in another way than in training; give a loader with a batch size, of a "
            "data set of single examples"
        )
    size = getattr(loader.batch_sampler, "batch_size", None)
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if not isinstance(sampler, RandomSampler | SequentialSampler | _distributed_sampler()):
        raise DataError(
            f"{type(sampler).__name__} draws minibatches that are no uniform draws of the data "
            "set, so what is measured over it would not hold for them; give the examples as they "
            "are drawn, such as a torch.utils.data.Subset"
        )
    if isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer_like(optimizer, model)
    examples: Any = loader.dataset
    return Workload(model, loss, examples, optimizer, loader.collate_fn, size)


def workload_from_trainer(trainer: Any) -> Workload:
    """Make a workload of a ``transformers.Trainer`` that is ready to train.

    Its loss (label smoothing and own ``compute_loss`` included), collator, optimizer with decay
    groups, mixed precision, and the examples of a step: per device, accumulated, over all
    processes.

    Raises
    ------
    DataError
        It has no training data of a length, fails to make its loader or optimizer, or trains in
        fp16 with a scaled loss.

    Examples
    --------
    ``plan(workload_from_trainer(trainer))``; on the command line a TARGET may return the trainer.

    >>> workload_from_trainer(object())
    Traceback (most recent call last):
    batchsense.errors.DataError: object is no transformers.Trainer: it has no compute_loss
    """
    if not callable(getattr(trainer, "compute_loss", None)):
        name = type(trainer).__name__
        raise DataError(f"{name} is no transformers.Trainer: it has no compute_loss")
    _refuse_scaled(trainer.accelerator)
    with _blamed("the Trainer could not make its loader and optimizer"):
        loader = trainer.get_train_dataloader()
        made = trainer.optimizer or trainer.create_optimizer()

    def loss(model: nn.Module, inputs: Any) -> Tensor:
        # A copy, because label smoothing takes the labels out.
        inputs = trainer._prepare_inputs(dict(inputs))
        with trainer.accelerator.autocast(), trainer.compute_loss_context_manager():
            found: Tensor = trainer.compute_loss(model, inputs)
        return found

    arguments = trainer.args
    whole = arguments.train_batch_size * arguments.gradient_accumulation_steps
    found = workload_from_loader(
        trainer.model, loss, _plain(loader), getattr(made, "optimizer", made)
    )
    return Workload(
        found.model.train(),
        loss,
        found.examples,
        found.optimizer,
        found.collate,
        whole * arguments.world_size,
    )


def workload_from_lightning(module: Any, data: Any, trainer: Any = None) -> Workload:
    """Make a workload of a LightningModule and its data.

    The loss is that of ``training_step``; what it logs goes nowhere, and other hooks do not run.

    Parameters
    ----------
    module : lightning.LightningModule
        With automatic optimization, and one optimizer.
    data : lightning.LightningDataModule or torch.utils.data.DataLoader
        The training data.
    trainer : lightning.Trainer, optional
        Where accumulation, precision and the number of processes stand.

    Raises
    ------
    DataError
        Manual optimization, several optimizers or loaders, hooks that need a running trainer, or
        fp16 with a scaled loss.

    Examples
    --------
    ``plan(workload_from_lightning(module, datamodule, trainer))``.

    >>> workload_from_lightning(nn.Linear(1, 1), None)
    Traceback (most recent call last):
    batchsense.errors.DataError: Linear is no LightningModule: it has no training_step
    """
    if not callable(getattr(module, "training_step", None)):
        name = type(module).__name__
        raise DataError(f"{name} is no LightningModule: it has no training_step")
    if not module.automatic_optimization:
        raise DataError("manual optimization makes its own steps, which cannot be planned")
    model = _detached(module)
    with _blamed("configure_optimizers or the datamodule failed without a running trainer"):
        optimizer = _only_optimizer(model.configure_optimizers())
        loader = data
        if hasattr(data, "train_dataloader"):
            data.prepare_data()
            data.setup("fit")
            loader = data.train_dataloader()
    takes_number = len(inspect.signature(module.training_step).parameters) > 1
    precision = None if trainer is None else trainer.precision_plugin
    _refuse_scaled(precision)

    def loss(model: nn.Module, minibatch: Any) -> Tensor:
        step: Callable[..., Any] = model.training_step  # type: ignore[assignment]
        with contextlib.nullcontext() if precision is None else precision.forward_context():
            found = step(minibatch, 0) if takes_number else step(minibatch)
        value: Tensor = found["loss"] if isinstance(found, dict) else found
        return value

    found = workload_from_loader(model, loss, loader, optimizer)
    size = found.batch_size
    if size is not None and trainer is not None:
        size *= trainer.accumulate_grad_batches * trainer.world_size
    return Workload(model, loss, found.examples, found.optimizer, found.collate, size)


def workload_of(made: Any) -> Workload:
    """Take a Trainer, or a LightningModule with its data (and trainer), for a workload.

    Raises
    ------
    DataError
        It is neither.
    """
    parts = made if isinstance(made, tuple) else (made,)
    if hasattr(parts[0], "training_step") and len(parts) in (2, 3):
        return workload_from_lightning(*parts)
    if hasattr(made, "compute_loss"):
        return workload_from_trainer(made)
    raise DataError("neither a Trainer nor (LightningModule, data)")


def optimizer_like(optimizer: torch.optim.Optimizer, model: nn.Module) -> OptimizerFactory:
    """Make a factory of optimizers of the same kind, with the same groups and options.

    Parameters are told by their order among the trainable ones of the model, so that groups by
    name, as for weight decay, are the same on a copy. The state (momentum) begins anew.

    Raises
    ------
    DataError
        It holds a parameter that is none of the model's trainable ones.

    Examples
    --------
    >>> model = nn.Linear(2, 1)
    >>> decayed = {"params": [model.weight], "weight_decay": 0.1}
    >>> groups = [decayed, {"params": [model.bias]}]
    >>> make = optimizer_like(torch.optim.AdamW(groups, lr=0.01, weight_decay=0.0), model)
    >>> [group["weight_decay"] for group in make(nn.Linear(2, 1).parameters()).param_groups]
    [0.1, 0.0]
    """
    places = {id(parameter): place for place, parameter in enumerate(trainable(model))}
    groups = []
    for group in optimizer.param_groups:
        held = [parameter for parameter in group["params"] if parameter.requires_grad]
        if any(id(parameter) not in places for parameter in held):
            raise DataError(
                "the optimizer holds parameters that are none of the model's; give the optimizer "
                "of this model, or a function that makes one of the parameters it is given"
            )
        options = {name: value for name, value in group.items() if name not in _NOT_OPTIONS}
        if "initial_lr" in group:  # a scheduler has begun: its base is what was chosen
            options["lr"] = group["initial_lr"]
        groups.append(([places[id(parameter)] for parameter in held], copy.deepcopy(options)))
    kind = type(optimizer)

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        own = list(parameters)
        made = [{**options, "params": [own[place] for place in held]} for held, options in groups]
        rate = {"lr": groups[0][1]["lr"]} if "lr" in groups[0][1] else {}
        return kind(made, **rate)

    return make


#: Kept in groups for the optimizer's own use.
_NOT_OPTIONS = frozenset({"params", "initial_lr", "param_names"})


def _plain(loader: Any) -> DataLoader[Any]:
    """The loader behind what accelerate made of it."""
    while not isinstance(loader, DataLoader) and hasattr(loader, "base_dataloader"):
        loader = loader.base_dataloader
    plain: DataLoader[Any] = loader
    return plain


def _distributed_sampler() -> Any:
    from torch.utils.data.distributed import DistributedSampler

    return DistributedSampler


def _detached(module: Any) -> Any:
    """A copy without its trainer, that logs nothing."""
    trainer, module._trainer = module._trainer, None
    try:
        model = copy.deepcopy(module)
    finally:
        module._trainer = trainer
    model.log = model.log_dict = _nothing
    return model


def _refuse_scaled(holder: Any) -> None:
    """A measurement does not scale its loss, so in fp16 it would lose the small gradients."""
    if getattr(holder, "scaler", None) is not None:
        raise DataError(
            "trained in fp16 with a scaled loss; measured without the scale, small gradients would "
            "be zeros. Measure with bf16 or without mixed precision; a plan may be applied to fp16"
        )


def _nothing(*_: Any, **__: Any) -> None:
    """What is logged goes nowhere."""


def _only_optimizer(made: Any) -> torch.optim.Optimizer:
    """The optimizer in what configure_optimizers may return."""
    while isinstance(made, dict | list | tuple) and made:
        if isinstance(made, dict):
            made = made.get("optimizer")
        elif len(made) > 1 and isinstance(made[0], torch.optim.Optimizer | dict):
            break
        else:
            made = made[0]
    if not isinstance(made, torch.optim.Optimizer):
        raise DataError("configure_optimizers gives no optimizer, or several; one can be planned")
    return made


@contextlib.contextmanager
def _blamed(what: str) -> Any:
    try:
        yield
    except BatchsenseError:
        raise
    except Exception as error:
        raise DataError(f"{what}: {described(error)}") from error
