"""What the learning rate does when the batch size changes, and schedulers that would undo it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import torch

from batchsense.errors import DataError
from batchsense.training.learning_rate import learning_rate_factor, optimizer_family, rescale

#: ``None`` leaves the learning rate, so that growth cools the run. ``"lr"`` changes it alone, by
#: the rule of the optimizer: k, or √k for Adam. ``"temperature"`` changes all that keeps the heat:
#: for Adam also β₂, ε and weight decay. ``"seesaw"`` divides it by √k.
Coupling: TypeAlias = Literal["lr", "temperature", "seesaw"] | None
COUPLINGS = ("lr", "temperature", "seesaw")

#: Where optimizers and schedulers of torch keep learning rates beside ``lr`` itself.
_OF_GROUPS = ("initial_lr", "max_lr", "min_lr")
_OF_SCHEDULERS = ("base_lrs", "max_lrs", "min_lrs", "_last_lr", "eta_min")


def check_coupling(
    optimizer: torch.optim.Optimizer, how: Coupling, schedulers: Iterable[Any] | None
) -> tuple[Any, ...]:
    """Give the schedulers, if the learning rate can follow at all.

    Raises DataError: there is no such coupling, no rule for this optimizer, or a scheduler that was
    not named.
    """
    if how is not None and how not in COUPLINGS:
        raise DataError(f"couple is {how!r}; use 'lr', 'temperature', 'seesaw' or None")
    if how in ("lr", "temperature") and optimizer_family(optimizer) == "other":
        raise DataError(
            f"no rule is known by which the learning rate of {type(optimizer).__name__} follows "
            "the batch size; use couple=None or 'seesaw'"
        )
    hidden = schedulers is None and any("initial_lr" in group for group in optimizer.param_groups)
    if how is not None and hidden:
        raise DataError(
            "the optimizer has a learning rate scheduler, whose next step would undo the change; "
            "give it as lr_schedulers=[scheduler], or lr_schedulers=[] if it is no longer used"
        )
    return tuple(schedulers or ())


def change_learning_rate(
    optimizer: torch.optim.Optimizer,
    factor: float,
    how: Coupling,
    schedulers: Iterable[Any] = (),
) -> None:
    """Change an optimizer in place for a batch size ``factor`` times as large, by :data:`Coupling`.

    Base rates of learning rate schedulers are multiplied too. Sources: Malladi et al. (2022),
    arXiv:2205.10287; Meterez et al. (2025), arXiv:2510.14717.

    >>> adam = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    >>> half = torch.optim.lr_scheduler.StepLR(adam, step_size=1, gamma=0.5)
    >>> change_learning_rate(adam, 4, "lr", [half])
    >>> adam.param_groups[0]["lr"], half.base_lrs
    (0.002, [0.002])
    """
    if how is None or factor == 1:
        return
    change = 1 / math.sqrt(factor)
    if how != "seesaw":
        rule = "linear" if optimizer_family(optimizer) == "sgd" else "square_root"
        change = learning_rate_factor(rule, 1.0, factor)  # type: ignore[arg-type]
    names = _OF_GROUPS[1:] if how == "temperature" else ("lr", *_OF_GROUPS)
    if how == "temperature":
        rescale(optimizer, factor)
    for group in optimizer.param_groups:
        for name in names:
            if name in group:
                group[name] = _scaled(group[name], change)
    _scale_schedulers(schedulers, change)


def _scaled(rate: Any, change: float) -> Any:
    if isinstance(rate, torch.Tensor):
        return rate.mul_(change)
    return rate * change


def _scale_schedulers(schedulers: Iterable[Any], change: float) -> None:
    for scheduler in schedulers:
        inner = getattr(scheduler, "_schedulers", ())  # SequentialLR, ChainedScheduler
        _scale_schedulers(inner, change)
        for name in _OF_SCHEDULERS:
            held = getattr(scheduler, name, None)
            if isinstance(held, list):
                setattr(scheduler, name, [rate * change for rate in held])
            elif isinstance(held, float | int):
                setattr(scheduler, name, held * change)
