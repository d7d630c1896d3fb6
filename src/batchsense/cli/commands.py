"""The commands: those that ask a question are made of its request, two are written by hand."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchsense.questions.registry import QUESTIONS, Question

if TYPE_CHECKING:
    from batchsense.questions.option import Described

#: Commands that ask no question, with what they do in one line.
BY_HAND = {
    "web": "Serve every question as a page, for a browser on this machine.",
    "schema": "Print the JSON Schema of a command's --json output.",
}
SUMMARIES = {**{name: one.summary for name, one in QUESTIONS.items()}, **BY_HAND}

#: What stands for a number in the help.
_METAVARS: dict[type, str] = {int: "N", float: "X"}
_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_REPORT = Annotated[
    str | None, typer.Option("--report", metavar="FILE.html", help="Also write a page.")
]
_FORCE = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


def command_of(name: str) -> Any:
    """Make the command of a name."""
    if name in QUESTIONS:
        function = _asking(QUESTIONS[name])
    else:
        function = getattr(importlib.import_module(f"batchsense.cli.{name}"), name)
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name)(function)
    command: Any = typer.main.get_command(alone)
    command.make_parser = functools.partial(_strict_parser, command.make_parser)
    return command


def _strict_parser(make_parser: Callable[..., Any], context: Any) -> Any:
    """A parser that refuses an option of one value given twice, instead of dropping the first."""
    parser = make_parser(context)
    parse = parser.parse_args

    def parse_args(args: list[str]) -> Any:
        values, rest, order = parse(args)
        for one in dict.fromkeys(order):
            takes_one = one.param_type_name == "option" and not (one.multiple or one.count)
            switch = one.is_flag and not one.secondary_opts if takes_one else False
            if takes_one and not switch and order.count(one) > 1:
                message = f"{one.opts[-1]} was given {order.count(one)} times, and takes one value"
                if one.opts[-1] == "--batch":
                    message += "; for several columns, join their labels in one column of SHEET"
                raise typer.BadParameter(message)
        return values, rest, order

    parser.parse_args = parse_args
    return parser


def _asking(question: Question) -> Callable[..., None]:
    from batchsense.cli.run import Delivery, run_question
    from batchsense.questions.option import options_of

    request = question.request
    described = options_of(request)

    def asking(**given: Any) -> None:
        delivery = Delivery(
            given.pop("as_json"), given.pop("report", None), given.pop("force", False)
        )
        values = {one.field: _value(one, given[one.field]) for one in described}
        run_question(question, values, delivery)

    parameters = [_parameter(one) for one in described]
    told: dict[str, Any] = {"as_json": _JSON, "report": _REPORT, "force": _FORCE}
    if not request.has_page:
        del told["report"]
    parameters += [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if name == "report" else False,
            annotation=kind,
        )
        for name, kind in told.items()
    ]
    asking.__doc__ = request.__doc__
    asking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    asking.__annotations__ = {one.name: one.annotation for one in parameters}
    return asking


def _parameter(one: Described) -> inspect.Parameter:
    kind: Any = one.type
    default: Any = one.default
    if one.repeated:
        kind, default = list[kind], None
    if one.optional or one.repeated:
        kind = kind | None
    words: dict[str, Any] = {
        "metavar": one.option.metavar or _METAVARS.get(one.type),
        "help": one.option.help,
        "min": one.at_least if one.type in (int, float) else None,
        "max": one.at_most if one.type in (int, float) and one.field != "seed" else None,
        "show_default": default not in (None, ...) and not one.repeated,
    }
    if one.required:
        default = inspect.Parameter.empty
    if one.option.argument:
        told = typer.Argument(**words)
    else:
        switch = one.type is bool and (one.optional or one.default is True)
        names = [f"--{one.flag}/--no-{one.flag}" if switch else f"--{one.flag}"]
        told = typer.Option(*names, *filter(None, [one.option.short]), **words)
    return inspect.Parameter(
        one.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, told],
    )


def _value(one: Described, given: Any) -> Any:
    if not one.repeated:
        return given
    if given is None:
        return one.default
    return tuple(each for each in given if each != "")
