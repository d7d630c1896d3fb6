"""Fields of a form as numbers and words; what does not fit is a typed error naming the field."""

from __future__ import annotations

from starlette.datastructures import FormData

from batchsense.errors import DataError


def text_field(form: FormData, name: str) -> str | None:
    """Give what was typed or chosen, None where nothing was.

    Examples
    --------
    >>> text_field(FormData({"id": " specimen ", "batch": ""}), "id")
    'specimen'
    """
    value = form.get(name)
    return (value.strip() or None) if isinstance(value, str) else None


def whole_field(form: FormData, name: str, label: str, low: int, high: int) -> int | None:
    """Give a whole number between bounds, None where the field is empty.

    Raises
    ------
    DataError
        It is no whole number, or out of bounds.

    Examples
    --------
    >>> whole_field(FormData({"seed": "7"}), "seed", "Seed", 0, 10)
    7
    >>> whole_field(FormData({"seed": "x"}), "seed", "Seed", 0, 10)
    Traceback (most recent call last):
    batchsense.errors.DataError: Seed: 'x' is not a whole number from 0 to 10
    """
    text = text_field(form, name)
    if text is None:
        return None
    # int() would also take "1_0" and digits of other scripts.
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    if number is None or not low <= number <= high:
        raise DataError(f"{text[:40]!r} is not a whole number from {low} to {high}", where=label)
    return number


def number_field(form: FormData, name: str, label: str, low: float, high: float) -> float | None:
    """Give a number above ``low`` and up to ``high``, None where the field is empty.

    Raises
    ------
    DataError
        It is no number, or out of bounds.

    Examples
    --------
    >>> number_field(FormData({"tolerance": "0.5"}), "tolerance", "Tolerance", 0, 10)
    0.5
    """
    text = text_field(form, name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low < number <= high:
        raise DataError(
            f"{text[:40]!r} is not a number above {low:g} and up to {high:g}", where=label
        )
    return number
