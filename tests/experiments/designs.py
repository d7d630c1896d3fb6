"""Random designs, full of rank and aliased ones, and what plain numpy says about them."""

from __future__ import annotations

import numpy as np

#: Singular values of columns of norm 1 below this share of the largest are rounding.
RANK = 1e-9
#: How many ways :func:`aliased_design` has.
WAYS = 6


def indicators(labels):
    """Give one 0/1 column per level, sorted."""
    return (np.asarray(labels)[:, None] == np.unique(labels)).astype(float)


def is_text(column):
    """Tell whether a column of a sheet holds labels."""
    return np.asarray(column).dtype.kind == "U"


def kept_columns(sheet, names):
    """Give dummies without the first level, and numbers as they are."""
    parts = [np.zeros((len(next(iter(sheet.values()))), 0))]
    for name in names:
        column = np.asarray(sheet[name])
        parts.append(indicators(column)[:, 1:] if is_text(column) else column[:, None])
    return np.hstack(parts)


def all_columns(sheet, names):
    """Give a constant and every indicator, numbers around their mean; names of the columns."""
    parts, terms = [np.ones((len(next(iter(sheet.values()))), 1))], ["1"]
    for name in names:
        column = np.asarray(sheet[name])
        if is_text(column):
            parts.append(indicators(column))
            terms.extend(f"{name}[{level}]" for level in np.unique(column))
        else:
            parts.append((column - column.mean())[:, None])
            terms.append(name)
    return np.hstack(parts), terms


def basis(*parts):
    """Give an orthonormal basis of a constant and some columns, by singular values."""
    columns = np.hstack(parts)
    centred = columns - columns.mean(axis=0)
    sizes = np.linalg.norm(centred, axis=0)
    varies = sizes > 1e-12 * np.linalg.norm(columns, axis=0)
    left, singular, _ = np.linalg.svd(centred[:, varies] / sizes[varies], full_matrices=False)
    kept = left[:, singular > RANK * singular.max(initial=0.0)]
    return np.hstack([np.full((len(columns), 1), len(columns) ** -0.5), kept])


def rank(*parts):
    """Give the rank of a constant and some columns."""
    return basis(*parts).shape[1]


def null_space(columns):
    """Give the vectors (rows) that the columns, brought to norm 1, take to zero."""
    sizes = np.linalg.norm(columns, axis=0)
    _, singular, right = np.linalg.svd(columns / np.where(sizes > 0, sizes, 1.0))
    return right[(singular > RANK * singular[0]).sum() :] / np.where(sizes > 0, sizes, 1.0)


def estimable(design, vector):
    """Tell whether a contrast lies in the row space, by the pseudo-inverse."""
    inverse = np.linalg.pinv(design, rcond=1e-10)
    return np.linalg.norm(vector - vector @ inverse @ design) <= 1e-8 * np.linalg.norm(vector)


def full_rank_design(seed):
    """Draw one to three categorical and up to two numeric columns, unbalanced; of full rank."""
    rng = np.random.default_rng(seed)
    while True:
        n, k = int(rng.integers(24, 60)), int(rng.integers(2, 6))
        sheet = {"b": rng.choice(list("uvwxyz")[:k], size=n, p=rng.dirichlet(np.full(k, 3.0)))}
        names = [f"f{i}" for i in range(rng.integers(1, 4))]
        for name in names:
            levels = list("ABCD")[: rng.integers(2, 5)]
            # Half of the specimens take the level that goes with their batch.
            tied = np.array(levels)[[ord(b) % len(levels) for b in sheet["b"]]]
            sheet[name] = np.where(rng.random(n) < 0.5, tied, rng.choice(levels, size=n))
        for i in range(rng.integers(0, 3)):
            names.append(f"x{i}")
            sheet[f"x{i}"] = rng.uniform(20, 80, size=n)
        full = np.hstack([indicators(sheet["b"]), kept_columns(sheet, names)])
        sizes = np.unique(sheet["b"], return_counts=True)[1]
        if sizes.min() > 1 and np.linalg.matrix_rank(full) == full.shape[1] < n - 5:
            effects = (
                rng.normal(size=(full.shape[1], 6))
                * np.where(np.ptp(full, axis=0) > 2, 0.1, 2)[:, None]
            )
            return sheet, names, full @ effects + rng.normal(size=(n, 6)) + 10


def aliased_design(seed, way):
    """Add a column ``lost`` to a design, of which a part cannot be told from the batches.

    In turn: a factor whose levels share no batch; a number of the batch, as a date is; a level
    that has a batch for itself; pairs of levels that share batches among themselves only; a number
    of the batch plus one of a kept factor; a number of the batch plus a kept number.
    """
    rng = np.random.default_rng(seed)
    for attempt in range(1000):
        sheet, names, values = full_rank_design(100_000 * (seed + 1) + attempt)
        batches = np.unique(sheet["b"])
        codes = np.searchsorted(batches, sheet["b"])
        dates = 45_000.0 + rng.permutation(40)[: len(batches)]
        if way == 0:
            coarse = np.arange(len(batches)) % rng.integers(2, len(batches) + 1)
            lost = np.array([*"PQRSTU"])[rng.permutation(coarse)[codes]]
        elif way == 1:
            lost = dates[codes]
        elif way == 2 and len(batches) > 2:
            lost = np.where(
                codes == rng.integers(len(batches)), "R", rng.choice(["P", "Q"], len(codes))
            )
        elif way == 3 and len(batches) > 3:
            lost = np.array([*"PQRS"])[2 * (codes % 2) + rng.integers(2, size=len(codes))]
        elif way == 4:
            lost = dates[codes] + rng.permutation(9)[np.unique(sheet["f0"], return_inverse=True)[1]]
        elif way == 5 and "x0" in names:
            lost = dates[codes] + 2.5 * sheet["x0"]
        else:
            continue
        found = {**sheet, "lost": lost}
        wanted = kept_columns(found, [*names, "lost"])
        batch_columns = indicators(sheet["b"])
        if (
            rank(wanted) == wanted.shape[1] + 1  # kept columns alone say different things
            and rank(wanted, batch_columns) < wanted.shape[1] + len(batches)
            and rank(wanted, batch_columns) < len(codes) - 3
        ):
            return found, [*names, "lost"], values
    raise AssertionError(f"no design of way {way} was found")
