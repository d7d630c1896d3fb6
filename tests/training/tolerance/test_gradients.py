"""Promises and laws on real gradients: the digits net part of the way through its training."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError
from batchsense.training import Workload, load_target
from batchsense.training.tolerance import (
    GradientPilot,
    measure_pilot,
    plan_tolerance,
    tolerance_ladder,
)
from batchsense.training.tolerance.pilot import GradientSource
from batchsense.training.tolerance.pilot_noise import pilot_noise

DELTA = 0.05


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small kernels: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(steps: int) -> Workload:
    """Give the digits workload after some steps of its own training."""
    workload = load_target("digits")
    model = workload.fresh_model()
    optimizer = workload.fresh_optimizer(model)
    rng = np.random.default_rng(7)
    for _ in range(steps):
        optimizer.zero_grad()
        workload.loss(model, workload.minibatch(rng.integers(1797, size=32))).backward()
        optimizer.step()
    return replace(workload, model=model)


@pytest.fixture(scope="module")
def workload() -> Workload:
    """Digits after 200 steps: loss about 0.4, a tail of hard examples."""
    return trained(200)


@pytest.fixture(scope="module")
def deviations(workload: Workload) -> np.ndarray:
    """Give the gradient of each example minus the mean gradient, as coordinates."""
    source = GradientSource(workload)
    rows = torch.stack([source.mean(np.array([row])) for row in range(1797)])
    rows -= rows.mean(dim=0)
    # Random directions keep lengths to a few per cent and make 2,000 draws affordable.
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(rows.shape[1], 256, generator=generator) / 16
    return (rows @ directions).double().numpy()


@pytest.fixture(scope="module")
def pilot(workload: Workload) -> GradientPilot:
    """Measure all 1,797 gradients."""
    return measure_pilot(workload)


def misses(rows: np.ndarray, size: int, epsilon: float, draws: int) -> float:
    """Give the share of minibatches, without replacement, that are too far off."""
    rng = np.random.default_rng(size)
    chosen = (rng.choice(len(rows), size=size, replace=False) for _ in range(draws))
    errors = np.array([(rows[picked].mean(axis=0) ** 2).sum() for picked in chosen])
    return float((errors > epsilon**2).mean())


@pytest.mark.slow
def test_the_promise_holds_with_a_pilot_of_256(deviations: np.ndarray) -> None:
    """In ≥ 90 % of pilots that answer misses are ≤ 1.2 δ; B ≤ 1.6 times the least one, and ≤ N."""
    population = len(deviations)
    deviations = deviations - deviations.mean(axis=0)
    epsilon = float(np.sqrt((deviations**2).sum(axis=1).mean() / 40))
    sizes = []
    for seed in range(60):
        chosen = np.random.default_rng([1, seed]).permutation(population)[:256]
        gram = deviations[chosen] @ deviations[chosen].T
        noise = pilot_noise(gram, population=population)
        rungs = tolerance_ladder(noise, epsilon=epsilon, population=population)
        if rungs[1].batch_size is not None:
            sizes.append(rungs[1].batch_size)
    tried = np.arange(56, 104, 4)
    rates = np.array([misses(deviations, int(size), epsilon, 1500) for size in tried])
    least = tried[rates <= DELTA][0]
    allowed = tried[rates <= 1.2 * DELTA][0]

    assert len(sizes) >= 30
    assert np.mean(np.array(sizes) >= allowed) >= 0.9
    assert np.median(sizes) <= 1.6 * least
    assert max(sizes) <= population


@pytest.mark.slow
@pytest.mark.parametrize("replace_drawn", [True, False])
def test_the_variance_of_a_minibatch_gradient_falls_as_one_over_n(
    workload: Workload, pilot: GradientPilot, replace_drawn: bool
) -> None:
    """n·Var is the same at n = 1 … 1024, within its error, and equals tr Σ.

    Without replacement the law is (N − n)/(N − 1)/n.
    """
    source, rng = GradientSource(workload, at_once=1024), np.random.default_rng(3)
    population, scores = 1797, []
    for size in (1, 4, 16, 64, 256, 1024):
        chosen = (rng.choice(population, size=size, replace=replace_drawn) for _ in range(100))
        errors = np.array([source.squared_distance(rows, pilot.mean) for rows in chosen])
        law = pilot.noise.trace / size
        if not replace_drawn:
            law *= (population - size) / (population - 1)
        scores.append((errors.mean() - law) / (errors.std(ddof=1) / 10))

    assert np.abs(scores).max() < 3.5
    assert np.sum(np.square(scores)) < 18.5  # χ² with 6 degrees of freedom, 99.5 %


def test_a_whole_set_and_a_pilot_agree(workload: Workload, pilot: GradientPilot) -> None:
    """What 256 examples estimate is, within their error, what all examples say."""
    part = measure_pilot(workload, whole_set=0)

    assert pilot.noise.observations == 1797
    assert pilot.radius is not None
    assert part.radius is None
    assert part.noise.trace == pytest.approx(pilot.noise.trace, rel=0.5)
    assert part.noise.trace_bound > 0.9 * pilot.noise.trace
    assert part.noise.squared_mean_bound < pilot.noise.squared_mean < 2 * part.noise.squared_mean


def test_all_rungs_for_digits(workload: Workload) -> None:
    """Five rungs, ascending in what they ask for, the last one tried on fresh minibatches."""
    rungs = {rung.guarantee: rung for rung in plan_tolerance(workload, 0.5, seconds=1e6)}

    assert list(rungs) == ["mean_square", "calibrated", "chebyshev", "bounded", "verified"]
    sizes = [rungs[name].require() for name in ("mean_square", "calibrated", "verified")]
    assert sizes == sorted(sizes)
    assert all(rung.require() <= 1797 for rung in rungs.values())
    assert "fresh minibatches" in rungs["verified"].assumes


def test_the_same_seed_gives_the_same_rungs_and_leaves_the_model_alone(
    workload: Workload,
) -> None:
    """Nothing depends on the clock, and the user's weights and random state are untouched."""
    before = [parameter.clone() for parameter in workload.model.parameters()]
    state = torch.get_rng_state()
    first, second = (plan_tolerance(workload, 0.7, seed=4, seconds=1e3) for _ in range(2))

    assert first == second
    assert all(map(torch.equal, before, workload.model.parameters()))
    assert torch.equal(state, torch.get_rng_state())


def test_without_time_the_verified_rung_says_so(workload: Workload) -> None:
    """No fresh minibatches in no time: the rung has no size, and says what it would take."""
    rung = plan_tolerance(workload, 0.7, seconds=0)[-1]

    assert rung.batch_size is None
    assert "fresh minibatches" in rung.assumes


def test_batch_norm_is_refused() -> None:
    """Where examples are coupled no example has a gradient, so nothing can be promised."""
    coupled = Workload(
        model=nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)),
        loss=lambda model, minibatch: model(minibatch[0]).square().mean(),
        examples=TensorDataset(torch.randn(40, 2)),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )

    with pytest.raises(DataError, match=r"1 \(BatchNorm1d\).*no batch size can be promised"):
        plan_tolerance(coupled, 0.5)
