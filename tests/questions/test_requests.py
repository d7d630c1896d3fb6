"""A request is the one place of its options: command line, form, docs and words come from it."""

import json
import runpy
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from starlette.datastructures import FormData

from batchsense.cli import commands
from batchsense.cli.main import run
from batchsense.errors import RequestError
from batchsense.questions.option import Described, Option, options_of
from batchsense.questions.registry import QUESTIONS, Question
from batchsense.questions.request import Request
from batchsense.web.forms import form_fields, read_form

DOCS = Path(__file__).parents[2] / "docs" / "commands"
#: What `make schemas` writes the tables of options by.
TABLES = runpy.run_path(str(DOCS.parent / "option_tables.py"))
#: What each command cannot do without, and values that only some options may have.
NEEDED = {
    "verify": {"target": "digits", "plan": "plan.json"},
    "train": {"epochs": 1},
    "correct": {"output": "out.csv"},
    "layout": {"sheet": "s.csv", "batch_count": 4, "balance": ("arm",), "output": "out.csv"},
    "stream": {"file": "rows.npy"},
    "surrogates": {"matrix": "m.csv", "output": "out.csv"},
    "workers": {"steps": "steps.csv"},
}
#: Options that make sense only beside others.
BESIDE = {
    ("correct", "reference"): {"method": "combat"},
    ("correct", "mean_only"): {"method": "combat"},
    ("correct", "no_shrinkage"): {"method": "combat"},
    ("correct", "combine"): {"method": "combat"},
    ("correct", "non_parametric"): {"method": "combat"},
    ("correct", "new_batches"): {"fitted": "f.npz"},
    ("test", "per_feature"): {"block": "subject"},
    ("correct", "out_of_core"): {"matrix": "m.h5ad", "output": "o.h5ad"},
    ("correct", "memory"): {"matrix": "m.h5ad", "output": "o.h5ad"},
    ("correct", "cluster"): {"matrix": "m.h5ad", "output": "o.h5ad"},
    **{
        (name, field): {"matrix": "m.csv"}
        for name in ("diagnose", "correct", "test", "gap")
        for field in ("sheet", "sheet_columns")
    },
    **{
        (name, field): {"matrix": "m.h5ad"}
        for name in ("test", "diagnose", "surrogates")
        for field in ("out_of_core", "memory", "cluster")
    },
    ("layout", "empty_wells"): {"plate": "8x12"},
    ("layout", "lock_wells"): {"plate": "8x12"},
    ("plan", "maximum"): {"minimum": 1},
    ("plan", "workers"): {"probe": "p.json"},
    ("plan", "probe"): {"workers": "1,2"},
    ("plan", "bandwidth"): {"workers": "1,2", "latency": "1ms"},
    ("plan", "latency"): {"workers": "1,2", "bandwidth": "1Gbit"},
    ("audit", "micro_batch"): {"minibatch": 640},
    ("plan", "confidence"): {"tolerance": 0.5},
    ("train", "resume"): {"checkpoint": "run"},
    ("train", "checkpoint_every"): {"checkpoint": "run"},
    ("train", "couple"): {"schedule": "noise"},
    ("collocation", "resume"): {"output": "run"},
    ("memory", "features"): {"examples": 12.0},
    ("memory", "examples"): {"features": 3.0},
    ("memory", "hidden"): {"features": 3.0, "examples": 12.0},
    ("memory", "dtype"): {"features": 3.0, "examples": 12.0},
}
#: Texts that not every option takes.
SPECIAL = {
    "memory": ["2GiB", "500MB"],
    ("memory", "limit"): ["2GiB", "500MB"],
    ("memory", "features"): [1.0, 2e6],
    ("memory", "examples"): [5400.0],
    "hidden": ["8", "1024,1024"],
    "cluster": ["local:2"],
    "capacity": ["24", "24,20"],
    "plate": ["8x12"],
    "empty_wells": ["edge", "A1-B3"],
    "save_fitted": ["f.npz"],
    ("diagnose", "output"): ["f.tsv", "f x.csv"],
    ("test", "output"): ["t.csv", "t.txt.gz"],
    ("probe", "micro_batches"): ["16,128"],
    ("plan", "workers"): ["1,2,4,8", "2"],
    "bandwidth": ["1Gbit", "50MB/s"],
    "latency": ["0.2ms", "50us"],
    "steps": [0, 16, 500],
    ("train", "steps"): [1, 500],
    ("train", "schedule"): ["noise", "64, 256 at 20000"],
    ("workers", "steps"): ["steps.csv", "s x.tsv"],
    ("workers", "workers"): ["1", "1,2,4"],
    ("workers", "nodes"): ["1", "2,4"],
    ("workers", "noise_scale"): [0.5, 1200.0],
    "minibatch": [32, 128],
    ("temperature", "steps"): [2000],
    ("collocation", "steps"): [1, 500],
    ("temperature", "window"): [40, 1000],
}
ALL = [
    pytest.param(command, one, id=f"{command}-{one.flag}")
    for command, question in QUESTIONS.items()
    for one in options_of(question.request)
]


