"""Random designs: every number of a diagnosis against plain numpy, every lost term by name."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from designs import (
    WAYS,
    aliased_design,
    all_columns,
    basis,
    estimable,
    full_rank_design,
    indicators,
    is_text,
    kept_columns,
    null_space,
    rank,
)

from batchsense.experiments import ColumnKinds, Table, diagnose

DENSE = 1e-8
DESIGNS = [25, pytest.param(200, marks=pytest.mark.slow)]


def kinds(sheet, names):
    """Declare what is a category and what a number, so that no rule decides."""
    return ColumnKinds(
        [name for name in names if is_text(sheet[name])],
        [name for name in names if not is_text(sheet[name])],
    )


def squares(values, *parts):
    """Sum of squares that a constant and some columns leave of all features."""
    given = basis(*parts)
    return float(((values - given @ (given.T @ values)) ** 2).sum())


class Dense:
    """The same numbers from sums of squares, projections and pseudo-inverses."""

    def __init__(self, sheet, names, values):
        self.sheet, self.names, self.values = sheet, names, values
        self.n = len(values)
        self.empty = np.zeros((self.n, 0))
        self.batches = indicators(sheet["b"])
        self.wanted = kept_columns(sheet, names)
        self.total = squares(values, self.empty)

    def share(self, term, *others):
        """Give raw share, share less chance, columns and residual degrees of freedom."""
        columns, df = rank(term, *others) - rank(*others), self.n - rank(term, *others)
        left = squares(self.values, term, *others)
        added = squares(self.values, *others) - left
        share = max(0.0, added - columns * left / df) / self.total
        return [added / self.total, share, columns, df]

    def entanglement(self, name):
        """Give R², VIF, effective n, Pillai, attenuation, lost rank of a kept column."""
        own = kept_columns(self.sheet, [name])
        others = kept_columns(self.sheet, [one for one in self.names if one != name])
        given = basis(others)

        def left(columns):
            return columns - given @ (given.T @ columns)

        mine, theirs = left(own / np.linalg.norm(own, axis=0)), left(self.batches)
        mine_inverse = np.linalg.pinv(mine, rcond=1e-9)
        cosines = mine_inverse @ theirs @ np.linalg.pinv(theirs, rcond=1e-9) @ mine
        found = np.linalg.eigvals(cosines).real
        r2 = found.max()
        return [r2, 1 / (1 - r2), self.n * (1 - r2), found.sum(), self.attenuation(own, others)]

    def attenuation(self, own, others):
        """Centre noise-free effects inside the batches and fit them without the batches."""
        given = basis(others)
        upper = np.linalg.qr(own - given @ (given.T @ own))[1]
        directions = np.linalg.inv(upper)
        means = self.batches / self.batches.sum(axis=0)
        effects = own @ directions
        centred = effects - self.batches @ (means.T @ effects)
        design = np.hstack([own, np.ones((self.n, 1)), others])
        kept = upper @ np.linalg.lstsq(design, centred, rcond=None)[0][: own.shape[1]]
        return 1 - np.linalg.eigvalsh((kept + kept.T) / 2).min()

    def component(self):
        """Give Henderson's component and the residual variance, mean over the features."""
        columns = rank(self.wanted, self.batches) - rank(self.wanted)
        full = squares(self.values, self.wanted, self.batches)
        within = full / (self.n - rank(self.wanted, self.batches))
        given = basis(self.wanted)
        trace = self.n - np.trace(self.batches.T @ given @ given.T @ self.batches)
        added = squares(self.values, self.wanted) - full
        features = self.values.shape[1]
        return [(added - columns * within) / trace / features, within / features]

    def interaction(self):
        """Give the products of batches and kept terms."""
        terms = self.wanted - self.wanted.mean(axis=0)
        return np.einsum("ib,it->ibt", self.batches, terms).reshape(self.n, -1)

    def contrast(self, name, first, second, rows=slice(None)):
        """Give whether the design tells second - first, and how much of it the batches share."""
        others = [one for one in self.names if one != name]
        columns = {one: np.asarray(self.sheet[one])[rows] for one in self.sheet}
        full, terms = all_columns(columns, [name, *others, "b"])
        alone = full[:, [not term.startswith("b[") for term in terms]]
        vector = np.zeros(len(terms))
        vector[terms.index(f"{name}[{second}]")] = 1.0
        vector[terms.index(f"{name}[{first}]")] = -1.0
        if not estimable(full, vector):
            return False, 1.0

        def variance(design):
            inverse = np.linalg.pinv(design, rcond=1e-10)
            c = vector[: design.shape[1]] if design is full else vector[kept]
            return c @ inverse @ inverse.T @ c

        kept = [place for place, term in enumerate(terms) if not term.startswith("b[")]
        return True, 1 - variance(alone) / variance(full)


def shares(one):
    """Take the numbers of a share that dense sums give as well."""
    return [one.raw, one.share.estimate, one.columns, one.df_residual]


