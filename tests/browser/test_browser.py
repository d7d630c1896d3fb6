"""The browser that opens our pages notices what it must notice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Open = Callable[..., Any]

WRONG = """<!DOCTYPE html><html lang="en"><head><title>wrong</title>
<link rel="stylesheet" href="http://example.com/style.css">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'">
<script>document.title = "script ran"</script></head>
<body><img src="other.png"><svg><title>t</title></svg>
<table width="3000"><tr><td>wide</td></tr></table></body></html>"""


@pytest.mark.browser
def test_a_bad_page_is_caught(visit: Open, tmp_path: Path) -> None:
    """Requests, complaints of the console, images without text and overflow are all seen."""
    page = tmp_path / "wrong.html"
    page.write_text(WRONG)
    seen = visit(page, width=600)

    assert "http://example.com/style.css" in seen.requests
    assert any("Content Security Policy" in line for line in seen.console)
    assert [image[:3] for image in seen.images()] == [("", "", "")] * 2
    assert seen.overflow() > 1000


@pytest.mark.slow
@pytest.mark.browser
def test_what_cannot_be_read_is_caught(
    scripting: Any, violations: Callable[[], list[str]], tmp_path: Path
) -> None:
    """Axe sees an image without words, pale letters and a dark scheme that fails alone."""
    page = tmp_path / "wrong.html"
    page.write_text(
        '<!DOCTYPE html><html lang="en"><head><title>wrong</title><style>'
        "@media (prefers-color-scheme: dark) { p { color: #ddd } }</style></head>"
        '<body><main><h1>Wrong</h1><img src="data:,"><p>pale</p></main></body></html>'
    )
    scripting.get(page.as_uri())
    found = violations()

    assert [one.split(":")[0] for one in found] == [
        "image-alt (critical, light)",
        "color-contrast (serious, dark)",
        "image-alt (critical, dark)",
    ]


@pytest.mark.browser
def test_scripts_do_not_run(visit: Open, tmp_path: Path) -> None:
    """JavaScript is really off."""
    page = tmp_path / "script.html"
    page.write_text("<!DOCTYPE html><title>before</title><script>document.title='after'</script>")

    assert visit(page).driver.title == "before"
