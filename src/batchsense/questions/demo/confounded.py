"""Scene: form and digit entangled by subsampling real rows, with the full data as the answer."""

from __future__ import annotations

import numpy as np

from batchsense.arrays import Floats
from batchsense.datasets import DigitForms, digit_forms
from batchsense.errors import ConfoundedError
from batchsense.experiments import Table, correct, scene_table
from batchsense.experiments.builtin import BATCH_COLUMN, KEPT_COLUMN
from batchsense.experiments.statistics.confounding import cramers_v
from batchsense.progress import Progress, silent
from batchsense.questions.demo.gradient import mean_interval
from batchsense.questions.demo.result import ConfoundedResult, MethodResult
from batchsense.reports.envelope import Estimate, Refusal

#: Draws over which the errors are averaged, by judgement: a draw takes two corrections.
DRAWS = 50
# Forms 3 and 8 would read as digits in "digit[8] = form[3]"; 64 draws never all hold one of them.
_TRIES = 64
#: The ways to analyse a draw, in the order of the account.
METHODS = (
    "ignore the form",
    "centre each form, digit not kept",
    "correct for the form, digit kept",
)


def compare_methods(seed: int, progress: Progress = silent) -> ConfoundedResult:
    """Estimate how an 8 differs from a 3 in confounded draws, in three ways, and meet a refusal."""
    seeds = np.random.SeedSequence(seed).generate_state(DRAWS)
    scenes = [digit_forms("partial", int(state)) for state in seeds]
    effects = np.empty((DRAWS, len(METHODS), len(scenes[0].truth)))
    for draw, scene in enumerate(scenes):
        effects[draw] = _effects(scene)
        progress("correcting confounded draws", draw + 1, DRAWS)
    errors = np.array(
        [
            [scene.relative_error(effect) for effect in of_draw]
            for scene, of_draw in zip(scenes, effects, strict=True)
        ]
    )
    first = scenes[0]
    return ConfoundedResult(
        rows=len(first.digit),
        draws=DRAWS,
        cramers_v=cramers_v(first.form_labels, first.digit),
        truth=first.truth.tolist(),
        methods=[
            MethodResult(
                method=method,
                error=Estimate.of(mean_interval(errors[:, k])),
                effect=effects[0, k].tolist(),
            )
            for k, method in enumerate(METHODS)
        ],
        refusal=refused(seed),
    )


def refused(seed: int) -> Refusal:
    """Ask for the impossible: one form with 3s only, one with 8s only."""
    states = np.random.SeedSequence(seed).generate_state(_TRIES)
    scenes = (digit_forms("total", int(state)) for state in states)
    scene = next(scene for scene in scenes if not set(scene.form_labels) & set(scene.digit))
    return refusal_of(scene_table(scene), BATCH_COLUMN, KEPT_COLUMN)


def refusal_of(table: Table, batch_labels: str, keep: str) -> Refusal:
    """How a correction of a hopeless table is refused."""
    try:
        correct(table, batch_labels, [keep])
    except ConfoundedError as error:
        return Refusal.of(error)
    raise AssertionError("a fully confounded table was corrected")


def _effects(scene: DigitForms) -> Floats:
    table = scene_table(scene)
    values = (
        table.values,
        correct(table, BATCH_COLUMN).values,
        correct(table, BATCH_COLUMN, [KEPT_COLUMN]).values,
    )
    first, second = np.unique(scene.digit)
    return np.array(
        [
            v[scene.digit == second].mean(axis=0) - v[scene.digit == first].mean(axis=0)
            for v in values
        ]
    )
