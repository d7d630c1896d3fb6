"""Arguments of torch functions by name, however they were passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def named(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any], **defaults: Any
) -> list[Any]:
    """Give the arguments in the order of ``names``; None, or its default, for one left out.

    Examples
    --------
    >>> named(("input", "weight", "bias"), (1, 2), {"bias": 3})
    [1, 2, 3]
    >>> named(("input", "groups"), (1,), {}, groups=1)
    [1, 1]
    """
    if len(args) == len(names):
        return list(args)
    given = {**defaults, **kwargs, **dict(zip(names, args, strict=False))}
    return [given.get(name) for name in names]