def values_of(command: str, one: Described) -> list[object]:
    """Some values that an option takes, none of them its default."""
    special = SPECIAL.get((command, one.field), SPECIAL.get(one.field))
    if special is not None:
        return [value for value in special if value != one.default]
    if one.choices:
        found: list[object] = [one.type(each) for each in one.choices]
    elif one.type is bool:
        found = [True, False]
    elif one.type is int:
        low = int(one.at_least or 0)
        found = [low, low + 1, low + 70]
    elif one.type is float:
        low, high = one.above or one.at_least or 0.0, one.below or one.at_most or 1000.0
        found = [low + share * (high - low) for share in (0.1, 1 / 3)]
    else:
        found = ["a", "two words", "it's", 'a "b"', "ünïcode", "a,b"]
    if one.repeated:
        found = [(value,) for value in found] + [tuple(found[:2])]
    return [value for value in found if value != one.default]


def typed(words: str, monkeypatch: pytest.MonkeyPatch) -> Request:
    """The request that the command line makes of these words."""
    made: list[Request] = []

    def stop(question: Question, values: dict[str, object], _: object) -> None:
        made.append(question.request.of(values))

    monkeypatch.setattr("batchsense.cli.run.run_question", stop)
    assert run(shlex.split(words)[1:]) == 0
    return made[0]


