"""The documentation as it is built: strict, whole, without other hosts, and found by search."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx")
pytest.importorskip("furo")
ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
#: Attributes by which a browser fetches something without being asked; a link is none.
FETCHED = {"src", "srcset", "poster", "data"}
GUIDES = {
    "scanpy": "how-to/scanpy",
    "Lightning": "how-to/lightning",
    "Excel": "how-to/layout-from-excel",
    "DDP": "how-to/plain-loop-and-ddp",
    "confounded": "how-to/confounded-batches",
}


class Page(HTMLParser):
    """What a page fetches, where it links to, and where one can link to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        self.fetched += [found[name] for name in FETCHED & set(found)]
        if "href" in found:
            (self.fetched if tag == "link" else self.links).append(found["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, as `make docs` builds them: warnings are errors."""
    folder = tmp_path_factory.mktemp("html")
    words = ["-W", "-n", "-q", "-b", "html", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_nothing_is_fetched_from_another_host_and_no_link_is_broken(built: Path) -> None:
    """Pages open from a disk without a network; every link inside leads to a page and a place."""
    pages = {path: Page(path) for path in built.rglob("*.html")}
    assert len(pages) > 90
    wrong = []
    for path, page in pages.items():
        wrong += [f"{path.name} fetches {one}" for one in page.fetched if urlsplit(one).netloc]
        for link in [*page.links, *page.fetched]:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            places = pages[there].places if there in pages else {unquote(parts.fragment)}
            if not there.exists() or unquote(parts.fragment) not in places:
                wrong.append(f"{path.name} links to {link}")
    styles = "".join(path.read_text() for path in built.rglob("*.css"))
    wrong += re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"']+", styles)
    assert not wrong


@pytest.mark.parametrize("word", GUIDES)
def test_a_searched_word_leads_to_its_guide(word: str, built: Path) -> None:
    """By the guide's title, which the search puts before words in a text."""
    text = (built / "searchindex.js").read_text()
    index = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    import snowballstemmer

    term = snowballstemmer.stemmer("english").stemWord(word.lower())
    found = index["titleterms"].get(term, [])
    places = [found] if isinstance(found, int) else found
    assert GUIDES[word] in [index["docnames"][place] for place in places]


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    """The check can fail: a script of another host, and a place that is not there."""
    (tmp_path / "one.html").write_text('<a href="#none">x</a><script src="//cdn.example/x.js">')
    page = Page(tmp_path / "one.html")
    assert urlsplit(page.fetched[0]).netloc == "cdn.example"
    assert urlsplit(page.links[0]).fragment not in page.places
