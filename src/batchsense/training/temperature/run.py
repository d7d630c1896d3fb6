"""Train a copy of a workload under a thermometer, for as long as time or steps allow."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from batchsense import clock
from batchsense.arrays import Integers
from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.training.gradient_noise import GradientNoiseMeter
from batchsense.training.learning_rate import optimizer_family
from batchsense.training.running import EndlessOrder, optimizer_step
from batchsense.training.temperature.reading import LEAST_WINDOWS, HeatReading
from batchsense.training.temperature.setting import Sampling
from batchsense.training.temperature.thermometer import LEAST_EPOCHS, LEAST_WINDOW, Thermometer
from batchsense.training.temperature.windows import HeatWindow
from batchsense.training.workload import (
    Workload,
    admitted,
    borrowed_randomness,
    coupled_modules,
    moving_optimizer,
    scalar_loss,
)

#: Into how many windows a run is cut where it has the steps: the newer half of them speaks.
_WINDOWS = 8
#: Without epochs, the least steps of a window.
_LEAST_STEPS = 200
#: Examples whose loss is read; nine times a window, so that reading costs about a fifth of it.
_READ_SHARE, _LEAST_READ, _MOST_READ = 0.067, 256, 4096
_READ_AT_ONCE = 256
#: Steps that are timed before the length of a window is chosen.
_TIMED = 12


@dataclass(frozen=True, slots=True, eq=False)
class TemperatureRun:
    """A run under a thermometer.

    Attributes
    ----------
    reading : HeatReading
        Heat, forecast and whether the weights have settled.
    windows : tuple of HeatWindow
        All of them, in order.
    sampling : str
        How minibatches were drawn.
    batch_size, examples : int
        Of a step, and in the data set.
    steps : int
        That were made.
    read : int
        Examples whose loss was read.
    seconds : float
        In the loop.
    optimizer : str
        Its name.
    """

    reading: HeatReading
    windows: tuple[HeatWindow, ...]
    sampling: Sampling
    batch_size: int
    examples: int
    steps: int
    read: int
    seconds: float
    optimizer: str


def measure_temperature(
    workload: Workload,
    *,
    seconds: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    window: int | None = None,
    sampling: Sampling = "epoch",
    seed: int = 0,
    progress: Progress = silent,
) -> TemperatureRun:
    """Train a copy of the model from its present weights and read its heat.

    Parameters
    ----------
    workload : Workload
        The training job, with the optimizer and learning rate to be measured.
    seconds, steps : number, optional
        How long to train: give one of them.
    batch_size : int, optional
        Examples a step; the job's own by default.
    window : int, optional
        Steps of a window; an eighth of the run, but ten epochs at least, by default.
    sampling : {"epoch", "replacement"}
        Every example once an epoch, or each drawn independently.
    seed : int
        Of the order, the examples that are read, and the model's own randomness.
    progress : Progress
        Told each step.

    Raises
    ------
    DataError
        The job cannot be trained, names no batch size, or has a loss that is not finite.
    UnresolvedError
        The run is too short for three windows; says how long it must be.

    Examples
    --------
    >>> from batchsense.training import digits_workload
    >>> run = measure_temperature(
    ...     digits_workload(), steps=600, window=150, batch_size=16, sampling="replacement"
    ... )
    >>> run.reading.settled, len(run.windows)
    (False, 4)
    """
    if (seconds is None) == (steps is None):
        raise DataError("say how long to train: give either seconds or steps")
    count, size = admitted(workload), batch_size or workload.batch_size
    if size is None:
        raise DataError("the job names no batch size; say how many examples a step takes")
    if size > count:
        raise DataError(
            f"a minibatch of {size:,} cannot be drawn from {count:,}; at most {count:,}"
        )
    with borrowed_randomness(seed):
        model = workload.fresh_model()
        optimizer = moving_optimizer(workload, model)
        rows = _rows(sampling, count, size, seed)
        epoch = count / size if sampling == "epoch" else None
        began = clock.now()
        if steps is None:
            assert seconds is not None
            steps = _affordable(workload, size, seconds)
        width = _width(steps, window, epoch, seconds)
        read = min(count, max(_LEAST_READ, min(_MOST_READ, int(_READ_SHARE * width * size))))
        judged = np.random.default_rng([seed, 1]).permutation(count)[:read]
        meter = _meter(model, optimizer)
        thermometer = Thermometer(
            model,
            optimizer,
            lambda net: _loss(workload, net, judged),
            window=width,
            steps_per_epoch=None if epoch is None else math.ceil(epoch),
            injected_heat=lambda: _injected(meter, optimizer, size),
            refresh_statistics=_refresh(workload, judged) if coupled_modules(model) else None,
        )
        made = 0
        with meter or contextlib.nullcontext(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "step .* was not measured", RuntimeWarning)
            while made < steps:
                if _out_of_time(seconds, began, thermometer, made, width):
                    break
                minibatch = workload.minibatch(rows(made))
                try:
                    optimizer_step(workload, model, optimizer, [minibatch])
                except DataError as error:
                    raise DataError(f"at step {made + 1}: {error}") from error
                thermometer.step()
                made += 1
                progress("training under a thermometer, steps", made, steps)
        reading = thermometer.report()
    return TemperatureRun(
        reading=reading,
        windows=thermometer.windows,
        sampling=sampling,
        batch_size=size,
        examples=count,
        steps=made,
        read=read,
        seconds=clock.now() - began,
        optimizer=type(optimizer).__name__,
    )


def _rows(sampling: Sampling, count: int, size: int, seed: int) -> Callable[[int], Integers]:
    """The examples of the k-th step."""
    if sampling == "epoch":
        order = EndlessOrder(count, seed)
        return lambda step: order.at(step * size, size)
    if sampling == "replacement":
        rng = np.random.default_rng(seed)
        return lambda step: rng.integers(count, size=size)
    raise DataError(f"a run draws by 'epoch' or with 'replacement', not {sampling!r}")


def _affordable(workload: Workload, size: int, seconds: float) -> int:
    """Time a few steps of another copy; four fifths of the time are for steps, the rest reads."""
    model = workload.fresh_model()
    optimizer = workload.fresh_optimizer(model)
    minibatch = workload.minibatch(np.arange(size))
    optimizer_step(workload, model, optimizer, [minibatch])
    began = clock.now()
    for _ in range(_TIMED):
        optimizer_step(workload, model, optimizer, [workload.minibatch(np.arange(size))])
    each = (clock.now() - began) / _TIMED
    return max(1, int(0.8 * seconds / max(each, 1e-7)))


def _width(steps: int, window: int | None, epoch: float | None, seconds: float | None) -> int:
    least = math.ceil(LEAST_EPOCHS * math.ceil(epoch)) if epoch is not None else _LEAST_STEPS
    width = window if window is not None else max(least, LEAST_WINDOW, steps // _WINDOWS)
    if steps < LEAST_WINDOWS * width:
        longer = LEAST_WINDOWS * width
        needed = f"{longer:,} steps"
        if seconds is not None:
            needed += f", about {math.ceil(1.2 * seconds * longer / steps)} seconds"
        raise UnresolvedError(
            f"{steps:,} steps are less than {LEAST_WINDOWS} windows of {width:,}, so the heat has "
            "no interval",
            needed,
        )
    return width


def _out_of_time(
    seconds: float | None, began: float, thermometer: Thermometer, made: int, width: int
) -> bool:
    """Whether the time is over; the windows that a reading needs are waited for."""
    if seconds is None or made % width or len(thermometer.windows) < LEAST_WINDOWS:
        return False
    each = (clock.now() - began) / len(thermometer.windows)
    return clock.now() - began + each > 1.1 * seconds


def _loss(workload: Workload, model: nn.Module, rows: Integers) -> float:
    parts = np.array_split(rows, math.ceil(len(rows) / _READ_AT_ONCE))
    with torch.no_grad():
        losses = [scalar_loss(workload, model, workload.minibatch(part)).item() for part in parts]
    return float(np.average(losses, weights=[len(part) for part in parts]))


def _refresh(workload: Workload, rows: Integers) -> Callable[[nn.Module], None]:
    """Recompute the running statistics of BatchNorm as the plain mean over these examples."""

    def refresh(model: nn.Module) -> None:
        kind = nn.modules.batchnorm._BatchNorm
        modules = [module for module in model.modules() if isinstance(module, kind)]
        momenta = [module.momentum for module in modules]
        for module in modules:
            module.reset_running_stats()
            module.momentum = None
            module.train()
        _loss(workload, model, rows)
        for module, momentum in zip(modules, momenta, strict=True):
            module.momentum = momentum

    return refresh


def _meter(model: nn.Module, optimizer: torch.optim.Optimizer) -> GradientNoiseMeter | None:
    try:
        return GradientNoiseMeter(model, optimizer)
    except DataError:
        return None


def _injected(
    meter: GradientNoiseMeter | None, optimizer: torch.optim.Optimizer, size: int
) -> float | None:
    """η tr C/(4B(1 − m)), for plain descent; other optimizers have no such formula."""
    if meter is None or optimizer_family(optimizer) != "sgd":
        return None
    try:
        trace = meter.report().noise.trace_covariance.estimate
    except UnresolvedError:
        return None
    group = optimizer.param_groups[0]
    return float(group["lr"]) * trace / (4 * size * (1 - float(group.get("momentum", 0.0))))
