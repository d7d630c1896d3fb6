"""Gauss–Newton steps on a collocation loss: exact sums, one step in all forms, refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from batchsense.errors import DataError
from batchsense.training.collocation.conditions import (
    Condition,
    DrawnPoints,
    collocation_loss,
    condition_residual,
)
from batchsense.training.collocation.gauss_newton import GaussNewton
from batchsense.training.collocation.point_jacobians import point_jacobian
from batchsense.training.collocation.problems import PROBLEMS
from batchsense.training.collocation.problems.problem import slopes
from batchsense.training.workload import trainable


class Net(nn.Module):
    """A network with a constant that residuals use beside its call."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 2)).double()
        self.rate = nn.Parameter(torch.tensor(0.7).double())

    def forward(self, points: Tensor) -> Tensor:
        return self.net(points)


def flow(model: nn.Module, points: Tensor) -> Tensor:
    """Two residuals, second derivatives and the constant in one of them."""
    out = model(points)
    first = slopes(out[:, 0], points)
    second = slopes(first[:, 0], points)[:, 0]
    return torch.stack([first[:, 1] + out[:, 0] * out[:, 1] - model.rate * second, out[:, 1]], 1)


def edge(model: nn.Module, points: Tensor) -> Tensor:
    return model(points)[:, 0] - 1


def conditions(count: int = 40) -> list[Condition]:
    torch.manual_seed(4)
    return [
        Condition("flow", flow, torch.rand(count, 2).double()),
        Condition("edge", edge, torch.rand(count // 3, 2).double(), weight=3.0),
    ]


def slow_equations(terms: list[Condition], model: nn.Module) -> tuple[Tensor, Tensor]:
    """H and g, one derivative after the other."""
    matrix, gradient = 0.0, 0.0
    for term in terms:
        for residual in condition_residual(term, model, term.points).reshape(-1):
            parts = torch.autograd.grad(
                residual, trainable(model), retain_graph=True, materialize_grads=True
            )
            row = torch.cat([part.reshape(-1) for part in parts])
            matrix = matrix + term.weight / term.count * torch.outer(row, row)
            gradient = gradient + term.weight / term.count * row * residual.detach()
    return matrix, gradient


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_accumulated_equations_are_those_of_all_rows(chunk: int) -> None:
    """JᵀWJ and JᵀWr summed over chunks equal the sums over single derivatives to 1e-12."""
    terms, model = conditions(), Net()
    matrix, gradient = slow_equations(terms, model)

    found = GaussNewton(terms, model, chunk=chunk).normal_equations()

    assert float((found.matrix - matrix).abs().max()) < 1e-12 * float(matrix.abs().max())
    assert float((found.gradient - gradient).abs().max()) < 1e-12 * float(gradient.abs().max())


def test_weights_of_drawn_points_enter_the_equations() -> None:
    """With unequal weights 2g is the gradient of the weighted loss, as under importance."""
    terms, model = conditions(), Net()
    drawn = {
        term.name: DrawnPoints(term.points[:9], torch.rand(9).double() / term.count)
        for term in terms
    }
    loss = collocation_loss(model, terms, drawn)
    whole = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, trainable(model))])

    found = GaussNewton(terms, model, chunk=4).normal_equations(drawn)

    assert torch.allclose(2 * found.gradient, whole, rtol=1e-12, atol=1e-14)
    assert found.loss == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("count", [12, 60])
def test_all_forms_make_the_same_step(count: int) -> None:
    """Dense, in the space of residuals, and by conjugate gradients: one step."""
    steps = {}
    for form in ("dense", "residuals", "products"):
        model = Net()
        newton = GaussNewton(conditions(count), model, form=form, damping=1e-2)
        newton.step()
        steps[form] = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    for form, vector in steps.items():
        # Conjugate gradients stop at a residual of 1e-6 of the gradient.
        apart = float((vector - steps["dense"]).abs().max())
        assert apart < (1e-3 if form == "products" else 1e-9)


def test_rows_are_the_same_for_a_model_that_cannot_be_copied() -> None:
    """A residual that uses a part of the model beside its call gets the same Jacobian."""
    model, term = Net(), conditions()[0]

    def by_parts(inner: nn.Module, points: Tensor) -> Tensor:
        return inner.net(points)[:, 0] - inner.rate

    def whole(inner: nn.Module, points: Tensor) -> Tensor:
        return inner(points)[:, 0] - inner.rate

    one = point_jacobian(Condition("one", by_parts, term.points), model, term.points)
    two = point_jacobian(Condition("two", whole, term.points), model, term.points)

    assert torch.allclose(one[1], two[1], rtol=1e-12, atol=1e-14)
    assert torch.equal(one[0], two[0])


