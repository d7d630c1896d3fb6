"""What decides sizes, and what the learning rate does: by hand, by noise, by heat."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from batchsense.errors import DataError
from batchsense.training.running import ALONE
from batchsense.training.schedule import (
    FollowNoise,
    ScheduledSizes,
    WhenHeatStalls,
    change_learning_rate,
    constant,
    doubling,
    exponential,
    linear,
    parse_schedule,
    seesaw,
)
from batchsense.training.temperature import HeatWindow


def optimizer(kind: Any = torch.optim.SGD, lr: float = 0.1, **more: Any) -> torch.optim.Optimizer:
    """Of one number."""
    return kind([nn.Parameter(torch.ones(1))], lr=lr, **more)


def test_written_schedules_are_read_as_they_are_written() -> None:
    """Every constructor, through its text and back."""
    for one in (
        constant(8),
        doubling(8, [10, 30]),
        linear(16, 4, 90),
        exponential(10, 70, 300),
        seesaw(16, 1000),
    ):
        assert parse_schedule(str(one)) == one
    assert exponential(10, 70, 300).sizes == (10, 20, 40, 70)
    for wrong in ("", "8, 16", "8 at 4", "0", "8, 16 at 40, 4 at 40"):
        with pytest.raises(DataError):
            parse_schedule(wrong)


def test_seesaw_doubles_where_a_cosine_halves() -> None:
    """Half-way, in logarithms, between the halvings of the cosine."""
    written = seesaw(8, 10**6, doublings=3)
    for k, start in enumerate(written.starts[1:], start=1):
        cosine = 0.5 * (1 + math.cos(math.pi * start / 1e6))
        assert cosine == pytest.approx(2 ** (0.5 - k), rel=1e-4)


@pytest.mark.parametrize(
    ("how", "kind", "rate", "beta2"),
    [
        (None, torch.optim.AdamW, 1.0, 0.99),
        ("lr", torch.optim.AdamW, 2.0, 0.99),
        ("temperature", torch.optim.AdamW, 2.0, 0.99**4),
        ("seesaw", torch.optim.AdamW, 0.5, 0.99),
        ("lr", torch.optim.SGD, 4.0, None),
        ("temperature", torch.optim.SGD, 4.0, None),
    ],
)
def test_four_times_the_size(how: Any, kind: Any, rate: float, beta2: float | None) -> None:
    """What each coupling changes."""
    more = {} if beta2 is None else {"betas": (0.9, 0.99)}
    own = optimizer(kind, **more)
    change_learning_rate(own, 4, how)
    group = own.param_groups[0]
    assert group["lr"] == pytest.approx(0.1 * rate)
    assert group.get("betas", (0, None))[1] == (None if beta2 is None else pytest.approx(beta2))


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 12, eta_min=0.01),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
    "warm-up, then decay": lambda o: lr_scheduler.SequentialLR(
        o,
        [lr_scheduler.LinearLR(o, 0.1, total_iters=4), lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[4],
    ),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, max_lr=0.4, total_steps=12),
    "steps": lambda o: lr_scheduler.MultiStepLR(o, [3, 8]),
}


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1, dtype=torch.float64)])
@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:The epoch parameter in .scheduler.step:UserWarning")
def test_a_scheduler_goes_on_from_the_new_rate(name: str, rate: Any) -> None:
    """After the change every rate is that of an untouched scheduler times the factor."""
    plain, changed = (optimizer(lr=copy.deepcopy(rate), foreach=False) for _ in range(2))
    one, other = SCHEDULERS[name](plain), SCHEDULERS[name](changed)
    for step in range(10):
        plain.step(), changed.step(), one.step(), other.step()
        if step == 5:
            change_learning_rate(changed, 2, "lr", [other])
        factor = 2 if step >= 5 else 1
        wanted = factor * plain.param_groups[0]["lr"]
        assert float(changed.param_groups[0]["lr"]) == pytest.approx(float(wanted)), step


def test_a_scheduler_that_was_not_named_is_asked_for() -> None:
    """Its next step would undo the change."""
    own = optimizer()
    lr_scheduler.ExponentialLR(own, 0.9)
    with pytest.raises(DataError, match="lr_schedulers"):
        ScheduledSizes(own, constant(8), couple="lr")
    ScheduledSizes(own, constant(8))
    with pytest.raises(DataError, match="no rule is known"):
        ScheduledSizes(optimizer(torch.optim.Adafactor), constant(8), couple="lr")


def test_an_unstable_rate_is_warned_of() -> None:
    """Where the curvature is known: at a learning rate times it of 2(1 + m)."""
    sizes = ScheduledSizes(
        optimizer(momentum=0.5), parse_schedule("8, 16 at 8, 32 at 24"), couple="lr", curvature=10.0
    )
    assert [sizes(0, 0), sizes(1, 8)] == [8, 16]
    with pytest.warns(RuntimeWarning, match="unstable_learning_rate.* below 24 examples"):
        sizes(2, 24)


def test_adam_and_large_shares_are_noted() -> None:
    """What the rule for Adam missed in trials, and steps of more than a tenth of the examples."""
    sizes = ScheduledSizes(
        optimizer(torch.optim.Adam), parse_schedule("8, 128 at 8"), couple="temperature", limit=1000
    )
    assert sizes.notes == ()
    sizes(0, 0), sizes(1, 8)
    assert [note.code for note in sizes.notes] == ["adam_rule", "large_share"]
    assert "here it is 16" in sizes.notes[0].message


class Meter:
    """A meter that reports what it is told."""

    def __init__(self, *readings: tuple[float, float, float]) -> None:
        self.readings = list(readings)

    def report(self) -> Any:
        low, estimate, high = self.readings.pop(0)
        return SimpleNamespace(noise_scale=SimpleNamespace(low=low, estimate=estimate, high=high))


def follow(meter: Any, steps: int = 200, **more: Any) -> list[int]:
    """Sizes at each look."""
    rule = FollowNoise(meter, 8, **more)
    return [rule.next_size(step, 8 * step, ALONE)[0] for step in range(20, steps, 20)]


def test_size_follows_the_noise_only_where_it_is_known() -> None:
    """It doubles at twice the size, smoothed; not while the low end is below it; never beyond."""
    clear, unsure, unbounded = (30.0, 40.0, 50.0), (4.0, 40.0, 90.0), (0.0, math.inf, math.inf)
    assert follow(Meter(unbounded, unsure, clear, clear, clear), 110) == [8, 8, 16, 32, 32]
    assert follow(Meter(clear, clear), 50, largest=16) == [16, 16]
    # A jump counts by its share.
    assert follow(Meter((8, 9, 10), (100, 200, 300), (100, 200, 300)), 70) == [8, 16, 32]
    down = [(30, 40, 50), (1, 2, 3), (1, 2, 3), (1, 2, 3), (1, 2, 3)]
    assert follow(Meter(*down), 110)[-1] == 16


def test_what_was_decided_is_not_decided_anew() -> None:
    """A loader asks ahead; a run that goes on gets the sizes that were given."""
    rule = FollowNoise(Meter((30.0, 40.0, 50.0)), 8)  # type: ignore[arg-type]
    first = [rule.next_size(step, 8 * step, ALONE)[0] for step in range(30)]
    again = FollowNoise(Meter(), 8)  # type: ignore[arg-type]
    again.load_state_dict(rule.state_dict())

    assert first == [8] * 20 + [16] * 10
    assert [again.next_size(step, 8 * step, ALONE)[0] for step in range(30)] == first
    with pytest.raises(DataError, match="from 16 examples"):
        FollowNoise(Meter(), 16).load_state_dict(rule.state_dict())  # type: ignore[arg-type]


class Thermometer:
    """Windows of ten steps with the floors it is told."""

    def __init__(self, *floors: float) -> None:
        self.floors, self.steps, self.windows = list(floors), 0, list[HeatWindow]()

    def step(self) -> None:
        self.steps += 1
        if self.steps % 10 == 0:
            floor = self.floors.pop(0)
            self.windows.append(
                HeatWindow(self.steps - 10, 10, floor + 0.1, floor, 0.1, 9.0, 0.1, 0.0)
            )

    def state_dict(self) -> dict[str, Any]:
        return {}


def test_size_doubles_when_heat_holds_the_loss_up() -> None:
    """The floor fell by less than a twentieth of the heat; windows across a change do not count."""
    rule = WhenHeatStalls(Thermometer(1.0, 0.9, 0.899, 0.899, 0.898, 0.7), 8)  # type: ignore[arg-type]
    sizes = []
    for step in range(60):
        sizes.append(rule.next_size(step, 8 * step, ALONE)[0])
        rule.after_step()
    assert [sizes[k] for k in (20, 29, 30, 40, 49, 50, 59)] == [8, 8, 16, 16, 16, 32, 32]
