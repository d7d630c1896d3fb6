"""What people read of a field of a request: its option, its form field, its row in the docs.

A field of a request stands in one place. Its annotation says the type and the bounds, its
:class:`Option` the words; :func:`options_of` reads both into :class:`Described`, from which the
command line, the browser form, the table in the docs and the words that repeat a run are made.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

#: What kind of thing a field names; the browser form offers what there is of it.
Of = Literal[
    "value",  # a number, a word, a choice or a yes: typed or ticked as it is
    "matrix",
    "sheet",
    "document",  # a file that another command wrote
    "output",  # a file to be written
    "column",  # of the sheet
    "wide",  # columns of a matrix that is its own sheet
    "contrast",  # a column, or two levels of one
    "kind",  # columns whose kind is declared; the form asks beside each column
    "layer",
    "target",  # a training job
    "machine",  # what no browser may ask of the machine that runs the calculation
]


@dataclass(frozen=True, slots=True)
class Option:
    """The words of one field."""

    help: str  #: One line: what it is, with its unit
    name: str | None = None  #: The long name without dashes; by default the name of the field
    short: str | None = None  #: The short name, such as ``"-o"``
    metavar: str | None = None  #: What stands for the value in the help
    of: Of = "value"  #: What kind of thing it names
    argument: bool = False  #: Whether it stands without a name on the command line
    label: str | None = None  #: What the form says above the field; by default the name in words
    front: bool = False  #: Whether the form shows it at once; else below "More settings"
    choices: Mapping[str, str] | None = None  #: What the form says beside each value of a choice


@dataclass(frozen=True, slots=True)
class Described:
    """A field of a request as all who show it need it."""

    field: str  #: The name of the attribute
    flag: str  #: The long name, without dashes
    option: Option  #: The words
    type: type  #: ``str``, ``int``, ``float``, ``bool`` or a ``StrEnum``: of one value
    repeated: bool  #: Whether several values can be given
    optional: bool  #: Whether None, nothing said, is a value
    required: bool  #: Whether a value must be given
    default: Any  #: What holds where nothing is said
    #: Bounds, the first two included.
    at_least: float | None
    at_most: float | None
    above: float | None
    below: float | None

    @property
    def label(self) -> str:
        """The name in words."""
        return self.option.label or self.flag.replace("-", " ").capitalize()

    @property
    def flags(self) -> str:
        """The option as it is typed, a switch with the name that changes its default."""
        if self.option.argument:
            return self.option.metavar or self.field.upper()
        if self.type is bool and self.optional:
            return f"--{self.flag}/--no-{self.flag}"
        return f"--no-{self.flag}" if self.default is True else f"--{self.flag}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a choice, nothing for other types."""
        return tuple(self.type) if issubclass(self.type, StrEnum) else ()

    @property
    def writes(self) -> bool:
        """Whether it names a file that will be written."""
        return self.option.of == "output"

    @property
    def reads(self) -> bool:
        """Whether it names a file that is read."""
        return self.option.of in ("matrix", "sheet", "document")

    def bounds(self) -> str | None:
        """The bounds in words; None where there are none."""
        sides = (
            ("at least", self.at_least),
            ("above", self.above),
            ("at most", self.at_most),
            ("below", self.below),
        )
        return (
            " and ".join(f"{word} {_full(end)}" for word, end in sides if end is not None) or None
        )


def _full(end: float) -> str:
    """A bound in words; a whole one with all its digits, so that what exceeds it differs."""
    return str(end) if isinstance(end, int) else f"{end:g}"


@functools.cache
def options_of(request: type[BaseModel]) -> tuple[Described, ...]:
    """Read the fields of a request."""
    found = [_described(request, name) for name in request.model_fields]
    return tuple(sorted(found, key=_place))


def _place(one: Described) -> int:
    """Arguments come first, what is needed next; where files go and the seed come last."""
    if one.option.argument:
        return 0
    if one.required:
        return 1
    return {"output": 3, "seed": 4}.get(one.field, 2)


def _described(request: type[BaseModel], name: str) -> Described:
    info = request.model_fields[name]
    option = next((one for one in info.metadata if isinstance(one, Option)), None)
    if option is None:
        raise TypeError(f"{request.__name__}.{name} has no Option")
    single, repeated, optional = _taken_apart(info.annotation)
    ends = {
        key: next((getattr(one, key) for one in info.metadata if hasattr(one, key)), None)
        for key in ("ge", "le", "gt", "lt")
    }
    return Described(
        field=name,
        flag=option.name or name.replace("_", "-"),
        option=option,
        type=single,
        repeated=repeated,
        optional=optional,
        required=info.is_required(),
        default=None if info.is_required() else info.default,
        at_least=ends["ge"],
        at_most=ends["le"],
        above=ends["gt"],
        below=ends["lt"],
    )


def _taken_apart(annotation: Any) -> tuple[type, bool, bool]:
    """The type of one value, whether it is repeated, and whether it may be None."""
    optional = repeated = False
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        kinds = [one for one in typing.get_args(annotation) if one is not type(None)]
        optional, annotation = True, kinds[0]
    if typing.get_origin(annotation) is tuple:
        repeated, annotation = True, typing.get_args(annotation)[0]
    known = annotation in (str, int, float, bool)
    if not known and not (isinstance(annotation, type) and issubclass(annotation, StrEnum)):
        raise TypeError(f"no command line carries a {annotation}")
    return annotation, repeated, optional
