"""Sphinx configuration; `make docs` builds with warnings as errors."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

from batchsense import __version__

project = "batchsense"
author = "The batchsense developers"
copyright = "2026, The batchsense developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "templates"]
html_theme = "furo"
html_title = "batchsense"
html_math_renderer = "mathml"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True

# Words in type descriptions, and types of other libraries, whose inventories we do not fetch: the
# docs build offline. Public names (batchsense.PACKAGE.NAME) are checked; deeper paths are private.
# A bare word in a type description, such as (specimens, features), is a word and not a reference.
suppress_warnings = ["ref.python"]
nitpick_ignore_regex = [
    (r"py:class", r"(?!batchsense\.).*"),
    (r"py:.*", r"[A-Za-z_]+"),
    (r"py:.*", r"batchsense\.\w+\.\w+\..*"),
]


def _inline(translator: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers draw themselves: no script, no other host."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _display(translator: Any, node: Any) -> None:
    """The same, in a line of its own."""
    translator.body.append(
        f'<div class="formula">{convert(node.astext(), display="block")}</div>\n'
    )
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Let formulas be drawn offline."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
