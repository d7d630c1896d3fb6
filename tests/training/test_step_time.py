"""Step times: a planted line is recovered from noisy readings, with honest intervals."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset, default_collate

from batchsense.errors import DataError
from batchsense.training import Workload, fit_step_time, load_target, measure_step_time

SIZES = np.array([2.0, 8, 32, 128, 512])


def readings(rng: np.random.Generator, c0: float, c1: float, rounds: int = 30) -> np.ndarray:
    """Simulate rounds: jitter of a few per cent, and slow rounds as on a busy machine."""
    line = c0 + c1 * SIZES
    jitter = np.exp(0.03 * np.abs(rng.standard_normal((rounds, len(SIZES)))))
    busy = np.where(rng.random((rounds, 1)) < 0.2, rng.uniform(1, 3, (rounds, 1)), 1.0)
    return line * jitter * busy


def test_planted_line_is_recovered_on_a_busy_machine() -> None:
    """c0 and c1 within 5 % in each of 50 simulations, although a fifth of rounds is disturbed."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        timed = fit_step_time(SIZES, readings(rng, 1e-3, 2e-5))

        assert timed.fixed.estimate == pytest.approx(1e-3, rel=0.05)
        assert timed.per_example.estimate == pytest.approx(2e-5, rel=0.05)
        assert timed.is_line
        assert timed.fixed.low <= timed.fixed.estimate <= timed.fixed.high


def test_interval_of_the_overhead_covers() -> None:
    """The bootstrap interval of c0/c1 holds the planted 50 examples in 88 to 99 % of 200."""
    rng = np.random.default_rng(1)
    covered = [
        50.0 in fit_step_time(SIZES, readings(rng, 1e-3, 2e-5)).overhead_batch_size
        for _ in range(200)
    ]

    assert 0.88 <= np.mean(covered) <= 0.99


def test_parts_are_held_non_negative() -> None:
    """No fixed part: c0 is 0, not negative; no part per example: c1 is 0 and the ratio infinite."""
    concave = fit_step_time([2, 8, 32], [[1e-3, 5e-3, 22e-3]] * 5)
    flat = fit_step_time([2, 8, 32], [[3e-3, 2.9e-3, 2.8e-3]] * 5)

    assert concave.fixed.estimate == 0.0
    assert flat.per_example.estimate == 0.0
    assert math.isinf(flat.overhead_batch_size.estimate)


def test_what_is_no_line_is_said_and_not_forced() -> None:
    """A step that is flat up to 100 examples and linear above is predicted between its readings."""
    times = np.maximum(5e-3, 5e-5 * SIZES)
    timed = fit_step_time(SIZES, [times] * 5)

    assert not timed.is_line
    np.testing.assert_allclose(timed.seconds(SIZES), times, rtol=1e-12)
    assert timed.seconds(1024.0) == pytest.approx(5e-5 * 1024, rel=0.01)


def test_a_stalled_size_never_makes_larger_sizes_look_faster() -> None:
    """Predictions do not fall with the batch size, whatever was read."""
    timed = fit_step_time([2, 8, 32, 128], [[1e-3, 90e-3, 2e-3, 3e-3]] * 5)
    predicted = timed.seconds(np.arange(1, 400))

    assert (np.diff(predicted) >= 0).all()


def test_the_clock_is_read_around_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that only the job advances, 2 ms and 0.2 ms per example are found exactly.

    Of these the data set takes 0.05 ms per example, which is the share of fetching.
    """
    now = [0.0]
    monkeypatch.setattr("batchsense.clock.now", lambda: now[0])

    class Slow(TensorDataset):
        def __getitems__(self, indices: list[int]) -> list[tuple[torch.Tensor, ...]]:
            now[0] += 0.00005 * len(indices)
            return [self[index] for index in indices]

    def loss(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
        now[0] += 0.002 + 0.00015 * len(minibatch[0])
        return model(minibatch[0]).square().mean()

    job = Workload(
        nn.Linear(1, 1),
        loss,
        Slow(torch.ones(200, 1)),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        collate=default_collate,
    )
    timed = measure_step_time(job, [2, 8, 32, 128], seconds=0.4)

    assert timed.fixed.estimate == pytest.approx(2e-3)
    assert timed.per_example.estimate == pytest.approx(2e-4)
    assert timed.fetch_share == pytest.approx(32 * 5e-5 / (2e-3 + 32 * 2e-4))


def test_measuring_leaves_the_weights_alone() -> None:
    """The model and, by learning rate zero, even its copy stay where they are."""
    workload = load_target("digits")
    before = {name: value.clone() for name, value in workload.model.state_dict().items()}
    measure_step_time(workload, [2, 8], seconds=0.05)

    assert all(
        torch.equal(before[name], value) for name, value in workload.model.state_dict().items()
    )


def test_two_sizes_are_needed() -> None:
    """One size makes no line."""
    with pytest.raises(DataError, match="two different batch sizes"):
        measure_step_time(load_target("digits"), [8, 8])
