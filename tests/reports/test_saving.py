"""Every figure of a page can be saved, without a script, and from Python."""

import base64
import csv
import io
import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from PIL import Image

from batchsense.errors import DataError
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.figures.points import draw_points
from batchsense.reports.page import LARGEST_PAGE, Picture
from batchsense.reports.saving import save_figure


def picture() -> Picture:
    """Draw two specimens whose names would break markup, addresses and tables."""
    ids = ['it\'s "A"', "B, #2 & 50 %"]
    return Picture.of(
        draw_points([1.0, 2.0], [3.0, 1 / 3], ["<x>", "y"], "drug", ids=ids), "p", "It's", "F & G."
    )


def test_the_saved_drawing_is_a_file_of_its_own() -> None:
    """It has a size and a ground, keeps its letters, and needs nothing from a page."""
    svg, _, _ = picture().saves
    root = ElementTree.fromstring(unquote(svg.address.removeprefix("data:image/svg+xml,")))

    assert float(root.get("width", "0")) > 200
    assert "background:#fff" in root.get("style", "")
    assert "--width" not in root.get("style", "")
    assert "<x>" in [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert svg.file == "p.svg"


def test_the_saved_image_shows_the_drawing() -> None:
    """A PNG of 150 dots per inch in which ink stands on white; the same bytes each time."""
    addresses = [picture().saves[1].address for _ in range(2)]
    data = base64.b64decode(addresses[0].removeprefix("data:image/png;base64,"))
    image = Image.open(io.BytesIO(data)).convert("L")

    assert addresses[0] == addresses[1]
    assert image.width == pytest.approx(3.9 * 150, abs=1)
    assert image.getpixel((0, 0)) == 255
    assert image.getextrema()[0] < 60


def test_the_saved_numbers_are_those_drawn() -> None:
    """Every point with its name and group, whatever the names hold."""
    address = picture().saves[2].address
    text = unquote(address.removeprefix("data:text/csv;charset=utf-8,"))
    rows = list(csv.reader(io.StringIO(text)))

    assert rows[0] == ["id", "first principal component", "second principal component", "drug"]
    assert rows[1:] == [['it\'s "A"', "1", "3", "<x>"], ["B, #2 & 50 %", "2", "0.333333", "y"]]


def test_no_address_can_leave_its_attribute() -> None:
    """Quotes, angles and marks of other schemes are encoded."""
    for one in picture().saves:
        assert not set('"<>#&\n') & set(one.address)


def test_figures_without_numbers_of_their_own_tell_what_is_drawn(tmp_path: Path) -> None:
    """From Python the ending says what is written; of any other none is."""
    ax = draw_intervals([Row("one", 1.0, 0.5, 2.0)], "share")
    for ending in ("svg", "png", "csv"):
        save_figure(ax, tmp_path / f"shares.{ending}")

    table = (tmp_path / "shares.csv").read_text()
    assert table.startswith("series,x,y\n95 % interval,0.5,0\n95 % interval,2,0\nestimate,1,0\n")
    assert (tmp_path / "shares.svg").read_text().startswith("<svg")
    assert (tmp_path / "shares.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(DataError, match=r"\.svg, \.png or \.csv"):
        save_figure(ax, tmp_path / "shares.pdf")


def test_pages_of_large_tables_keep_all_that_saves_their_figures() -> None:
    """2,000 specimens and 20,000 features: at most 1.5 MB, with three links for each figure."""
    results = Path(__file__).parents[2] / "benchmarks" / "results" / "report_sizes.json"
    measured = json.loads(results.read_text(encoding="utf-8"))

    assert (measured["specimens"], measured["features"]) == (2000, 20_000)
    assert set(measured["pages"]) == {"diagnose", "correct", "test", "counts"}
    for page in measured["pages"].values():
        assert page["bytes"] <= LARGEST_PAGE
        assert page["links"] == 3 * page["figures"]
