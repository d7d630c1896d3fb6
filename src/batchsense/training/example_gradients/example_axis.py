"""Where in a tensor the examples are, told from shapes that are known, never guessed from sizes."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Layout(NamedTuple):
    """The dimensions before the features: which one counts examples.

    Attributes
    ----------
    leading : tuple of int
        Sizes of all dimensions but the features', after flattened ones are told apart.
    axis : int
        The one that counts examples.
    """

    leading: tuple[int, ...]
    axis: int

    def by_example(self, values: Tensor, features: int = 1) -> Tensor:
        """Rearrange to shape (n, places, *features); the last ``features`` dimensions are kept."""
        if len(self.leading) == 1:
            return values.unsqueeze(1)
        kept = values.shape[values.dim() - features :]
        if self.axis == 0:
            return values.reshape(self.leading[0], math.prod(self.leading[1:]), *kept)
        moved = values.reshape(*self.leading, *kept).movedim(self.axis, 0)
        return moved.reshape(self.leading[self.axis], -1, *kept)


def layout_of(values: Tensor, features: int, examples: int, example_dim: int) -> Layout | None:
    """Find the examples in a layer's input.

    Parameters
    ----------
    values : Tensor
        Of shape (*leading, *features).
    features : int
        How many of the last dimensions belong to one place.
    examples : int
        n, which the dimension found must have as size.
    example_dim : int
        0, or 1 where the model puts positions first; a tensor with one leading dimension has
        nothing but examples there.

    Returns
    -------
    Layout or None
        None if the examples are not where they should be. A view that flattens (n, T, F) to
        (n·T, F) is understood through the tensor that it is a view of.

    Examples
    --------
    >>> import torch
    >>> layout_of(torch.zeros(5, 7, 3), 1, examples=5, example_dim=0)
    Layout(leading=(5, 7), axis=0)
    >>> layout_of(torch.zeros(5, 7, 3).flatten(0, 1), 1, examples=5, example_dim=0)
    Layout(leading=(5, 7), axis=0)
    >>> layout_of(torch.zeros(35, 3), 1, examples=5, example_dim=0) is None
    True
    """
    if values.dim() == features + 1 and values.shape[0] == examples:
        return Layout((examples,), 0)
    leading = tuple(values.shape[: values.dim() - features])
    axis = example_axis(leading, examples, example_dim)
    if axis is not None:
        return Layout(leading, axis)
    base = values._base
    if len(leading) != 1 or base is None or not _same_memory(values, base):
        return None
    if base.shape[-features:] == values.shape[-features:]:
        leading = tuple(base.shape[:-features])
        axis = example_axis(leading, examples, example_dim)
        return None if axis is None else Layout(leading, axis)
    if example_dim == 0 and base.shape[0] == examples and values.shape[0] % examples == 0:
        return Layout((examples, values.shape[0] // examples), 0)
    return None


def example_axis(leading: tuple[int, ...], examples: int, example_dim: int) -> int | None:
    """Give the dimension that counts examples, if its size allows that.

    Examples
    --------
    >>> example_axis((7, 5), examples=5, example_dim=1)
    1
    >>> example_axis((7, 5), examples=5, example_dim=0) is None
    True
    """
    axis = example_dim if len(leading) > example_dim else 0
    return axis if axis < len(leading) and leading[axis] == examples else None


def _same_memory(values: Tensor, base: Tensor) -> bool:
    """Whether a view shows all elements of its base, in the same order."""
    return (
        values.numel() == base.numel()
        and base.dim() > 0
        and values.is_contiguous()
        and base.is_contiguous()
    )
