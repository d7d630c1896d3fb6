"""The whole plan on real and on awkward jobs: right numbers, honest doubts, no side effects."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense import clock
from batchsense.errors import DataError, UnresolvedError
from batchsense.training import (
    PlanRequirements,
    TrainingPlan,
    Workload,
    plan_training,
)

pytestmark = pytest.mark.usefixtures("work_clock")


def timed_square(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Give the mean squared error; a step takes 1 ms and 50 µs an example of work."""
    clock.now.spend(1e-3 + 5e-5 * len(minibatch[0]))  # type: ignore[attr-defined]
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()


def noisy_line(noise: float, rows: int = 4000, **more: object) -> Workload:
    """Make a linear regression whose noise scale is set by the noise of its answers."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, 4, generator=generator)
    outputs = inputs.sum(1) + noise * torch.randn(rows, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
    parts = {
        "model": model,
        "loss": timed_square,
        "examples": TensorDataset(inputs, outputs),
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
        "batch_size": 16,
        **more,
    }
    return Workload(**parts)  # type: ignore[arg-type]


def codes(plan: TrainingPlan) -> set[str]:
    """Give the codes of a plan's doubts."""
    return {doubt.code for doubt in plan.doubts}


def test_more_noise_means_a_larger_critical_batch_size() -> None:
    """Answers six times as noisy raise it at least threefold; both runs keep their seeds apart."""
    quiet = plan_training(noisy_line(1.0), seconds=1.5, seed=1)
    loud = plan_training(noisy_line(6.0), seconds=1.5, seed=2)

    low, high = quiet.path.critical_batch_size, loud.path.critical_batch_size
    assert high.low > low.estimate
    assert high.estimate > 3 * low.estimate


def test_the_plan_repeats_what_can_repeat() -> None:
    """With the same seed noise and critical batch size are equal to the last digit."""
    job = noisy_line(2.0)
    first, again = (plan_training(job, seconds=3, seed=5) for _ in range(2))

    assert first.path == again.path
    assert first.noise == again.noise


def test_limits_of_the_user_are_kept() -> None:
    """The maximum binds; a tolerance binds from below and is told with its assumptions."""
    job = noisy_line(3.0, rows=600)
    most = plan_training(job, PlanRequirements(maximum=4), seconds=1)
    precise = plan_training(job, PlanRequirements(tolerance=0.05), seconds=4)

    assert (most.advice.batch_size, most.advice.binding) == (4, "maximum")
    assert precise.advice.binding == "precision"
    assert [rung.guarantee for rung in precise.tolerance] == [
        "mean_square",
        "calibrated",
        "chebyshev",
        "bounded",
        "verified",
    ]
    assert precise.advice.batch_size == precise.tolerance[1].batch_size <= 600


def test_doubts_are_told() -> None:
    """Adam, BatchNorm, an unknown size of today: each has its code."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    plan = plan_training(
        noisy_line(1.0, model=model, optimizer=torch.optim.Adam, batch_size=None), seconds=1
    )

    assert {"adaptive_optimizer", "coupled_examples", "batch_size_today_unknown"} <= codes(plan)
    assert plan.learning_rate is None


def test_the_model_is_left_alone() -> None:
    """A whole plan changes no weight, no buffer, no gradient and no random state."""
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 1))
    job = noisy_line(1.0, model=model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    plan_training(job, seconds=1)

    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_a_job_that_does_not_learn_is_doubted() -> None:
    """With a learning rate of zero the loss does not fall, and the plan says so."""
    plan = plan_training(noisy_line(1.0, optimizer=lambda p: torch.optim.SGD(p, lr=0.0)), seconds=1)

    assert "loss_hardly_fell" in codes(plan)


def test_impossible_wishes_are_refused() -> None:
    """No time, no room between the bounds, no memory."""
    job = noisy_line(1.0)
    with pytest.raises(DataError, match="budget"):
        plan_training(job, seconds=0)
    with pytest.raises(DataError, match="minimum 8 and maximum 4"):
        PlanRequirements(minimum=8, maximum=4)
    with pytest.raises(UnresolvedError, match="not even one example fits"):
        plan_training(job, PlanRequirements(memory_bytes=10**6))


def test_progress_is_told_in_order() -> None:
    """Memory, step times, the run and the noise, each up to its end."""
    told: list[tuple[str, int, int]] = []
    plan_training(noisy_line(1.0), seconds=1, progress=lambda *news: told.append(news))
    tasks = list(dict.fromkeys(task for task, _, _ in told))

    assert tasks == [
        "measuring memory",
        "timing steps",
        "training a copy",
        "measuring gradient noise",
    ]
    assert all(0 <= done <= total for _, done, total in told)


def test_an_interrupt_passes_through() -> None:
    """Ctrl-C ends the work at once and leaves random state and collector as they were."""
    import gc

    state = torch.get_rng_state()

    def interrupt(task: str, done: int, total: int) -> None:
        if task == "training a copy":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_training(noisy_line(1.0), seconds=1, progress=interrupt)

    assert torch.equal(state, torch.get_rng_state())
    assert gc.isenabled()


def test_the_optimum_follows_from_the_measurements() -> None:
    """√(B_crit c0/c1) of what the plan reports; a step is found to cost as much as 20 examples."""
    plan = plan_training(noisy_line(2.0), seconds=1.5)
    overhead = plan.step_time.overhead_batch_size.estimate

    assert overhead == pytest.approx(20, rel=0.02)
    assert plan.advice.optimum.estimate == pytest.approx(
        np.sqrt(plan.advice.used_critical_batch_size * overhead)
    )
    assert plan.advice.optimum.low <= plan.advice.optimum.estimate <= plan.advice.optimum.high
