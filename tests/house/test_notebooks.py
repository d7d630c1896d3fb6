"""Every tutorial works as a notebook: text and blocks of the page become cells of a kernel."""

from __future__ import annotations

import doctest
import os
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from test_documentation import FENCE, ROOT, agrees, commands

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
#: What a reader adds to look at a result: its table, and a picture.
LOOK = {
    "first-diagnosis": "from batchsense.plots import plot_shares\n_ = plot_shares(found)\nfound",
}


def cells_of(page: Path) -> list[Any]:
    """A page as cells, each with what it shows in its metadata."""
    text, begin, cells = page.read_text(), 0, []
    new = nbformat.v4
    for block in FENCE.finditer(text):
        cells.append(new.new_markdown_cell(text[begin : block.start()]))
        begin = block.end()
        vary = block["vary"] is not None
        if block["kind"] == "console":
            told = commands(block["body"])
            lines = "\n".join(line for line, _ in told)
            source = f"%%bash --no-raise-error\nexec 2>&1\n{lines}"
            shown = "".join(output for _, output in told)
            # A command without output in the page is not silent.
            shown = shown if all(output.strip() for _, output in told) else "..."
            cells.append(new.new_code_cell(source, metadata={"shown": shown, "vary": vary}))
        elif block["kind"] == "python":
            cells += python_cells(block["body"], vary)
    cells.append(new.new_markdown_cell(text[begin:]))
    return cells


def python_cells(body: str, vary: bool) -> list[Any]:
    """One cell a block; what is to raise has its own."""
    if ">>>" not in body:
        return [nbformat.v4.new_code_cell(body, metadata={"shown": "...", "vary": vary})]
    cells: list[Any] = []
    for example in doctest.DocTestParser().get_examples(body):
        raises = example.exc_msg is not None
        if raises or not cells or "raises-exception" in cells[-1].metadata.get("tags", ()):
            cells.append(nbformat.v4.new_code_cell(metadata={"shown": "", "vary": vary}))
        cells[-1].source += example.source
        if raises:
            cells[-1].metadata["tags"] = ["raises-exception"]
            name, _, message = example.exc_msg.strip().partition(": ")
            cells[-1].metadata["shown"] = f"{name.rpartition('.')[2]}: {message}"
        else:
            cells[-1].metadata["shown"] += example.want
    return cells


def printed(cell: Any) -> str:
    """What a cell shows as text, in order."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts.append(f"{output.ename}: {output.evalue}")
        elif "text/plain" in output.data:
            parts.append(output.data["text/plain"] + "\n")
    return "".join(parts)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_a_notebook(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell shows what the page shows; a result shows a table, and a figure where drawn."""
    monkeypatch.setenv("PATH", f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "100")
    first = nbformat.v4.new_code_cell(
        "%config InteractiveShell.ast_node_interactivity = 'all'\n%matplotlib inline"
    )
    notebook = nbformat.v4.new_notebook(cells=[first, *cells_of(page)])
    if page.stem in LOOK:
        notebook.cells.append(nbformat.v4.new_code_cell(LOOK[page.stem]))
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=place).execute()
    nbformat.write(notebook, tmp_path / f"{page.stem}.ipynb")

    for cell in notebook.cells:
        if "shown" in cell.metadata:
            told = printed(cell)
            assert agrees(cell.metadata["shown"], told, cell.metadata["vary"]), (
                f"{cell.source}\nshown:\n{cell.metadata['shown']}\nprinted:\n{told}"
            )
    if page.stem in LOOK:
        kinds = {kind for output in notebook.cells[-1].outputs for kind in output.get("data", ())}
        assert {"text/html", "image/png"} <= kinds
