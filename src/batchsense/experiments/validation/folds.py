"""The two ways to divide the rows: shuffled over all batches, and one batch at a time."""

from __future__ import annotations

import warnings

import numpy as np

from batchsense.arrays import Integers
from batchsense.experiments.validation.answers import Answers


def shuffled_folds(answers: Answers, stratified: bool, seed: int) -> list[Integers]:
    """Spread the rows of every batch over as many folds as there are batches.

    Parameters
    ----------
    answers : Answers
        Answers and batches.
    stratified : bool
        Whether every class is spread evenly over the folds, as far as it has rows.
    seed : int
        Seed of the shuffle.

    Returns
    -------
    list of arrays
        The rows of each fold.

    Examples
    --------
    >>> from batchsense.experiments.validation.answers import read_answers
    >>> answers = read_answers(6, [0, 0, 0, 1, 1, 1], [1, 1, 1, 2, 2, 2])
    >>> [len(fold) for fold in shuffled_folds(answers, stratified=True, seed=0)]
    [3, 3]
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    count = len(answers.batch_levels)
    if stratified:
        _, members = np.unique(answers.values, return_counts=True)
        stratified = bool(members.max() >= count)  # else scikit-learn refuses
    make = StratifiedKFold if stratified else KFold
    splitter = make(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # Rare classes have a note of their own, once and by name.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        splits = splitter.split(answers.codes, answers.values)
        return [left_out for _, left_out in splits]


def batch_folds(answers: Answers) -> list[Integers]:
    """Leave out one batch at a time.

    Examples
    --------
    >>> from batchsense.experiments.validation.answers import read_answers
    >>> [fold.tolist() for fold in batch_folds(read_answers(4, [0, 1, 0, 1], [*"abab"]))]
    [[0, 2], [1, 3]]
    """
    return [np.flatnonzero(answers.codes == code) for code in range(len(answers.sizes))]
