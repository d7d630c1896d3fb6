"""Other libraries' ways to solve the problems of ``collocation_race.py``.

Each function trains from the weights that ``problem.network(seed)`` has, behind the same form of
the output, and returns rows of CPU seconds and relative L2 error; ``shipped`` alone is what DeepXDE
gives its users, in single precision and with conditions as terms of the loss.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time

#: Points of DeepXDE's examples.
POINTS = 2540


class _TimeIsUpError(Exception):
    """The limit passed in the middle of a step."""


@contextlib.contextmanager
def at_most(seconds):
    """End the block after so many CPU seconds, wherever it is."""

    def end(*_):
        raise _TimeIsUpError

    signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with contextlib.suppress(_TimeIsUpError):
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def track(problem, model):
    """A function that notes CPU seconds and error."""
    import torch

    points = torch.from_numpy(problem.validation)
    truth = torch.from_numpy(problem.reference(problem.validation))
    started, rows = time.process_time(), []

    def look() -> float:
        with torch.no_grad():
            found = model(points.to(next(model.parameters()).dtype)).double()
            error = float((found - truth).norm() / truth.norm())
        rows.append((round(time.process_time() - started, 3), error))
        return rows[-1][0]

    return look, rows


def quasi_newton(problem, seed, limit, method):
    """Adam, then Scimba's self-scaled methods, on fixed points."""
    import torch
    from scimba_torch.optimizers.ssbroyden import SSBroyden

    from batchsense.training.collocation.conditions import collocation_loss
    from batchsense.training.collocation.point_plan import draw_points

    torch.set_default_dtype(torch.float64)
    model = problem.network(seed)
    drawn = draw_points(problem.conditions, {problem.conditions[0].name: POINTS}, seed)
    look, rows = track(problem, model)

    def loss():
        optimizer.zero_grad()
        value = collocation_loss(model, problem.conditions, drawn)
        value.backward()
        return value

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(100):
        optimizer.step(loss)
        if step % 50 == 0 and look() > limit:
            return rows
    optimizer = SSBroyden(model.parameters(), method=method)
    while look() < limit:
        for _ in range(10):
            optimizer.step(loss)
    return rows


def natural_gradient(problem, seed, limit):
    """Scimba's energy natural gradient on as many points, which it draws anew for each step.

    Its regularization is fixed, as by default: adapting it, which it offers, was slower on heat.
    """
    projector, exact = natural_gradient_problem(problem, seed)
    look, rows = track(problem, exact)
    draw = projector.sample_all_vars

    def looked(**options):
        if look() >= limit:
            raise _TimeIsUpError
        return draw(**options)

    projector.sample_all_vars = looked
    with at_most(limit + 1):
        projector.solve_nnstep(epochs=10**6, n_collocation=POINTS, silent=True)
    return rows


def natural_gradient_problem(problem, seed):
    """A problem in Scimba's words, and the network behind the form of its output."""
    import torch
    from scimba_torch.approximation_space.nn_space import NNxSpace
    from scimba_torch.domain.meshless_domain.domain_2d import Square2D
    from scimba_torch.integration.monte_carlo import DomainSampler, TensorizedSampler
    from scimba_torch.integration.monte_carlo_parameters import UniformParametricSampler
    from scimba_torch.neural_nets.coordinates_based_nets.mlp import GenericMLP
    from scimba_torch.numerical_solvers.elliptic_pde.pinns import NaturalGradientPinnsElliptic
    from scimba_torch.physical_models.elliptic_pde.abstract_elliptic_pde import (
        StrongFormEllipticPDE,
    )
    from torch.func import jacrev

    torch.set_default_dtype(torch.float64)
    torch.manual_seed(seed)
    exact = problem.network(seed)
    (transform,) = exact.transforms
    low = 0.0 if problem.name == "heat" else -1.0
    domain = Square2D([(low, 1.0), (0.0, 1.0)], is_main_domain=True)
    sampler = TensorizedSampler([DomainSampler(domain), UniformParametricSampler([])])
    space = NNxSpace(
        1,
        0,
        GenericMLP,
        domain,
        sampler,
        layer_sizes=[20, 20, 20],
        activation_type="tanh",
        last_layer_has_bias=True,
        post_processing=lambda raw, x, mu: transform(x.x, raw),
    )
    with torch.no_grad():
        for own, other in zip(
            space.network.parameters("all", "list"), exact.parameters(), strict=True
        ):
            own.copy_(other)
    heat = problem.name == "heat"

    def residual(u, u_x, u_t, u_xx):
        return u_t - 0.4 * u_xx if heat else u_t + u * u_x - 0.01 / torch.pi * u_xx

    class Equation(StrongFormEllipticPDE):
        def rhs(self, w, x, mu):
            return torch.zeros(x.x.size(0), 1)

        def operator(self, w, x, mu):
            u = w.get_components()
            u_x, u_t = self.grad(w, x)
            u_xx, _ = self.grad(u_x, x)
            return residual(u, u_x, u_t, u_xx)

        def functional_operator(self, func, x, mu, theta):
            # By both coordinates only once: the second derivative by x alone.
            def along(x):
                return jacrev(func, 0)(x, mu, theta)[0]

            first = along(x)
            second = jacrev(lambda x: along(x)[0])(x)
            return residual(func(x, mu, theta)[0], first[0], first[1], second[0])[None]

        def bc_rhs(self, *_):
            raise NotImplementedError

        bc_operator = bc_rhs

    equation = Equation(space, linear=heat, residual_size=1)

    def form(func, x, mu, theta):
        return transform(x[None], func(x, mu, theta)[None])[0]

    projector = NaturalGradientPinnsElliptic(equation, functional_post_processing=form)
    exact.network = space.network
    return projector, exact


