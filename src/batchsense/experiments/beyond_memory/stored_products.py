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
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics
from batchsense.experiments.design import Design
from batchsense.experiments.diagnosis.products import CANCELS, Products, products_of
from batchsense.experiments.diagnosis.usable import Looks
from batchsense.experiments.out_of_core.pass_inputs import PassInputs
from batchsense.experiments.projections import basis_beside, without
from batchsense.experiments.value_kinds import tallies
from batchsense.notes import Note
from batchsense.variation.linear import factor

#: Matrices of specimens × specimens that a diagnosis holds at a time: the sum, a part of it, and
#: what two models leave with their temporaries.
_GRAMS = 6
#: Columns of a sketch, as many as memory allows: squared lengths to 6.3, 8.8, 12.5 and 17.7 %.
_COLUMNS = (512, 256, 128, 64)
#: Directions in which components are sought; ten of them are shown.
_SOUGHT = 24


@dataclass(frozen=True, slots=True, eq=False)
class GramAsk:
    """The Gram matrix of what a model leaves, and how features lie along one of its terms.

    Attributes
    ----------
    tally : array of shape (features,)
        Which features are left out.
    standardise : bool
        Whether every feature gets the same weight.
    given : array of shape (specimens, columns)
        Orthonormal: what is taken off before, beside the mean.
    basis, full : arrays of shape (specimens, columns)
        Of the batches beside what is kept, and of the whole model.
    """

    tally: Flags
    standardise: bool
    given: Floats
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
    """Products of a sketch, beside what is known exactly.

    ``observations`` are the sketch, and ``inner`` their products. ``exact`` gives the products of
    columns in the span of the model with all features; ``left`` are the squares of what is left of
    each; ``model`` and ``images`` are an orthonormal basis U of the model and YYᵀU; ``found`` are
    the eigenvalues along the directions that were found, and the specimens along them; ``apart``
    is how likely two features are to be dealt to different columns.
    """

    inner: Products
    exact: Callable[[Floats], Floats]
    left: Floats
    model: Floats
    images: Floats
    found: tuple[Floats, Floats]
    apart: float

    @property
    def features(self) -> int:
        """How many features there are, not columns of the sketch."""
        return len(self.left)

    @property
    def judged(self) -> Products:
        """Permutations are fitted to the sketch."""
        return self.inner

    def leaving(self, basis: Floats) -> Products:
        """What an orthonormal basis leaves; of the squares exactly."""
        left = np.maximum(self.left - (self.exact(basis) ** 2).sum(axis=0), 0.0)
        inner = self.inner.leaving(basis)
        return replace(
            self, inner=inner, left=left, squares=float(left.sum()), gram=inner.gram, basis=basis
        )

    def spread(self, columns: Floats) -> Floats:
        """LLᵀA, exactly, for columns of the model beside what was taken off."""
        return without(self.images @ (self.model.T @ columns), self.basis)

    def square_trace(self) -> float:
        """The trace of (LᵀL)², without bias: features that share a column are counted exactly."""
        inner = self.inner
        columns = inner.observations - inner.basis @ inner.fitted
        gram = columns.T @ columns
        apart = float((gram**2).sum() - (np.diag(gram) ** 2).sum())
        return float((self.left**2).sum() + apart / self.apart)

    def sum_along(self, columns: Floats) -> float:
        """The squares along columns of the model, exactly."""
        return float((self.exact(columns) ** 2).sum())

    def parts(self, basis: Floats, left: Products) -> tuple[Floats, Floats, Floats]:
        """By specimen from the sketch, by feature exactly."""
        assert isinstance(left, SketchedProducts)
        return left.inner.sizes()[0], (self.exact(basis) ** 2).sum(axis=0), left.left

    def leading(self, most: int) -> tuple[Floats, Floats]:
        """Directions that were sought in the sketch; what all features say of them."""
        return self.found[0][:most], self.found[1][:, :most]


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
    features = table.location.shape[1]
    dealt, sketching = _dealt(table, inputs, features, seed)
    found = table.passes.run(sketching, "summing up and sketching specimens")
    sums: BatchStatistics = found.sums
    seen = SummedFeatures.of(sums)
    complete = seen.observed == design.specimens
    used = complete & ~tallies(table.features)
    variance = np.where(used, seen.squares / design.specimens, 0.0)
    looks = Looks(complete, used, used & seen.varies, variance)
    notes = looks.remarks(table, standardise)
    scale = np.where(used, 1.0, 0.0)
    if standardise:
        scale[looks.varies] /= np.sqrt(variance[looks.varies])
    if standardise or not used.all():  # known only now
        dealt = replace(dealt, weights=dealt.weights * scale)
        found = table.passes.run(SketchPass(table.location, dealt, None), "sketching specimens")
    inner = products_of(found.columns)
    own = scale[used] / inner.unit

    def exact(columns: Floats) -> Floats:
        return np.asarray(model.along(sums, columns)[:, used] * own)

    basis = np.hstack([strata_basis(model.codes), model.directions])
    directions = _sought(inner)

    def images_of(along: Floats, followed: Floats, task: str) -> tuple[Floats, Floats]:
        """Images of products with all features, and the products of some directions with them."""
        columns = np.zeros((len(scale), len(along)))
        columns[used] = (along * own).T
        following = AlongPass(table.location, followed, columns, seen.mean, scale)
        told = table.passes.run(following, task).sums
        return told["images"], told["along"][:, used] * own

    images, along = images_of(exact(basis), directions, "following directions")
    turned, _ = images_of(along, directions[:, :0], "following components")
    left = seen.squares[used] * own**2
    products = SketchedProducts(
        inner.observations,
        inner.unit,
        inner.gram,
        float(left.sum()),
        inner.basis,
        inner.fitted,
        inner=inner,
        exact=exact,
        left=left,
        model=basis,
        images=images,
        found=_components(turned, along),
        apart=dealt.apart,
    )
    count = len(dealt.starts)
    error = float(np.sqrt(2.0 / count)) if count < features else 0.0
    sketch = Sketch(count, error, seed)
    return products, [*notes, *_sketch_notes(sketch, design.specimens)], sketch


