"""The story of the demo: every scene in turn, on one real data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from batchsense.errors import UnresolvedError
from batchsense.experiments.threads import one_thread
from batchsense.progress import Progress, silent
from batchsense.questions.demo import walls
from batchsense.questions.demo.confounded import compare_methods
from batchsense.questions.demo.forms import compare_folds, share_variation
from batchsense.questions.demo.gradient import GradientScene
from batchsense.questions.demo.months import may_and_july
from batchsense.questions.demo.result import DemoResult
from batchsense.questions.plan.result import PlanResult
from batchsense.training import TrainingPlan, Workload, digits_workload, plan_training

#: The workload of the story.
TARGET = "digits"
#: About how long the plan may measure, so that the whole story takes about a minute.
PLAN_SECONDS = 10.0


def tell(
    seed: int = 0, plan_seconds: float = PLAN_SECONDS, progress: Progress = silent
) -> DemoResult:
    """Compute every scene; about half a minute.

    Raises
    ------
    UnresolvedError
        The plan allows no advice in so short a time.
    """
    seeds = [int(state) for state in np.random.SeedSequence(seed).generate_state(8)]
    workload = digits_workload(seeds[0])
    with _on_one_thread():
        scene = GradientScene(workload, seeds[1])
        gradient, tolerance = scene.variance(progress), scene.tolerance(progress)
    del scene  # it holds the gradient of every example, 190 MB
    plan = _plan(workload, plan_seconds, seeds[2], progress)
    with _on_one_thread():
        return DemoResult(
            memory=walls.memory_wall(plan),
            workers=walls.workers_wall(workload, plan, seeds[5]),
            splits=walls.splits(seeds[6]),
            heat=walls.heat(seeds[7], progress),
            gradient=gradient,
            tolerance=tolerance,
            plan=PlanResult.of(plan, TARGET),
            classifiers=compare_folds(seeds[3], progress),
            forms=share_variation(seeds[4], progress),
            confounded=compare_methods(seeds[5], progress),
            months=may_and_july(seeds[4]),
        )


@contextlib.contextmanager
def _on_one_thread() -> Iterator[None]:
    # Where cores are shared, two threads that wait for each other at every small product of torch
    # make the demo a hundred times slower.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_thread():
            yield
    finally:
        torch.set_num_threads(before)


def _plan(workload: Workload, seconds: float, seed: int, progress: Progress) -> TrainingPlan:
    try:
        return plan_training(workload, seconds=seconds, seed=seed, progress=progress)
    except UnresolvedError:
        return plan_training(workload, seconds=3 * seconds, seed=seed, progress=progress)
