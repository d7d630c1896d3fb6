"""Solve a problem in phases: Adam on few points, then Gauss–Newton on as many as its noise asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchsense import clock
from batchsense.errors import DataError
from batchsense.progress import Progress, silent
from batchsense.training.collocation.conditions import (
    DrawnPoints,
    collocation_loss,
    condition_residual,
)
from batchsense.training.collocation.gauss_newton import GaussNewton
from batchsense.training.collocation.point_plan import (
    PointPlan,
    counts_of,
    draw_points,
    noise_scale,
    step_cost,
)
from batchsense.training.collocation.problems.problem import CollocationProblem
from batchsense.training.running import CheckpointFolder
from batchsense.training.workload import trainable

#: Points of Adam's first minibatches, and of the first second-order steps: on heat, of 64 to 1,500
#: points a step, 128 came to an error of 1e-3 first.
ADAM_POINTS, NEWTON_POINTS = 32, 128
#: Adam's learning rate, steps between two measurements of its noise, and steps at most: it only
#: has to leave the start, second-order steps are faster from there on.
_RATE, _LOOK, _MOST_ADAM = 3e-3, 50, 100
#: Points at which noise is measured, and at which weights are judged.
_MEASURED, _JUDGED = 256, 2048
#: Steps between two judgements of the weights.
_JUDGE_EVERY = 10
#: Seeds that no step draws with.
_JUDGING_SEED, _MEASURING_SEED = 2**62, 2**61


@dataclass(frozen=True, slots=True)
class Ends:
    """When to stop: what comes first.

    Attributes
    ----------
    seconds : float or None
        Of processor time, those before a resumed checkpoint counted.
    error : float or None
        Relative L2 error against the reference, looked at every tenth step.
    steps : int or None
        Steps of both optimizers.
    """

    seconds: float | None = 60.0
    error: float | None = None
    steps: int | None = None


@dataclass(slots=True)
class Phase:
    """A stretch with one optimizer and one number of points.

    Attributes
    ----------
    name : str
        ``"adam"`` or ``"gauss-newton"``.
    points : dict of str to int
        By condition, in each step.
    reason : str
        Why it began.
    steps, cpu_seconds : int, float
        How long it was.
    relative_l2 : float or None
        At its end.
    """

    name: str
    points: dict[str, int]
    reason: str
    steps: int = 0
    cpu_seconds: float = 0.0
    relative_l2: float | None = None


@dataclass(slots=True)
class CollocationReport:
    """What came of it.

    Attributes
    ----------
    model : torch.nn.Module
        With the weights of the lowest loss on points that no step used.
    relative_l2 : float or None
        Its error against the reference, over all outputs; None without one.
    validation_loss : float
        Its loss there.
    phases : list of Phase
        In order.
    history : list of (int, float, float, float or None)
        Step, CPU seconds, validation loss and relative L2 error, at every tenth step.
    stopped_by : str
        ``"seconds"``, ``"error"``, ``"steps"`` or ``"signal"``.
    """

    model: nn.Module
    relative_l2: float | None = None
    validation_loss: float = math.inf
    phases: list[Phase] = field(default_factory=list)
    history: list[tuple[int, float, float, float | None]] = field(default_factory=list)
    stopped_by: str = ""

    @property
    def cpu_seconds(self) -> float:
        """Over all phases."""
        return sum(phase.cpu_seconds for phase in self.phases)

    @property
    def steps(self) -> int:
        """Over all phases."""
        return sum(phase.steps for phase in self.phases)


def solve(
    problem: CollocationProblem,
    ends: Ends,
    *,
    seed: int = 0,
    kept: CheckpointFolder | None = None,
    resume: bool = False,
    keep_every_seconds: float = 30.0,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> CollocationReport:
    """Solve a problem; the same seed and number of steps give the same weights, resumed or not.

    The run is kept in ``kept`` every ``keep_every_seconds`` of wall time and at its end, and goes
    on from there with ``resume``. ``stop`` is asked after each step whether somebody wants it to
    end.

    Raises
    ------
    DataError
        As :class:`GaussNewton`; a residual is not finite at the weights that are reached; or the
        checkpoint is of another problem or seed.

    Examples
    --------
    >>> from batchsense.training.collocation.problems import PROBLEMS
    >>> report = solve(PROBLEMS["heat"](), Ends(seconds=None, error=0.05, steps=400))
    >>> report.stopped_by, report.phases[0].name, report.phases[-1].name
    ('error', 'adam', 'gauss-newton')
    """
    run = _Run(problem, seed)
    if resume and kept is not None:
        run.load(kept.read(), str(kept.file))
    keep_at = clock.now() + keep_every_seconds
    while not run.ended(ends, stop):
        run.step()
        phase = run.report.phases[-1]
        size = sum(phase.points.values())
        told = f"{phase.name} on {size:,} points a step, step {run.report.steps:,}"
        share = run.report.cpu_seconds / ends.seconds if ends.seconds else 0.0
        progress(told, int(100 * min(share, 1)), 100)
        if kept is not None and clock.now() >= keep_at:
            kept.write(run.state())
            keep_at = clock.now() + keep_every_seconds
    state = run.state()
    report = run.finished()
    if kept is not None:
        # What the next steps depend on does not know that these were the last.
        kept.write({**state, "model": report.model.state_dict()})
    return report


class _Run:
    """The state of a solution: weights, optimizers, plan and report."""

    def __init__(self, problem: CollocationProblem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        self.model = problem.network(seed)
        conditions = problem.conditions
        self.newton = GaussNewton(conditions, self.model)
        self.adam = torch.optim.Adam(trainable(self.model), _RATE)
        self.plan = PointPlan(NEWTON_POINTS, self._cost)
        self.report = CollocationReport(self.model)
        self.best, self.judged = self._weights(), math.inf
        self.judging = draw_points(conditions, counts_of(conditions, _JUDGED), _JUDGING_SEED)
        self.truth: tuple[Tensor, Tensor] | None = None
        if problem.reference is not None and problem.validation is not None:
            truth = torch.from_numpy(problem.reference(problem.validation))
            self.truth = torch.from_numpy(problem.validation), truth
        self._begin(
            "adam", ADAM_POINTS, f"a start on few points; noise is measured every {_LOOK} steps"
        )

    def step(self) -> None:
        """One step of the present phase; judge the weights and look at the plan when due."""
        started = clock.cpu_now()
        phase, step = self.report.phases[-1], self.report.steps
        drawn = draw_points(self.problem.conditions, phase.points, _seed(self.seed, step))
        if phase.name == "adam":
            self.adam.zero_grad()
            collocation_loss(self.model, self.problem.conditions, drawn).backward()  # type: ignore[no-untyped-call]
            self.adam.step()
        else:
            self._newton_step(drawn)
        phase.steps += 1
        if self.report.steps % _JUDGE_EVERY == 0:
            self._judge()
        phase.cpu_seconds += clock.cpu_now() - started
        if phase.name == "adam" and phase.steps % _LOOK == 0:
            self._after_adam(phase)
        elif self.plan.ready:
            self._after_newton()

    def _newton_step(self, drawn: Mapping[str, DrawnPoints]) -> None:
        found = self.newton.step(drawn)
        after = found.loss - found.actual if found.accepted else found.loss
        # A loss of 0 has no logarithm: interpolated points say nothing of others.
        self.plan.saw(found.loss, max(after, 1e-12 * found.loss))

    def _cost(self, points: int) -> float:
        counts = counts_of(self.problem.conditions, points)
        rows = sum(
            counts[one.name] * condition_residual(one, self.model, one.points[:2]).shape[1]
            for one in self.problem.conditions
        )
        return step_cost(rows, sum(one.numel() for one in trainable(self.model)))

    def _after_adam(self, phase: Phase) -> None:
        total = sum(phase.points.values())
        conditions = self.problem.conditions
        some = draw_points(
            conditions,
            counts_of(conditions, _MEASURED),
            _MEASURING_SEED + self.report.steps,
        )
        noise = noise_scale(
            conditions,
            self.model,
            {name: part.points for name, part in some.items()},
            {name: count / total for name, count in phase.points.items()},
        )
        most = max(phase.points.values())
        wanted = noise / 4 * most / total
        adam_steps = sum(one.steps for one in self.report.phases if one.name == "adam")
        told = f"the noise scale is {noise:,.0f} points" if noise < math.inf else "noise is all"
        if wanted > 2 * ADAM_POINTS:
            self._begin(
                "gauss-newton", NEWTON_POINTS, f"{told}, a gradient step would need a quarter of it"
            )
        elif adam_steps >= _MOST_ADAM:
            self._begin("gauss-newton", NEWTON_POINTS, f"{adam_steps} steps of Adam, {told}")
        elif wanted > most:
            self._begin("adam", 2 ** math.ceil(math.log2(wanted)), f"{told}, over 4 times {total}")

    def _after_newton(self) -> None:
        step, _, loss, _ = self.report.history[-1]
        if step != self.report.steps:
            loss = self.newton.loss(self.judging)
        points, told = self.plan.planned(self.judged, loss)
        self.judged = loss
        if told:
            self._begin("gauss-newton", points, told)

    def _begin(self, name: str, points: int, reason: str) -> None:
        if self.report.phases and self.truth is not None:
            self.report.phases[-1].relative_l2 = self._error()
        if name == "gauss-newton" and self.judged == math.inf:
            self.judged = self.newton.loss(self.judging)
        self.report.phases.append(Phase(name, counts_of(self.problem.conditions, points), reason))

    def _judge(self) -> None:
        loss, error = self.newton.loss(self.judging), self._error()
        done = self.report.cpu_seconds
        self.report.history.append((self.report.steps, done, loss, error))
        if loss < self.report.validation_loss:
            self.best, self.report.validation_loss = self._weights(), loss
            self.report.relative_l2 = error

    def _error(self) -> float | None:
        if self.truth is None:
            return None
        points, truth = self.truth
        with torch.no_grad():
            apart = self.model(points) - truth
        judged = ~torch.isnan(truth)
        return float(apart[judged].norm() / truth[judged].norm())

    def ended(self, ends: Ends, stop: Callable[[], bool]) -> bool:
        """Whether an end has come; says which in the report."""
        report = self.report
        if ends.error is not None and report.history:
            step, _, loss, error = report.history[-1]
            if step == report.steps and error is not None and error <= ends.error:
                self.best, report.relative_l2, report.validation_loss = self._weights(), error, loss
                report.stopped_by = "error"
                return True
        if ends.steps is not None and report.steps >= ends.steps:
            report.stopped_by = "steps"
        elif ends.seconds is not None and report.cpu_seconds >= ends.seconds:
            report.stopped_by = "seconds"
        elif stop():
            report.stopped_by = "signal"
        return bool(report.stopped_by)

    def finished(self) -> CollocationReport:
        """The report, with the best weights in the model."""
        if not self.report.history or self.report.history[-1][0] != self.report.steps:
            self._judge()
        if self.truth is not None:
            self.report.phases[-1].relative_l2 = self._error()
        self.model.load_state_dict(self.best)
        return self.report

    def _weights(self) -> dict[str, Tensor]:
        return {name: one.detach().clone() for name, one in self.model.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """All that later steps depend on."""
        return {
            "model": self.best,
            "best": self.best,
            "present": self._weights(),
            "problem": self._identity(),
            "adam": self.adam.state_dict(),
            "newton": self.newton.state_dict(),
            "plan": self.plan.state_dict(),
            "judged": self.judged,
            "phases": [asdict(phase) for phase in self.report.phases],
            "history": list(self.report.history),  # the end judges once more
            "validation_loss": self.report.validation_loss,
            "relative_l2": self.report.relative_l2,
        }

    def load(self, state: Mapping[str, Any], where: str) -> None:
        """Go on from a state."""
        if state.get("problem") != self._identity():
            raise DataError(
                f"is of another run: {state.get('problem')}, not {self._identity()}", where=where
            )
        self.best = state["best"]
        self.model.load_state_dict(state["present"])
        self.adam.load_state_dict(state["adam"])
        self.newton.load_state_dict(state["newton"])
        self.plan.load_state_dict(state["plan"])
        self.judged = state["judged"]
        self.report.phases = [Phase(**one) for one in state["phases"]]
        self.report.history = list(state["history"])
        self.report.validation_loss = state["validation_loss"]
        self.report.relative_l2 = state["relative_l2"]

    def _identity(self) -> str:
        parameters = sum(one.numel() for one in trainable(self.model))
        return f"{self.problem.name}, {parameters} parameters, seed {self.seed}"


def _seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 3)
