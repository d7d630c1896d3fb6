"""The built-in digits as tables of an experiment: the copied form is the batch."""

from __future__ import annotations

from collections.abc import Iterable

from batchsense.datasets import DigitForms, load_digits
from batchsense.experiments.tables.table import Table

#: What the built-in table is called where a path would stand.
DIGITS = "built-in digits"
#: Its batch column and the column to keep.
BATCH_COLUMN, KEPT_COLUMN = "form", "digit"
_CATEGORICAL = (BATCH_COLUMN, KEPT_COLUMN)


def digits_table() -> Table:
    """All 1,797 digits, with the columns ``id``, ``digit``, ``form`` and ``position``.

    Examples
    --------
    >>> digits_table().values.shape
    (1797, 64)
    """
    digits = load_digits()
    sheet: dict[str, Iterable[object]] = {
        "id": digits.specimen_ids,
        "digit": digits.digit,
        "form": digits.form_labels,
        "position": digits.position,
    }
    ids, names = digits.specimen_ids, digits.feature_names
    return Table.from_arrays(
        digits.observations, sheet, ids, names, DIGITS, _CATEGORICAL, values_are="numbers"
    )


def scene_table(scene: DigitForms) -> Table:
    """A draw of 3s and 8s as a table with the columns ``id``, ``digit`` and ``form``.

    Examples
    --------
    >>> from batchsense.datasets import digit_forms
    >>> table = scene_table(digit_forms("total"))
    >>> sorted(set(table.sheet["digit"]))
    ['3', '8']
    """
    digits = load_digits()
    ids = [digits.specimen_ids[row] for row in scene.rows]
    sheet: dict[str, Iterable[object]] = {
        "id": ids,
        "digit": scene.digit,
        "form": scene.form_labels,
    }
    name = f"{DIGITS}, a draw of 3s and 8s"
    return Table.from_arrays(
        scene.observations,
        sheet,
        ids,
        digits.feature_names,
        name,
        _CATEGORICAL,
        values_are="numbers",
    )
