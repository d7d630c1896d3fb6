"""A matplotlib figure as a clean piece of SVG that can stand inside a page.

What matplotlib writes is a file of its own: a prolog, a DTD and metadata full of addresses, a
style that reaches every element of the page, ids that repeat from figure to figure. All of that
goes; what stays is accessible (role, title, description), equal byte for byte from run to run,
and takes its ink from the page, so that it can be read on dark ground too.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from batchsense.reports.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_FAMILIES = re.compile(r"'DejaVu Sans'(?:, *(?:'[^']*'|[a-z-]+))*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DECIMALS = re.compile(r"-?\d+\.\d{3,}")
# The settings exist only as global state: one figure is written at a time.
_ONE_AT_A_TIME = threading.Lock()
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "batchsense",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "axes.unicode_minus": True,
}


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Write a figure as an ``<svg>`` element to be placed inside a page."""
    root = ElementTree.fromstring(_write(figure))
    _drop_foreign(root)
    _rename_ids(root, name)
    for element in root.iter():
        _tidy(element)
    for element in root.iter("g"):
        _share_style(element)
    viewbox = root.attrib["viewBox"]
    width = float(viewbox.split()[2])
    root.attrib.clear()
    root.attrib.update(
        {
            "xmlns": _SVG,
            "class": "figure",
            "viewBox": viewbox,
            "role": "img",
            "aria-labelledby": f"{name}-title {name}-description",
            "style": f"--width:{width:g};stroke-linejoin:round;stroke-linecap:butt",
        }
    )
    for position, (tag, text) in enumerate((("title", title), ("description", description))):
        element = ElementTree.Element("desc" if tag == "description" else tag)
        element.set("id", f"{name}-{tag}")
        element.text = text
        root.insert(position, element)
    return ElementTree.tostring(root, encoding="unicode")


def _write(figure: Figure) -> str:
    import matplotlib

    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with _ONE_AT_A_TIME, matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # Letters stay letters, which the reader's own fonts draw: only a width is guessed here.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(stream, format="svg", metadata=nothing, transparent=True)
    return stream.getvalue()


def drawn_alone(figure: Figure, dpi: float) -> npt.NDArray[np.uint8]:
    """The dots of a figure, shape (height, width, 4), by the settings of its drawing as SVG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    with _ONE_AT_A_TIME, matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def _drop_foreign(root: ElementTree.Element) -> None:
    """Remove metadata, styles that reach the whole page, and empty definitions."""
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.removeprefix(f"{{{_SVG}}}")
            only_style = tag == "defs" and len(child) == 1 and child[0].tag.endswith("}style")
            if tag in {"metadata", "style", "title"} or only_style:
                parent.remove(child)


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    referred: dict[str, str] = {}

    def renamed(old: str) -> str:
        return referred.setdefault(old, f"{name}-{len(referred)}")

    for element in root.iter():
        if link := element.attrib.pop(_HREF, ""):
            element.set("href", "#" + renamed(link[1:]) if link.startswith("#") else link)
        for key in ("clip-path", "style", "fill"):
            if "url(#" in element.get(key, ""):
                changed = _REFERENCE.sub(lambda m: f"url(#{renamed(m[1])})", element.attrib[key])
                element.set(key, changed)
    for element in root.iter():
        old = element.attrib.pop("id", None)
        if old in referred:
            element.set("id", referred[old])


def _tidy(element: ElementTree.Element) -> None:
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    if style := element.get("style"):
        style = _FAMILIES.sub("system-ui, sans-serif", style)
        element.set("style", style.replace(INK, "currentColor"))
    for key in ("d", "x", "y", "transform"):
        if where := element.get(key):
            element.set(key, _DECIMALS.sub(_rounded, " ".join(where.split())))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    if element.tag not in {"text", "tspan"} and not (element.text or "").strip():
        element.text = None
    if not (element.tail or "").strip():
        element.tail = None


def _share_style(group: ElementTree.Element) -> None:
    """Say once for a group of equal marks what all of them look like: thousands of points."""
    styles = {child.get("style") for child in group}
    if len(group) > 1 and len(styles) == 1 and all(child.tag == "use" for child in group):
        style = styles.pop()
        if style is not None and "style" not in group.attrib:
            group.set("style", style)
            for child in group:
                del child.attrib["style"]


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