def _equations(dde, name):
    """The residual in DeepXDE's words, and where it holds."""
    import numpy as np
    import torch

    def by(u, x, i, j):
        return dde.grad.jacobian(u, x, i=i, j=j)

    def twice(u, x, j, component=0):
        return dde.grad.hessian(u, x, component=component, i=j, j=j)

    k, reynolds = 4 * np.pi, 20.0

    def kovasznay(x, w):
        u, v = w[:, :1], w[:, 1:2]
        flow = [
            u * by(w, x, i, 0)
            + v * by(w, x, i, 1)
            + by(w, x, 2, i)
            - (twice(w, x, 0, i) + twice(w, x, 1, i)) / reynolds
            for i in range(2)
        ]
        return [*flow, by(w, x, 0, 0) + by(w, x, 1, 1)]

    equation = {
        "heat": lambda x, u: by(u, x, 0, 1) - 0.4 * twice(u, x, 0),
        "burgers": lambda x, u: by(u, x, 0, 1) + u * by(u, x, 0, 0) - 0.01 / np.pi * twice(u, x, 0),
        "allen-cahn": lambda x, u: by(u, x, 0, 1) - 0.001 * twice(u, x, 0) - 5 * (u - u**3),
        "helmholtz": lambda x, u: (
            -(twice(u, x, 0) + twice(u, x, 1)) / k**2
            - u
            - torch.sin(k * x).prod(dim=1, keepdim=True)
        ),
        "kovasznay": kovasznay,
    }[name]
    corners = {"helmholtz": ([0, 0], [1, 1]), "kovasznay": ([-0.5, -0.5], [1, 1.5])}
    if name in corners:
        return equation, dde.geometry.Rectangle(*corners[name])
    rod = dde.geometry.Interval(0 if name == "heat" else -1, 1)
    return equation, dde.geometry.GeometryXTime(rod, dde.geometry.TimeDomain(0, 1))


def deepxde(problem, seed, limit, adam_steps, then="L-BFGS"):
    """DeepXDE's Adam, then its L-BFGS or NNCG, with the same form of the output.

    NNCG has the options of DeepXDE, except that it makes 50 products with the Hessian a step
    instead of 1,000: on heat its first step came to the same error with either, in 3 and 6 s.
    """
    dde = _deepxde(seed, "float64")
    import torch

    equation, there = _equations(dde, problem.name)
    kind = dde.data.TimePDE if hasattr(there, "timedomain") else dde.data.PDE
    data = kind(there, equation, [], num_domain=POINTS, num_test=500)
    exact = problem.network(seed)
    net = dde.nn.FNN([2, 20, 20, 20, len(exact.transforms)], "tanh", "Glorot normal").double()

    def form(points, raw):
        made = [one(points, raw[:, k : k + 1]) for k, one in enumerate(exact.transforms)]
        return torch.cat(made, dim=1)

    net.apply_output_transform(form)
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3)
    look, rows = track(problem, net)
    watch = _watch(dde, look, limit)
    look()
    with at_most(limit + 1):
        model.train(adam_steps, callbacks=[watch()], display_every=10**6, verbose=0)
        while rows[-1][0] < limit:
            if then == "NNCG":
                dde.optimizers.set_NNCG_options(cgmaxiter=50)
                model.compile("NNCG")
                model.train(10**6, callbacks=[watch()], display_every=10**6, verbose=0)
                continue
            dde.optimizers.set_LBFGS_options(maxiter=10**6, ftol=0, gtol=0)
            dde.optimizers.config.LBFGS_options["iter_per_step"] = 20
            dde.optimizers.config.LBFGS_options["fun_per_step"] = 25
            model.compile("L-BFGS")
            seen = len(rows)
            model.train(callbacks=[watch()], display_every=10**6, verbose=0)
            if len(rows) < seen + 3:  # it stopped by itself
                look()
                break
    return rows


def shipped(problem, seed, limit):
    """DeepXDE's example of Burgers' equation as it is: float32, soft conditions, 15,000 of Adam."""
    dde = _deepxde(seed, "float32")
    import numpy as np

    equation, there = _equations(dde, "burgers")
    walls = dde.icbc.DirichletBC(there, lambda x: 0, lambda _, on: on)
    start = dde.icbc.IC(there, lambda x: -np.sin(np.pi * x[:, 0:1]), lambda _, on: on)
    data = dde.data.TimePDE(
        there, equation, [walls, start], num_domain=POINTS, num_boundary=80, num_initial=160
    )
    net = dde.nn.FNN([2, 20, 20, 20, 1], "tanh", "Glorot normal")
    model = dde.Model(data, net)
    model.compile("adam", lr=1e-3)
    look, rows = track(problem, net)
    watch = _watch(dde, look, limit)
    with at_most(limit + 1):
        model.train(15_000, callbacks=[watch()], verbose=0)
        model.compile("L-BFGS")
        model.train(callbacks=[watch()], verbose=0)
    look()
    return rows


def _deepxde(seed, kind):
    os.environ["DDE_BACKEND"] = "pytorch"
    with contextlib.redirect_stdout(sys.stderr):
        import deepxde as dde

    dde.config.set_default_float(kind)
    dde.config.set_random_seed(seed)
    return dde


def _watch(dde, look, limit):
    class Look(dde.callbacks.Callback):
        def on_epoch_end(self):
            every = 50 if self.model.opt_name == "adam" else 1
            if self.model.train_state.step % every == 0 and look() > limit:
                self.model.stop_training = True

    return Look


METHODS = {
    "ssbfgs": functools.partial(quasi_newton, method="ssbfgs"),
    "ssbroyden": functools.partial(quasi_newton, method="ssbroyden"),
    "natural": natural_gradient,
    "shipped": shipped,
}
