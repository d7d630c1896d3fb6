"""Write the table of options into the page of every command; `make schemas` runs this."""

from pathlib import Path

from batchsense.questions.option import Described, options_of
from batchsense.questions.registry import QUESTIONS
from batchsense.questions.request import Request

PAGES = Path(__file__).parent / "commands"
#: Between these lines of a page stands the table; what is there is replaced.
BEGIN, END = "<!-- options: made of the request by `make schemas` -->", "<!-- end of options -->"


def option_table(request: type[Request]) -> str:
    """The arguments and options of a command as a table in Markdown."""
    rows = [f"| {_typed(one)} | {_meaning(one)} |" for one in options_of(request)]
    told = ["| `--json` | Print one JSON document. |"]
    if request.has_page:
        told.append("| `--report FILE.html` | Also write a page. |")
    told.append("| `--force` | Replace existing files. |")
    return "\n".join(["| Option | Meaning |", "|---|---|", *rows, *told])


def with_table(page: str, request: type[Request]) -> str:
    """A page of the docs with the table of today between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page of {request.command} has no marks for its options")
    return f"{before}{BEGIN}\n\n{option_table(request)}\n\n{END}{after}"


def _typed(one: Described) -> str:
    if one.option.argument:
        return f"`{one.flags}`"
    value = one.option.metavar or ("|".join(one.choices) if one.choices else _STANDS_FOR[one.type])
    names = [*filter(None, [one.option.short]), *one.flags.split("/")]
    return ", ".join(f"`{name} {value}`".replace(" `", "`") for name in names).replace("|", "\\|")


#: What stands for a value; a switch has none.
_STANDS_FOR = {str: "TEXT", int: "N", float: "X", bool: ""}


def _meaning(one: Described) -> str:
    parts = [one.option.help.rstrip(".")]
    if (bounds := one.bounds()) and one.field != "seed":
        parts.append(bounds)
    if one.required:
        parts.append("needed")
    elif one.type is not bool and one.default not in (None, ()):
        default = one.default if one.repeated else (one.default,)
        shown = (f"{each:g}" if isinstance(each, float) else str(each) for each in default)
        parts.append(f"{', '.join(shown)} by default")
    about = "".join(f" `{name}`: {words}." for name, words in (one.option.choices or {}).items())
    return "; ".join(parts) + "." + about


if __name__ == "__main__":
    for command, question in QUESTIONS.items():
        path = PAGES / f"{command}.md"
        path.write_text(with_table(path.read_text("utf-8"), question.request), "utf-8")
