"""Rows of a sheet that are no independent specimens: several of one subject, or replicates.

Every test, interval and fold here takes rows as independent. The sheet often shows that they are
not. No program can know which column names the subjects; the signs, each with its reason, are
gathered here, and what follows from them is said in the same words everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from batchsense.arrays import Floats, Integers
from batchsense.errors import DataError
from batchsense.experiments.design import Design
from batchsense.experiments.sheets.nuisances import NumericBatches, sheet_columns
from batchsense.experiments.tables.columns import Factor, unit_factor
from batchsense.experiments.tables.table import Column, Table
from batchsense.experiments.tables.text import is_number
from batchsense.notes import Note

#: Words that name what specimens are taken from, as the last word of a column's name.
_UNIT = re.compile(
    "animal|biosample|donor|dyad|family|individual|litter|mouse|pair|participant|patient|person|"
    "proband|rat|sample|specimen|subj|subject|twin|volunteer"
)
#: Words after such a word that leave the name one of ids.
_OF_IDS = re.compile("code|id|identifier|key|label|name|no|nr|num|number")
#: Words of columns whose labels look like ids and repeat without naming what was measured.
_PLACE_OR_TIME = re.compile(
    "age|array|barcode|batch|cent(re|er)|chip|col|column|date|day|dose|index|instrument|kit|lane|"
    "lot|machine|month|operator|order|plate|pos|position|primer|rep|replicate|row|run|scan|scanner|"
    "session|site|slide|slot|time|timepoint|visit|wave|week|well|year"
)
#: Labels such as P07, mouse-12 or S3b: a word, a number, perhaps a letter.
_CODE = re.compile(r"([^\W\d]+[\W_]?)?\d+[A-Za-z]?")
#: Codes name units where there are at least so many of them, so that grades and arms are passed
#: over.
_FEWEST_CODES = 8
#: So many rows of one subject are no repeated visits or replicates, but cells or spots.
_MANY = 20
#: A tested factor that is constant within all entries of a column is no accident where permuted
#: labels are so more seldom than this: about 20 columns are looked at in 50 sheets.
_ACCIDENT = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class SharedRows:
    """A column whose entries name units of which several rows were taken."""

    column: str  #: Its name
    codes: Integers  #: (specimens,): the unit of each row; a row without an entry is one of its own
    #: Rows that share their unit with another row, and those units.
    rows: int
    units: int
    #: Units with rows in several batches; None where surrogates stand for the batches.
    over_batches: int | None
    constant: tuple[str, ...] = ()  #: Factors of the model that are constant within every unit

    def mended(self, block: str) -> str:
        """What to do about it; ``block`` says what ``--block`` does."""
        words = f"--block {self.column} {block}."
        if self.rows < _MANY * self.units:
            return words
        return (
            f"On average {self.rows / self.units:,.0f} rows share one {self.column}: if they are "
            f"cells, a cell is no specimen, and --aggregate {self.column} makes one of the cells "
            f"of each {self.column} (counts are summed). Else {words}"
        )

    @property
    def counted(self) -> str:
        """How many rows share how many entries, in words."""
        words = f"{self.rows:,} rows share {self.units:,} entries of {self.column}"
        if self.over_batches is None:
            return words
        if self.over_batches == 0:
            return f"{words}, each in one batch only"
        return f"{words}, {self.over_batches:,} of them in several batches"


def shared_rows(
    table: Table, design: Design, blocks: Integers | None = None
) -> tuple[SharedRows, ...]:
    """Find the columns of a sheet that show that rows are not independent.

    Entries repeat, the column is no function of the batches or of a factor in the model (which
    account for it), and one of these holds: its name says subject, patient, donor, pair and so on;
    its entries are codes such as P07, more of them than rows of each; or some factor of the model
    is constant within every entry, which chance does not do. Rows that share a block, of shape
    (specimens,), are known to.
    """
    modelled = {*sheet_columns(design.batches), *(one.name for one in design.kept)}
    batches = _labels(design.batches)
    kept = [_labels(one) for one in design.kept]
    found = []
    for name, entries in table.sheet.items():
        if name in modelled or name == table.source.id_column:
            continue
        codes = _codes(entries)
        counts = np.bincount(codes)
        if counts.max() == 1 or (counts > 1).sum() < 2:
            continue
        if any(_is_function(codes, other) for other in (batches, *kept)):
            continue
        if blocks is not None and _is_function(blocks, codes):
            continue
        if _names_units(name) or _holds_codes(name, entries, counts) or _holds(codes, counts, kept):
            shared, several = counts > 1, None
            if not isinstance(design.batches, NumericBatches):
                pairs = np.unique(np.stack([codes, batches]), axis=1)[0]
                several = int((np.bincount(pairs) > 1).sum())
            rows, units = int(counts[shared].sum()), int(shared.sum())
            constant = tuple(
                one.name
                for one, labels in zip(design.kept, kept, strict=True)
                if _is_function(labels, codes)
            )
            found.append(SharedRows(name, codes, rows, units, several, constant))
    return tuple(_coarsest(found))


def block_factor(table: Table, name: str) -> Factor:
    """Read the column whose rows with the same entry are no independent specimens."""
    found = unit_factor(table, name)
    if len(found.levels) in (1, len(table.specimens)):
        what = (
            f"puts all rows into one block ({found.levels[0]!r})"
            if len(found.levels) == 1
            else "has a block of its own for each row"
        )
        raise DataError(
            f"column {name!r} {what}, so it says nothing about rows of one block; name the column "
            "that says which rows come from one subject, or leave --block out",
            where=table.source.sheet,
        )
    return found


def dependent_rows(column: str, what: str, more: str = "") -> Note:
    """Say that rows share units; the same words for every command."""
    message = (
        f"Rows with the same {column} are no independent specimens, which {what} do not know: a "
        f"factor that is constant within {column} counts subjects, not rows."
    )
    return Note("dependent_rows", f"{message} {more}".strip(), (column,))


def wrong_errors(
    shared: SharedRows, weights: Floats, basis: Floats, df_residual: int
) -> float | None:
    r"""How many times too small standard errors are if the rows of a unit agree beyond the model.

    With w the weights of the rows in an estimate, Z the indicators of the units, and M = I - QQᵀ
    what the model leaves, residuals of a unit that are all alike make the variance of the estimate
    wᵀZZᵀw, and it is estimated, on average, by wᵀw·tr(MZZᵀ)/df. The answer is the root of their
    ratio: below 1 where standard errors are too large, as in a comparison within units. What
    residuals that are alike only in part do lies between it and 1. None where they leave nothing.

    Shapes: ``weights`` (specimens,); ``basis`` Q, orthonormal, (specimens, terms).
    """
    sums = np.zeros((int(shared.codes.max()) + 1, basis.shape[1] + 1))
    np.add.at(sums, shared.codes, np.column_stack([basis, weights]))
    left = len(basis) - float((sums[:, :-1] ** 2).sum())
    if left <= 1e-9 * len(basis):
        return None
    true = float((sums[:, -1] ** 2).sum() / (weights**2).sum())
    return float(np.sqrt(true / (left / df_residual)))


def _labels(factor: Factor) -> Integers:
    """The levels of a factor as whole numbers; of a numeric one its distinct values."""
    if factor.values is None:
        return factor.codes
    return np.unique(factor.values, return_inverse=True)[1].astype(np.int64)


def _codes(entries: Column) -> Integers:
    index: dict[Hashable, int] = {}
    keys = ((place,) if entry is None else entry for place, entry in enumerate(entries))
    return np.array([index.setdefault(key, len(index)) for key in keys], dtype=np.int64)


def _is_function(codes: Integers, of: Integers) -> bool:
    """Whether rows that agree in ``of`` agree in ``codes`` as well."""
    first = np.full(int(of.max()) + 1, -1)
    first[of[::-1]] = codes[::-1]
    return bool((first[of] == codes).all())


def _names_units(name: str) -> bool:
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    words = [word for word in re.split(r"[\W_]+", split) if word]
    while len(words) > 1 and _OF_IDS.fullmatch(words[-1]):
        words.pop()
    return bool(words) and _UNIT.fullmatch(re.sub("(id|nr|no)$", "", words[-1])) is not None


def _holds_codes(name: str, entries: Column, counts: Integers) -> bool:
    words = re.split(r"[\W_\d]+", name.lower())
    if any(map(_PLACE_OR_TIME.fullmatch, words)) or len(counts) < _FEWEST_CODES:
        return False
    present = {entry for entry in entries if entry is not None}
    if len(counts) ** 2 < 2 * counts.sum() or any(map(is_number, present)):
        return False
    matches = [_CODE.fullmatch(entry) for entry in present]
    return all(matches) and len({match[1] for match in matches if match}) == 1


def _holds(codes: Integers, counts: Integers, factors: Iterable[Integers]) -> bool:
    """Whether some factor is constant within all entries, and not by accident."""
    if len(counts) ** 2 < len(codes):
        return False
    for factor in factors:
        if _is_function(factor, codes):
            parts = np.bincount(factor) / len(factor)
            # The chance that as many rows agree in independent draws.
            chance = np.log([max(float((parts**n).sum()), 1e-300) for n in counts[counts > 1]])
            if chance.sum() < np.log(_ACCIDENT):
                return True
    return False


def _coarsest(found: Sequence[SharedRows]) -> list[SharedRows]:
    """Leave out columns that say the same as another, or less."""
    chosen: list[SharedRows] = []
    for one in sorted(found, key=lambda shared: len(np.unique(shared.codes))):
        if not any(_is_function(other.codes, one.codes) for other in chosen):
            chosen.append(one)
    return chosen
