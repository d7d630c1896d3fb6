"""Problems in DeepXDE's own words: the same loss, right targets, and its own training."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from batchsense.errors import DataError, MissingExtraError
from batchsense.training.collocation import (
    CollocationMinibatches,
    collocation_loss,
    conditions_of,
    minibatched,
)
from batchsense.training.collocation.conditions import check_conditions

pytest.importorskip("deepxde")
pytestmark = pytest.mark.filterwarnings("ignore:Arrays of 2-dimensional:DeprecationWarning")

NAMES = (
    "poisson_dirichlet", "poisson_neumann", "poisson_robin", "poisson_periodic", "poisson_l_shape",
    "burgers", "allen_cahn", "kovasznay", "laplace_disk", "diffusion_with_measurements",
)  # fmt: skip


def problem(name: str) -> Any:
    """Data and network, from a module that knows nothing of us."""
    import deepxde_problems

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - DeepXDE draws from it
    return getattr(deepxde_problems, name)()


@pytest.mark.parametrize("name", NAMES)
def test_minibatches_of_its_problems_are_its_gradient(dde: Any, gradient: Any, name: str) -> None:
    """The mean over an epoch is DeepXDE's own gradient to 1e-12, in our loop and in its own."""
    data, net = problem(name)
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, verbose=0)
    inputs = data.train_x, data.train_y, data.train_aux_vars
    full = gradient(model.outputs_losses_train(*inputs)[1].sum(), net)
    conditions = conditions_of(data)
    check_conditions(net, conditions)
    ours = CollocationMinibatches(conditions, 9)
    theirs = minibatched(data, 9, num_test=None if data.num_test else 30)
    other = dde.Model(theirs, net)
    other.compile("adam", lr=1e-3, verbose=0)
    means = [torch.zeros_like(full), torch.zeros_like(full)]
    steps = ours.steps_per_epoch
    for step in range(steps):
        means[0] += gradient(collocation_loss(net, conditions, ours.draw()), net) / steps
        if step:
            theirs.train_next_batch()
        inputs = theirs.train_x, theirs.train_y, theirs.train_aux_vars
        means[1] += gradient(other.outputs_losses_train(*inputs)[1].sum(), net) / steps

    for mean in means:
        assert float((mean - full).norm() / full.norm()) < 1e-12


def varying(dde: Any) -> Any:
    """Targets that differ at every point of a boundary: value, slope and measurements."""
    geometry = dde.geometry.Rectangle([0, 0], [1, 1])

    def right(x: Any, on: bool) -> bool:
        return on and bool(np.isclose(x[0], 1))

    measured = np.random.default_rng(0).random((30, 2))
    conditions = [
        dde.icbc.DirichletBC(geometry, lambda x: np.sin(7 * x[:, :1] + 3 * x[:, 1:]), right),
        dde.icbc.NeumannBC(geometry, lambda x: np.cos(5 * x[:, 1:]), right),
        dde.icbc.PointSetBC(measured, np.exp(measured[:, :1] - measured[:, 1:])),
    ]
    return dde.data.PDE(
        geometry, lambda x, y: dde.grad.hessian(y, x), conditions, 20, 80, num_test=10
    )


def test_targets_belong_to_their_points(dde: Any) -> None:
    """Over 50 refilled epochs no target is that of another point.

    DeepXDE's own conditions give old targets once an array is refilled in place.
    """
    data = varying(dde)
    zero = nn.Linear(2, 1)
    for parameter in zero.parameters():
        nn.init.zeros_(parameter)
    right, slope, measured = conditions_of(data)[1:]
    minibatches = CollocationMinibatches([right, slope, measured], 6)
    wrong = 0
    for _ in range(50 * minibatches.steps_per_epoch):
        drawn = {name: part.points for name, part in minibatches.draw().items()}
        x, y = drawn[right.name][:, :1], drawn[right.name][:, 1:]
        wrong += int(
            (
                right.residual(zero, drawn[right.name].clone().requires_grad_())
                + torch.sin(7 * x + 3 * y)
            )
            .abs()
            .max()
            > 1e-12
        )
        rows = drawn[slope.name].clone().requires_grad_()
        wrong += int((slope.residual(zero, rows) + torch.cos(5 * rows[:, 1:])).abs().max() > 1e-12)
        rows = drawn[measured.name]
        wrong += int(
            (measured.residual(zero, rows) + torch.exp(rows[:, :1] - rows[:, 1:2])).abs().max()
            > 1e-12
        )

    buffer = np.array(data.train_x_bc[: data.num_bcs[0]])
    first = data.bcs[0].func(buffer, 0, 6, None).clone()
    buffer[:] = buffer[::-1].copy()

    assert wrong == 0
    assert torch.equal(data.bcs[0].func(buffer, 0, 6, None), first)  # the trap is there


