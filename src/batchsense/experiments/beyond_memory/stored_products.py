"""What a diagnosis needs of a matrix on disk: its Gram matrix, or exact sums beside a sketch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from batchsense.arrays import Flags, Floats
from batchsense.experiments.beyond_memory.by_feature import ByFeature
from batchsense.experiments.beyond_memory.sketching import AlongPass, Dealt, Sketch, SketchPass
from batchsense.experiments.beyond_memory.stored_table import StoredTable
from batchsense.experiments.beyond_memory.summed import SummedFeatures, SummedModel, strata_basis
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.products import CANCELS, Products
from batchsense.experiments.diagnosis.usable import Looks
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.projections import basis_beside, without
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: Matrices of specimens × specimens that a diagnosis holds at a time: the sum, a part of it, and
#: what two models leave with their temporaries.
_GRAMS = 6
#: Sums of a sketch, as many as memory allows: squared lengths to 6.3, 8.8, 12.5 and 17.7 %.
_SUMS = (512, 256, 128, 64)
#: Directions in which components are sought; ten of them are shown.
_SOUGHT = 24
#: Specimens stand out where meeting each of them makes this part of the variance of what chance
#: does: less of it hardly changes the shape.
_STANDS_OUT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class GramAsk:
    """The Gram matrix of what a model leaves, and how features lie along one of its terms."""

    tally: Flags  #: (features,): which features are left out
    standardise: bool  #: whether every feature gets the same weight
    given: Floats  #: (specimens, columns): orthonormal: what is taken off before, beside the mean
    #: (specimens, columns): of the batches beside what is kept, and of the whole model.
    basis: Floats
    full: Floats

    def __call__(self, values: Floats, low: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Ask some features."""
        looks = Looks.of(values, self.tally[low : low + values.shape[1]])
        used = looks.prepared(values, self.standardise)
        centred = without(used - used.mean(axis=0), self.given)
        told = np.zeros((6, values.shape[1]))
        told[:4] = looks.complete, looks.used, looks.varies, looks.variance
        told[4, looks.used] = ((self.basis.T @ centred) ** 2).sum(axis=0)
        told[5, looks.used] = (without(centred, self.full) ** 2).sum(axis=0)
        return {"gram": centred @ centred.T}, {"told": told}


@dataclass(frozen=True, slots=True, eq=False)
class GramProducts(Products):
    """Products of which only the matrix of specimens is in memory.

    ``again`` forms it of what a basis leaves, by another pass; ``along`` and ``rest`` are the
    squares of each feature along the batches, and left by the whole model.
    """

    count: int
    along_batches: Floats
    rest: Floats
    again: Callable[[Floats], Floats]

    @property
    def features(self) -> int:
        """How many features there are."""
        return self.count

    def leaving(self, basis: Floats) -> Products:
        """What an orthonormal basis leaves of all observations."""
        image = basis @ (basis.T @ self.gram)
        gram = self.gram - image - image.T + (image @ basis) @ basis.T
        squares = float(np.trace(gram))
        if squares < CANCELS * self.squares:
            gram = self.again(basis) / self.unit**2
            squares = float(np.trace(gram))
        return replace(self, gram=gram, squares=squares, basis=basis)

    def parts(self, basis: Floats, left: Products) -> tuple[Floats, Floats, Floats]:
        """Squares of what is left by specimen; those along the batches, and left, by feature."""
        square = self.unit**2
        return np.diag(left.gram).copy(), self.along_batches / square, self.rest / square


