"""A thermometer in an ordinary training loop: heat from mean weights, without touching the run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.training.learning_rate import optimizer_family
from batchsense.training.temperature.reading import HeatReading, read_windows
from batchsense.training.temperature.windows import HeatWindow
from batchsense.training.workload import coupled_modules

#: Mean loss of a model on a fixed evaluation set.
Evaluate = Callable[[nn.Module], float]

#: On every step the squared update cost 1.32 of a plain step on a small net, on every tenth 1.08
#: there and 1.054 on 300,000 numbers; a window has many more than twenty steps.
_EVERY = 20
#: Two steps of a window are looked at, at least.
LEAST_WINDOW = 2 * _EVERY
#: Losses of single weights in a window: their mean has then a third of the error of one.
_EVALUATIONS = 8
#: A shuffled epoch has hardly any heat in directions that relax slower; ten see most of it.
LEAST_EPOCHS = 10

_STATE_VERSION = 1


class Thermometer:
    r"""Measure how much of the loss is heat that minibatch noise keeps up.

    Over a window of steps, :math:`E = \overline{L(w)} - L(\overline{w})` on one fixed evaluation
    set is what cooling the run to rest would gain, once the weights have settled; whether they have
    says the equilibration ratio r. The run is the same bit for bit with and without.

    Parameters
    ----------
    model : torch.nn.Module
        In training; only read.
    optimizer : torch.optim.Optimizer
        Whose ``step()`` comes before each :meth:`step` here.
    evaluate : callable
        ``evaluate(model)`` gives the mean loss on a fixed set of examples. It gets a copy in eval
        mode, without gradients.
    window : int
        Steps of a window; at least ten epochs where the loader shuffles, and at least 20/(ηλ) for
        the slowest curvature λ that is to count.
    steps_per_epoch : int, optional
        To hold the window against.
    injected_heat : callable, optional
        Gives η tr C/(4B(1 − m)) when asked, such as from a gradient noise meter.
    refresh_statistics : callable, optional
        ``refresh_statistics(model)`` recomputes the running statistics of BatchNorm for the mean
        weights; needed where the model has any.

    Raises
    ------
    DataError
        A window of fewer than ten epochs, nothing to train, BatchNorm without a way to refresh it,
        a loss that is not finite.

    References
    ----------
    Izmailov et al. (2018), "Averaging weights leads to wider optima", UAI, for mean weights; Pesme,
    Dieuleveut and Flammarion (2020), ICML, for the distance a run has gone.

    Examples
    --------
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator object at ...>
    >>> model = nn.Linear(1, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> x = torch.randn(256, 1)
    >>> y = 2 * x + torch.randn(256, 1)
    >>> whole = lambda net: float((net(x) - y).square().mean())
    >>> thermometer = Thermometer(model, sgd, whole, window=400)
    >>> for _ in range(2000):
    ...     rows = torch.randint(256, (8,))
    ...     sgd.zero_grad()
    ...     (model(x[rows]) - y[rows]).square().mean().backward()
    ...     sgd.step()
    ...     thermometer.step()
    >>> reading = thermometer.report()
    >>> reading.settled, 0.01 < reading.heat.estimate < 0.05
    (True, True)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        evaluate: Evaluate,
        *,
        window: int,
        steps_per_epoch: int | None = None,
        injected_heat: Callable[[], float | None] | None = None,
        refresh_statistics: Callable[[nn.Module], None] | None = None,
    ) -> None:
        if steps_per_epoch is not None and window < LEAST_EPOCHS * steps_per_epoch:
            raise DataError(
                f"a window of {window} steps is {window / steps_per_epoch:.1f} epochs; the noise "
                f"of an epoch sums to zero, so take {LEAST_EPOCHS * steps_per_epoch} steps or more"
            )
        if window < LEAST_WINDOW:
            raise DataError(f"a window has {LEAST_WINDOW} steps or more, not {window}")
        coupled = coupled_modules(model)
        if coupled and refresh_statistics is None:
            raise DataError(
                f"{coupled[0]} keeps running statistics that are not those of mean weights; give "
                "refresh_statistics, which recomputes them"
            )
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        trained = {id(parameter) for parameter in self._parameters}
        self._names = [n for n, p in model.named_parameters() if id(p) in trained]
        if not self._names:
            raise DataError("the optimizer trains no parameter of this model")
        self._model, self._optimizer, self._evaluate = model, optimizer, evaluate
        self._by_name = dict(model.named_parameters())
        self._parameters = [self._by_name[name] for name in self._names]
        self._copy: nn.Module = copy.deepcopy(model)
        self._injected, self._refresh = injected_heat, refresh_statistics
        self._window, self._every = window, _stride(steps_per_epoch)
        self._step, self._windows = 0, list[HeatWindow]()
        self._warnings: dict[str, None] = {}
        self._begin()

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step; call it after ``optimizer.step()``.

        Raises
        ------
        DataError
            The evaluation set has a loss that is not finite.
        """
        self._step += 1
        self._seen += 1
        if self._rates() != self._rate:
            self._warnings["a window in which the learning rate changed is left out"] = None
            self._begin()
            return
        turn = self._seen % self._every
        if turn == 0:
            self._path += _squared_distance(self._parameters, self._before)
            self._pairs += 1
            torch._foreach_lerp_(self._mean, self._now(), 1 / self._pairs)
        elif turn == self._every - 1:
            _copy_into(self._before, self._parameters)
        if self._seen >= self._next_evaluation:
            self._losses.append(self._loss(self._parameters, "the weights"))
            self._next_evaluation += self._window / _EVALUATIONS
        if self._seen >= self._window:
            self._finish()
            self._begin()

    def report(self) -> HeatReading:
        """Read the heat from the windows so far.

        Raises
        ------
        UnresolvedError
            Fewer than three whole windows.
        """
        injected = self._injected() if self._injected is not None else None
        return read_windows(
            self._windows,
            optimizer_family(self._optimizer),
            injected=injected,
            warnings=tuple(self._warnings),
        )

    @property
    def windows(self) -> tuple[HeatWindow, ...]:
        """All whole windows so far."""
        return tuple(self._windows)

    def state_dict(self) -> dict[str, Any]:
        """Give all that a later process needs to go on."""
        return {
            "version": _STATE_VERSION,
            "window": self._window,
            "step": self._step,
            "seen": self._seen,
            "pairs": self._pairs,
            "path": self._path,
            "losses": list(self._losses),
            "next_evaluation": self._next_evaluation,
            "rate": self._rate,
            "names": list(self._names),
            "first": [tensor.clone() for tensor in self._first],
            "mean": [tensor.clone() for tensor in self._mean],
            "before": [tensor.clone() for tensor in self._before],
            "windows": [
                {name: getattr(one, name) for name in HeatWindow.__slots__} for one in self._windows
            ],
            "warnings": list(self._warnings),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state_dict`.

        Raises
        ------
        DataError
            The state is of another version, window or model.
        """
        mine = (_STATE_VERSION, self._window, self._names)
        theirs = (state.get("version"), state.get("window"), state.get("names"))
        if mine != theirs:
            raise DataError("this state is of a thermometer of another model, window or version")
        self._step, self._seen, self._pairs = state["step"], state["seen"], state["pairs"]
        self._path, self._losses = state["path"], list(state["losses"])
        self._next_evaluation, self._rate = state["next_evaluation"], state["rate"]
        for kept, saved in ((self._first, "first"), (self._mean, "mean"), (self._before, "before")):
            _copy_into(kept, state[saved])
        self._windows = [HeatWindow(**one) for one in state["windows"]]
        self._warnings = dict.fromkeys(state["warnings"])

    def _begin(self) -> None:
        self._first = self._now_cloned()
        self._mean = self._now_cloned()
        self._before = self._now_cloned()
        self._rate = self._rates()
        self._seen = self._pairs = 0
        self._path, self._losses = 0.0, list[float]()
        self._next_evaluation = self._window / _EVALUATIONS / 2

    def _finish(self) -> None:
        group = self._optimizer.param_groups[0]
        self._windows.append(
            HeatWindow(
                first_step=self._step - self._seen,
                steps=self._seen,
                mean_loss=math.fsum(self._losses) / len(self._losses),
                loss_of_mean=self._loss(self._mean, "the mean weights"),
                displacement=_squared_distance(self._parameters, self._first),
                path=self._path * self._seen / self._pairs,
                learning_rate=float(group["lr"]),
                momentum=float(group.get("momentum", group.get("betas", (0.0,))[0])),
            )
        )

    def _loss(self, weights: list[Tensor], of: str) -> float:
        place = dict(self._copy.named_parameters())
        _copy_into([place[name] for name in self._names], weights)
        for mine, theirs in zip(self._copy.buffers(), self._model.buffers(), strict=True):
            mine.copy_(theirs)
        if self._refresh is not None:
            self._refresh(self._copy)
        self._copy.eval()
        loss = float(self._evaluate(self._copy))
        if not math.isfinite(loss):
            raise DataError(f"the evaluation set has the loss {loss} at {of} of step {self._step}")
        return loss

    def _rates(self) -> tuple[float, ...]:
        return tuple(float(group["lr"]) for group in self._optimizer.param_groups)

    def _now(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self._parameters]

    def _now_cloned(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self._now()]


def _stride(steps_per_epoch: int | None) -> int:
    """About every twentieth step, never always at the same place of an epoch."""
    if steps_per_epoch is None:
        return _EVERY
    return next(n for n in (_EVERY, 21, 19, 23, 17) if math.gcd(n, steps_per_epoch) == 1 or n == 17)


def _squared_distance(one: list[Any], other: list[Tensor]) -> float:
    apart = torch._foreach_sub([tensor.detach() for tensor in one], other)
    return sum(float(norm) ** 2 for norm in torch._foreach_norm(apart))


def _copy_into(kept: list[Any], values: list[Any]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(kept, [value.detach() for value in values])
