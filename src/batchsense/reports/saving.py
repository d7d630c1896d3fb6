"""A figure as files: SVG, PNG, and its numbers as CSV; in a page as links that need no script."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from batchsense.errors import DataError
from batchsense.reports.figures.style import INK, figure_of
from batchsense.reports.numbers import csv_text, numbers_of
from batchsense.reports.svg import drawn_alone, inline_svg
from batchsense.storage.atomic import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Dots per inch: at 6.1 inches wide enough for a slide, and some 20 kB.
_DPI = 150
#: Colours of a PNG: few bytes; with 64 a heat map would take those of the signs beside it.
_COLOURS = 256
#: What may stand in an address as it is; it makes pages a third smaller than base 64.
_SAFE = " ,;:/?@=+$-_.!~*'()|"


@dataclass(frozen=True, slots=True)
class Save:
    """A link that saves a figure: what the reader sees, the file, and all of it as an address."""

    kind: str
    file: str
    address: str


def save_figure(ax: Axes, path: str | Path) -> None:
    """Write the figure of some axes as ``.svg`` or ``.png``, or its numbers as ``.csv``.

    Raises
    ------
    DataError
        The name ends otherwise.
    """
    kind = Path(path).suffix.lower()
    if kind == ".csv":
        content = csv_text(numbers_of(ax)).encode()
    elif kind == ".svg":
        content = standalone(inline_svg(figure_of(ax), "figure", "figure", "")).encode()
    elif kind == ".png":
        content = png(figure_of(ax))
    else:
        raise DataError(f"{path}: name a .svg, .png or .csv file")
    with writing(path) as draft:
        draft.write_bytes(content)


def saves(ax: Axes, name: str, svg: str) -> tuple[Save, ...]:
    """The links below a figure of a page, drawn as ``svg`` before."""
    from base64 import b64encode

    figure_of(ax).set_layout_engine("none")  # what was placed for the page stays there
    drawing = standalone(svg)
    drawing = drawing.replace("'", "&apos;").replace('"', "'")  # not three letters for each
    image = b64encode(png(figure_of(ax))).decode()
    numbers = quote(csv_text(numbers_of(ax)), safe=_SAFE)
    return (
        Save("SVG", f"{name}.svg", f"data:image/svg+xml,{quote(drawing, safe=_SAFE)}"),
        Save("PNG", f"{name}.png", f"data:image/png;base64,{image}"),
        Save("numbers (CSV)", f"{name}.csv", f"data:text/csv;charset=utf-8,{numbers}"),
    )


def standalone(svg: str) -> str:
    """The drawing of a page as a file of its own: black on white, with a size."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    width, height = found.groups() if found else ("100%", "100%")
    style = f"color:{INK};background:#fff;stroke-linejoin:round;stroke-linecap:butt"
    return re.sub(
        r'class="figure"(.*?)style="[^"]*"',
        rf'\1width="{width}" height="{height}" style="{style}"',
        svg,
        count=1,
    )


def png(figure: Figure) -> bytes:
    """The figure as an image on white, the same bytes each time."""
    from PIL import Image

    image = Image.fromarray(drawn_alone(figure, _DPI)).convert("RGB")
    stream = io.BytesIO()
    few = image.quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(stream, format="PNG", dpi=(_DPI, _DPI))
    return stream.getvalue()