@pytest.mark.parametrize("sampling", ["uniform", "importance", "rad", "sobol"])
def test_deepxde_trains_with_minibatches(dde: Any, sampling: Any) -> None:
    """With its Model, Adam and resampler the loss falls; test points and data stay as they were."""
    data, net = problem("poisson_dirichlet")
    before = data.train_x.copy()
    made = minibatched(data, 8, sampling=sampling, net=net, refresh_every=10)
    model = dde.Model(made, net)
    model.compile("adam", lr=1e-2, metrics=["l2 relative error"], verbose=0)
    resampler = dde.callbacks.PDEPointResampler(period=25, bc_points=True)
    history, _ = model.train(iterations=150, display_every=150, callbacks=[resampler], verbose=0)

    assert history.loss_test[-1].sum() < 0.5 * history.loss_test[0].sum()
    assert made.minibatches.how["pde"] == sampling
    assert len(made.test_x) == len(data.test_x)
    assert np.array_equal(data.train_x, before)
    assert data.bcs[0].func.__code__.co_name == "wrapper_cache"


def test_weights_of_losses_are_kept(dde: Any, gradient: Any) -> None:
    """``loss_weights`` weigh each equation and each condition as in DeepXDE's compile."""
    data, net = problem("kovasznay")
    weights = [1.0, 2.0, 0.5, 10.0, 3.0]
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3, loss_weights=weights, verbose=0)
    full = gradient(model.outputs_losses_train(data.train_x, None, None)[1].sum(), net)
    conditions = conditions_of(data, weights)
    ours = CollocationMinibatches(conditions, 10**6)

    found = gradient(collocation_loss(net, conditions, ours.draw()), net)
    assert float((found - full).norm() / full.norm()) < 1e-12


def test_its_test_loss_is_that_of_deepxde(dde: Any) -> None:
    """Whatever minibatch is at hand, the test loss is that of all boundary points."""
    data, net = problem("kovasznay")
    made = minibatched(data, 5)
    found = []
    for each in (data, made):
        model = dde.Model(each, net)
        model.compile("adam", lr=1e-3, verbose=0)
        found.append(model.outputs_losses_test(*each.test())[1])

    assert torch.allclose(found[0], found[1], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda dde, data, net: minibatched(data, 8), "pde: num_test is None"),
        (lambda dde, data, net: minibatched(data, 8, num_test=9, sampling="rad"), "net=net"),
        (lambda dde, data, net: minibatched(data, {"pde": 8}, num_test=9), "names"),
        (lambda dde, data, net: conditions_of(net), "FNN cannot be cut into points"),
    ],
)
def test_what_is_missing_is_named(dde: Any, make: Any, words: str) -> None:
    """Before any training."""
    with pytest.raises(DataError, match=words):
        make(dde, *problem("burgers"))


def test_points_outside_and_conditions_without_points_are_named(dde: Any) -> None:
    """The condition, and the point."""
    line = dde.geometry.Interval(-1, 1)
    never = dde.icbc.DirichletBC(line, lambda x: x, lambda x, on: False)
    equation = dde.grad.hessian

    with pytest.raises(DataError, match=r"pde: \(2\) lies outside"):
        conditions_of(
            dde.data.PDE(line, lambda x, y: equation(y, x), [], 9, anchors=np.array([[2.0]]))
        )
    with pytest.raises(DataError, match="DirichletBC 1: no training point"):
        conditions_of(dde.data.PDE(line, lambda x, y: equation(y, x), [never], 9, 2))


def test_integrals_couple_points(dde: Any) -> None:
    """An integro-differential equation is refused by its kind."""
    line = dde.geometry.TimeDomain(0, 1)
    data = dde.data.IDE(line, lambda x, y, matrix: y, [], quad_deg=4, num_domain=5)

    with pytest.raises(DataError, match="IDE cannot be cut into points"):
        conditions_of(data)


def test_other_losses_than_squares_are_refused(dde: Any) -> None:
    """Weights of minibatches belong to mean squares."""
    data, net = problem("poisson_dirichlet")
    made = minibatched(data, 8)
    model = dde.Model(made, net)
    model.compile("adam", lr=1e-3, loss="MAE", verbose=0)

    with pytest.raises(DataError, match="loss='MSE'"):
        model.train(iterations=1, verbose=0)


def test_without_deepxde_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "deepxde", None)

    with pytest.raises(MissingExtraError, match=r"batchsense\[collocation\]"):
        conditions_of(object())
