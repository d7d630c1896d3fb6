"""Every code block of the README and of the documentation runs and prints what it shows.

A ``console`` block is a terminal: lines after ``$ `` are run by bash in a folder that the blocks of
one page share, and the lines below must match what appears on stdout and stderr (``...`` stands
for anything). Below the comment ``<!-- numbers vary -->`` the words must match and the numbers may
differ: timings are those of the machine. A ``python`` block is a doctest, or plain code that must
run. An ``sh`` block holds installation commands: its make targets must exist.
"""

import doctest
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from resident import Resident

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"(?P<vary><!-- numbers vary -->\n+)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)
#: What long work says on stderr where there is no terminal: nothing on a quick machine.
PROGRESS = re.compile(r"^[^\n]*: \d+ of \d+\n", re.M)
#: How much faster the clock of a plan runs: its words hang on no number, and are those of a machine
#: that is four times as slow.
CLOCK_RATE = 4
NUMBER = re.compile(r"(?<![\w])[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")


@dataclass
class Block:
    """A fenced block of a page."""

    kind: str
    body: str
    numbers_vary: bool


def blocks(page: Path) -> list[Block]:
    """Find the fenced blocks of a page."""
    return [
        Block(match["kind"], match["body"], match["vary"] is not None)
        for match in FENCE.finditer(page.read_text())
    ]


def commands(body: str) -> list[tuple[str, str]]:
    """Split a terminal block into commands and the output shown below each."""
    parts = re.split(r"^\$ ", body, flags=re.M)[1:]
    return [
        (command.replace("\\\n> ", " "), output)
        for command, _, output in (part.partition("\n") for part in parts)
    ]


def agrees(shown: str, printed: str, numbers_vary: bool) -> bool:
    """Compare as doctest does, blank runs folded and ``...`` for anything."""
    printed = PROGRESS.sub("", printed)
    if numbers_vary:
        shown, printed = NUMBER.sub("#", shown), NUMBER.sub("#", printed)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(shown, printed, options)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder with a ``batchsense`` that starts at once."""
    resident = Resident(tmp_path_factory.mktemp("terminal"))
    yield resident.folder
    resident.end()


#: What commands on the built-in rows printed, which several pages show: they ask nothing else.
printed_before: dict[str, tuple[int, str]] = {}


def run_command(command: str, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a folder; give its exit code and what it printed."""
    if command in printed_before:
        return printed_before[command]
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if command in ("batchsense diagnose", "batchsense gap", "batchsense test"):
        printed_before[command] = done.returncode, done.stdout
    return done.returncode, done.stdout


def run_terminal(block: Block, folder: Path, terminal: Path) -> None:
    """Run a terminal block and compare."""
    path = f"{terminal}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    slower = {"CLOCK_RATE": str(CLOCK_RATE)}
    code = 0
    for command, shown in commands(block.body):
        if command.strip() == "echo $?":
            assert int(shown) == code
            continue
        # A plan takes the time it is given, whatever the machine.
        extra = slower if command.startswith("batchsense plan") else {}
        code, printed = run_command(command, folder, environment | extra)
        assert code != 70, printed
        if shown.strip():
            assert agrees(shown, printed, block.numbers_vary), (
                f"$ {command}\nshown:\n{shown}\nprinted:\n{printed}"
            )
        else:
            assert code in (0, 1, 141), printed


def run_python(block: Block, folder: Path, names: dict[str, object]) -> None:
    """Run a Python block in the page's shared names, as a doctest if it has prompts."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        if ">>>" not in block.body:
            exec(compile(block.body, "<page>", "exec"), names)
            return
        test = doctest.DocTestParser().get_doctest(block.body, names, "page", None, 0)
        runner = doctest.DocTestRunner(
            optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False
        )
        complaints: list[str] = []
        runner.run(test, out=complaints.append, clear_globs=False)
        names.update(test.globs)
        assert runner.summarize(verbose=False).failed == 0, "".join(complaints)
    finally:
        os.chdir(here)


def check_install(block: Block) -> None:
    """An installation command is not run again, but what it names must exist."""
    for line in filter(None, (line.split("#")[0].strip() for line in block.body.splitlines())):
        if line.startswith("make"):
            done = subprocess.run(
                [*line.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
        else:
            assert re.match(r"(git clone|cd|pip install) ", line), f"not checked: {line}"


@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")  # Lightning's own
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=str(page.relative_to(ROOT)),
            # What they show takes long runs; `make validate` reads them.
            marks=[pytest.mark.slow] if page.stem in ("temperature", "verify") else [],
        )
        for page in PAGES
    ],
)
def test_code_blocks_run(page: Path, tmp_path: Path, terminal: Path) -> None:
    """What a page shows is what happens."""
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        if block.kind == "console":
            run_terminal(block, tmp_path, terminal)
        elif block.kind == "python":
            run_python(block, tmp_path, names)
        elif block.kind == "sh":
            check_install(block)


def test_a_wrong_block_is_found(tmp_path: Path, terminal: Path) -> None:
    """The check can fail: a changed number, or a changed word where numbers vary, is noticed."""
    assert not agrees("share 0.42\n", "share 0.43\n", numbers_vary=False)
    assert agrees("share 0.42\n", "share 0.43\n", numbers_vary=True)
    assert not agrees("share 0.42\n", "part 0.43\n", numbers_vary=True)
    with pytest.raises(AssertionError):
        run_python(Block("python", ">>> 1 + 1\n3\n", False), tmp_path, {})
    with pytest.raises(AssertionError):
        run_terminal(Block("console", "$ echo a\nb\n", False), tmp_path, terminal)


def test_the_documents_link_to_pages_that_exist() -> None:
    """No relative link in README, CONTRIBUTING or the documentation is broken."""
    link = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in link.findall(page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_python_is_new_enough() -> None:
    """The oldest supported Python is the one that the metadata names."""
    assert sys.version_info >= (3, 11)
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "template", sorted((ROOT / "docs" / "templates").glob("*.py")), ids=lambda p: p.stem
)
def test_templates_work(template: Path) -> None:
    """What contributors start from imports against the present code, and its doctests pass."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"template_{template.stem}", template)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)

    assert doctest.testmod(module).failed == 0
