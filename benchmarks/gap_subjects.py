"""How often intervals of ``gap --block subject`` hold the truth, where rows alone show no gap.

Each of 40 subjects is ill or well and measured once at two or three of 5, 8 or 12 sites; a
subject's fingerprint is larger than the disease, and sites are shifted, or not. The nearest
neighbour of a row is a row of the same subject, at whatever site, so rows that are left out by site
alone are predicted as well as shuffled ones. For new subjects at new sites it errs often. The truth
is the mean over 1,000 other tables of the errors that folds with subjects apart show there, which
is the expected error on sites and subjects that were not learned from. Reported is how often
intervals of 95 % hold it: the error on sites left out, on shuffled folds, and their difference.
Neighbours come from one matrix of distances; ten tables a scene are asked of ``compare_gaps`` as
well, and agree.

``python benchmarks/gap_subjects.py [TABLES]`` writes ``benchmarks/results/gap_subjects.json``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from common.record import write

from batchsense.experiments import PlainModel, ShuffledFolds, Table, compare_gaps
from batchsense.experiments.validation.answers import Answers
from batchsense.experiments.validation.folds import apart, batch_folds, shuffled_folds
from batchsense.experiments.validation.over_groups import Clusters
from batchsense.variation.interval import Interval

RESULT = Path(__file__).parent / "results" / "gap_subjects.json"
SUBJECTS, FEATURES, OTHERS, COMPARED = 40, 12, 1000, 10
#: Sites, standard deviation of their shifts, and rows of a subject at each of its sites.
SCENES = [(8, 0.5, 1), (8, 0.0, 1), (5, 0.5, 1), (12, 0.5, 1)]


def drawn(scene: tuple[int, float, int], place: int) -> tuple[np.ndarray, ...]:
    """Values, site, subject and class of each row."""
    sites, shift, rows = scene
    rng = np.random.default_rng([sites, int(10 * shift), rows, place])
    ill = rng.permutation(SUBJECTS) % 2
    first = rng.permutation(SUBJECTS) % sites
    visits = [(k, (first[k] + j) % sites) for k in range(SUBJECTS) for j in range(2 + k % 2)]
    subject, site = np.repeat(np.array(visits), rows, axis=0).T
    values = rng.normal(size=(SUBJECTS, FEATURES))[subject]
    values += shift * rng.normal(size=(sites, FEATURES))[site]
    values[:, :3] += ill[subject][:, None]
    return values + 0.2 * rng.normal(size=values.shape), site, subject, ill[subject]


def losses(scene: tuple[int, float, int], place: int, by_rows: bool = False) -> np.ndarray:
    """Whether each row is wrong on shuffled folds and on sites left out, (rows, 2)."""
    values, site, subject, ill = drawn(scene, place)
    sizes = np.bincount(site, minlength=scene[0])
    answers = Answers(ill, site, tuple(range(scene[0])), site, sizes)
    distances = ((values[:, None] - values) ** 2).sum(axis=2)
    state = int(np.random.SeedSequence(place).generate_state(1)[0])
    wrong = np.zeros((len(ill), 2))
    for k, folds in enumerate((shuffled_folds(answers, True, state), batch_folds(answers))):
        parts = (folds,) * 3 if by_rows else apart(folds, answers, subject, state)
        for rows, unseen in zip(parts[0], parts[2], strict=True):
            own = distances[rows]
            own[:, unseen] = np.inf
            wrong[rows, k] = ill[own.argmin(axis=1)] != ill[rows]
    return wrong


def intervals(scene: tuple[int, float, int], place: int) -> list[Interval]:
    """The three intervals, as ``compare_gaps`` makes them of these losses."""
    _, site, subject, _ = drawn(scene, place)
    wrong, over = losses(scene, place), Clusters(site, subject, 0.95)
    difference = over.mean(wrong[:, 1] - wrong[:, 0], paired=True)
    return [*(over.mean(one) for one in wrong.T), difference]


def told(scene: tuple[int, float, int], place: int) -> list[Interval]:
    """The same, asked of ``compare_gaps`` itself."""
    values, site, subject, ill = drawn(scene, place)
    sheet = {"site": site, "ill": ill, "subject": subject}
    labels = {name: [f"{name}{k:02d}" for k in column] for name, column in sheet.items()}
    model, folds = PlainModel(corrections=["none"]), ShuffledFolds(1, place)
    table = Table.from_arrays(values, labels, values_are="log")
    gap = compare_gaps(table, "site", "ill", model, folds, blocks="subject").ways[0].gap
    return [gap.shuffled, gap.held_out, gap.difference]


def main(tables: int) -> None:
    began, cpu, rows = time.time(), time.process_time(), []
    for scene in SCENES:
        sites = [drawn(scene, 10**6 + place)[1] for place in range(OTHERS)]
        others = [
            [np.mean(np.bincount(site, one) / np.bincount(site)) for one in wrong.T]
            for site, wrong in zip(
                sites, (losses(scene, 10**6 + place) for place in range(OTHERS)), strict=True
            )
        ]
        true = np.mean(others, axis=0)
        truths = (*true, true[1] - true[0])
        for place in range(COMPARED):  # the shortcut by distances gives the same intervals
            for mine, theirs in zip(intervals(scene, place), told(scene, place), strict=True):
                assert abs(mine.estimate - theirs.estimate) < 1e-12
                assert abs(max(mine.low, theirs.low) - theirs.low) < 1e-12
        plain = np.array(
            [losses(scene, place, by_rows=True).mean(axis=0) for place in range(tables)]
        )
        found = [intervals(scene, place) for place in range(tables)]
        covered = np.mean(
            [
                [one.low <= truth <= one.high for one, truth in zip(each, truths, strict=True)]
                for each in found
            ],
            axis=0,
        )
        rows.append(
            {
                "sites": scene[0],
                "shift_sd": scene[1],
                "rows_of_a_subject_at_a_site": scene[2],
                "tables": tables,
                "true_shuffled": float(true[0]),
                "true_left_out": float(true[1]),
                "rows_alone_shuffled": float(plain[:, 0].mean()),
                "rows_alone_left_out": float(plain[:, 1].mean()),
                "shuffled_covered": float(covered[0]),
                "left_out_covered": float(covered[1]),
                "difference_covered": float(covered[2]),
            }
        )
        print(rows[-1], flush=True)
        write(RESULT, 0, began, time.process_time() - cpu, level=0.95, scenes=rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