@pytest.mark.parametrize("designs", DESIGNS)
def test_every_number_agrees_with_dense_sums(designs):
    """Shares, unique parts, component, R², VIF, effective n, ranks, contrasts: all to 1e-8."""
    worst = 0.0

    def compare(found, expected):
        nonlocal worst
        scale = np.maximum(1.0, np.abs(expected))
        worst = max(worst, float((np.abs(np.subtract(found, expected)) / scale).max()))

    for seed in range(designs):
        sheet, names, values = full_rank_design(seed)
        table = Table.from_arrays(values, sheet)
        found = diagnose(table, "b", names, permutations=20, kinds=kinds(sheet, names))
        dense = Dense(sheet, names, values)
        B, X = dense.batches, dense.wanted

        assert found.verdict != "not_estimable"
        compare(shares(found.batch_share), dense.share(B, X))
        compare(shares(found.joint_share), dense.share(np.hstack([X, B]), dense.empty))
        compare(found.batch_alone, dense.share(B, dense.empty)[0])
        compare([found.component.component.estimate, found.component.within], dense.component())
        compare(found.residual_share, squares(values, X, B) / dense.total)
        unique = found.batch_share.raw
        for one, name in zip(found.kept, names, strict=True):
            own = kept_columns(sheet, [name])
            others = kept_columns(sheet, [other for other in names if other != name])
            compare(shares(one.share), dense.share(own, others, B))
            compare(one.alone, dense.share(own, dense.empty)[0])
            numbers = one.entanglement.confounding
            compare(
                [
                    numbers.r2,
                    numbers.vif,
                    numbers.effective_n,
                    numbers.pillai,
                    numbers.attenuation,
                ],
                dense.entanglement(name),
            )
            assert (numbers.rank_lost, numbers.estimable, numbers.aliased) == (0, True, ())
            unique += one.share.raw
        joint = 1 - squares(values, X, B) / dense.total
        compare(found.shared, joint - unique)
        crossed, full = dense.interaction(), [X, B]
        if rank(X, B, crossed) < dense.n and rank(X, B, crossed) > rank(X, B):
            compare(shares(found.interaction_share), dense.share(crossed, X, B))
            full.append(crossed)
        explained = dense.share(np.hstack(full), dense.empty)[1]
        compare(found.residual.estimate, 1 - explained)

    assert worst < DENSE


@pytest.mark.parametrize("designs", [12, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("aliased", [False, True])
def test_contrasts_agree_with_the_pseudo_inverse(designs, aliased):
    """Estimable differences, their R² and whom they rest on: as the row space has it."""
    told = refused = 0
    for seed in range(designs):
        if aliased:
            sheet, names, values = aliased_design(seed, seed % WAYS)
        else:
            sheet, names, values = full_rank_design(seed)
        dense = Dense(sheet, names, values)
        table = Table.from_arrays(values, sheet)
        found = diagnose(table, "b", names, permutations=20, kinds=kinds(sheet, names))
        for one, name in zip(found.kept, names, strict=True):
            levels = np.unique(sheet[name]).tolist() if is_text(sheet[name]) else []
            pairs = list(itertools.combinations(levels, 2))
            assert [(c.first, c.second) for c in one.contrasts] == pairs
            for contrast in one.contrasts:
                expected, r2 = dense.contrast(name, contrast.first, contrast.second)
                assert contrast.estimable == expected, (seed, str(contrast))
                assert contrast.r2 == pytest.approx(r2, abs=DENSE), (seed, str(contrast))
                resting = [
                    level
                    for level in levels
                    if expected
                    and level not in (contrast.first, contrast.second)
                    and not dense.contrast(
                        name, contrast.first, contrast.second, sheet[name] != level
                    )[0]
                ]
                assert list(contrast.only_through) == resting, (seed, str(contrast))
                told, refused = told + expected, refused + (not expected)

    assert told > designs
    assert (refused > designs / 2) == aliased


def named_columns(sheet, names):
    """Give every column that an equation can name."""
    found = {"Intercept": np.ones(len(sheet["b"]))}
    for name in names:
        if is_text(sheet[name]):
            levels = np.unique(sheet[name]).tolist()
            found |= {f"{name}[{level}]": 1.0 * (sheet[name] == level) for level in levels}
        else:
            found[name] = sheet[name]
    return found


@pytest.mark.parametrize("designs", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_aliased_designs_name_exactly_what_is_lost(designs):
    """Lost factors, how much of each, and equations in which no term is idle or superfluous."""
    for seed in range(designs):
        sheet, names, values = aliased_design(1000 + seed, seed % WAYS)
        table = Table.from_arrays(values, sheet)
        found = diagnose(table, "b", names, permutations=20, kinds=kinds(sheet, names))
        batches = indicators(sheet["b"])

        assert found.verdict == "not_estimable", seed
        for one, name in zip(found.kept, names, strict=True):
            own = kept_columns(sheet, [name])
            rest = [other for other in names if other != name]
            others = kept_columns(sheet, rest)
            lost = own.shape[1] - rank(own, others, batches) + rank(others, batches)
            numbers = one.entanglement.confounding
            assert numbers.rank_lost == lost, (seed, name)
            assert numbers.estimable == (lost == 0)
            assert len(numbers.relations) == lost
            assert (numbers.r2 == 1.0) == (lost > 0)
            assert (name in found.reason.split(" cannot be told")[0].split(", ")) == (lost > 0)
            columns = named_columns(sheet, [*names, "b"])
            for relation in numbers.relations:
                assert relation.dependent.split("[")[0] == name
                named = np.column_stack([columns[term] for term in relation.terms])
                sizes = np.abs(named * relation.coefficients).max()
                assert np.abs(named @ relation.coefficients).max() < 1e-9 * sizes, seed
                # One way only to bring the named columns to zero, in which every one takes part.
                null = null_space(named)
                assert len(null) == 1, (seed, str(relation))
                assert (np.abs(null[0] * np.linalg.norm(named, axis=0)) > 1e-7).all(), seed
                # No other kept factor is named that the loss could do without.
                for other in {term.split("[")[0] for term in relation.terms} & set(rest):
                    fewer = kept_columns(sheet, [one for one in rest if one != other])
                    without = own.shape[1] - rank(own, fewer, batches) + rank(fewer, batches)
                    assert without < lost, (seed, str(relation))
