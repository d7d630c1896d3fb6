"""Callbacks of ours become callbacks of a trainer when they are made, and load its package then."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import nn

from batchsense.errors import DataError, MissingExtraError
from batchsense.training.example_gradients import LossForm
from batchsense.training.gradient_noise import GradientNoiseMeter, MeterReport


class JoinedCallback:
    """Made as a class of its own, which inherits from the trainer's callback too."""

    #: Module and class of the trainer's callback, our extra, and whose callbacks they are.
    joins: ClassVar[tuple[str, str, str, str]]

    def __new__(cls, *given: Any, **named: Any) -> Self:
        """Make it a callback of the trainer."""
        module, base, extra, whose = cls.joins
        try:
            package = importlib.import_module(module)
        except ImportError:
            raise MissingExtraError(f"Callbacks of {whose}", extra) from None
        joined = type(cls.__name__, (cls, getattr(package, base)), {"__module__": cls.__module__})
        made: Self = object.__new__(joined)
        return made


class TrainerMeter:
    """A noise meter that a trainer's callback begins and ends.

    Parameters
    ----------
    **options
        ``mode``, ``every``, ``pooled``, ``population`` and ``leave_out`` of
        :class:`~batchsense.training.GradientNoiseMeter`.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._meter: GradientNoiseMeter | None = None
        self._loaded: dict[str, Any] | None = None

    @property
    def meter(self) -> GradientNoiseMeter:
        """The meter, once training has begun."""
        if self._meter is None:
            raise DataError("nothing is metered yet; the meter begins when training begins")
        return self._meter

    def report(self, level: float = 0.95) -> MeterReport:
        """Report what was measured so far; see :class:`~batchsense.training.GradientNoiseMeter`."""
        return self.meter.report(level)

    def begin(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, loss_scale: Callable[[], float]
    ) -> None:
        """Attach a meter; what was measured before a checkpoint counts too."""
        self._meter = GradientNoiseMeter(
            model, optimizer, form=LossForm(loss_scale=loss_scale), **self._options
        )
        if self._loaded is not None:
            self._meter.load_state_dict(self._loaded)
            self._loaded = None
        self._meter.attach()

    def end(self) -> None:
        """Remove the hooks; the report stays."""
        if self._meter is not None:
            self._meter.detach()
