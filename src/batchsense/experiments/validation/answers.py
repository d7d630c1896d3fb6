"""What is to be predicted, and the batches of its rows: checked before any model is fitted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchsense.arrays import Integers
from batchsense.errors import ConfoundedError, DataError, UnresolvedError, listed
from batchsense.experiments.row_labels import column_names
from batchsense.experiments.tables.text import label_text
from batchsense.notes import Note
from batchsense.variation.labels import Levels, levels_of, table_of_counts

#: At most so many batches are called few: t with 3 degrees of freedom makes intervals 1.6 times as
#: wide as known variation would.
FEW_BATCHES = 4
#: A batch with more than so many times the mean number of rows is called large: leaving it out then
#: takes away visibly more to learn from than a shuffled fold does (docs/decisions/0035-gap.md).
LARGE = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Answers and batches, row by row."""

    values: npt.NDArray[Any]  #: (specimens,): what is to be predicted
    #: (specimens,): the batch labels as they were given, to be handed on.
    given_labels: npt.NDArray[Any]
    batch_levels: tuple[Hashable, ...]  #: The batches, sorted
    codes: Integers  #: (specimens,): index of the batch of each row
    sizes: Integers  #: (batches,): rows of each batch
    #: What messages call the answers and the batches.
    names: tuple[str, str] = ("y", "batch_labels")


def read_answers(
    rows: int,
    y: npt.ArrayLike,
    batch_labels: npt.ArrayLike,
    names: tuple[str, str] = ("y", "batch_labels"),
) -> Answers:
    """Read answers and batch labels, one of each for every row."""
    values, labels = _entries(y, names[0]), _entries(batch_labels, names[1])
    if not rows == len(values) == len(labels):
        raise DataError(
            f"{rows} observations, {len(values)} answers and {len(labels)} batch labels; give one "
            "of each per specimen"
        )
    if labels.dtype.kind == "f" and (labels != np.rint(labels)).any():
        raise DataError(
            f"fractional numbers, which would make {len(set(labels.tolist()))} batches; give text "
            "if these are names of batches, or divide what they measure into classes",
            where=names[1],
        )
    found = levels_of(labels, names[1])
    if len(found.levels) < 2:
        raise DataError("one batch only: leave-batch-out testing needs at least two")
    if len(found.levels) == rows > 2:
        raise DataError(
            "a batch of its own for each specimen; give the labels that say which specimens were "
            "processed together",
            where=names[1],
        )
    return Answers(values, labels, found.levels, found.codes, found.counts, names)


def check_classes(answers: Answers) -> tuple[Note, ...]:
    """Refuse classes that batches left out cannot test, and name those that they test in part."""
    name, grouping = answers.names
    found = levels_of(answers.values, name)
    classes = found.levels
    if len(classes) < 2:
        raise DataError(f"one class only ({classes[0]}); there is nothing to predict", where=name)
    table = table_of_counts(found, Levels(answers.batch_levels, answers.codes))
    single = np.flatnonzero((table > 0).sum(axis=1) == 1)
    if len(single) == len(classes):
        homes = table.argmax(axis=1)
        raise ConfoundedError(
            f"{name} cannot be told from {grouping}: every class lies in one batch only, so a "
            "model that is tested on a batch left out has never seen the class to be predicted. "
            "Run at least two classes in at least two batches",
            [
                f"{name}[{classes[c]}] = {grouping}[{answers.batch_levels[homes[c]]}]"
                for c in range(len(classes))
            ],
        )
    left = ((table.sum(axis=1, keepdims=True) - table) > 0).sum(axis=0)
    if (alone := np.flatnonzero(left < 2)).size:
        where = answers.batch_levels[alone[0]]
        raise UnresolvedError(
            f"without batch {where} only one class of {name} is left to learn from",
            needed=f"rows of another class in a batch other than {where}",
        )
    notes = []
    if len(single):
        rows = int(table[single].sum())
        named = [str(classes[c]) for c in single]
        notes.append(
            Note(
                "class_of_one_batch",
                f"Classes that occur in one batch only: {listed(named)}. A model cannot predict a "
                f"class that it never saw, so {rows} of {len(answers.codes)} rows are errors by "
                "construction when that batch is left out.",
                tuple(named),
            )
        )
    rare = np.flatnonzero(table.sum(axis=1) < len(answers.batch_levels))
    if len(rare):
        named = [str(classes[c]) for c in rare]
        notes.append(
            Note(
                "rare_classes",
                f"Classes with fewer rows than there are folds ({len(answers.batch_levels)}): "
                f"{listed(named)}. Some shuffled folds hold none of them.",
                tuple(named),
            )
        )
    return tuple(notes)


def refuse_single_classes(answers: Answers, unseen: Sequence[Integers]) -> None:
    """Refuse folds that leave fewer than two classes to learn from."""
    for rows in unseen:
        if len(np.unique(np.delete(answers.values, rows))) < 2:
            raise UnresolvedError(
                "without a batch and a part of the blocks only one class of "
                f"{answers.names[0]} is left to learn from",
                needed="more blocks of each class, or more batches",
            )


def check_features(X: Any, given: Mapping[str, Any]) -> tuple[Note, ...]:
    """Refuse features that hold the answers under their own name; remark on the batch labels.

    ``given`` holds ``y`` and ``batch_labels`` as they were given, in the order of ``X``.
    """
    notes = []
    for what, entries in given.items():
        name = getattr(entries, "name", None)
        if name is None or name not in (column_names(X, "X") or ()):
            continue
        if list(map(label_text, X[name])) != list(map(label_text, entries)):
            continue
        if what == "y":
            raise DataError(
                f"column {name!r} is y itself, so nothing is left to predict; take it out of X",
                where="X",
            )
        message = (
            f"Column {name!r} of X holds the batch labels: a model may learn from them, and of a "
            "batch left out it never saw any. Take it out of X unless the model needs it."
        )
        notes.append(Note("batch_labels_among_features", message, (str(name),)))
    return tuple(notes)


def batch_notes(answers: Answers) -> tuple[Note, ...]:
    """Say where the batches are few or very unequal."""
    count, rows = len(answers.sizes), int(answers.sizes.sum())
    notes = []
    if count <= FEW_BATCHES:
        notes.append(
            Note(
                "few_batches",
                f"{count} batches: the intervals rest on {count - 1} degree"
                f"{'s' if count > 2 else ''} of freedom and are wide. More batches make them "
                "narrower; more rows of the same batches hardly do.",
            )
        )
    largest = int(answers.sizes.argmax())
    if answers.sizes[largest] * count > LARGE * rows and answers.sizes.min() < answers.sizes.max():
        share = answers.sizes[largest] / rows
        named = str(answers.batch_levels[largest])
        notes.append(
            Note(
                "unequal_batches",
                f"Batch {named} holds {share:.0%} of the rows: left out, it leaves less to learn "
                f"from than a shuffled fold does, which takes {1 / count:.0%}. A part of its gap "
                "may be a matter of size. Every batch counts the same in the means.".replace(
                    "%", " %"
                ),
                (named,),
            )
        )
    return tuple(notes)


def _entries(given: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    entries = np.asarray(given)
    if entries.ndim == 2 and entries.shape[1] == 1:
        entries = entries[:, 0]
    if entries.ndim == 1 and entries.dtype.kind == "f":
        if (missing := np.flatnonzero(~np.isfinite(entries))).size:
            raise DataError(
                f"missing or infinite in rows {listed(missing)}; fill them in or leave these "
                "specimens out",
                where=name,
            )
    else:
        levels_of(entries, f"entries of {name}")
    return entries
