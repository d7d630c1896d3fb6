"""The thermometer: what it measures, when it keeps silent, and that it touches nothing."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.temperature import HeatWindow, Thermometer
from batchsense.training.temperature.reading import read_windows
from batchsense.training.temperature.windows import equilibration

ROWS, WEIGHTS = 256, 4


def regression(seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Give a linear model at its minimum, with features and noisy targets."""
    drawn = torch.Generator().manual_seed(seed)
    x = torch.randn(ROWS, WEIGHTS, generator=drawn, dtype=torch.float64)
    y = x.sum(dim=1, keepdim=True) + torch.randn(ROWS, 1, generator=drawn, dtype=torch.float64)
    model = nn.Linear(WEIGHTS, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
    return model, x, y


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: tuple[torch.Tensor, torch.Tensor],
    steps: int,
    seed: int,
    after: Callable[[], Any] = lambda: None,
) -> None:
    """Train by minibatches of eight, drawn with replacement."""
    x, y = data
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(ROWS, (8,), generator=drawn)
        optimizer.zero_grad()
        ((model(x[rows]) - y[rows]) ** 2).mean().backward()
        optimizer.step()
        after()


def thermometer(model: nn.Module, optimizer: torch.optim.Optimizer, **more: Any) -> Thermometer:
    """Put one beside the regression."""
    _, x, y = regression()
    return Thermometer(
        model, optimizer, lambda net: float(((net(x) - y) ** 2).mean()), **{"window": 500, **more}
    )


def started(momentum: float = 0.0, rate: float = 0.04) -> Any:
    """Model, data, optimizer and thermometer."""
    model, x, y = regression()
    sgd = torch.optim.SGD(model.parameters(), lr=rate * (1 - momentum), momentum=momentum)
    return model, (x, y), sgd, thermometer(model, sgd)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_heat_in_a_bowl_is_the_mean_excess_loss(momentum: float) -> None:
    """Started at the minimum: settled, and the forecast holds the true excess."""
    model, data, sgd, meter = started(momentum)
    x, y = data
    least = float(((model(x) - y) ** 2).mean().detach())
    excess = []

    def after() -> None:
        meter.step()
        excess.append(float(((model(x) - y) ** 2).mean().detach()) - least)

    train(model, sgd, data, 3000, 1, after)
    reading = meter.report()

    assert reading.ratio > 0.95
    assert reading.settled
    assert reading.forecast is not None
    assert reading.forecast.low <= sum(excess[1500:]) / 1500 <= reading.forecast.high


def test_the_run_is_the_same_bit_for_bit() -> None:
    """Weights with and without a thermometer."""
    runs = []
    for measured in (True, False):
        model, data, sgd, meter = started(0.9)
        train(model, sgd, data, 600, 1, meter.step if measured else (lambda: None))
        runs.append(model.weight.detach().clone())

    assert torch.equal(runs[0], runs[1])


def test_a_random_walk_is_not_settled() -> None:
    """|r| < .1 for independent steps in many directions, and no forecast."""
    model = nn.Linear(500, 1, bias=False)
    sgd = torch.optim.SGD(model.parameters(), lr=1.0)
    meter = Thermometer(model, sgd, lambda net: float(net.weight.square().mean()), window=400)
    drawn = torch.Generator().manual_seed(0)
    for _ in range(2000):
        model.weight.grad = torch.randn(1, 500, generator=drawn)
        sgd.step()
        meter.step()
    reading = meter.report()

    assert abs(reading.ratio) < 0.1
    assert reading.forecast is None
    assert "travel" in str(reading.withheld)


def test_a_journey_has_a_ratio_below_zero() -> None:
    """A constant push goes further than a walk of as many steps."""
    assert equilibration([HeatWindow(0, 100, 1.0, 1.0, 100.0**2, 100.0, 0.1, 0.0)]) < 0
    assert equilibration([HeatWindow(0, 100, 1.0, 1.0, 0.0, 0.0, 0.1, 0.0)]) == 1.0


