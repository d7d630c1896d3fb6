"""Which parameters a meter measures, and which models and optimizers it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from batchsense.errors import DataError, listed
from batchsense.notes import Note
from batchsense.training.gradient_noise.layers import Layers


@dataclass(frozen=True, slots=True, eq=False)
class Metered:
    """The parameters that an optimizer trains, in the order of the model.

    Attributes
    ----------
    names : tuple of str
        Of the P measured parameters, as in the model.
    parameters : tuple of torch.nn.Parameter
        The same parameters.
    layers : Layers
        Which of them belong together.
    trained : frozenset of int
        Identities of everything that the optimizer trains, left out or not.
    left_out : tuple of str
        Names that the user left out.
    left_out_share : float
        Their part of the trained numbers.
    """

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    layers: Layers
    trained: frozenset[int]
    left_out: tuple[str, ...]
    left_out_share: float

    def cautions(self) -> list[Note]:
        """Say which parameters the user left out."""
        if not self.left_out:
            return []
        return [
            Note(
                "parameters_left_out",
                f"Not measured, on request: {listed(self.left_out, 3)}, "
                f"{self.left_out_share:.1%} of the trained numbers.",
            )
        ]


def metered_parameters(
    model: nn.Module, optimizer: torch.optim.Optimizer, leave_out: Sequence[str] = ()
) -> Metered:
    """Find what an optimizer trains and name it as the model does.

    Parameters
    ----------
    model : torch.nn.Module
        Whose names are used.
    optimizer : torch.optim.Optimizer
        Whose parameters, as far as they require a gradient, are meant.
    leave_out : sequence of str
        Names not to measure.

    Returns
    -------
    Metered
        Parameters with names and layers.

    Raises
    ------
    DataError
        The optimizer trains nothing of the model, or ``leave_out`` is wrong or leaves nothing.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    >>> metered_parameters(model, torch.optim.SGD(model[1].parameters(), lr=0.1)).names
    ('1.weight', '1.bias')
    """
    names = {id(p): name for name, p in model.named_parameters()}
    wrong = sorted(set(leave_out) - set(names.values()))
    if wrong:
        raise DataError(f"leave_out names no parameter of the model: {listed(wrong)}")
    found = trained_parameters(optimizer)
    if not any(id(p) in names for p in found):
        raise DataError(
            "the optimizer holds no trained parameter of the model; give the model whose "
            "parameters it was made from, and its innermost torch.optim.Optimizer"
        )
    named = [(names.get(id(p), f"optimizer.{place}"), p) for place, p in enumerate(found)]
    order = {name: place for place, name in enumerate(names.values())}
    named.sort(key=lambda pair: order.get(pair[0], len(order)))
    kept = [(name, p) for name, p in named if name not in leave_out]
    if not kept:
        raise DataError("leave_out leaves no parameter to measure")
    numbers = sum(p.numel() for _, p in kept)
    return Metered(
        names=tuple(name for name, _ in kept),
        parameters=tuple(p for _, p in kept),
        layers=Layers.of([name for name, _ in kept], [p.numel() for _, p in kept]),
        trained=frozenset(id(p) for _, p in named),
        left_out=tuple(leave_out),
        left_out_share=1 - numbers / sum(p.numel() for _, p in named),
    )


def trained_parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Give the parameters that an optimizer changes."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def check_meterable(model: object, optimizer: object) -> None:
    """Refuse what a meter cannot follow.

    Raises
    ------
    DataError
        No torch model or optimizer, LBFGS, or parameters sharded over processes.

    Examples
    --------
    >>> check_meterable(nn.Linear(1, 1), "SGD")
    Traceback (most recent call last):
    batchsense.errors.DataError: the optimizer is a str, not a torch.optim.Optimizer
    """
    if not isinstance(model, nn.Module):
        raise DataError(f"the model is a {type(model).__name__}, not a torch.nn.Module")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise DataError(
            f"the optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer"
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise DataError("LBFGS takes many gradients a step; its noise cannot be metered")
    sharded = any(type(p).__name__ == "DTensor" for p in model.parameters())
    if sharded or any("FullySharded" in type(module).__name__ for module in model.modules()):
        raise DataError(
            "the parameters are sharded over processes (FSDP), where no process sees a whole "
            "gradient; meter an unsharded run"
        )
