"""Record what every module, or every operation of one module, takes and gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from batchsense.training.workload.blame import place_now
from batchsense.training.workload.minibatches import named_tensors

#: The scope of code that runs outside every module of the model.
OUTSIDE = "loss"
_SPOKEN = {"__getitem__": "indexing", "__rsub__": "sub", "rsub": "sub", "truediv": "div"}
_QUERIES = {"__get__", "size", "dim", "numel", "__len__", "is_floating_point", "stride", "type"}


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One call of a module or operation.

    Attributes
    ----------
    name : str
        Path of the module in the model (its class for modules from outside), or the operation.
    scope : str
        Path of the module in whose forward it ran.
    kind : str
        Class of the module, or ``"operation"``.
    where : str or None
        ``file:line`` in the user's code.
    inputs, outputs : list of Tensor
        Detached copies.
    """

    name: str
    scope: str
    kind: str
    where: str | None
    inputs: list[Tensor]
    outputs: list[Tensor]


class Recorder(TorchFunctionMode):
    """Record the calls made inside the block.

    Parameters
    ----------
    model : torch.nn.Module
        The model whose modules get their paths as names.
    scope : str, optional
        Record the operations that run directly in this module's forward (or :data:`OUTSIDE`)
        rather than modules.
    shapes_only : bool
        Record every operation of every scope, without its data: tensors become ``meta``.

    Attributes
    ----------
    records : list of Record
        In the order in which the calls ended.
    """

    def __init__(
        self, model: nn.Module, scope: str | None = None, shapes_only: bool = False
    ) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._class = type(model).__name__
        self._scope = scope
        self._shapes_only = shapes_only
        self._stack: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call the operation and note it if it runs in the wanted scope."""
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        wanted = self._shapes_only or (self._scope is not None and self._scope == self._here())
        if not wanted or name in _QUERIES:
            return func(*args, **kwargs)
        before = self._kept([args, kwargs])
        result = func(*args, **kwargs)
        after = self._kept(result)
        if after:
            self.records.append(
                Record(
                    _SPOKEN.get(name, name), self._here(), "operation", place_now(), before, after
                )
            )
        return result

    def name_of(self, module: nn.Module) -> str:
        """Give the path of a module in the model, or its class if it is from outside."""
        path = self._paths.get(id(module))
        return type(module).__name__ if path is None else path or self._class

    def _here(self) -> str:
        """Name the innermost running module."""
        return self._stack[-1] if self._stack else OUTSIDE

    def _kept(self, tree: Any) -> list[Tensor]:
        """Copy the tensors of a tree, or only their shapes."""
        with torch._C.DisableTorchFunction():
            if self._shapes_only:
                return [
                    torch.empty_like(t, device="meta", requires_grad=t.requires_grad)
                    for _, t in named_tensors(tree)
                    if t.is_floating_point()
                ]
            return [t.detach().clone() for _, t in named_tensors(tree)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[Recorder]:
        """Hook every module, of the model or not, and every operation inside the block."""
        handles = [
            hooks.register_module_forward_pre_hook(self._entered),
            hooks.register_module_forward_hook(self._left, with_kwargs=True),
        ]
        try:
            with self:
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _entered(self, module: nn.Module, args: Any) -> None:
        """Note that a module's forward begins."""
        self._stack.append(self.name_of(module))

    def _left(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Note what a module took and gave."""
        name = self._stack.pop() if self._stack else self.name_of(module)
        if self._scope is None and not self._shapes_only:
            self.records.append(
                Record(
                    name,
                    self._here(),
                    type(module).__name__,
                    place_now(),
                    self._kept([args, kwargs]),
                    self._kept(output),
                )
            )
