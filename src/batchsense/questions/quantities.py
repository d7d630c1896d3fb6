"""What several requests take as text: amounts of memory, and whole numbers with commas."""

from __future__ import annotations

from pydantic import ValidationInfo

from batchsense.errors import DataError
from batchsense.machine_memory import parse_bytes


def is_an_amount(text: str | None, info: ValidationInfo) -> str | None:
    """Let an amount of memory such as ``8GiB`` pass; for ``field_validator``."""
    try:
        if text is not None:
            parse_bytes(text)
    except DataError as error:
        raise ValueError(f"--{info.field_name}: {error.message}") from None
    return text


def whole_numbers(text: str, like: str = "1,2,4,8") -> tuple[int, ...]:
    """Read whole numbers from 1 with commas, as in an example; ValueError otherwise.

    >>> whole_numbers("4, 1,2")
    (4, 1, 2)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ValueError(f"write whole numbers from 1 with commas, such as {like}")
    return tuple(int(part) for part in parts)
