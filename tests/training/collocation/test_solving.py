"""Problems with known answers: references, phases, and runs that go on where they were stopped."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from batchsense.cli.main import run
from batchsense.errors import DataError
from batchsense.training.collocation import CollocationProblem, Condition, Ends, solve
from batchsense.training.collocation.conditions import condition_residual
from batchsense.training.collocation.point_plan import WINDOW, PointPlan
from batchsense.training.collocation.problems import PROBLEMS
from batchsense.training.collocation.problems.evolution import burgers_reference
from batchsense.training.running import CheckpointFolder


class Known(torch.nn.Module):
    """The reference in place of a network, by its values on a fine star of points."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        x, y = points[:, :1], points[:, 1:]
        pi = torch.pi
        if self.name == "heat":
            return torch.exp(-0.4 * pi**2 * y) * torch.sin(pi * x)
        if self.name == "wave":
            second = torch.sin(3 * pi * x) * torch.cos(3 * pi * y) / 2
            return torch.sin(pi * x) * torch.cos(pi * y) + second
        if self.name == "helmholtz":
            return torch.sin(4 * pi * x) * torch.sin(4 * pi * y)
        if self.name == "poisson-disc":
            return (1 + x / 2) * torch.sin(pi * (1 - x**2 - y**2))
        decay = 10 - float(np.sqrt(100 + 4 * np.pi**2))
        u = 1 - torch.exp(decay * x) * torch.cos(2 * pi * y)
        v = decay / (2 * pi) * torch.exp(decay * x) * torch.sin(2 * pi * y)
        return torch.cat([u, v, (1 - torch.exp(2 * decay * x)) / 2], dim=1)


@pytest.mark.parametrize("name", ["heat", "wave", "helmholtz", "poisson-disc", "kovasznay"])
def test_references_satisfy_their_equations(name: str) -> None:
    """The closed form is the reference, and leaves no residual."""
    problem = PROBLEMS[name]()
    model = Known(name)
    points = problem.conditions[0].points[:50]
    residual = condition_residual(problem.conditions[0], model, points)

    assert float(residual.detach().abs().max()) < 1e-9
    assert np.allclose(model(points).numpy(), problem.reference(points.numpy()), atol=1e-12)


def test_burgers_reference_satisfies_the_equation() -> None:
    """Central differences of the Cole–Hopf solution balance to their own error."""
    x, t = np.linspace(-0.9, 0.9, 19), np.full(19, 0.3)
    step, nu = 1e-3, 0.05

    def u(dx: float = 0.0, dt: float = 0.0) -> np.ndarray:
        return burgers_reference(x + dx, t + dt, nu)

    by_t = (u(dt=step) - u(dt=-step)) / (2 * step)
    by_x = (u(step) - u(-step)) / (2 * step)
    by_xx = (u(step) - 2 * u() + u(-step)) / step**2

    assert np.abs(by_t + u() * by_x - nu * by_xx).max() < 1e-3


@pytest.mark.parametrize("name", list(PROBLEMS))
def test_networks_hold_the_exact_conditions_and_can_be_stepped(name: str) -> None:
    """Each problem makes a step, and its reference has the shape of its outputs."""
    problem = PROBLEMS[name]()
    report = solve(problem, Ends(steps=2))

    assert problem.reference is not None
    assert report.relative_l2 is not None
    assert 0 < report.relative_l2 < 50
    assert report.steps == 2


def test_the_count_of_points_follows_the_loss_elsewhere() -> None:
    """It stays while the loss on other points falls, doubles when it does not, up to a bound."""
    plan, counts = PointPlan(4096), []
    for before, after in [(1.0, 0.5), (0.5, 0.45), (0.45, 0.44)]:
        for _ in range(WINDOW):
            plan.saw(1.0, 0.5)
        counts.append(plan.planned(before, after)[0])

    assert counts == [4096, 8192, 8192]


@pytest.mark.parametrize(("gains", "kept"), [((0.1, 0.5, 0.1, 0.5), 256), ((0.2, 0.2) * 2, 128)])
def test_the_count_whose_steps_pay_is_kept_after_turns(gains: tuple[float, ...], kept: int) -> None:
    """Twice the points stay if they lower the loss by more than they cost; the reason says so."""
    plan = PointPlan(128, lambda points: points / 128)
    for gain in gains:
        found, reason = plan.planned(1.0, math.exp(-gain))

    assert found == kept
    assert reason.startswith(f"{kept} points a step lowered the log of the loss")


