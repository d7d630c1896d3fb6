"""An epoch's last minibatch of very few examples is tried before a size is advised."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense import clock
from batchsense.training import PlanRequirements, Workload, check_workload, plan_training
from batchsense.training.planning.doubts import doubts_of_the_last_minibatch


def job(model: nn.Module, examples: int, spread: bool = False) -> Workload:
    """Make a job of so many examples; its loss divides by their spread if asked for."""

    def loss(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
        getattr(clock.now, "spend", float)(1e-3 + 1e-4 * len(minibatch[0]))
        out = model(minibatch[0])
        return ((out - 1).square() / (out.detach().std(0) + 1e-6 if spread else 1.0)).mean()

    shape = (examples, 3, 4) if isinstance(model[0], nn.BatchNorm1d) else (examples, 3)
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return Workload(model, loss, TensorDataset(inputs), lambda p: torch.optim.SGD(p, lr=0.01))


def normed() -> nn.Module:
    """Make a net whose BatchNorm has one number of each channel an example."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def over_time() -> nn.Module:
    """Make a net whose BatchNorm has four numbers of each channel an example: one is enough."""
    return nn.Sequential(nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(12, 1))


@pytest.mark.parametrize("seed", range(40))
def test_a_last_minibatch_that_does_not_train_is_told(seed: int) -> None:
    """Sizes and jobs drawn at random: told if one example is left that cannot make a step alone."""
    rng = np.random.default_rng(seed)
    size, minibatches = int(rng.integers(4, 40)), int(rng.integers(1, 6))
    left = int(rng.integers(0, 4))
    kind = seed % 4
    model = (normed, over_time, lambda: nn.Sequential(nn.Linear(3, 1)), normed)[kind]()
    made = job(model.eval() if kind == 3 else model, size * minibatches + left, spread=kind == 2)
    told = doubts_of_the_last_minibatch(made, check_workload(made), size)

    assert bool(told) == (left == 1 and kind < 3)
    if told:
        assert "leave a last one of 1" in told[0].message
        assert "drop_last=True" in told[0].message


@pytest.mark.usefixtures("work_clock")
def test_the_plan_says_drop_last_and_never_advises_one_example_for_batch_norm() -> None:
    """257 = 4 · 64 + 1 examples; and where small minibatches are the fastest, at least two."""
    plan = plan_training(job(normed(), 257), PlanRequirements(minimum=64, maximum=64), seconds=1)

    assert "last_minibatch" in {doubt.code for doubt in plan.doubts}
    assert plan.advice.limits.minimum == 64
    for examples, today in ((40, None), (257, 8), (33, 3), (64, 12)):
        few = plan_training(job(normed(), examples), seconds=0.5, batch_size_today=today)
        assert few.advice.limits.minimum == 2
