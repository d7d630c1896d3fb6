"""Residuals that cannot be cut into points are refused, naming the condition and the point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.training.collocation import Condition, collocation_loss
from batchsense.training.collocation.conditions import check_conditions, condition_residual

POINTS = torch.tensor([[0.0, 1.0], [0.5, 0.25], [1.0, 2.0], [2.0, 2.0]])


def singular(model: nn.Module, points: Tensor) -> Tensor:
    """Divides by the first coordinate less one half."""
    return model(points) / (points[:, :1] - 0.5)


REFUSED: list[tuple[Callable[[nn.Module, Tensor], Any], str]] = [
    (lambda model, points: model(points).mean(), r"wall: the residual has shape \(\) for 3"),
    (lambda model, points: model(points).T, r"shape \(1, 3\) for 3 points"),
    (lambda model, points: model(points)[:1], r"shape \(1, 1\) for 3 points"),
    (lambda model, points: model(points)[:, None], r"shape \(3, 1, 1\)"),
    (lambda model, points: 0.0, r"shape \('float',\)"),
    (singular, r"wall: the residual is not finite at \(0.5, 0.25\), one of 1 such points"),
    (lambda model, points: model(points).detach(), "does not depend on a trained parameter"),
    (lambda model, points: model(points).detach() + points[:, :1], "wall: .*does not depend"),
    (lambda model, points: model(points) - points[:, 0], r"\(n, 1\) and \(n,\) became \(n, n\)"),
    (lambda model, points: model(points[:, :1]), "wall: the residual failed at 3 points"),
]


@pytest.mark.parametrize(("residual", "words"), REFUSED)
def test_a_wrong_residual_is_named(
    residual: Callable[[nn.Module, Tensor], Tensor], words: str
) -> None:
    """Its condition, what came out, and what should."""
    with pytest.raises(DataError, match=words):
        check_conditions(nn.Linear(2, 1), [Condition("wall", residual, POINTS)])


@pytest.mark.parametrize(
    ("points", "weight", "words"),
    [
        (torch.tensor([[0.0], [float("nan")]]), 1.0, r"wall: point 1 is not finite: \(nan\)"),
        (torch.zeros(3), 1.0, r"\(n, dimension\), not \(3,\)"),
        (torch.zeros(0, 2), 1.0, r"not \(0, 2\)"),
        ([[1.0]], 1.0, "not list"),
        (torch.ones(2, 1, dtype=torch.long), 1.0, "floating-point"),
        (torch.ones(2, 1), 0.0, "weight is 0.0"),
        (torch.ones(2, 1), float("nan"), "weight is nan"),
    ],
)
def test_wrong_points_and_weights_are_named(points: Any, weight: float, words: str) -> None:
    """At once, when the condition is made."""
    with pytest.raises(DataError, match=words):
        Condition("wall", lambda model, points: model(points), points, weight)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.1)])
def test_models_that_mix_points_or_draw_are_refused(layer: nn.Module) -> None:
    """BatchNorm and dropout, unless they are in eval mode."""
    model = nn.Sequential(nn.Linear(2, 4), layer, nn.Linear(4, 1))
    walls = [Condition("wall", lambda model, points: model(points), POINTS)]

    with pytest.raises(DataError, match=r"wall: (1 \(BatchNorm1d\)|1) "):
        check_conditions(model, walls)
    check_conditions(model.eval(), walls)


def test_names_are_needed_once() -> None:
    """No condition, one name for two, or no points for one of them."""
    wall = Condition("wall", lambda model, points: model(points), POINTS)

    with pytest.raises(DataError, match="there is no condition"):
        check_conditions(nn.Linear(2, 1), [])
    with pytest.raises(DataError, match="two conditions are named 'wall'"):
        check_conditions(nn.Linear(2, 1), [wall, wall])
    with pytest.raises(DataError, match="wall: no points were drawn"):
        collocation_loss(nn.Linear(2, 1), [wall], {})


def test_looking_leaves_points_and_gradients_alone() -> None:
    """Without gradients none is kept; the points of the pool never require any."""
    wall = Condition("wall", singular, POINTS[2:])
    with torch.no_grad():
        found = condition_residual(wall, nn.Linear(2, 1), wall.points)

    assert found.shape == (2, 1)
    assert not found.requires_grad
    assert not wall.points.requires_grad