@pytest.mark.parametrize(("command", "one"), ALL)
def test_the_words_of_a_request_make_the_same_request(
    command: str, one: Described, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every option of every command survives the way over the words that repeat a run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.h5ad").touch()
    kind = QUESTIONS[command].request
    tried = values_of(command, one)
    assert tried
    for value in tried:
        about = {**NEEDED.get(command, {}), **BESIDE.get((command, one.field), {})}
        request = kind.of({**about, one.field: value})

        assert request == typed(request.words(), monkeypatch)


@pytest.mark.parametrize(("command", "one"), ALL)
def test_every_option_is_in_help_docs_and_form(
    command: str, one: Described, capsys: pytest.CaptureFixture[str]
) -> None:
    """An option stands in the help, in the table of the docs, and in the form unless it may not."""
    kind = QUESTIONS[command].request
    named = one.option.metavar if one.option.argument else f"--{one.flag}"

    assert str(named) in "".join(str(each.opts) + str(each.metavar) for each in params(command))
    assert f"`{one.flags.split('/')[0]}" in (DOCS / f"{command}.md").read_text()
    shown = {field.described.field for field in form_fields(kind, {})}
    elsewhere = ("matrix", "sheet", "document", "output", "machine", "kind")
    assert (one.field in shown) == (one.option.of not in elsewhere)


def params(command: str) -> list[object]:
    """The parameters of the command as typer has them."""
    found: list[object] = commands.command_of(command).params
    return found


@pytest.mark.parametrize("command", QUESTIONS)
def test_the_docs_hold_the_table_of_today(command: str) -> None:
    """`make schemas` was run after the last change of an option."""
    page = (DOCS / f"{command}.md").read_text()

    assert TABLES["with_table"](page, QUESTIONS[command].request) == page


@pytest.mark.parametrize("command", QUESTIONS)
def test_a_question_says_the_same_everywhere(command: str) -> None:
    """The line of the registry is the first of the request, whose examples name its command."""
    question = QUESTIONS[command]
    first, _, rest = (question.request.__doc__ or "").partition("\n\n")

    assert question.summary == " ".join(first.split())
    assert question.request.command == command
    assert f"  batchsense {command}" in rest


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_words_survive_any_combination(data: st.DataObject) -> None:
    """Several options at once, chosen at random, make the same request again."""
    command = data.draw(st.sampled_from(["diagnose", "gap", "test", "noise", "audit", "layout"]))
    kind = QUESTIONS[command].request
    values: dict[str, object] = dict(NEEDED.get(command, {}))
    for one in options_of(kind):
        if (choices := values_of(command, one)) and data.draw(st.booleans()):
            values[one.field] = data.draw(st.sampled_from(choices))
    try:
        request = kind.of(values)
    except RequestError:
        return
    with pytest.MonkeyPatch.context() as patch:
        assert request == typed(request.words(), patch)


PAGES = {
    "diagnose": ["--permutations", "25", "--no-placebo", "--seed", "7", "--standardise"],
    "test": ["--level", "0.8", "--trend", "--contrast", "digit:8-3"],
    "gap": ["--model", "nearest", "--correct", "none", "--repeats", "1", "--seed", "3"],
    "audit": ["digits", "--partitions", "8", "--bias-tolerance", ".2", "--precision", "float32"],
    "noise": ["digits", "--examples", "96", "--steps", "0", "--no-per-example", "--seed", "5"],
    "correct": ["--method", "combat", "--mean-only", "-o", "c.csv"],
}


@pytest.mark.parametrize("command", PAGES)
def test_the_words_of_a_page_give_its_result_again(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What stands under "How this page was made" is the run: the same JSON result comes of it."""
    monkeypatch.chdir(tmp_path)
    run([command, *PAGES[command], "--report", "page.html"])
    page = Path("page.html").read_text()
    inside = json.loads(page.split('id="batchsense-numbers">')[1].split("</script>")[0])
    words = (
        page.split("<dt>Command</dt><dd><code>batchsense ")[1]
        .split("</code>")[0]
        .replace("&#39;", "'")
    )
    capsys.readouterr()

    run([*shlex.split(words), "--json", "--force"])
    again = json.loads(capsys.readouterr().out)
    assert inside["result"] == again["result"]
    assert inside["asked"] == again["asked"]


class Colour(StrEnum):
    """The colours of the toy."""

    red = "red"
    blue = "blue"


class ToyRequest(Request):
    """Answer nothing.

    \b
    Examples:
      batchsense toy
    """

    command: ClassVar[str] = "toy"
    about: ClassVar = "nothing"

    spin: Annotated[float, Field(gt=0, lt=2), Option("How fast it turns.", metavar="HZ")] = 1.0
    colour: Annotated[Colour | None, Option("What it looks like.")] = None
    wheels: Annotated[tuple[str, ...], Option("Names of its wheels.", metavar="NAME")] = ()
    brakes: Annotated[bool, Option("Whether it can stop.")] = True


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Question:
    """A command of a single request, added to the registry and nowhere else."""
    room = ModuleType("batchsense.questions.toy.request")
    room.ToyRequest, room.ask = ToyRequest, None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "batchsense.questions.toy.request", room)
    question = Question("toy", "Answer nothing.")
    monkeypatch.setitem(QUESTIONS, "toy", question)
    monkeypatch.setitem(commands.SUMMARIES, "toy", question.summary)
    return question


def test_a_new_option_appears_everywhere_without_another_edit(
    toy: Question, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Command line, browser form, docs and words of a toy command are made of its fields."""
    assert run(["toy", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("--spin HZ", "--colour", "--wheels NAME", "--no-brakes", "How fast it turns"):
        assert word in shown

    words = "batchsense toy --spin 0.5 --colour blue --wheels left --wheels 'rear right'"
    request = typed(f"{words} --no-brakes", monkeypatch)
    assert request.words() == f"{words} --no-brakes --seed 0"

    form = FormData(
        [
            ("spin", "0.5"),
            ("colour", "blue"),
            ("wheels", "left"),
            ("no-brakes", "yes"),
            ("seed", "0"),
        ]
    )
    fields = {field.name: field.widget for field in form_fields(ToyRequest, {})}
    assert fields == {
        "spin": "number",
        "colour": "choice",
        "wheels": "lines",
        "no-brakes": "box",
        "seed": "number",
    }
    assert ToyRequest.of(read_form(ToyRequest, form)).wheels == ("left",)
    assert "| `--spin HZ` | How fast it turns; above 0 and below 2; 1 by default. |" in TABLES[
        "option_table"
    ](ToyRequest)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"spin": 2.0}, "--spin must lie between 0 and 2, not 2"),
        ({"spin": float("nan")}, "--spin"),
        ({"colour": "green"}, "--colour green is none of red, blue"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"seed": 2**63}, "--seed must be"),
        ({"speed": 1}, "toy has no option 'speed'"),
    ],
)
def test_a_fault_is_told_by_the_name_of_its_option(values: dict[str, object], says: str) -> None:
    """Types, bounds, choices and unknown names."""
    with pytest.raises(RequestError, match=says):
        ToyRequest.of(values)


@pytest.mark.parametrize("command", QUESTIONS)
def test_numbers_beyond_64_bits_are_refused(command: str) -> None:
    """Every whole number of every question: refused by name, before any work."""
    request = QUESTIONS[command].request
    for one in options_of(request):
        if one.type is int and not one.option.argument:
            with pytest.raises(RequestError, match=f"--{one.flag}"):
                request.of({**NEEDED.get(command, {}), one.field: 10**20})