def _sought(inner: Products) -> Floats:
    """An orthonormal basis of the directions along which a sketch is longest."""
    sizes, found = inner.leading(_SOUGHT)
    real = found[:, sizes > 1e-12 * max(float(sizes[0]), 1e-300)]
    return np.asarray(np.linalg.qr(real - real.mean(axis=0))[0])


def _components(turned: Floats, along: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues, and the specimens along their directions, by Nyström's approximation.

    ``turned`` is YYᵀV, ``along`` is VᵀY. No eigenvalue is overestimated.
    """
    sizes, vectors = np.linalg.eigh(along @ along.T)
    real = sizes > 1e-12 * max(float(sizes[-1]), 1e-300)
    roots = turned @ (vectors[:, real] / np.sqrt(sizes[real]))
    sizes, vectors = np.linalg.eigh(roots.T @ roots)
    return sizes[::-1].clip(min=0.0), roots @ vectors[:, ::-1]


def _dealt(
    table: StoredTable, inputs: PassInputs, features: int, seed: int
) -> tuple[Dealt, SketchPass]:
    """Deal features out to as many columns as memory allows."""
    for columns in _COLUMNS:
        dealt = Dealt.of(features, min(columns, features), seed)
        sketching = SketchPass(table.location, dealt, inputs)
        if table.fits(sketching) or columns == _COLUMNS[-1]:
            break
    return dealt, sketching


def _sketch_notes(sketch: Sketch, specimens: int) -> list[Note]:
    if sketch.relative_error == 0.0:
        return []
    message = (
        f"{specimens:,} specimens times themselves do not fit in the memory that is allowed. "
        "Shares, raw shares and the component of variance rest on all features. What permuted "
        "labels give, and the ends of intervals, rest on a sketch: "
        f"{sketch.columns} random sums of the features (seed {sketch.seed}), in which a squared "
        f"length has a standard error of at most {100 * sketch.relative_error:.1f} %. p-values are "
        "those of the sketch: as valid, but other ones. Principal components were sought in it and "
        "followed through all features; the variance along them is told as no more than it is. "
        "With more memory (--memory) all is exact."
    )
    return [Note("sketched", message)]