def test_a_step_to_nan_is_taken_back() -> None:
    """Where the residual is not finite beyond a step, the weights stay and damping grows."""

    class Cliff(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.at = nn.Parameter(torch.tensor([0.5]).double())

        def forward(self, points: Tensor) -> Tensor:
            return torch.sqrt(self.at) * points

    term = Condition("cliff", lambda m, p: m(p)[:, 0] + 5, torch.ones(1, 1).double())
    model = Cliff()
    newton = GaussNewton([term], model, damping=1e-10)
    found = newton.step()

    assert torch.isfinite(model.at).all()
    assert newton.damping > 1e-10
    assert found.accepted == (found.actual > 0)


def test_a_resumed_optimizer_goes_on_alike() -> None:
    """After loading its state, later steps are the same."""
    model, other = Net(), Net()
    first = GaussNewton(conditions(), model)
    for _ in range(3):
        first.step()
    other.load_state_dict(model.state_dict())
    second = GaussNewton(conditions(), other)
    second.load_state_dict(first.state_dict())

    assert first.step() == second.step()


def norm_of_all(model: nn.Module, points: Tensor) -> Tensor:
    return model(points)[:, 0] - model(points).mean()


def not_finite(model: nn.Module, points: Tensor) -> Tensor:
    return model(points)[:, 0] / (points[:, 0] - points[:, 0].detach())


REFUSED = [
    ("float32", edge, lambda: nn.Linear(2, 1), "use model.double()"),
    ("batchnorm", edge, lambda: nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double(), "Norm"),
    ("detached", lambda m, p: m(p).detach()[:, 0], lambda: Net(), "does not depend"),
    ("coupled", norm_of_all, lambda: Net(), "depends on the other points"),
    ("infinite", not_finite, lambda: Net(), "not finite at ("),
    ("shape", lambda m, p: m(p).sum(), lambda: Net(), "shape"),
]


@pytest.mark.parametrize(("name", "residual", "network", "told"), REFUSED)
def test_what_cannot_be_stepped_is_refused_with_its_condition(
    name: str, residual: object, network: object, told: str
) -> None:
    """Single precision, BatchNorm, no gradient, coupled or infinite residuals, wrong shapes."""
    term = Condition(name, residual, torch.rand(6, 2).double())  # type: ignore[arg-type]

    with pytest.raises(DataError) as refused:
        GaussNewton([term], network())  # type: ignore[operator]

    assert told in str(refused.value)
    assert str(refused.value).startswith(f"{name}:")


def test_single_precision_points_are_refused() -> None:
    """Points in float32 name their condition."""
    with pytest.raises(DataError, match=r"far: points are torch.float32.*points.double"):
        GaussNewton([Condition("far", edge, torch.rand(4, 2))], Net())


_SHARED = """
import json, sys, torch
sys.path.insert(0, {here!r})
from test_gauss_newton import GaussNewton, Net, conditions
from batchsense.training.running import joined_ranks
with joined_ranks() as ranks:
    model = Net()
    newton = GaussNewton(conditions(), model, ranks=ranks)
    found = newton.normal_equations()
    newton.step()
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    if ranks.is_first:
        print(json.dumps([found.matrix.tolist(), found.gradient.tolist(), vector.tolist()]))
"""


@pytest.mark.slow
def test_two_processes_make_the_step_of_one(tmp_path: Path) -> None:
    """Sums over two processes, and the step, equal those of one to 1e-12."""
    script = tmp_path / "shared.py"
    script.write_text(_SHARED.format(here=str(Path(__file__).parent)))
    words = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29517"]
    done = subprocess.run(
        [sys.executable, *words, str(script)], capture_output=True, text=True, check=True
    )
    shared = [
        torch.tensor(one, dtype=torch.float64) for one in json.loads(done.stdout.splitlines()[-1])
    ]
    model = Net()
    newton = GaussNewton(conditions(), model)
    alone = newton.normal_equations()
    newton.step()
    vector = torch.nn.utils.parameters_to_vector(model.parameters()).detach()

    for one, two in zip(shared, (alone.matrix, alone.gradient, vector), strict=True):
        assert float((one - two).abs().max()) < 1e-12 * float(two.abs().max())


@pytest.mark.parametrize("name", ["heat", "burgers", "kovasznay", "poisson-disc"])
def test_many_steps_on_fixed_points_lower_the_loss(name: str) -> None:
    """On fixed points no accepted step raises the loss."""
    problem = PROBLEMS[name]()
    newton = GaussNewton(problem.conditions, problem.network(0))
    drawn = {
        c.name: DrawnPoints(c.points[:60], torch.full((60,), 1 / 60).double())
        for c in problem.conditions
    }
    losses = [newton.step(drawn).loss for _ in range(5)]

    assert losses == sorted(losses, reverse=True)
