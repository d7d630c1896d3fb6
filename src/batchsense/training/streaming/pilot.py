"""How alike the rows of a block are: a few random blocks, and the components of their variance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import special

from batchsense.arrays import Flags, Floats, Matrix
from batchsense.errors import DataError, UnresolvedError
from batchsense.progress import Progress, silent
from batchsense.storage.rows import Field, RowSource, open_rows
from batchsense.training.streaming.permutation import Permutation
from batchsense.variation.components import variance_component
from batchsense.variation.interval import Interval
from batchsense.variation.moments import Moments

#: Blocks that are read. With 64 the interval of the correlation of sorted rows is about .04 wide,
#: and the upper end covers (benchmarks/results/stream_design_effect.json).
PILOT_BLOCKS = 64
#: Rows of a block at most, unless more are stored together: at 4096 even rows of 100 bytes are
#: read at the speed of the disk.
LARGEST_BLOCK = 4096
#: Numbers of one field that are looked at one by one; the mean of all is looked at beside them.
_COLUMNS = 1024
#: Numbers of a block that are looked at: as float64 with what moments take, 40 MB.
_NUMBERS = 1 << 20
#: Levels of a column of texts that are looked at, the most frequent ones.
_LEVELS = 64
_LEVEL = 0.95
#: Told apart from the epochs in the keys of permutations.
_PILOT_KEY = 0x9170


@dataclass(frozen=True, slots=True)
class Clustering:
    """What of a table is most alike within blocks of one size."""

    block: int  #: Rows of a block.
    icc: Interval  #: Intraclass correlation of the column below; the estimate may be negative.
    column: str  #: The column in which it is largest.


@dataclass(frozen=True, slots=True)
class Pilot:
    """What was found in random blocks."""

    #: By falling size of blocks; empty where the table has too few rows for two blocks of two.
    clusterings: tuple[Clustering, ...]
    blocks: int  #: How many were read.
    left_out: tuple[str, ...]  #: Columns with missing or infinite values.


def read_pilot(
    source: RowSource,
    largest_bytes: int,
    *,
    by: str | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Pilot:
    r"""Read random blocks and estimate the intraclass correlation at every size of a block.

    k blocks of b rows, with mean squares MSB between and MSW within, give

    .. math:: \hat\rho = \frac{MSB - MSW}{MSB + (b - 1)\,MSW}

    and the exact interval for normal means of Searle (1971), Linear Models, chapter 9. The largest
    blocks are read once; their first rows are the smaller ones. Of all columns the one counts that
    is most alike, or that which ``by`` names, by its number in a plain array.

    Raises DataError: there is no such column, no column without missing values, or a block cannot
    be read.
    Raises UnresolvedError: nothing varies in the blocks that were read.
    """
    looked_at, number = _of_column(source, by)
    largest = _largest_block(source, largest_bytes)
    sizes = [largest]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= max(source.unit, 2):
        sizes.append(sizes[-1] // 2)
    count = source.rows // largest
    if largest < 2 or count < 2:
        return Pilot((), 0, ())
    spread = _Spread(tuple(sizes))
    chosen = np.sort(Permutation(count, (seed, _PILOT_KEY)).at(range(min(PILOT_BLOCKS, count))))
    with looked_at.opened() as fill:
        for done, block in enumerate(chosen):
            progress("reading random blocks", done, len(chosen))
            rows = fill([(int(block) * largest, int(block + 1) * largest)])
            spread.add(looked_at.fields, rows.take(np.arange(len(rows))), number)
    return Pilot(spread.clusterings(by), len(chosen), spread.left_out())


def _of_column(source: RowSource, by: str | None) -> tuple[RowSource, int | None]:
    """The table with the one column that counts, or the number of that in a plain array."""
    if by is None:
        return source, None
    if [one.name for one in source.fields] != [""]:
        return open_rows(source.path, [by]), None
    width = int(np.prod(source.fields[0].shape, dtype=int))
    if not by.isdigit() or int(by) >= width:
        raise DataError(
            f"column {by!r} is not the number of one; a plain array has 0 to {width - 1}",
            where=source.path,
        )
    return source, int(by)


def _largest_block(source: RowSource, largest_bytes: int) -> int:
    """A power of two of what is stored together, small enough for a sixty-fourth of the table."""
    columns = sum(min(int(np.prod(one.shape, dtype=int)), _COLUMNS) + 1 for one in source.fields)
    most = min(
        LARGEST_BLOCK,
        source.rows // PILOT_BLOCKS,
        largest_bytes // max(source.row_bytes, source.minibatch_row_bytes),
        _NUMBERS // columns,
    )
    block = min(source.unit, source.rows)
    while 2 * block <= most:
        block *= 2
    return block


@dataclass
class _Spread:
    """Moments of block means and squares within blocks, by size of block, columns side by side."""

    sizes: tuple[int, ...]
    names: list[str] = field(default_factory=list)
    means: dict[int, Moments] = field(default_factory=dict)
    within: dict[int, Floats] = field(default_factory=dict)
    missing: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))
    texts: dict[str, list[Matrix]] = field(default_factory=dict)

    def add(
        self, fields: Sequence[Field], rows: dict[str, Matrix], number: int | None = None
    ) -> None:
        """Take in a block."""
        for one in fields:
            if one.dtype == object:
                self.texts.setdefault(one.name, []).append(rows[one.name])
            elif one.levels:  # -1 says that none was noted
                named = np.array([*one.levels, "(missing)"])[rows[one.name].astype(int)]
                self.texts.setdefault(one.name, []).append(named)
        parts = [
            part
            for one in fields
            if one.dtype != object and not one.levels
            for part in _columns(one, rows[one.name], number)
        ]
        if not parts:
            return
        self.names = [name for name, _ in parts]
        values = np.column_stack([value for _, value in parts])
        missing = np.asarray(~np.isfinite(values).all(axis=0))
        self.missing = np.logical_or(self.missing, missing) if len(self.missing) else missing
        values[:, missing] = 0.0
        for size in self.sizes:
            self.means[size], self.within[size] = _merged(
                values[:size], self.means.get(size), self.within.get(size)
            )

    def clusterings(self, by: str | None) -> tuple[Clustering, ...]:
        """The column that is most alike within blocks, at every size."""
        self._share_out_texts()
        kept = ~self.missing
        if not kept.any():
            raise DataError(f"every column misses values, such as {self.names[0]!r}; fill them")
        found = []
        for size in self.sizes:
            means, within = self.means[size], self.within[size]
            ratio = _f_statistics(means, within, size)
            ratio[self.missing] = np.nan
            if np.isnan(ratio).all():
                what = "nothing varies" if by is None else f"column {by!r} does not vary"
                raise UnresolvedError(f"{what} in {means.count} random blocks", "another column")
            column = int(np.nanargmax(ratio))
            icc = _icc(means, within, size, column)
            found.append(Clustering(size, icc, self.names[column]))
        return tuple(found)

    def left_out(self) -> tuple[str, ...]:
        """Columns with missing values."""
        return tuple(self.names[place] for place in np.flatnonzero(self.missing))

    def _share_out_texts(self) -> None:
        """Whether a text is each of its most frequent values, as columns of ones and zeros."""
        for name, blocks in self.texts.items():
            values, counts = np.unique(np.concatenate(blocks).astype(str), return_counts=True)
            levels = values[np.argsort(-counts, kind="stable")[:_LEVELS]]
            self.names += [f"{name} = {level}" for level in levels]
            self.missing = np.append(self.missing, np.zeros(len(levels), dtype=bool))
            for size in self.sizes:
                means: Moments | None = None
                within: Floats | None = None
                for block in blocks:
                    is_level = (block[:size].astype(str)[:, None] == levels).astype(float)
                    means, within = _merged(is_level, means, within)
                assert means is not None
                assert within is not None
                self.means[size] = _beside(self.means.get(size), means)
                self.within[size] = np.append(self.within.get(size, np.zeros(0)), within)
        self.texts = {}


def _columns(field: Field, values: Matrix, number: int | None) -> Iterator[tuple[str, Floats]]:
    """Numbers of a field as named columns; complex ones as two."""
    flat = values.reshape(len(values), -1)
    if flat.dtype.kind == "c":
        flat = np.concatenate([flat.real, flat.imag], axis=1)
    width = flat.shape[1]
    if number is not None:
        yield f"column {number}", flat[:, number].astype(float)
        return
    places = np.unique(np.linspace(0, width - 1, min(width, _COLUMNS)).round().astype(int))
    for place in places:
        name = f"column {place}" if not field.name else f"{field.name}[{place}]"
        yield (field.name if not field.shape else name), flat[:, place].astype(float)
    if width > 1:
        yield f"mean of {field.name or 'the row'}", flat.mean(axis=1, dtype=float)


def _merged(values: Floats, means: Moments | None, within: Floats | None) -> tuple[Moments, Floats]:
    """Add a block's means and its squares around them."""
    block = Moments.of(values)
    one = Moments.of(block.mean[None, :])
    squares = block.centred_sum_of_squares
    if means is None or within is None:
        return one, squares
    return means.merge(one), within + squares