def test_heat_reaches_its_error_in_phases_with_reasons() -> None:
    """Heat comes to 1e-3; Adam first, then Gauss–Newton, each with a reason."""
    report = solve(PROBLEMS["heat"](), Ends(seconds=60, error=1e-3), seed=1)

    assert report.stopped_by == "error"
    assert report.relative_l2 is not None
    assert report.relative_l2 <= 1e-3
    assert report.phases[0].name == "adam"
    assert report.phases[-1].name == "gauss-newton"
    assert all(phase.reason for phase in report.phases)


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Stopped in each phase and resumed, a run ends with the same weights to the bit."""
    whole = solve(PROBLEMS["heat"](), Ends(seconds=None, steps=123))
    kept = CheckpointFolder.opened(tmp_path / "run", resume=False)
    for steps in (37, 104, 117, 123):
        last = solve(
            PROBLEMS["heat"](), Ends(seconds=None, steps=steps), kept=kept, resume=steps > 37
        )

    for name, one in whole.model.state_dict().items():
        assert torch.equal(one, last.model.state_dict()[name])
    assert whole.relative_l2 == last.relative_l2


def test_a_run_that_is_done_tells_the_same_again(tmp_path: Path) -> None:
    """Resumed with no step left, it knows its loss and its error."""
    kept = CheckpointFolder.opened(tmp_path / "run", resume=False)
    ends = Ends(seconds=None, steps=3)
    whole = solve(PROBLEMS["heat"](), ends, kept=kept)
    again = solve(PROBLEMS["heat"](), ends, kept=kept, resume=True)

    assert math.isfinite(again.validation_loss)
    assert (again.steps, again.relative_l2) == (3, whole.relative_l2)
    assert [one[0] for one in again.history] == [3]


def test_a_checkpoint_of_another_problem_is_refused(tmp_path: Path) -> None:
    """The run in the folder is named, and the one asked for."""
    kept = CheckpointFolder.opened(tmp_path / "run", resume=False)
    solve(PROBLEMS["heat"](), Ends(steps=1), kept=kept)

    with pytest.raises(DataError, match="heat, 921 parameters, seed 0, not wave"):
        solve(PROBLEMS["wave"](), Ends(steps=2), kept=kept, resume=True)


def test_a_residual_that_is_not_finite_is_named_at_the_start() -> None:
    """The condition and the point are in the message."""
    heat = PROBLEMS["heat"]()
    odd = Condition("odd", lambda model, p: model(p)[:, 0] / p[:, 0], torch.zeros(4, 2).double())

    with pytest.raises(DataError, match=r"odd: the residual is not finite at \(0, 0\)"):
        solve(CollocationProblem("odd", [odd], heat.network), Ends(steps=1))


def test_the_command_answers_and_says_no(capsys: pytest.CaptureFixture[str]) -> None:
    """The document has its keys, and an error that was not reached is exit code 1."""
    code = run(["collocation", "heat", "--steps", "3", "--error", "1e-9", "--json"])
    result = json.loads(capsys.readouterr().out)["result"]

    assert code == 1
    assert result["stopped_by"] == "steps"
    assert {"problem", "relative_l2", "reference", "parameters", "cpu_seconds"} <= set(result)
    assert result["points"] == [{"condition": "equation", "count": 32}]
    assert set(result["phases"][0]) >= {"name", "reason", "cpu_seconds", "relative_l2"}


def test_one_of_several_processes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under torchrun all of them would write to the same folder; none begins."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["collocation", "heat", "--steps", "1", "-o", str(tmp_path / "run")]) == 2
    assert "start it without torchrun" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_a_problem_from_a_file_needs_no_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Conditions and a model are enough; --error is refused without a reference."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        "from batchsense.training.collocation import Condition\n"
        "def make():\n"
        "    points = torch.rand(64, 1).double()\n"
        "    fit = Condition('fit', lambda m, x: m(x)[:, 0] - x[:, 0] ** 2, points)\n"
        "    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()\n"
        "    return [fit], net\n"
    )

    assert run(["collocation", f"{file}:make", "--steps", "5"]) == 0
    assert "There is no reference" in capsys.readouterr().out.replace("\n", " ")
    assert run(["collocation", f"{file}:make", "--error", ".1"]) == 3


@pytest.mark.slow
def test_killed_runs_come_to_the_same_result(tmp_path: Path) -> None:
    """Kill -9 at 20 moments, resumed each time: the weights of the run that was left alone."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from batchsense.training.collocation import Ends, solve\n"
        "from batchsense.training.collocation.problems import PROBLEMS\n"
        "from batchsense.training.running import CheckpointFolder\n"
        "folder, steps = Path(sys.argv[1]), int(sys.argv[2])\n"
        "resume = (folder / 'checkpoint.pt').exists()\n"
        "kept = CheckpointFolder.opened(folder, resume=resume)\n"
        "print('begun', flush=True)\n"
        "solve(PROBLEMS['heat'](), Ends(seconds=None, steps=steps), kept=kept, resume=resume,\n"
        "      keep_every_seconds=0.0)\n"
    )
    words, steps = [sys.executable, "-c", script], 400
    subprocess.run([*words, str(tmp_path / "whole"), str(steps)], check=True)
    chance = random.Random(0)
    killed = 0
    while killed < 20:
        child = subprocess.Popen([*words, str(tmp_path / "cut"), str(steps)], stdout=-1)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(chance.uniform(0.05, 0.6))
        if child.poll() is not None:
            child.communicate()
            break
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        killed += 1
    subprocess.run([*words, str(tmp_path / "cut"), str(steps)], check=True)
    whole, cut = (CheckpointFolder(tmp_path / name).read()["present"] for name in ("whole", "cut"))

    assert killed >= 10
    for name, one in whole.items():
        assert torch.equal(one, cut[name])
