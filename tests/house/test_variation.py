"""The common core is common: both halves reach every module of it, and call it when they work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

import grimp
import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier  # noqa: F401 (loaded here, not under the profile)
from torch import nn

import batchsense
from batchsense.experiments import (
    CombatCorrection,
    ContrastOptions,
    PlainModel,
    PureNoise,
    ShuffledFolds,
    Table,
    compare_gaps,
    diagnose,
    placebo,
    plant,
)
from batchsense.experiments import test as find_effects
from batchsense.training import (
    PlanRequirements,
    ShortRun,
    digits_workload,
    plan_training,
    survey_gradient_noise,
)
from batchsense.training.separability import audit
from batchsense.variation import Moments

VARIATION = Path(batchsense.__file__).parent / "variation"
MODULES = sorted(path.stem for path in VARIATION.glob("*.py") if path.stem != "__init__")
#: Modules that one half does not reach, each with the reason why it stays: none today.
ONE_HALF_ONLY: dict[tuple[str, str], str] = {}
PLANTED = plant(specimens=24, features=30, months=3).table


def surveyed() -> None:
    """Measure the noise of a small net: at its weights, and along a short run."""
    survey_gradient_noise(digits_workload(), examples=64, micro_batches=8, run=ShortRun(16))


def planned() -> None:
    """Plan a batch size that keeps a precision."""
    plan_training(digits_workload(), PlanRequirements(tolerance=1.0), seconds=1.0)


def audited() -> None:
    """Audit a loss that divides by class weights, which is a ratio."""
    generator = torch.Generator().manual_seed(0)
    minibatch = torch.randn(64, 5, generator=generator), torch.arange(64) % 3
    weight = torch.tensor([1.0, 2.0, 4.0])

    def loss(model: nn.Module, given: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return nn.functional.cross_entropy(model(given[0]), given[1], weight=weight)

    audit(loss, nn.Linear(5, 3), minibatch)


def diagnosed() -> None:
    """Share out the variation of a planted table."""
    diagnose(PLANTED, "month", ["drug"], permutations=20)


def corrected() -> None:
    """Fit ComBat with a drug kept."""
    CombatCorrection(keep=("drug",)).fit(PLANTED, "month")


def compared() -> None:
    """Test a model on months left out, and say how many months would tell."""
    _ = compare_gaps(
        PLANTED, "month", "drug", PlainModel(corrections=()), ShuffledFolds(repeats=1)
    ).batches_needed


def calibrated() -> None:
    """Count what a pipeline calls in noise."""
    placebo(PLANTED, "linear", "drug", "month", noise=PureNoise(features=20))


def tested() -> None:
    """Test the drug, the variances drawn towards a curve that ignores outliers."""
    # With features of one variance the prior would know everything, and draw no curve.
    unequal = PLANTED.values * np.geomspace(0.1, 10.0, len(PLANTED.features))
    table = Table.from_arrays(unequal, PLANTED.sheet)
    find_effects(table, "drug", "month", options=ContrastOptions(trend=True, robust=True))


HALVES = {
    "training": (surveyed, planned, audited),
    "experiments": (diagnosed, corrected, compared, calibrated, tested),
}


def modules_called(work: Callable[[], None]) -> set[str]:
    """Give the modules of the core of which a function runs, under a profiler."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        """Keep the file of every function that is entered; a module's own body is no call."""
        if event == "call" and frame.f_code.co_name != "<module>":
            files.add(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return {path.stem for path in map(Path, files) if path.parent == VARIATION}


@cache
def called_by(half: str) -> frozenset[str]:
    """Give what the runs of one half call, all together."""
    return frozenset().union(*(modules_called(work) for work in HALVES[half]))


@cache
def imports() -> grimp.ImportGraph:
    """Build the graph of all imports once."""
    return grimp.build_graph("batchsense")


def reaches(half: str, module: str) -> bool:
    """Whether anything in a half imports a module, by whatever way."""
    return bool(
        imports().find_shortest_chains(
            importer=f"batchsense.{half}", imported=module, as_packages=True
        )
    )


@contextmanager
def merges_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the calls of Moments.merge."""
    counts: list[int] = []
    original = Moments.merge

    def counting(first: Moments, second: Moments) -> Moments:
        """Note the observations, and merge."""
        counts.append(first.count + second.count)
        return original(first, second)

    with monkeypatch.context() as patched:
        patched.setattr(Moments, "merge", counting)
        yield counts


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("module", MODULES)
def test_both_halves_reach_every_module(module: str, half: str) -> None:
    """A chain of imports leads from training and from experiments to each module."""
    assert reaches(half, f"batchsense.variation.{module}") == ((module, half) not in ONE_HALF_ONLY)


def test_a_module_of_one_half_is_told_from_a_common_one() -> None:
    """The check can fail: what lives in one half is not reached by the other."""
    assert not reaches("training", "batchsense.experiments.diagnosis.crossed")
    assert not reaches("experiments", "batchsense.training.separability.kind.mean_length")


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("module", MODULES)
def test_both_halves_call_every_module(module: str, half: str) -> None:
    """A function of each module runs in small runs of the commands of either half."""
    assert (module in called_by(half)) == ((module, half) not in ONE_HALF_ONLY)


def test_idle_work_calls_nothing() -> None:
    """The profile can fail: what does not touch the core shows none of it."""
    assert modules_called(lambda: None) == set()
    assert modules_called(lambda: Moments.of([1.0]) and None) == {"moments", "matrices"}


def test_noise_merges_the_moments_of_its_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight micro-batches of 64 examples are merged one after the other by Moments.merge."""
    with merges_counted(monkeypatch) as counts:
        surveyed()

    assert counts == [8, 16, 24, 32, 40, 48, 56, 64]


def test_correct_merges_the_moments_of_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept terms of three months of eight specimens are merged by Moments.merge."""
    with merges_counted(monkeypatch) as counts:
        corrected()

    assert counts == [16, 24]


def test_the_core_is_a_dozen_files() -> None:
    """What only one half needs has not come back: thirteen modules beside the list of names."""
    assert len(MODULES) <= 13
