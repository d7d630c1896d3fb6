"""How often intervals of ``gap --block subject`` hold the truth, where rows alone show no gap.

Each of 40 subjects is ill or well and measured once at two or three of 8 sites; a subject's
fingerprint is larger than the disease, and sites are shifted, or not. The nearest neighbour of a
row is a row of the same subject, at whatever site, so rows that are left out by site alone are
predicted as well as shuffled ones. For new subjects at new sites it errs often. The truth is the
mean over 2,000 other tables of the errors that folds with subjects apart show there, which is the
expected error on sites and subjects that were not learned from. Reported is how often intervals of
95 % hold it: the error on sites left out, on shuffled folds, and their difference.

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

RESULT = Path(__file__).parent / "results" / "gap_subjects.json"
SUBJECTS, FEATURES, OTHERS = 40, 12, 2000
#: Sites, standard deviation of their shifts, and rows of a subject at each of its sites.
SCENES = [(8, 0.5, 1), (8, 0.0, 1)]


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


def errors(scene: tuple[int, float, int], place: int, by_rows: bool = False) -> np.ndarray:
    """Errors on shuffled folds and on sites left out, each the mean over sites; by distances."""
    values, site, subject, ill = drawn(scene, place)
    sizes = np.bincount(site, minlength=scene[0])
    answers = Answers(ill, site, tuple(range(scene[0])), site, sizes)
    distances = ((values[:, None] - values) ** 2).sum(axis=2)
    found = []
    for folds in (shuffled_folds(answers, True, place), batch_folds(answers)):
        wrong = np.zeros(len(ill))
        parts = (folds,) * 3 if by_rows else apart(folds, answers, subject, place)
        for rows, unseen in zip(parts[0], parts[2], strict=True):
            own = distances[rows]
            own[:, unseen] = np.inf
            wrong[rows] = ill[own.argmin(axis=1)] != ill[rows]
        found.append((np.bincount(site, wrong) / sizes).mean())
    return np.array(found)


def main(tables: int) -> None:
    began, cpu, rows = time.time(), time.process_time(), []
    for scene in SCENES:
        others = np.array([errors(scene, 10**6 + place) for place in range(OTHERS)])
        true = others.mean(axis=0)
        plain = np.array([errors(scene, place, by_rows=True) for place in range(tables)])
        hits = np.zeros(3, dtype=int)
        verdicts = dict.fromkeys(("gap", "no_gap_seen", "cannot_tell"), 0)
        for place in range(tables):
            values, site, subject, ill = drawn(scene, place)
            sheet = {"site": site, "subject": [f"P{k}" for k in subject], "ill": ill}
            model, folds = PlainModel(corrections=["none"]), ShuffledFolds(1, place)
            table = Table.from_arrays(values, {k: [f"{k}{v}" for v in sheet[k]] for k in sheet})
            found = compare_gaps(table, "site", "ill", model, folds, blocks="subject")
            verdicts[found.verdict] += 1
            gap = found.ways[0].gap
            intervals = gap.shuffled, gap.held_out, gap.difference
            for k, truth in enumerate((*true, true[1] - true[0])):
                hits[k] += intervals[k].low <= truth <= intervals[k].high
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
                "shuffled_covered": hits[0] / tables,
                "left_out_covered": hits[1] / tables,
                "difference_covered": hits[2] / tables,
                "verdicts": verdicts,
            }
        )
        print(rows[-1], flush=True)
        write(RESULT, 0, began, time.process_time() - cpu, level=0.95, scenes=rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
