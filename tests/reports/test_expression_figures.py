"""Figures of expression tables draw what the values say, and thin out evenly."""

from itertools import permutations

import numpy as np
import pytest

from batchsense.reports.figures.expression.features import draw_trend
from batchsense.reports.figures.expression.heat_map import Strip, draw_heat_map
from batchsense.reports.figures.expression.relative import MOST_BOXES, draw_relative
from batchsense.reports.numbers import numbers_of


def test_boxes_of_relative_expression_are_quantiles_less_medians() -> None:
    """Each specimen's quantiles of what its values differ from the medians of the features."""
    values = np.random.default_rng(0).normal(size=(6, 50)) + np.arange(50)
    values[4:] += 2.0
    values[0, :3] = np.nan
    codes, names = [0, 1, 0, 1, 2, 2], [f"s{k}" for k in range(6)]
    told = numbers_of(draw_relative(values, codes, ["a", "b", "c"], "lot", names))
    expected = np.nanquantile(values - np.nanmedian(values, axis=0), [0.25, 0.5], axis=1)

    assert told["specimen"] == ["s0", "s2", "s1", "s3", "s4", "s5"]
    assert told["lot"] == ["a", "a", "b", "b", "c", "c"]
    np.testing.assert_allclose(told["25 %"], expected[0][[0, 2, 1, 3, 4, 5]])
    assert min(told["50 %"][4:]) > max(told["50 %"][:4]) + 0.5


def test_of_many_specimens_boxes_of_every_batch_are_drawn() -> None:
    """600 specimens in three batches: 150 boxes, 50 of each."""
    values, codes = np.random.default_rng(0).normal(size=(600, 9)), np.arange(600) % 3
    names = [str(k) for k in range(600)]
    ax = draw_relative(values, codes, ["a", "b", "c"], "lot", names)
    told = numbers_of(ax)

    assert len(told["specimen"]) == MOST_BOXES
    assert [told["lot"].count(name) for name in "abc"] == [50, 50, 50]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b", "c"]


def blocks(specimens: int = 12) -> tuple[np.ndarray, Strip]:
    """Six features, the first three high in one half of the specimens, the others in the other."""
    half = np.arange(specimens) % 2
    signs = np.where(np.arange(6) < 3, 1.0, -1.0)
    noise = np.random.default_rng(0).normal(size=(specimens, 6))
    return 5 * np.outer(2 * half - 1, signs) + noise, Strip("drug", ["no", "yes"], half)


def test_the_heat_map_puts_like_beside_like() -> None:
    """Halves of specimens and of features that go together stand together, in their own SDs."""
    values, strip = blocks()
    ax = draw_heat_map(values, list("abcdef"), [f"s{k}" for k in range(12)], [strip])
    told = numbers_of(ax)

    assert told["drug"] in (["no"] * 6 + ["yes"] * 6, ["yes"] * 6 + ["no"] * 6)
    assert {"".join(list(told)[2:5]), "".join(list(told)[5:8])} <= {
        "".join(order) for half in ("abc", "def") for order in permutations(half)
    }
    table = np.array([told[name] for name in "abcdef"])
    np.testing.assert_allclose(table.mean(axis=1), 0.0, atol=1e-3)
    np.testing.assert_allclose(table.std(axis=1), 1.0, atol=1e-3)


def test_every_level_has_a_line_beside_its_colour() -> None:
    """Specimens of each level are marked at its own height, under the column that they have."""
    values, strip = blocks()
    ax = draw_heat_map(values, list("abcdef"), [f"s{k}" for k in range(12)], [strip])
    told = numbers_of(ax)["drug"]
    part = next(one for one in ax.child_axes if one.get_ylabel() == "drug")

    for level, marks in zip(strip.levels, part.collections, strict=True):
        places = np.asarray(marks.get_offsets())
        assert places[:, 0].tolist() == [k for k, name in enumerate(told) if name == level]
        assert set(places[:, 1]) == {strip.levels.index(level)}


def test_of_many_specimens_the_heat_map_takes_all_levels() -> None:
    """Of 1,000 specimens 200 are drawn, half of each level; gaps stay gaps."""
    values, strip = blocks(1000)
    values[0, 0] = np.nan
    told = numbers_of(draw_heat_map(values, list("abcdef"), [str(k) for k in range(1000)], [strip]))

    assert [told["drug"].count(level) for level in ("no", "yes")] == [100, 100]
    assert "0" in told["specimen"]
    assert np.isnan(told["a"][told["specimen"].index("0")])


def test_the_trend_runs_through_the_features() -> None:
    """Features without a number are left out; the curve stands over the same sizes."""
    ax = draw_trend([1.0, 3.0, 2.0], [0.5, np.nan, 0.4], [0.5, 0.4, 0.45], ("mean", "scatter"))

    assert np.asarray(ax.collections[0].get_offsets()).tolist() == [[1.0, 0.5], [2.0, 0.4]]
    assert ax.get_lines()[0].get_xydata().tolist() == [[1.0, 0.5], [2.0, 0.45]]
    assert numbers_of(ax)["trend"] == pytest.approx([0.5, 0.45])
