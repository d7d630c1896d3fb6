"""The engine of the reports: self-contained, faithful to the numbers, careful with files."""

import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from batchsense.reports import page
from batchsense.reports.envelope import Envelope, InputFile, Model, Note
from batchsense.reports.page import LARGEST_PAGE, NUMBERS_ID, embeddable, render

ROOM = page.__file__


class Answer(Model):
    """A result with everything that could break a page."""

    text: str = "</script><script>alert(1)</script><!-- & ]]>"
    value: float = 0.1 + 0.2


class Reader(HTMLParser):
    """Collect what a browser would see of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.script = ""
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.script += data


def envelope(**more: object) -> Envelope[Answer]:
    """Make an answer with a note and an input."""
    return Envelope[Answer](
        command="example",
        seed=7,
        result=Answer(),
        inputs=[InputFile(path="matrix <1>.csv", sha256="ab" * 32)],
        notes=[Note(code="careful", message="One & <two>.", where=[f"p{k}" for k in range(12)])],
        **more,
    )


def page() -> str:
    """Render the shell alone."""
    return render(ROOM, envelope(), "batchsense example 'a b' --seed 7", template="page.html.j2")


def read(text: str) -> Reader:
    """Parse a page."""
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_numbers_are_those_of_json() -> None:
    """The script block parses to exactly the document that --json prints, bit by bit."""
    assert json.loads(read(page()).script) == json.loads(envelope().to_json())


def test_nothing_in_the_data_can_leave_the_script_block() -> None:
    """A closing tag inside a string stays a string."""
    assert [t for t, _ in read(page()).tags].count("script") == 1
    assert "</" not in embeddable('["</script>", "<!--"]')
    assert json.loads(embeddable('["</script>", "<!--"]')) == ["</script>", "<!--"]


def test_the_page_allows_no_request() -> None:
    """The policy forbids every source; no element names one."""
    tags = read(page()).tags
    policies = [a["content"] for _, a in tags if a.get("http-equiv") == "Content-Security-Policy"]

    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "src" not in {key for _, attributes in tags for key in attributes}
    links = [a.get("href") or "" for _, a in tags if "href" in a]
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "url(" not in page().replace("url(#", "")
    assert "@import" not in page()


def test_provenance_and_language_are_stated() -> None:
    """Command, seed, versions and hashes stand on the page; the language is declared."""
    text = page()

    assert ("html", {"lang": "en"}) in read(text).tags
    for fact in (
        "batchsense example &#39;a b&#39; --seed 7",
        "SHA-256 abab",
        "numpy ",
        "<dd>7</dd>",
    ):
        assert fact in text
    assert "matrix &lt;1&gt;.csv" in text
    assert "One &amp; &lt;two&gt;." in text
    assert "and 2 more" in text


def test_headings_descend_one_step_at_a_time() -> None:
    """No heading skips a level, the first one is the only h1."""
    headings = read(page()).headings

    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(headings))


def test_no_script_and_no_event_handler() -> None:
    """The only script element is data."""
    tags = read(page()).tags

    assert [a for t, a in tags if t == "script"] == [{"type": "application/json", "id": NUMBERS_ID}]
    assert not [key for _, a in tags for key in a if key.startswith("on")]


def test_a_page_with_raw_rows_is_refused() -> None:
    """A page over the limit is a fault of ours and is not written."""
    large = envelope().model_copy(update={"result": Answer(text="x" * LARGEST_PAGE)})

    with pytest.raises(ValueError, match="bytes"):
        render(ROOM, large, template="page.html.j2")


def contrast(one: str, two: str) -> float:
    """Contrast ratio of two colours, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        colour = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted([luminance(one), luminance(two)], reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_letters_stand_out_and_marks_can_be_seen() -> None:
    """Text has contrast 4.5 on every ground, light, dark and printed; marks of figures 2."""
    from batchsense.reports.figures.style import COLOURS

    assert contrast("#000000", "#fff") == pytest.approx(21)
    palettes = [
        dict(re.findall(r"--(\w+): (#\w+)", b))
        for b in re.findall(r":root \{(.*?)\}", page(), re.S)
    ]
    assert len(palettes) == 3
    for palette in palettes:
        for ground in (palette["ground"], palette["panel"]):
            assert min(contrast(palette[k], ground) for k in ("ink", "quiet", "accent")) >= 4.5
        assert min(contrast(colour, palette["ground"]) for colour in COLOURS) >= 2
