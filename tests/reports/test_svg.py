"""Figures become clean, repeatable, accessible pieces of a page."""

from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from batchsense.reports.figures.style import INK
from batchsense.reports.svg import inline_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawing() -> Figure:
    """Draw lines, markers, a filled area and letters that need escaping."""
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    ax.plot([1, 2, 3], [1, 4, 9], "o-", label="a < b & c")
    ax.fill_between([1, 2, 3], [0, 1, 2], [1, 4, 9], color=INK)
    ax.scatter([1, 2], [3, 4], marker="s")
    ax.legend()
    return figure


def inlined(name: str = "one") -> str:
    """Inline the drawing."""
    return inline_svg(drawing(), name, "A title <1>", "The finding & its size.")


def test_the_same_drawing_gives_the_same_bytes() -> None:
    """Two drawings made anew are equal byte for byte."""
    assert inlined() == inlined()


def test_threads_do_not_disturb_each_other() -> None:
    """Written from several threads at once, the bytes stay the same."""
    with ThreadPoolExecutor(4) as pool:
        written = set(pool.map(lambda _: inlined(), range(8)))

    assert written == {inlined()}


def test_settings_of_the_program_survive_and_do_not_matter() -> None:
    """The user's own Matplotlib settings are neither changed nor heeded for ids and letters."""
    import matplotlib

    expected = inlined()
    with matplotlib.rc_context({"svg.hashsalt": "mine", "svg.fonttype": "path"}):
        actual = inlined()
        assert matplotlib.rcParams["svg.hashsalt"] == "mine"

    assert expected == actual


def test_no_address_but_the_namespace() -> None:
    """Prolog, DTD, metadata and style sheets are gone; only the namespace looks like an address."""
    text = inlined()

    assert text.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert text.count("http") == 1
    for unwanted in ("<?xml", "<!DOCTYPE", "<metadata", "<style", "xlink", "matplotlib"):
        assert unwanted not in text


def test_ids_of_two_figures_differ_and_references_lead_somewhere() -> None:
    """Ids carry the figure's name, none occurs twice, and every reference finds its id."""
    both = ElementTree.fromstring(f"<div>{inlined('one')}{inlined('two')}</div>")
    ids = [e.get("id") for e in both.iter() if e.get("id")]

    assert len(ids) == len(set(ids))
    assert {i.split("-")[0] for i in ids} == {"one", "two"}
    links = [e.get("href", "").removeprefix("#") for e in both.iter() if e.get("href")]
    clips = [e.get("clip-path", "")[5:-1] for e in both.iter() if e.get("clip-path")]
    assert links
    assert clips
    assert set(links + clips) <= set(ids)


def test_a_reader_who_cannot_see_is_told_the_finding() -> None:
    """The element is an image with title and description, in the words given."""
    root = ElementTree.fromstring(inlined())

    assert root.get("role") == "img"
    title, description = list(root)[:2]
    assert (title.tag, title.text) == (f"{SVG}title", "A title <1>")
    assert (description.tag, description.text) == (f"{SVG}desc", "The finding & its size.")
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"


def test_letters_stay_letters_and_ink_comes_from_the_page() -> None:
    """Text can be searched, and what is drawn in ink follows the colour of the page."""
    root = ElementTree.fromstring(inlined())

    assert "a < b & c" in [t.text for t in root.iter(f"{SVG}text")]
    text = inlined()
    assert INK not in text
    assert "currentColor" in text
    assert "DejaVu" not in text


@pytest.mark.parametrize("letters", ["五月", "مايو", "मई", "🧪"])
def test_letters_that_no_font_here_has_are_the_readers_to_draw(letters: str) -> None:
    figure = Figure(layout="constrained")
    figure.subplots().set_title(letters)
    assert letters in inline_svg(figure, "f", "t", "d")


def test_the_drawing_keeps_its_place() -> None:
    """Rounding moves no point by more than a hundredth of a point."""
    figure = Figure(figsize=(4, 3))
    ax = figure.add_axes((0, 0, 1, 1))
    x = np.random.default_rng(0).random(50)
    ax.plot(x, x**2, color="#123456")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    root = ElementTree.fromstring(inline_svg(figure, "path", "t", "d"))

    (path,) = [e for e in root.iter(f"{SVG}path") if "#123456" in e.get("style", "")]
    drawn = np.array([float(v) for v in path.get("d", "").split() if v not in "ML"]).reshape(-1, 2)
    np.testing.assert_allclose(drawn, np.c_[x * 288, (1 - x**2) * 216], atol=0.0051)


@pytest.mark.parametrize("missing", ["-0.0", "-0 "])
def test_no_idle_rotation(missing: str) -> None:
    """Upright letters carry no rotation."""
    assert f"rotate({missing}" not in inlined()
