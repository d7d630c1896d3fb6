"""Minibatches of points: exact over an epoch, unbiased at a step, the same on two processes."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.training.collocation import (
    Box,
    CollocationMinibatches,
    Condition,
    DrawnPoints,
    collocation_loss,
)

Conditions = list[Condition]


def whole(conditions: Conditions) -> dict[str, DrawnPoints]:
    """All points, each with its share."""
    return {c.name: DrawnPoints(c.points, torch.full((c.count,), 1 / c.count)) for c in conditions}


@pytest.mark.parametrize("count", [1, 7, 20, 53, {"heat": 11, "start": 5, "corners": 2}])
def test_the_mean_over_an_epoch_is_the_whole_gradient(
    conditions: Conditions, net: nn.Module, gradient: Any, count: int | dict[str, int]
) -> None:
    """To 1e-12, in every epoch, whether or not counts divide; counts never change."""
    full = gradient(collocation_loss(net, conditions, whole(conditions)), net)
    minibatches = CollocationMinibatches(conditions, count)
    for _ in range(3):
        mean, seen = torch.zeros_like(full), set()
        for _ in range(minibatches.steps_per_epoch):
            drawn = minibatches.draw()
            mean += gradient(collocation_loss(net, conditions, drawn), net)
            seen |= {(name, *point.tolist()) for name, d in drawn.items() for point in d.points}
            assert {name: len(d.points) for name, d in drawn.items()} == minibatches.counts
        mean /= minibatches.steps_per_epoch

        assert float((mean - full).norm() / full.norm()) < 1e-12
        assert len(seen) == 53 + 20 + 2


def test_points_come_once_an_epoch_where_counts_divide() -> None:
    """Without replacement, and in another order in the next epoch."""
    pool = torch.arange(12.0).reshape(12, 1)
    minibatches = CollocationMinibatches([Condition("line", lambda m, x: m(x), pool)], 4)
    epochs = [
        [value for _ in range(3) for value in minibatches.draw()["line"].points.flatten().tolist()]
        for _ in range(2)
    ]

    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(12))
    assert epochs[0] != epochs[1]


def test_every_single_step_is_unbiased() -> None:
    """Also where points come up unequally often: 1,500 first steps, within 4 standard errors."""
    pool = torch.arange(1.0, 6.0, dtype=torch.float64).reshape(5, 1) ** 2
    line = [Condition("line", lambda m, x: m(x), pool)]
    sums = []
    for seed in range(1500):
        drawn = CollocationMinibatches(line, 3, seed=seed).draw()["line"]
        sums.append(float((drawn.weights * drawn.points[:, 0]).sum()))

    assert abs(np.mean(sums) - 11.0) <= 4 * np.std(sums) / np.sqrt(1500)


def test_importance_is_unbiased_and_rad_is_not(
    conditions: Conditions, net: nn.Module, gradient: Any
) -> None:
    """Over 2,000 draws importance is within 3 standard errors of the whole gradient, rad is not."""
    full = gradient(collocation_loss(net, conditions, whole(conditions)), net)
    along, place, single = full / full.norm(), {}, []
    for condition in conditions:  # the gradient of a minibatch is a weighted sum of these
        for point in condition.points:
            place[condition.name, *point.tolist()] = len(single)
            drawn = {condition.name: DrawnPoints(point[None], torch.ones(1))}
            single.append(gradient(collocation_loss(net, [condition], drawn), net))
    found = {}
    for way in ("importance", "rad"):
        minibatches = CollocationMinibatches(conditions, {"heat": 6, "start": 4, "corners": 1}, way)
        minibatches.refresh(net)
        weights = torch.zeros(2000 if way == "importance" else 300, len(single))
        for row in weights:
            for name, drawn in (every := minibatches.draw()).items():
                for point, weight in zip(drawn.points.tolist(), drawn.weights, strict=True):
                    row[place[name, *point]] += weight
        rows = weights @ torch.stack(single)
        last = gradient(collocation_loss(net, conditions, every), net)
        off = float((rows @ along).mean() - full @ along)

        assert float((rows[-1] - last).norm() / last.norm()) < 1e-12
        found[way] = abs(off) / float((rows @ along).std() / len(rows) ** 0.5)
        errors = rows.std(dim=0) / len(rows) ** 0.5
        within = ((rows.mean(dim=0) - full).abs() <= 3 * errors + 1e-12).double().mean()

        assert float(within) >= 0.95 if way == "importance" else float(within) < 0.9
    assert found["importance"] <= 3
    assert found["rad"] > 5


@pytest.mark.parametrize("way", ["uniform", "importance", "sobol", "latin_hypercube"])
def test_two_processes_are_one(
    conditions: Conditions, net: nn.Module, gradient: Any, way: Any
) -> None:
    """The losses and gradients of two parts add up to those of the minibatch, to 1e-12."""
    boxed = [replace(conditions[0], redraw=UNIT), conditions[1]]
    one, first, second = (CollocationMinibatches(boxed, 7, way, seed=3) for _ in range(3))
    for sequence in (one, first, second):
        sequence.refresh(net)
    for _ in range(4):
        alone = gradient(collocation_loss(net, boxed, one.draw()), net)
        parts = [
            gradient(collocation_loss(net, boxed, sequence.draw(rank, 2)), net)
            for rank, sequence in enumerate((first, second))
        ]

        assert float((parts[0] + parts[1] - alone).norm() / alone.norm()) < 1e-12


UNIT = Box((0.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize("way", ["uniform", "importance", "rad", "sobol", "latin_hypercube"])
def test_a_state_goes_on_where_it_was(conditions: Conditions, net: nn.Module, way: Any) -> None:
    """Through a file that is read without running code, and without looking again."""
    pools = [*conditions[1:], Condition("box", conditions[0].residual, UNIT(70, 0), redraw=UNIT)]

    def fresh() -> CollocationMinibatches:
        return CollocationMinibatches(pools, 5, way, pool=64, seed=2)

    run, file = fresh(), io.BytesIO()
    run.refresh(net)
    for _ in range(17):
        run.draw()
    torch.save(run.state_dict(), file)
    file.seek(0)
    other = fresh()
    other.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(20):
        found = other.draw()
        for name, drawn in run.draw().items():
            assert torch.equal(drawn.points, found[name].points)
            assert torch.equal(drawn.weights, found[name].weights)


def test_a_state_of_something_else_is_refused(conditions: Conditions) -> None:
    """It says which setting differs."""
    state = CollocationMinibatches(conditions, 5, seed=1).state_dict()

    with pytest.raises(DataError, match="the state has seed 1, not 0"):
        CollocationMinibatches(conditions, 5).load_state_dict(state)


def test_fresh_points_are_spread_evenly() -> None:
    """Sobol and Latin hypercube points put one into each quarter, and move at every step."""
    line = [Condition("line", lambda m, x: m(x), UNIT(4, 0), redraw=UNIT)]
    line += [Condition("other", lambda m, x: m(x), UNIT(4, 1))]
    for way in ("sobol", "latin_hypercube"):
        minibatches = CollocationMinibatches(line, {"line": 4, "other": 4}, way)  # type: ignore[arg-type]
        first, second = (minibatches.draw()["line"].points for _ in range(2))

        assert minibatches.how == {"line": way, "other": "uniform"}
        assert not torch.equal(first, second)
        for column in range(2):
            assert sorted((first[:, column] * 4).floor().tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"points_per_condition": {"heat": 5}}, "names"),
        ({"points_per_condition": {"heat": 54, "start": 1, "corners": 1}}, "heat: 54 .* 1 to 53"),
        ({"points_per_condition": 0}, "heat: 0 points a minibatch"),
        ({"points_per_condition": 4, "sampling": "halton"}, "no sampling 'halton'"),
        ({"points_per_condition": 4, "sampling": "sobol"}, "need a condition with redraw=Box"),
        ({"points_per_condition": 4, "mixing": 0.0}, "mixing is 0.0"),
    ],
)
def test_wrong_settings_are_named(conditions: Conditions, given: Any, words: str) -> None:
    """Before anything is drawn."""
    with pytest.raises(DataError, match=words):
        CollocationMinibatches(conditions, **given)


def test_draws_that_cannot_be_made_are_refused(conditions: Conditions) -> None:
    """Importance before residuals were seen; fewer points than processes."""
    with pytest.raises(DataError, match=r"heat: importance .* call refresh"):
        CollocationMinibatches(conditions, 5, "importance").draw()
    with pytest.raises(DataError, match="corners: 2 points cannot be shared by 3 ranks"):
        CollocationMinibatches(conditions, 5).draw(rank=0, ranks=3)
