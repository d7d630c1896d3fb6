"""What is asked: a frozen model whose fields are the options, wherever they are given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from batchsense.errors import RequestError
from batchsense.questions.option import Described, Option, options_of

if TYPE_CHECKING:
    from batchsense.reports.envelope import Envelope, InputFile, Model, Refusal
    from batchsense.reports.envelope import Note as PublishedNote

    ResultT = TypeVar("ResultT", bound=Model)

#: What a question can be about.
About = Literal["training job", "plan", "steps", "table", "sheet", "nothing"]
#: Larger seeds overflow the signed 64-bit integers in which files and generators keep them.
LARGEST_SEED = 2**63 - 1


class Request(BaseModel):
    """Base of all requests.

    A command is a subclass with its options as fields, each ``Annotated`` with its bounds and an
    :class:`~batchsense.questions.option.Option`, and the help of the command as its docstring.

    Examples
    --------
    >>> from batchsense.questions.noise.request import NoiseRequest
    >>> NoiseRequest(target="charlm", steps=0).words()
    'batchsense noise charlm --steps 0 --seed 0'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    #: The command that asks it.
    command: ClassVar[str]
    #: What it is about, which decides what a browser is asked for first.
    about: ClassVar[About]
    #: Whether the answer has a page of its own.
    has_page: ClassVar[bool] = True

    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED), Option("Seed of everything random.")] = 0

    #: Names that the asker knows, by the paths under which files lie here.
    _known_as: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _numbers_fit(self) -> Self:
        for one in options_of(type(self)):
            value = getattr(self, one.field)
            if isinstance(value, int) and abs(value) > LARGEST_SEED:
                raise ValueError(f"{one.flags} {value} is beyond what can be counted")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Make a request of named values."""
        needed = {name for name, field in cls.model_fields.items() if field.is_required()}
        given = {name: one for name, one in values.items() if one is not None or name not in needed}
        try:
            return cls(**given)
        except ValidationError as error:
            raise RequestError(_complaint(cls, error)) from None

    @classmethod
    def built_in(cls) -> dict[str, Any]:
        """What holds, by field, where nothing is said of the built-in data."""
        return {}

    def offered_output(self) -> str | None:
        """The name of the file that a browser is offered beside the answer, if there is one."""
        return None

    def known_as(self, names: Mapping[str, str]) -> Self:
        """The same request about files that the asker knows by other names than their paths."""
        twin = self.model_copy()
        twin._known_as = dict(names)
        return twin

    def name_of(self, path: str) -> str:
        """The name by which the asker knows a file."""
        return self._known_as.get(path, path)

    def words(self) -> str:
        """The words that ask the same again in a terminal: all that is not as by default."""
        words = ["batchsense", self.command]
        for one in options_of(type(self)):
            value = getattr(self, one.field)
            if one.option.argument:
                words += [] if value is None else [self.name_of(value)]
            elif one.required or one.field == "seed" or value != one.default:
                words += self._typed(one, value)
        return shlex.join(words)

    def _typed(self, one: Described, value: Any) -> list[str]:
        if isinstance(value, bool):
            return [f"--{one.flag}" if value else f"--no-{one.flag}"]
        values = (value or ("",)) if one.repeated else [value]
        if one.reads or one.writes:
            values = [self.name_of(str(path)) for path in values]
        return [word for each in values for word in (f"--{one.flag}", _written(each))]

    def read_paths(self) -> list[str]:
        """The files that are read, by their paths here."""
        given = [(one, getattr(self, one.field)) for one in options_of(type(self))]
        return [str(value) for one, value in given if one.reads and value is not None]

    def code_paths(self) -> list[str]:
        """The code of the user that is run, as it was named: ``path.py:function``."""
        given = [
            getattr(self, one.field) for one in options_of(type(self)) if one.option.of == "target"
        ]
        return [str(one) for one in given if ":" in str(one)]

    def kept_paths(self) -> dict[str, str]:
        """Files in which a run keeps what a later one goes on from, by their options."""
        return {}

    def written_paths(self) -> dict[str, str]:
        """The files that are written, by their options."""
        given = [(one, getattr(self, one.field)) for one in options_of(type(self))]
        return {one.flags: str(path) for one, path in given if one.writes and path is not None}

    def inputs(self) -> list[InputFile]:
        """The files that are read, by content, under the names that the asker knows."""
        from batchsense.reports.envelope import InputFile
        from batchsense.storage.outputs import file_of

        return [
            InputFile.of(path).model_copy(update={"path": self.name_of(path)})
            for path in self.read_paths()
            if file_of(path).exists()
        ]

    def envelope(
        self,
        result: ResultT | None,
        notes: Sequence[PublishedNote] = (),
        refusal: Refusal | None = None,
        inputs: Sequence[InputFile] | None = None,
    ) -> Envelope[ResultT]:
        """Put the answer into the document that ``--json`` prints."""
        from batchsense.reports.envelope import Envelope

        kind: Any = Any if result is None else type(result)
        return Envelope[kind](
            command=self.command,
            inputs=self.inputs() if inputs is None else list(inputs),
            seed=self.seed,
            asked=self._published(),
            result=result,
            refusal=refusal,
            notes=list(notes),
        )

    def _published(self) -> dict[str, Any]:
        """What was asked for, by the names of the options, files as the asker knows them."""
        asked = self.model_dump(mode="json")
        for one in options_of(type(self)):
            if (one.reads or one.writes) and asked[one.field] is not None:
                asked[one.field] = self.name_of(asked[one.field])
        return {one.flag.replace("-", "_"): asked[one.field] for one in options_of(type(self))}


def _written(value: Any) -> str:
    """A value as it is typed: a float with all its digits, a whole one without a point."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _complaint(request: type[Request], error: ValidationError) -> str:
    """The first fault of a request in words, by the name of the option."""
    first = error.errors()[0]
    reason = first.get("ctx", {}).get("error")
    if isinstance(reason, ValueError):
        return str(reason)
    field = str(first["loc"][0]) if first["loc"] else ""
    one = next((one for one in options_of(request) if one.field == field), None)
    if one is None:
        return f"{request.command} has no option {field!r}"
    if first["type"] in ("missing", "too_short"):
        return f"{one.flags} is needed: {one.option.help[:1].lower()}{one.option.help[1:]}"
    given = first["input"]
    if one.choices:
        return f"{one.flags} {given} is none of {', '.join(one.choices)}"
    if (bounds := one.bounds()) and isinstance(given, int | float):
        # A whole number is shown in full: rounded, it may look as if it kept the bound.
        shown = str(given) if isinstance(given, int) else f"{given:g}"
        if bounds == "above 0":
            return f"{one.flags} must be positive, not {shown}"
        if one.at_least is None and one.at_most is None and None not in (one.above, one.below):
            return f"{one.flags} must lie between {one.above:g} and {one.below:g}, not {shown}"
        return f"{one.flags} must be {bounds}, not {shown}"
    return f"{one.flags} {given!r}: {first['msg'][:1].lower()}{first['msg'][1:]}"