def test_it_goes_on_from_its_state() -> None:
    """Stopped anywhere in a window, it reads the same in the end."""
    whole, parts = [], []
    for stop in (None, 1, 730, 1234):
        model, data, sgd, meter = started()
        drawn = torch.Generator().manual_seed(5)
        x, y = data
        for step in range(2000):
            rows = torch.randint(ROWS, (8,), generator=drawn)
            sgd.zero_grad()
            ((model(x[rows]) - y[rows]) ** 2).mean().backward()
            sgd.step()
            meter.step()
            if step == stop:
                state = copy.deepcopy(meter.state_dict())
                meter = thermometer(model, sgd)
                meter.load_state_dict(state)
        (whole if stop is None else parts).append(meter.report())

    assert all(part == whole[0] for part in parts)


def test_a_state_of_another_model_is_refused() -> None:
    """Or of another window."""
    *_, meter = started()
    state = {**meter.state_dict(), "window": 600}
    with pytest.raises(DataError, match="another model, window or version"):
        meter.load_state_dict(state)


def test_a_window_with_a_new_learning_rate_is_left_out_and_said() -> None:
    """No window mixes two heats."""
    model, data, sgd, meter = started()
    train(model, sgd, data, 1250, 1, meter.step)
    sgd.param_groups[0]["lr"] /= 2
    train(model, sgd, data, 1600, 2, meter.step)
    reading = meter.report()

    assert len({window.learning_rate for window in meter.windows}) == 2
    assert all(window.steps == 500 for window in meter.windows)
    assert any("learning rate changed" in warning for warning in reading.warnings)


def test_adam_is_reported_as_unverified() -> None:
    """Its forecast carries a warning."""
    windows = [HeatWindow(0, 9, 1.0 + x, 0.9, 0.1, 9.0, 0.1, 0.9) for x in (0.01, 0.0, -0.01)]

    assert any("not verified" in warning for warning in read_windows(windows, "adam").warnings)
    assert read_windows(windows, "other").forecast is None


def test_heat_that_is_not_told_from_zero_gives_no_forecast() -> None:
    """Rather than a number of either sign."""
    windows = [HeatWindow(0, 9, 1.0 + x, 1.0, 0.1, 9.0, 0.1, 0.0) for x in (0.01, 0.0, -0.01)]
    reading = read_windows(windows, "sgd")

    assert reading.forecast is None
    assert "zero" in str(reading.withheld)


def test_two_windows_give_no_interval() -> None:
    """It says how many are needed."""
    model, data, sgd, meter = started()
    train(model, sgd, data, 1100, 1, meter.step)
    with pytest.raises(UnresolvedError) as caught:
        meter.report()

    assert "3 windows" in str(caught.value.needed)


def test_windows_of_few_epochs_are_refused() -> None:
    """With the steps that are enough."""
    model, _, sgd, _ = started()
    with pytest.raises(DataError, match="take 1120 steps"):
        thermometer(model, sgd, window=112, steps_per_epoch=112)


def test_batch_norm_needs_its_statistics_refreshed() -> None:
    """Mean weights have other statistics than any weights that were trained."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DataError, match="refresh_statistics"):
        Thermometer(model, sgd, lambda net: 0.0, window=100)


def test_a_loss_that_is_not_finite_is_said_with_its_step() -> None:
    """NaN on the evaluation set ends the measurement, not silently."""
    model, data, sgd, _ = started()
    meter = Thermometer(model, sgd, lambda net: math.nan, window=100)
    with pytest.raises(DataError, match="step 7"):
        train(model, sgd, data, 100, 1, meter.step)


def test_a_heat_that_changes_gives_no_forecast() -> None:
    """Windows whose heat falls on a line say little about the next; scattered ones do not."""
    falling = [
        HeatWindow(0, 9, 1.0 + x, 0.9, 0.1, 9.0, 0.1, 0.0) for x in (0.05, 0.041, 0.03, 0.019, 0.01)
    ]
    scattered = [falling[place] for place in (2, 0, 4, 1, 3)]

    assert read_windows([falling[0]] * 5 + falling, "sgd").withheld_for == "changing"
    assert read_windows([falling[0]] * 5 + scattered, "sgd").withheld_for is None