@dataclass(frozen=True, slots=True, eq=False)
class SketchedProducts(Products):
    r"""Products of random sums of the specimens, beside what is known exactly.

    ``gram`` are the products of sums SY of the specimens as they were ``dealt``; ``model`` is an
    orthonormal basis U of the model; ``along_model``, ``mixed`` and ``images`` are UᵀY, UᵀY(SY)ᵀ
    and YYᵀU. ``left`` are the squares of what is left of each feature, ``sizes_before`` the squared
    lengths of the specimens, and ``followed`` their coordinates along some directions.
    """

    dealt: Dealt
    left: Floats
    model: Floats
    along_model: Floats
    mixed: Floats
    images: Floats
    sizes_before: Floats
    followed: Floats

    @property
    def features(self) -> int:
        """How many features there are."""
        return len(self.left)

    def along(self, columns: Floats) -> Floats:
        """AᵀY for columns of the model."""
        return np.asarray((columns.T @ self.model) @ self.along_model)

    def leaving(self, basis: Floats) -> Products:
        """What an orthonormal basis leaves; of the squares exactly."""
        fitted, own = self.along(basis), self.dealt.summed(basis)
        left = np.maximum(self.left - (fitted**2).sum(axis=0), 0.0)
        image = own @ ((basis.T @ self.model) @ self.mixed)
        gram = self.gram - image - image.T + own @ (fitted @ fitted.T) @ own.T
        return replace(self, left=left, squares=float(left.sum()), gram=gram, basis=basis)

    def spread(self, columns: Floats) -> Floats:
        """LLᵀA, exactly, for columns of the model beside what was taken off."""
        return without(self.images @ (self.model.T @ columns), self.basis)

    def sizes(self) -> tuple[Floats, Floats]:
        """The sums of squares of L by specimen and by feature, exactly."""
        images = self.images @ (self.model.T @ self.basis)
        taken = 2.0 * images - self.basis @ (self.basis.T @ images)
        by_specimen = self.sizes_before - (self.basis * taken).sum(axis=1)
        return np.maximum(by_specimen, 0.0), self.left

    def square_trace(self) -> float:
        """The trace of (LᵀL)², without bias: only products of different specimens are guessed."""
        apart = float((self.gram**2).sum() - (np.diag(self.gram) ** 2).sum())
        return float((self.sizes()[0] ** 2).sum()) + apart / self.dealt.apart

    def sum_along(self, columns: Floats) -> float:
        """The squares along columns of the model, exactly."""
        return float((self.along(columns) ** 2).sum())

    def parts(self, basis: Floats, left: Products) -> tuple[Floats, Floats, Floats]:
        """All of them exactly."""
        by_specimen, by_feature = left.sizes()
        return by_specimen, (self.along(basis) ** 2).sum(axis=0), by_feature

    def leading(self, most: int) -> tuple[Floats, Floats]:
        """The largest along the directions that were followed: no more than there is."""
        sizes, vectors = np.linalg.eigh(self.followed.T @ self.followed)
        best = np.argsort(sizes)[::-1][:most]
        return sizes[best].clip(min=0.0), self.followed @ vectors[:, best]

    def drawn(self, columns: Floats, rng: np.random.Generator, draws: int) -> Floats:
        r"""Squares of L along columns whose rows are permuted, as many specimens have them.

        A column is then a direction among all, and the squares along c of them are
        :math:`\sum \lambda_k \chi^2_c/(n-1)` with the eigenvalues of LLᵀ: those along the
        directions that were followed, and equal ones that have trace and square trace of the rest.
        Mean and variance are made those of all permutations (Kazi-Aoual et al. 1995); where single
        specimens that stand out decide about them, these are permuted.
        """
        (n, c), whole, square = columns.shape, self.squares, self.square_trace()
        beside = without(self.followed, self.basis)
        along = np.linalg.eigvalsh(beside.T @ beside).clip(min=0.0)
        rest = max(whole - float(along.sum()), 1e-12 * whole)
        spread = max(square - float((along**2).sum()), rest**2 / min(n, self.features))
        found = rng.chisquare(max(c, 1), size=(draws, len(along))) @ along
        found += spread / rest * rng.chisquare(max(c, 1) * rest**2 / spread, size=draws)
        leverages, sizes = (columns**2).sum(axis=1), self.sizes()[0]
        exact = _permuted_variance(n, c, float((leverages**2).sum()), (whole, square, sizes))
        of_single = n * leverages.var() * n * sizes.var() / (n - 1)
        single = np.zeros(draws)
        if of_single > _STANDS_OUT * exact:
            orders = (rng.permutation(n) for _ in range(draws))
            single = np.array([leverages[order] @ sizes for order in orders]) - c * whole / n
            exact -= of_single
        usual = 2.0 * c * (float((along**2).sum()) + spread) / (n - 1) ** 2
        stretch = np.sqrt(max(exact, 0.0) / usual) if c else 0.0
        mean = c * whole / (n - 1)
        return np.asarray(np.maximum(mean + (found / (n - 1) - mean) * stretch + single, 0.0))


def _permuted_variance(n: int, c: int, leverages: float, of: tuple[float, float, Floats]) -> float:
    """Variance of tr(H G) over permutations, H of c directions beside the constant."""
    trace, square, sizes = of
    diagonal = float((sizes**2).sum())
    first = 2.0 * ((n - 1) * c - c**2) * ((n - 1) * square - trace**2)
    second = (n * (n + 1) * leverages - (n - 1) * (c**2 + 2 * c)) * (
        n * (n + 1) * diagonal - (n - 1) * (trace**2 + 2 * square)
    )
    return first / ((n - 1) ** 2 * (n + 1) * (n - 2)) + second / (
        (n + 1) * n * (n - 1) * (n - 2) * (n - 3)
    )


def stored_products(
    table: StoredTable, design: Design, standardise: bool, seed: int
) -> tuple[Products, list[Note], Sketch | None]:
    """Read what a diagnosis needs: all of it exactly where memory holds that, else a sketch."""
    ask = _gram_ask(table, design, standardise)
    specimens = design.specimens
    inputs = ByFeature(table.location, ask, _GRAMS * 8 * specimens**2)
    if not table.fits(inputs):
        return _sketched(table, design, standardise, seed)
    found = table.passes.run(inputs, "multiplying specimens").sums
    told = found["told"]
    looks = Looks(told[0] > 0, told[1] > 0, told[2] > 0, told[3])
    notes = looks.remarks(table, standardise)

    def again(basis: Floats) -> Floats:
        once_more = replace(inputs, ask=replace(ask, given=basis))
        gram: Floats = table.passes.run(once_more, "multiplying what is left").sums["gram"]
        return gram

    used = looks.used
    unit = float(np.ldexp(1.0, int(np.frexp(np.sqrt(np.diag(found["gram"]).max()))[1])))
    gram = found["gram"] / unit**2
    nothing = np.empty((specimens, 0)), np.empty((0, 0))
    products = GramProducts(
        np.empty((specimens, 0)),
        unit,
        gram,
        float(np.trace(gram)),
        *nothing,
        count=int(used.sum()),
        along_batches=told[4, used],
        rest=told[5, used],
        again=again,
    )
    return products, notes, None


