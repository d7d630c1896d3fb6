"""Measured on real nets: the 1/n law, agreement with single examples, and no side effects."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from batchsense.errors import DataError, UnresolvedError
from batchsense.training import Workload, load_target, measure_gradient_noise
from batchsense.training.gradient_noise import record_short_run
from batchsense.training.workload.gradients import flat_gradient

Drawing = Callable[[np.random.Generator, int, int], np.ndarray]


def small_workload(dropout: float = 0.0) -> Workload:
    """Make a regression of 60 examples by a net with 41 parameters and a buffer."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 3, generator=generator)
    outputs = inputs.prod(1, keepdim=True) + torch.randn(60, 1, generator=generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
    model.register_buffer("calls", torch.zeros(1))

    def loss(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
        model.calls += 1
        return (model(minibatch[0]) - minibatch[1]).square().mean()

    return Workload(
        model, loss, TensorDataset(inputs, outputs), lambda p: torch.optim.SGD(p, lr=0.05)
    )


def exact(workload: Workload) -> tuple[float, float]:
    """Give tr Σ and |G|² from the gradient of every single example, by a plain loop."""
    model = workload.fresh_model()
    rows = torch.stack(
        [
            flat_gradient(workload, model, workload.minibatch([index])).double()
            for index in range(len(workload.examples))
        ]
    )
    mean = rows.mean(0)
    return (rows - mean).square().sum(1).mean().item(), mean.square().sum().item()


def with_replacement(rng: np.random.Generator, total: int, size: int) -> np.ndarray:
    """Draw independently."""
    return rng.integers(total, size=size)


def without_replacement(rng: np.random.Generator, total: int, size: int) -> np.ndarray:
    """Draw as an epoch does."""
    return rng.choice(total, size=size, replace=False)


@pytest.fixture(name="digits", scope="module")
def _digits() -> tuple[Workload, nn.Module, torch.Tensor, float]:
    """Give the digits, a partly trained net, its full gradient and the exact tr Σ."""
    workload = load_target("digits")
    model = record_short_run(workload, steps=60, batch_size=32)[1]
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def loss(weights: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        scores = torch.func.functional_call(model, weights, (x[None],))
        return nn.functional.cross_entropy(scores, y[None])

    single = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    total, squares = torch.zeros(26122, dtype=torch.float64), 0.0
    for start in range(0, 1797, 300):
        parts = single(weights, *workload.examples[start : start + 300])
        rows = torch.cat([part.flatten(1) for part in parts.values()], dim=1).double()
        total += rows.sum(0)
        squares += rows.square().sum().item()
    mean = total / 1797
    return workload, model, mean, squares / 1797 - mean.square().sum().item()


@pytest.mark.parametrize("draw", [with_replacement, without_replacement])
@pytest.mark.parametrize("size", [1, 8, 64, 512, 1024])
def test_variance_of_the_digits_gradient_falls_as_one_over_n(
    draw: Drawing, size: int, digits: tuple[Workload, nn.Module, torch.Tensor, float]
) -> None:
    """N times the mean squared error is tr Σ, times (N - n)/(N - 1) without replacement.

    Within four Monte-Carlo standard errors, and 35 % at most: 80 minibatches, or 800 small ones,
    whose errors have a longer tail.
    """
    workload, model, full, trace = digits
    total = len(workload.examples)
    rng = np.random.default_rng([size, draw is with_replacement])
    errors = []
    draws = 80 if size >= 64 else 800
    for _ in range(draws):
        gradient = flat_gradient(workload, model, workload.minibatch(draw(rng, total, size)))
        errors.append((gradient.double() - full).square().sum().item())
    left = 1.0 if draw is with_replacement else (total - size) / (total - 1)
    ratio = size * np.array(errors) / (trace * left)

    deviation = abs(ratio.mean() - 1)
    assert deviation < 4 * ratio.std(ddof=1) / np.sqrt(draws)
    assert deviation < 0.35


def test_estimates_are_unbiased_on_a_net() -> None:
    """The mean over 200 draws of 16 examples equals single-example gradients within 4 errors."""
    workload = small_workload()
    found = np.array(
        [
            (r.trace_covariance.estimate, r.squared_gradient_norm.estimate)
            for r in (
                measure_gradient_noise(workload, examples=16, micro_batches=8, seed=seed)
                for seed in range(200)
            )
        ]
    )
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))

    assert (np.abs(found.mean(axis=0) - exact(workload)) < 4 * error).all()


@pytest.mark.slow
def test_interval_holds_the_truth_on_a_net() -> None:
    """At least 90 % of 150 nominal 95 % intervals, at 32 of 60 examples."""
    workload = small_workload()
    tau, gamma = exact(workload)
    reports = [measure_gradient_noise(workload, examples=32, seed=seed) for seed in range(150)]

    assert np.mean([tau / gamma in report.noise_scale for report in reports]) >= 0.90


def test_first_step_of_a_run_measures_what_a_frozen_measurement_does() -> None:
    """Over 200 seeds, τ̂ and γ̂ of a run's first step agree with the exact values."""
    workload = small_workload()
    found = []
    for seed in range(200):
        records, _ = record_short_run(workload, steps=1, batch_size=16, seed=seed)
        found.append((records.trace_covariance[0], records.squared_gradient_norm[0]))
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))

    assert (np.abs(np.mean(found, axis=0) - exact(workload)) < 4 * error).all()


