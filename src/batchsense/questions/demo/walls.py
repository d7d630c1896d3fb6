"""Scenes: memory, workers and heat bound a batch that is chosen; some losses allow none at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from batchsense.progress import Progress, silent
from batchsense.questions.demo.result import HeatResult, MemoryWall, SplitResult
from batchsense.questions.demo.text import WORKERS_NETWORK
from batchsense.questions.plan.network import (
    bytes_per_second,
    from_bandwidth,
    planned_workers,
)
from batchsense.questions.plan.result import WorkersResult
from batchsense.reports.envelope import Estimate
from batchsense.training import TrainingPlan, Workload
from batchsense.training.separability import audit
from batchsense.training.temperature import measure_temperature

#: A wall that this small net meets; a real one meets its own in the same way.
WALL_BYTES = 1 << 20
#: Round trip of an office network, and the workers that are compared.
ROUND_SECONDS, WORKERS = 2e-4, "1,2,4,8"
#: Steps under the thermometer, in eight windows: at a curvature of 2 and this learning rate the
#: weights forget within ten steps, so that a window holds thirty independent readings. All examples
#: are few enough to be read, so that heat and floor are of the same loss.
HEAT_STEPS, HEAT_WINDOW, HEAT_RATE = 2400, 300, 0.05
HEAT_EXAMPLES, HEAT_BATCH = 240, 8


def memory_wall(plan: TrainingPlan) -> MemoryWall | None:
    """Say how many examples fit into a megabyte, by the traced peak; None if it is not resolved."""
    envelope = plan.envelope
    if envelope is None:
        return None
    fits = largest_that_fits(envelope.peak_bytes, plan.check.examples)
    return MemoryWall(
        limit_bytes=WALL_BYTES,
        most_examples=fits,
        peak_bytes=envelope.peak_bytes(max(fits, 1)),
        beyond_bytes=envelope.peak_bytes(fits + 1),
    )


def largest_that_fits(peak: Callable[[int], int], most: int) -> int:
    """The largest size whose peak stays within the wall, by halving.

    Examples
    --------
    >>> largest_that_fits(lambda size: 1000 * size, 5000)
    1048
    """
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if peak(middle) <= WALL_BYTES else (low, middle)
    return low


def workers_wall(workload: Workload, plan: TrainingPlan, seed: int) -> WorkersResult:
    """Predict the training of one to eight workers over a slow network."""
    steps = from_bandwidth(
        workload, plan.step_time, bytes_per_second(WORKERS_NETWORK), ROUND_SECONDS
    )
    found = WorkersResult.of(planned_workers(plan, steps, WORKERS, (1, None), seed), None)
    assert found is not None
    return found


def splits(seed: int) -> list[SplitResult]:
    """Audit an energy of interacting atoms, and collocation points of an equation."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))
    places = TensorDataset(torch.rand(200, 1))
    made = []
    for name, loss in (("atoms", _energy), ("points", _residual)):
        report = audit(Workload(net, loss, places, torch.optim.Adam), seed=seed)
        made.append(
            SplitResult(
                name=name, verdict=report.verdict, kind=report.kind, deviation=report.deviation
            )
        )
    return made


def _energy(net: nn.Module, minibatch: Any) -> Tensor:
    """Atoms that repel each other, at the places that a net gives them."""
    energy: Tensor = (1 / (0.1 + torch.pdist(net(minibatch[0])))).sum()
    return energy


def _residual(net: nn.Module, minibatch: Any) -> Tensor:
    """The equation u'' = −sin x at single points."""
    points = minibatch[0].detach().requires_grad_(True)

    def slope(values: Tensor) -> Tensor:
        grown: Tensor = torch.autograd.grad(values.sum(), points, create_graph=True)[0]
        return grown

    loss: Tensor = (slope(slope(net(points))) + torch.sin(points)).square().mean()
    return loss


def heat(seed: int, progress: Progress = silent) -> HeatResult:
    """Read the heat of a line that is fitted at a high learning rate; its floor is known exactly.

    Raises
    ------
    UnresolvedError
        The run is too short for an interval.
    """
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(HEAT_EXAMPLES, 4, generator=random)
    y = x.sum(1, keepdim=True) + 2 * torch.randn(HEAT_EXAMPLES, 1, generator=random)
    net = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.linalg.lstsq(x, y).solution.T)
        floor = float((net(x) - y).square().mean())
    job = Workload(
        net, _squares, TensorDataset(x, y), partial(torch.optim.SGD, lr=HEAT_RATE), None, HEAT_BATCH
    )
    run = measure_temperature(
        job,
        steps=HEAT_STEPS,
        window=HEAT_WINDOW,
        sampling="replacement",
        seed=seed,
        progress=progress,
    )
    reading, loss = run.reading, sum(one.mean_loss for one in run.windows) / len(run.windows)
    return HeatResult(
        batch_size=HEAT_BATCH,
        learning_rate=HEAT_RATE,
        loss=loss,
        floor=floor,
        heat=Estimate.of(reading.heat),
    )


def _squares(net: nn.Module, minibatch: Any) -> Tensor:
    loss: Tensor = (net(minibatch[0]) - minibatch[1]).square().mean()
    return loss
