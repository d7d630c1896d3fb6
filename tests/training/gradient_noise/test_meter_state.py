"""What a meter has measured survives checkpoints and merges across workers."""

from __future__ import annotations

import io
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from batchsense.errors import DataError
from batchsense.training import GradientNoiseMeter, Workload, digits_workload
from batchsense.training.gradient_noise.meter.records import StepBook, StepNoise


def draw(step: int, size: int = 16) -> np.ndarray:
    """The examples of a step."""
    return np.random.default_rng(step).choice(1797, size=size, replace=False)


def run(
    meter: GradientNoiseMeter,
    optimizer: torch.optim.Optimizer,
    job: Workload,
    steps: range,
    share: slice = slice(None),
) -> None:
    """Train over some steps; a worker computes its share of each minibatch."""
    with meter:
        for step in steps:
            optimizer.zero_grad()
            job.loss(job.model, job.minibatch(draw(step)[share])).backward()
            optimizer.step()


def sgd(job: Workload, learning_rate: float = 0.05) -> torch.optim.Optimizer:
    """Make an optimizer of the model itself."""
    return torch.optim.SGD(job.model.parameters(), lr=learning_rate)


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Write and read a checkpoint as a careful user does."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def test_a_resumed_run_gives_the_same_report() -> None:
    """Stopped at a step between two measurements and resumed elsewhere, nothing differs."""
    whole = digits_workload()
    optimizer = sgd(whole)
    straight = GradientNoiseMeter(whole.model, optimizer, every=3)
    run(straight, optimizer, whole, range(130))

    first = digits_workload()
    optimizer = sgd(first)
    before = GradientNoiseMeter(first.model, optimizer, every=3)
    run(before, optimizer, first, range(67))
    checkpoint = saved({"model": first.model.state_dict(), "meter": before.state_dict()})

    second = digits_workload(seed=9)
    second.model.load_state_dict(checkpoint["model"])
    optimizer = sgd(second)
    after = GradientNoiseMeter(second.model, optimizer, every=3)
    after.load_state_dict(checkpoint["meter"])
    run(after, optimizer, second, range(67, 130))

    assert after.steps == 130
    assert after.report() == straight.report()


def test_loading_inside_the_block_takes_effect() -> None:
    """A checkpoint that is loaded in a running loop decides which step is measured next."""
    job = digits_workload()
    optimizer = sgd(job)
    meter = GradientNoiseMeter(job.model, optimizer, every=10)
    run(meter, optimizer, job, range(4))
    other = GradientNoiseMeter(job.model, optimizer, every=10)
    with other:
        other.load_state_dict(meter.state_dict())
    run(other, optimizer, job, range(4, 12))

    assert [row.step for row in other._book.rows] == [0, 10]


def test_workers_with_other_examples_merge_into_one_measurement() -> None:
    """Halves of each minibatch, measured apart at the same weights, pool to twice the examples."""
    job = digits_workload()
    optimizer = sgd(job, learning_rate=0.0)
    workers = [GradientNoiseMeter(job.model, optimizer, every=1) for _ in range(2)]
    for k, worker in enumerate(workers):
        run(worker, optimizer, job, range(64), slice(8 * k, 8 * k + 8))
    alone = workers[0].report()
    workers[0].merge(workers[1].state_dict())
    together = workers[0].report()

    assert together.measured == alone.measured
    assert together.examples_used == 2 * alone.examples_used
    low, high = together.noise_scale.low, together.noise_scale.high
    assert low <= alone.noise_scale.high
    assert high >= alone.noise_scale.low
    assert together.noise_scale.ratio < alone.noise_scale.ratio


def test_parts_of_a_run_merge_into_the_run() -> None:
    """Two meters that took turns hold together what one would have held."""
    job = digits_workload()
    optimizer = sgd(job, learning_rate=0.0)
    whole, first, second = (GradientNoiseMeter(job.model, optimizer, every=1) for _ in range(3))
    run(whole, optimizer, job, range(40))
    run(first, optimizer, job, range(25))
    second.load_state_dict({**first.state_dict(), "book": StepBook(8).state(), "unmeasured": {}})
    run(second, optimizer, job, range(25, 40))
    second.merge(first)

    assert second.report() == whole.report()


def test_the_same_measurement_is_not_counted_twice() -> None:
    """Merging a meter with itself is a mistake that would narrow the interval falsely."""
    job = digits_workload()
    optimizer = sgd(job)
    meter = GradientNoiseMeter(job.model, optimizer, every=1)
    run(meter, optimizer, job, range(3))
    with pytest.raises(DataError, match="same measurement of step 0"):
        meter.merge(meter.state_dict())


def test_states_that_do_not_belong_are_refused() -> None:
    """Another version, another mode or another model."""
    job = digits_workload()
    meter = GradientNoiseMeter(job.model, sgd(job))
    other = torch.nn.Linear(3, 1)
    foreign = GradientNoiseMeter(other, torch.optim.SGD(other.parameters(), lr=0.1))
    mode = GradientNoiseMeter(job.model, sgd(job), mode="micro_batch")
    for state, message in (
        ({**meter.state_dict(), "version": 0}, "version 0"),
        (foreign.state_dict(), "another model"),
        (mode.state_dict(), "another mode"),
    ):
        with pytest.raises(DataError, match=message):
            meter.load_state_dict(state)


def book(rng: np.random.Generator, steps: list[int]) -> StepBook:
    """Some measured steps of one worker."""
    made = StepBook(recent=4)
    for step in steps:
        layers = rng.random((3, 2))
        tau, gamma = layers.sum(axis=0)
        size = int(rng.integers(1, 50))
        made.add(StepNoise(step, size, float(size), tau, gamma, rng.random(), layers))
    return made


def test_the_order_of_merging_does_not_matter() -> None:
    """Three workers with common steps, merged in any order, hold the same."""
    found = []
    for order in permutations(range(3)):
        rng = np.random.default_rng(6)
        books = [book(rng, [0, 2, 4, 6, 8]), book(rng, [2, 3, 8, 9]), book(rng, [8, 9, 12])]
        total = books[order[0]]
        total.merge(books[order[1]])
        total.merge(books[order[2]])
        rows = total.rows
        found.append(
            [(r.step, r.examples, r.trace_covariance, r.squared_gradient_norm) for r in rows]
        )
        kept = [row for row in rows if row.layers is not None]
        assert [row.step for row in kept] == [6, 8, 9, 12]
        for row in kept:
            assert row.layers is not None
            np.testing.assert_allclose(row.layers[:, 0].sum(), row.trace_covariance, rtol=1e-12)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-12)


def test_a_book_survives_its_state() -> None:
    """Every row, its layers included, comes back."""
    made = book(np.random.default_rng(7), [0, 5, 7, 20, 21, 30])
    read = StepBook.of_state(saved(made.state()), recent=4, width=3)

    for one, two in zip(made.rows, read.rows, strict=True):
        assert (one.step, one.examples, one.batch_size) == (two.step, two.examples, two.batch_size)
        assert one.trace_covariance == two.trace_covariance
        assert (one.layers is None) == (two.layers is None)
        if one.layers is not None:
            np.testing.assert_array_equal(one.layers, two.layers)