def _beside(one: Moments | None, other: Moments) -> Moments:
    if one is None:
        return other
    joined = {
        name: np.append(getattr(one, name), getattr(other, name))
        for name in ("mean", "remainder", "centred_sum_of_squares")
    }
    return Moments(one.count, one.weight, **joined)


def _f_statistics(means: Moments, within: Floats, size: int) -> Floats:
    """MSB / MSW of every column; infinite where nothing varies within, NaN where nothing does."""
    between = size * means.centred_sum_of_squares / (means.count - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = between / (within / (means.count * (size - 1)))
    return ratio


def _icc(means: Moments, within: Floats, size: int, column: int) -> Interval:
    """The correlation from both components, its ends from the quantiles of F (Searle 1971)."""
    df = means.count - 1, means.count * (size - 1)
    squares = float(size * means.centred_sum_of_squares[column])
    ms_within = float(within[column]) / df[1]
    if ms_within == 0.0:
        return Interval(1.0, 1.0, 1.0, _LEVEL)
    component = variance_component(squares, df[0], ms_within, df[0] * size)
    ratio = squares / df[0] / ms_within
    tails = (1.0 + _LEVEL) / 2.0, (1.0 - _LEVEL) / 2.0
    low, high = (ratio / float(special.fdtri(*df, tail)) for tail in tails)
    return Interval(
        component / (component + ms_within),
        (low - 1.0) / (low + size - 1.0),
        (high - 1.0) / (high + size - 1.0),
        _LEVEL,
    )
