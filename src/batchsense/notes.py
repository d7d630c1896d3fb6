"""What the reader of a result must know beside its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """One remark: a stable code for programs, a sentence for people.

    Attributes
    ----------
    code : str
        Stable identifier, for example ``"constant_features"``.
    message : str
        One or two sentences: what, where, what to do.
    where : tuple of str
        Rows, columns or terms concerned.
    """

    code: str
    message: str
    where: tuple[str, ...] = ()