def test_a_run_in_micro_batches_trains_like_whole_minibatches() -> None:
    """The weights after 20 steps equal those of plain SGD on the same minibatches (1e-5)."""
    workload = small_workload()
    trained = record_short_run(workload, steps=20, batch_size=16, seed=7)[1]
    model = workload.fresh_model()
    optimizer = workload.fresh_optimizer(model)
    rng = np.random.default_rng(7)
    for _ in range(20):
        chosen = rng.choice(60, size=(8, 2), replace=False)
        optimizer.zero_grad()
        workload.loss(model, workload.minibatch(chosen.ravel())).backward()
        optimizer.step()

    for expected, actual in zip(model.parameters(), trained.parameters(), strict=True):
        torch.testing.assert_close(expected, actual, rtol=1e-5, atol=1e-6)


def test_same_seed_same_numbers() -> None:
    """A seed fixes every number, with dropout too and whatever was drawn before."""
    workload = small_workload(dropout=0.5)
    first = measure_gradient_noise(workload, examples=32, seed=4)
    run = record_short_run(workload, steps=5, batch_size=16, seed=4)[0]
    torch.rand(3)
    again = measure_gradient_noise(workload, examples=32, seed=4)
    run_again = record_short_run(workload, steps=5, batch_size=16, seed=4)[0]

    assert first == again
    assert (run.squared_gradient_norm == run_again.squared_gradient_norm).all()
    assert first != measure_gradient_noise(workload, examples=32, seed=5)


def test_the_users_model_and_random_state_are_left_alone() -> None:
    """Weights, buffers, gradients, mode and the three random generators are bit-identical."""
    workload = small_workload(dropout=0.5)
    workload.model[0].weight.grad = torch.ones(8, 3)
    before = {name: value.clone() for name, value in workload.model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    measure_gradient_noise(workload, examples=32)
    record_short_run(workload, steps=3, batch_size=16)

    for name, value in workload.model.state_dict().items():
        assert torch.equal(before[name], value), name
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.equal(workload.model[0].weight.grad, torch.ones(8, 3))
    assert workload.model.training


def test_too_few_examples_are_refused() -> None:
    """Seven examples cannot show how gradients differ; the error says how many can."""
    few = small_workload()
    few = Workload(few.model, few.loss, [few.examples[i] for i in range(7)], few.optimizer)

    with pytest.raises(UnresolvedError, match="8 or more examples"):
        measure_gradient_noise(few)
    with pytest.raises(DataError, match="micro-batches are too few"):
        measure_gradient_noise(small_workload(), micro_batches=4)


def test_a_run_that_diverges_says_at_which_step() -> None:
    """An exploding learning rate ends in a typed error, not in NaN."""
    steady = small_workload()
    wild = Workload(
        steady.model, steady.loss, steady.examples, lambda p: torch.optim.SGD(p, lr=1e6)
    )

    with pytest.raises(DataError, match=r"at step \d+ of a short run: .*(nan|inf|not finite)"):
        record_short_run(wild, steps=50, batch_size=16)
