"""How large the house is, and how it hangs together: before its redesign and today.

Statements (of the syntax tree) and lines of ``src``; pairs of files that share six or more equal
lines in a row (blank lines, comments, docstrings and imports passed over); imports among the
modules of ``batchsense.training``; the largest file, folder and function. The tree before is that
of the commit ``b369eff``:

    git worktree add --detach /tmp/before b369eff
    python benchmarks/house.py --before /tmp/before [-o benchmarks/results/house.json]
"""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from common.record import options, write

HERE = Path(__file__).resolve().parents[1]
#: A repeat is so many equal lines in a row: fewer are often the only way to write a call.
LINES = 6
EDGES = """
import grimp
graph = grimp.build_graph("batchsense", cache_dir=None)
inside = [one for one in graph.modules if one.startswith("batchsense.training")]
print(sum(
    other.startswith("batchsense.training")
    for one in inside for other in graph.find_modules_directly_imported_by(one)
))
"""


def code_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file that count for repeats, with their numbers."""
    text = path.read_text()
    passed: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        first = (
            node.body[0] if isinstance(getattr(node, "body", None), list) and node.body else None
        )
        words = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        for one in [node, *([first] if words else [])]:
            if isinstance(one, ast.Import | ast.ImportFrom) or one is first:
                passed.update(range(one.lineno, (one.end_lineno or one.lineno) + 1))
    kept = []
    for number, line in enumerate(text.splitlines(), start=1):
        plain = line.strip()
        if number not in passed and len(plain) > 1 and not plain.startswith("#"):
            kept.append((number, plain))
    return kept


def repeats(files: list[Path]) -> int:
    """Pairs of files (or of a file with itself) that share a run of equal lines."""
    places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
    for index, path in enumerate(files):
        lines = code_lines(path)
        for start in range(len(lines) - LINES + 1):
            window = tuple(text for _, text in lines[start : start + LINES])
            places[window].append((index, start))
    pairs = set()
    for where in places.values():
        for one, other in itertools.combinations(where, 2):
            if one[0] != other[0] or abs(one[1] - other[1]) >= LINES:
                pairs.add((one[0], other[0]))
    return len(pairs)


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function without its docstring."""
    first = node.body[0]
    words = 0
    if ast.get_docstring(node, clean=False) is not None:
        words = (first.end_lineno or first.lineno) - first.lineno + 1
    return (node.end_lineno or node.lineno) - node.lineno + 1 - words


def measured(tree: Path) -> dict[str, int]:
    """The sizes of a tree."""
    files = sorted((tree / "src" / "batchsense").rglob("*.py"))
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text()))]
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    edges = subprocess.run(
        [sys.executable, "-c", EDGES],
        env={"PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "files": len(files),
        "lines": sum(len(path.read_text().splitlines()) for path in files),
        "statements": sum(isinstance(node, ast.stmt) for node in nodes),
        "repeats": repeats(files),
        "imports_among_training": int(edges.stdout),
        "largest_file": max(len(path.read_text().splitlines()) for path in files),
        "largest_folder": max(Counter(path.parent for path in files).values()),
        "longest_function": max(map(function_lines, functions)),
    }


def main() -> None:
    """Measure both trees."""
    parser = options("How large the house is.", "house")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of b369eff")
    given = parser.parse_args()
    began, work = time.time(), time.process_time()
    before, after = measured(given.before), measured(HERE)
    write(
        given.output,
        given.seed,
        began,
        time.process_time() - work,
        before=before,
        after=after,
        ratio={name: after[name] / before[name] for name in before},
    )


if __name__ == "__main__":
    main()
