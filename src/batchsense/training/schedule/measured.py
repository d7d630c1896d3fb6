"""Batch sizes that follow what is measured on the way: the gradient noise, or the heat."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.gradient_noise import GradientNoiseMeter
from batchsense.training.running import Ranks
from batchsense.training.temperature import Thermometer

#: Steps between two looks at the meter: it measures every twentieth by default, and a report costs
#: as much as a step of a small net.
_LOOK_EVERY = 20
#: Weight of a new look. The noise scale is pooled over many steps already; this keeps one lucky
#: pool from doubling the size.
_NEW_WEIGHT = 0.3
#: The loss of the mean weights fell by less than this share of the heat: the noise holds the run.
STALLED = 0.05
#: Sizes change by this factor: micro-batches stay whole, and rules for the learning rate were tried
#: at such steps.
_FACTOR = 2


class MeasuredRule(ABC):
    """What rules that measure have in common: what is decided for an example stays decided.

    A loader asks ahead of what is consumed, and a run that goes on asks again; both get the size
    that was given before.
    """

    _own: tuple[str, ...] = ()

    def __init__(self, start: int, largest: int | None) -> None:
        if start < 1:
            raise DataError(f"a batch size is one example or more, not {start}")
        self.first, self._largest = start, largest
        self._starts, self._sizes, self._asked = [0], [start], -1

    def next_size(self, steps: int, examples: int, ranks: Ranks) -> tuple[int, str]:
        """The size of the step after so many steps and examples, and why."""
        size = self._sizes[bisect_right(self._starts, examples) - 1]
        if examples <= self._asked:
            return size, "as decided before"
        self._asked = examples
        if not self._due(steps):
            return size, ""
        # Measurements differ between processes; the first one's count.
        wanted, reason, own = ranks.from_first(lambda: (*self._look(size), self._state()))
        self._set(own)
        if wanted != size:
            self._starts.append(examples)
            self._sizes.append(wanted)
        return wanted, reason

    @abstractmethod
    def _due(self, steps: int) -> bool:
        """Whether to look now; the same on every process."""

    @abstractmethod
    def _look(self, size: int) -> tuple[int, str]:
        """The new size and why."""

    def after_step(self) -> None:  # noqa: B027 - most have nothing to do
        """An optimizer step was made."""

    def _fits(self, size: int) -> bool:
        return self._largest is None or size <= self._largest

    def _state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._own}

    def _set(self, state: Mapping[str, Any]) -> None:
        for name in self._own:
            setattr(self, name, state[name])

    def state_dict(self) -> dict[str, Any]:
        """What was decided and looked at."""
        return {
            "rule": type(self).__name__,
            "starts": list(self._starts),
            "sizes": list(self._sizes),
            "asked": self._asked,
            **self._state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on.

        Raises DataError: the state is of another rule or first size.
        """
        if (state.get("rule"), state.get("sizes", [0])[0]) != (type(self).__name__, self.first):
            raise DataError(f"the state is not of {type(self).__name__} from {self.first} examples")
        self._starts, self._sizes = list(state["starts"]), list(state["sizes"])
        self._asked = state["asked"]
        self._set(state)


class FollowNoise(MeasuredRule):
    r"""Keep the batch size at the critical one as the run goes on, by factors of two.

    At the present weights the size at which a step makes half the progress of one without noise is
    the noise scale :math:`B_s = τ/γ`; the critical batch size of a run is its mean along the way.
    The size doubles once the smoothed B_s is twice as large, if the low end of its interval is no
    smaller than the size now: what is too noisy to tell changes nothing. It never shrinks.

    Parameters
    ----------
    meter : GradientNoiseMeter
        Of the run.
    start : int
        The first size, over all processes.
    largest : int, optional
        Never more examples a step.

    References
    ----------
    McCandlish et al. (2018), "An empirical model of large-batch training", arXiv:1812.06162.

    Examples
    --------
    >>> from batchsense.training import digits_workload
    >>> import torch
    >>> job = digits_workload()
    >>> sgd = torch.optim.SGD(job.model.parameters(), lr=0.1)
    >>> FollowNoise(GradientNoiseMeter(job.model, sgd), start=32).first
    32
    """

    _own = ("_smoothed",)

    def __init__(
        self,
        meter: GradientNoiseMeter,
        start: int,
        *,
        largest: int | None = None,
    ) -> None:
        super().__init__(start, largest)
        self._meter = meter
        self._smoothed: float | None = None

    def _due(self, steps: int) -> bool:
        return steps > 0 and steps % _LOOK_EVERY == 0

    def _look(self, size: int) -> tuple[int, str]:
        try:
            report = self._meter.report()
        except UnresolvedError:
            return size, ""
        scale = report.noise_scale
        if not math.isfinite(scale.estimate) or scale.low <= 0:
            return size, ""
        new = math.log(scale.estimate)
        old = new if self._smoothed is None else math.log(self._smoothed)
        self._smoothed = math.exp(old + _NEW_WEIGHT * (new - old))
        reason = f"noise scale {self._smoothed:,.0f}, at least {scale.low:,.0f}"
        sure = scale.low >= size
        if sure and self._smoothed >= _FACTOR * size and self._fits(_FACTOR * size):
            return _FACTOR * size, reason
        return size, ""


class WhenHeatStalls(MeasuredRule):
    r"""Double the batch size when the noise, not the slope, holds the loss up.

    Between two windows of a thermometer the loss of the mean weights fell by less than a twentieth
    of the heat: the run hovers, and cooling gains more than going on. Windows that begin before a
    change are left out.

    Parameters
    ----------
    thermometer : Thermometer
        Of the run; stepped by the schedule, do not step it too.
    start : int
        The first size, over all processes.
    largest : int, optional
        Never more examples a step.

    References
    ----------
    Smith et al. (2018), "Don't decay the learning rate, increase the batch size", ICLR.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> thermometer = Thermometer(model, sgd, lambda net: 1.0, window=100)
    >>> WhenHeatStalls(thermometer, start=16).first
    16
    """

    _own = ("_steps", "_since", "_seen")

    def __init__(self, thermometer: Thermometer, start: int, *, largest: int | None = None) -> None:
        super().__init__(start, largest)
        self._thermometer = thermometer
        self._steps = self._since = self._seen = 0

    def _due(self, steps: int) -> bool:
        return len(self._thermometer.windows) > self._seen

    def _look(self, size: int) -> tuple[int, str]:
        windows = self._thermometer.windows
        self._seen = len(windows)
        own = [one for one in windows if one.first_step >= self._since]
        if len(own) < 2 or not self._fits(_FACTOR * size):
            return size, ""
        before, last = own[-2:]
        fell = before.loss_of_mean - last.loss_of_mean
        if last.heat <= 0 or fell >= STALLED * last.heat:
            return size, ""
        self._since = self._steps
        return _FACTOR * size, f"heat {last.heat:.3g} while the floor fell by {fell:.2g}"

    def after_step(self) -> None:
        """Step the thermometer."""
        self._steps += 1
        self._thermometer.step()

    def state_dict(self) -> dict[str, Any]:
        """What was decided, with the thermometer's own state."""
        return {**super().state_dict(), "thermometer": self._thermometer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, as the thermometer does."""
        super().load_state_dict(state)
        self._thermometer.load_state_dict(state["thermometer"])