def _gram_ask(table: StoredTable, design: Design, standardise: bool) -> GramAsk:
    kept = factor(design.wanted()[0]).basis
    basis = basis_beside(design.batches.indicators(), kept)
    nothing = np.empty((design.specimens, 0))
    full = np.hstack([kept, basis])
    return GramAsk(tallies(table.features), standardise, nothing, basis, full)


def _sketched(
    table: StoredTable, design: Design, standardise: bool, seed: int
) -> tuple[Products, list[Note], Sketch | None]:
    crossed = design.interaction()
    parts = [design.wanted()[0], design.batches.indicators()]
    model = SummedModel.beside(
        design.batches.codes, np.hstack([*parts, *([] if crossed is None else [crossed[1]])])
    )
    inputs = PassInputs.of(table.location, model.codes, model.directions)
    sketching = _sketching(table, inputs, seed)
    found = table.passes.run(sketching, "summing up and sketching specimens")
    seen = SummedFeatures.of(found.sums)
    complete = seen.observed == design.specimens
    used = complete & ~tallies(table.features)
    variance = np.where(used, seen.squares / design.specimens, 0.0)
    looks = Looks(complete, used, used & seen.varies, variance)
    notes = looks.remarks(table, standardise)
    scale = np.where(used, 1.0, 0.0)
    if standardise:
        scale[looks.varies] /= np.sqrt(variance[looks.varies])
    largest = float((variance * scale**2).max())
    unit = float(np.ldexp(1.0, int(np.frexp(np.sqrt(largest))[1])))
    own = scale[used] / unit
    dealt = sketching.dealt
    mixed = found.mixed[:, used]
    mixed -= dealt.summed(np.ones((design.specimens, 1))) * seen.mean[used]
    mixed *= own
    gram = mixed @ mixed.T
    basis = np.hstack([strata_basis(model.codes), model.directions])
    along = model.along(found.sums, basis)[:, used] * own
    directions = _sought(gram, mixed)
    columns = np.zeros((len(scale), directions.shape[1] + basis.shape[1]))
    columns[used] = np.hstack([directions, along.T]) / unit
    following = AlongPass(table.location, columns, seen.mean, scale)
    told = table.passes.run(following, "following directions").sums
    left = seen.squares[used] * own**2
    nothing = np.empty((design.specimens, 0)), np.empty((0, len(own)))
    products = SketchedProducts(
        nothing[0],
        unit,
        gram,
        float(left.sum()),
        *nothing,
        dealt=dealt,
        left=left,
        model=basis,
        along_model=along,
        mixed=along @ mixed.T,
        images=told["images"][:, directions.shape[1] :],
        sizes_before=told["squares"] / unit**2,
        followed=told["images"][:, : directions.shape[1]],
    )
    error = float(np.sqrt(2.0 / dealt.sums)) if dealt.sums < design.specimens else 0.0
    sketch = Sketch(dealt.sums, error, seed)
    return products, [*notes, *_sketch_notes(sketch, design.specimens)], sketch


def _sought(gram: Floats, mixed: Floats) -> Floats:
    """An orthonormal basis of the directions of features along which a sketch is longest."""
    sizes, found = np.linalg.eigh(gram)
    real = np.flatnonzero(sizes > 1e-12 * max(float(sizes[-1]), 1e-300))[-_SOUGHT:]
    return np.asarray(np.linalg.qr(mixed.T @ (found[:, real] / np.sqrt(sizes[real])))[0])


def _sketching(table: StoredTable, inputs: PassInputs, seed: int) -> SketchPass:
    """Deal specimens out to as many sums as memory allows."""
    for sums in _SUMS:
        dealt = Dealt.of(table.location.shape[0], sums, seed)
        sketching = SketchPass(table.location, dealt, inputs)
        if table.fits(sketching):
            break
    return sketching


def _sketch_notes(sketch: Sketch, specimens: int) -> list[Note]:
    if sketch.relative_error == 0.0:
        return []
    message = (
        f"{specimens:,} specimens times themselves do not fit in the memory that is allowed. "
        "Shares, raw shares and the component of variance rest on all features. What chance does "
        "to shares is calculated as so many specimens have it, not permuted; it and the ends of "
        f"intervals rest on a sketch: {sketch.sums} random sums of the specimens (seed "
        f"{sketch.seed}), in which a squared length has a standard error of at most "
        f"{100 * sketch.relative_error:.1f} %. Principal components were sought in it and followed "
        "through all features; the variance along them is told as no more than it is. With more "
        "memory (--memory) all is exact."
    )
    return [Note("sketched", message)]
