"""Output forms that satisfy initial and boundary values exactly, and values that contradict."""

import pytest
import torch
from torch import Tensor

from batchsense.errors import DataError
from batchsense.training.collocation import Box, Disc, exact_conditions

SQUARE = Box((0.0, -1.0), (2.0, 1.0))


def on(points: Tensor) -> Tensor:
    """Some values in the plane."""
    return torch.sin(points[:, 0]) + points[:, 1] ** 3


@pytest.mark.parametrize(
    "sides", [("left",), ("bottom", "top"), ("left", "right", "bottom", "top")]
)
def test_given_sides_have_their_values_whatever_the_network_says(sides: tuple[str, ...]) -> None:
    """On each given side of a rectangle the outputs are the values to rounding."""
    transform = exact_conditions(SQUARE, dict.fromkeys(sides, on))
    shares = torch.rand(20, 2).double()
    for side in sides:
        axis = 0 if side in ("left", "right") else 1
        points = torch.tensor(SQUARE.lower).double() + 2 * shares
        points[:, axis] = (SQUARE.lower if side in ("left", "bottom") else SQUARE.upper)[axis]
        out = transform(points, torch.randn(20, 1).double())

        assert torch.allclose(out[:, 0], on(points), rtol=1e-13, atol=1e-13)


def test_initial_value_and_velocity_hold() -> None:
    """At t = 0 both u and its time derivative are as given."""
    rod = Box((0.0,), (1.0,))
    start, velocity = (lambda p: torch.sin(torch.pi * p[:, 0])), (lambda p: p[:, 0] * (1 - p[:, 0]))
    transform = exact_conditions(rod, 0.0, (start, velocity))
    points = torch.column_stack([torch.rand(9), torch.zeros(9)]).double().requires_grad_()
    out = transform(points, 5 + points.sum(dim=1, keepdim=True))[:, 0]
    (slope,) = torch.autograd.grad(out.sum(), points)

    assert torch.allclose(out, start(points), atol=1e-14)
    assert torch.allclose(slope[:, 1], velocity(points), atol=1e-14)


def test_the_edge_of_a_disc_has_its_value() -> None:
    """Around the edge the output is the value, inside it is the network's as well."""
    transform = exact_conditions(Disc((1.0, 2.0), 3.0), 4.0)
    angle = torch.rand(12).double() * 7
    edge = torch.column_stack([1 + 3 * angle.cos(), 2 + 3 * angle.sin()])

    assert torch.allclose(transform(edge, torch.ones(12, 1)), torch.tensor(4.0).double())
    assert transform(torch.tensor([[1.0, 2.0]]), torch.ones(1, 1)).item() == 5.0


CONTRADICTIONS = [
    ({"left": 0.0, "top": 1.0}, None, r"left: contradicts side top at \(0, 1\).*jump of 1"),
    ({"right": on}, 0.0, r"right: contradicts the initial values at \(2, -?\d.*a jump of"),
    ({"behind": 1.0}, None, r"behind: is no side here"),
]


@pytest.mark.parametrize(("values", "initial", "told"), CONTRADICTIONS)
def test_contradictions_name_the_corner_and_the_jump(
    values: dict[str, object], initial: float | None, told: str
) -> None:
    """Sides that disagree at a corner, with each other or at the start, are refused."""
    with pytest.raises(DataError, match=told):
        exact_conditions(SQUARE, values, initial)  # type: ignore[arg-type]
