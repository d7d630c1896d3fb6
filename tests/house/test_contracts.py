"""The layout's rules are checked by machine."""

import ast
import json
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "batchsense").rglob("*.py"))


def test_import_contracts_hold() -> None:
    """Dependencies point down only and the two sides never import each other."""
    linter = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("training/workload/workload.py", "import batchsense.experiments.tables"),
        ("variation/moments.py", "import pandas"),
    ],
)
def test_a_planted_wrong_import_is_found(module: str, line: str, tmp_path: Path) -> None:
    """The contracts can fail: an import against the arrows breaks the check."""
    import shutil

    shutil.copytree(ROOT / "src" / "batchsense", tmp_path / "batchsense")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = tmp_path / "batchsense" / module
    planted.write_text(planted.read_text() + f"\n{line}\n")
    linter = Path(sysconfig.get_path("scripts")) / "lint-imports"

    done = subprocess.run(
        [sys.executable, str(linter), "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def public_names(tree: ast.AST) -> set[str]:
    """Collect the names of public functions, classes and parameters."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            names.add(node.name)
            if isinstance(node, ast.FunctionDef):
                arguments = [*node.args.args, *node.args.kwonlyargs, *node.args.posonlyargs]
                names |= {argument.arg for argument in arguments}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_no_bare_batch_or_sample_in_public_names(path: Path) -> None:
    """The ambiguous words never stand alone: `batch_size`, `batch_labels`, `specimens` instead.

    The one exception is the command-line option --batch, which names a column.
    """
    bare = {"batch", "batches", "sample", "samples", "Batch", "Sample"}

    assert not (public_names(ast.parse(path.read_text())) & bare)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_files_stay_small(path: Path) -> None:
    """One idea a file: under 400 lines."""
    assert len(path.read_text().splitlines()) <= 400


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions and methods of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_functions_stay_small(path: Path) -> None:
    """At most 80 lines without the docstring, and eight parameters, but in compiled kernels."""
    long, wide = {}, {}
    for one in functions(path):
        first = one.body[0]
        words = 0
        if ast.get_docstring(one, clean=False) is not None:
            words = (first.end_lineno or first.lineno) - first.lineno + 1
        if (lines := (one.end_lineno or one.lineno) - one.lineno + 1 - words) > 80:
            long[one.name] = lines
        given = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
        count = len([name for name in given if name.arg not in ("self", "cls")])
        if count > 8 and "kernels" not in path.name:
            wide[one.name] = count

    assert (long, wide) == ({}, {})


def test_folders_stay_small() -> None:
    """At most 16 files in a folder."""
    count = Counter(str(path.parent.relative_to(ROOT / "src")) for path in SOURCES)

    assert {name: files for name, files in count.items() if files > 16} == {}


def test_nothing_is_left_open() -> None:
    """No placeholder stands in the product."""
    left_open = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")

    found = [str(path) for path in SOURCES if left_open.search(path.read_text())]
    assert found == []


@pytest.mark.parametrize(
    "file", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda file: file.stem
)
def test_results_say_where_and_when_they_were_measured(file: Path) -> None:
    """Machine, versions, date and seed."""
    assert {"machine", "versions", "date", "seed"} <= set(json.loads(file.read_text()))
