"""The figures draw the numbers that they are given."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from batchsense.reports.figures.batches import draw_design, draw_folds, draw_strips
from batchsense.reports.figures.images import draw_differences, draw_digits
from batchsense.reports.figures.intervals import Row, draw_intervals, draw_sizes
from batchsense.reports.figures.laws import draw_step_time, draw_variance
from batchsense.reports.figures.plate import PlateGrid, draw_plate
from batchsense.reports.figures.points import MOST_GROUPS, MOST_POINTS, draw_points, reduction
from batchsense.reports.figures.style import figure_of
from batchsense.reports.figures.training.tradeoff import Choice, draw_tradeoff
from batchsense.reports.numbers import numbers_of
from batchsense.reports.svg import inline_svg

CHOICES = [
    Choice(1, 4.0, 1.0, (3.0, 5.0)),
    Choice(2, 2.0, 1.5, (1.5, 2.5)),
    Choice(4, 1.0, 2.0),
    Choice(8, 2.0, 3.0),
]


def lines(ax: Axes) -> dict[str, np.ndarray]:
    """Give the drawn lines by their label."""
    return {str(line.get_label()): np.asarray(line.get_xydata()) for line in ax.get_lines()}


def letters(ax: Axes) -> list[str]:
    """Give every text written inside the axes."""
    return [text.get_text() for text in ax.texts]


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: draw_tradeoff(CHOICES, 4, ax=ax),
        lambda ax: draw_step_time([1, 2], [0.1, 0.2], 0.0, 0.1, ax=ax),
        lambda ax: draw_intervals([Row("one", 1.0, 0.5, 2.0)], "share", ax=ax),
        lambda ax: draw_design([[1, 0]], ["a"], ["x", "y"], "drug", "month", ax=ax),
        lambda ax: draw_points([1, 2], [3, 4], ["a", "b"], "drug", ax=ax),
        lambda ax: draw_variance([1, 2], [2, 1], [1, 0.5], [3, 1.5], ax=ax),
        lambda ax: draw_plate(PlateGrid(2, 3, [1]), [0, 4], ["a", "b"], ["a", "b"], "drug", ax),
        lambda ax: draw_strips([1.0, 2.0], [0, 1], ["x", "y"], "age", "month", ax=ax),
        lambda ax: draw_folds([[0.1, 0.2]], ["0"], ax=ax),
        lambda ax: draw_sizes([Row("one", 10.0, 5.0, 20.0)], 16, ax=ax),
        lambda ax: draw_differences([np.eye(2)], ["one"], ax=ax),
        lambda ax: draw_digits([[np.eye(2)]], ["one"], ax=ax),
    ],
)
def test_every_figure_draws_where_it_is_told(draw: object) -> None:
    """Given axes are used and returned; without axes a new figure is made."""
    ax = Figure().subplots()

    assert draw(ax) is ax  # type: ignore[operator]
    assert draw(None) is not ax  # type: ignore[operator]


def test_the_tradeoff_shows_every_batch_size_and_stresses_the_advised_one() -> None:
    """Points are (examples, time) with the interval of time; the advised size has its own mark."""
    ax = draw_tradeoff(CHOICES, advised=4)
    drawn = lines(ax)

    np.testing.assert_array_equal(drawn["batch size"], [[1, 4], [1.5, 2], [2, 1], [3, 2]])
    np.testing.assert_array_equal(drawn["advised: 4"], [[2.0, 1.0]])
    whiskers = [segment.tolist() for segment in ax.collections[0].get_segments()]
    assert whiskers == [[[1, 3], [1, 5]], [[1.5, 1.5], [1.5, 2.5]]]
    assert letters(ax) == ["1", "2", "4", "8"]


def test_an_advised_size_off_the_curve_gets_no_wrong_mark() -> None:
    """A mark is only drawn where a point was computed."""
    assert list(lines(draw_tradeoff(CHOICES, advised=5))) == ["batch size"]


def test_every_point_has_a_name_and_names_do_not_touch() -> None:
    """Also of points that nearly coincide, and inside the frame."""
    near = [Choice(1, 4.0, 1.0), *(Choice(k, 1.0, 2 + k / 1000) for k in range(10, 15))]
    ax = draw_tradeoff(near, advised=1)
    figure_of(ax).draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without the lines that lead back

    assert letters(ax) == ["1", "10", "11", "12", "13", "14"]
    touching = [
        (one, other) for k, one in enumerate(boxes) for other in boxes[:k] if one.overlaps(other)
    ]
    assert not touching
    assert all(box.x0 >= ax.bbox.x0 and box.x1 <= ax.bbox.x1 for box in boxes)


def test_sizes_mark_the_advice_and_reach_as_far_as_the_data_allow() -> None:
    """Lines mark the advised size and today's; a missing end reaches the edge with an arrow."""
    ax = draw_sizes([Row("a", 100.0, 50.0, 200.0), Row("b", None, 30.0, None)], 96, today=32)
    drawn = lines(ax)

    assert drawn["advised: 96"][:, 0].tolist() == [96, 96]
    assert drawn["today: 32"][:, 0].tolist() == [32, 32]
    assert drawn["estimate"].tolist() == [[100, 0]]
    segments = [np.asarray(line.get_xydata()).tolist() for line in ax.get_lines()]
    assert [[50, 0], [200, 0]] in segments
    assert [[30, 1], [ax.get_xlim()[1], 1]] in segments
    assert [line.get_marker() for line in ax.get_lines()].count(">") == 1


def test_step_times_are_drawn_in_milliseconds_beside_the_line() -> None:
    """Measured points and the line c0 + c1 B, which starts at c0."""
    drawn = lines(draw_step_time([10, 20], [0.003, 0.004], 0.002, 1e-4))

    np.testing.assert_allclose(drawn["measured"], [[10, 3], [20, 4]])
    assert drawn["fitted line"][0].tolist() == [0, 2]
    slope = np.diff(drawn["fitted line"], axis=0)[0]
    assert slope[1] / slope[0] == pytest.approx(0.1)


def test_intervals_show_estimate_reach_and_chance() -> None:
    """Each row has its point, its interval, and a grey bar for chance; an open end reaches out."""
    rows = [Row("a", 0.4, 0.3, 0.5, null_high=0.1, raw=0.45), Row("b", None, 0.25, None)]
    ax = draw_intervals(rows, "share")

    segments = [np.asarray(line.get_xydata()).tolist() for line in ax.get_lines()]
    assert [[0.3, 0], [0.5, 0]] in segments
    assert [[0.4, 0]] in segments
    assert [[0.25, 1], [ax.get_xlim()[1], 1]] in segments
    bar = ax.patches[0]
    assert (bar.get_x(), bar.get_width()) == pytest.approx((0.0, 0.1))
    assert lines(ax)["chance included"].tolist() == [[0.45, 0]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]

    ax = draw_intervals(rows, "share", reference=0.9, reference_label="as it should be")
    assert lines(ax)["as it should be"][:, 0].tolist() == [0.9, 0.9]
    assert ax.get_xlim()[1] > 0.9


def test_the_design_shows_counts_by_area_and_crosses_empty_cells() -> None:
    """Areas are proportional to counts; each empty cell has a cross."""
    ax = draw_design([[4, 0], [1, 4]], ["a", "b"], ["x", "y"], "drug", "month")
    filled, empty = ax.collections

    assert np.asarray(filled.get_offsets()).tolist() == [[0, 0], [0, 1], [1, 1]]
    sizes = filled.get_sizes()
    assert sizes[1] / sizes[0] == pytest.approx(0.25)
    assert np.asarray(empty.get_offsets()).tolist() == [[1, 0]]


def test_points_differ_by_colour_and_by_shape() -> None:
    """Each group is drawn by itself; no two groups share both colour and shape."""
    groups = [str(k % 14) for k in range(140)]
    ax = draw_points(np.arange(140), np.arange(140), groups, "form")

    assert [c.get_label() for c in ax.collections] == [str(k) for k in range(14)]
    assert sum(len(c.get_offsets()) for c in ax.collections) == 140
    signs = {
        (tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in ax.collections
    }
    assert len(signs) == 14


def test_of_many_points_some_are_drawn_evenly_and_the_reader_is_told() -> None:
    """Of 8,000 points 600 are drawn, each group by its share; a sentence and the numbers say so."""
    values = np.random.default_rng(0).normal(size=(2, 8000))
    groups = ["a"] * 6000 + ["b"] * 2000
    ax = draw_points(*values, groups, "drug", ids=[f"s{k}" for k in range(8000)])

    drawn = [len(part.get_offsets()) for part in ax.collections]
    assert drawn == [450, 150]
    assert "600 of the 8,000" in reduction(8000, 2)
    assert reduction(MOST_POINTS, MOST_GROUPS) == ""
    assert numbers_of(ax)["drug"].count("b") == 150
    assert numbers_of(ax)["id"][0] == "s0"


def test_many_groups_are_not_told_apart_and_the_reader_is_told() -> None:
    """With more groups than signs, all points look alike."""
    groups = [str(k) for k in range(MOST_GROUPS + 1)]
    ax = draw_points(range(len(groups)), range(len(groups)), groups, "form")

    assert len(ax.collections) == 1
    assert "21 groups" in reduction(len(groups), len(groups))


def test_variances_stand_beside_the_law() -> None:
    """The line falls as 1/n through the measured points; whiskers end at the interval."""
    ax = draw_variance([1, 10], [5.0, 0.5], [4.0, 0.4], [6.0, 0.6], 0.1)
    drawn = lines(ax)

    law = drawn["law 1/n"]
    np.testing.assert_allclose(law[:, 0] * law[:, 1], 5.0)
    assert drawn["squared length of the full gradient"][:, 1].tolist() == [0.1, 0.1]
    whisker = ax.containers[0].lines[2][0].get_segments()  # type: ignore[index]
    np.testing.assert_allclose(whisker[0], [[1, 4], [1, 6]])


def test_both_error_rates_of_each_form_are_drawn() -> None:
    """Rates in per cent, one row per form, a line between the two."""
    drawn = lines(draw_folds([[0.01, 0.03], [0.0, 0.02]], ["0", "1"]))

    assert drawn["shuffled folds"].tolist() == [[1, 0], [0, 1]]
    assert drawn["form left out"].tolist() == [[3, 0], [2, 1]]


def test_images_share_one_symmetric_scale() -> None:
    """White means no difference in every image, and equal colours mean equal differences."""
    effect = np.array([[2.0, -1.0], [0.0, 0.5]])
    ax = draw_differences([effect, np.zeros((2, 2))], ["effect", "none"])

    assert [image.get_clim() for image in ax.images] == [(-2.0, 2.0)] * 2
    np.testing.assert_array_equal(ax.images[0].get_array(), effect)
    assert letters(ax) == ["effect", "none"]


def test_digits_stand_in_lines_as_ink_on_paper() -> None:
    """Every image keeps its grey values and all share one scale from paper to the darkest ink."""
    rows = [[np.eye(2), 4 * np.eye(2)], [np.eye(2), np.eye(2)]]
    ax = draw_digits(rows, ["form 0", "form 4"])

    assert [image.get_clim() for image in ax.images] == [(0.0, 4.0)] * 4
    np.testing.assert_array_equal(ax.images[1].get_array(), 4 * np.eye(2))
    assert letters(ax) == ["form 0", "form 4"]


def test_names_from_the_data_are_drawn_as_they_are() -> None:
    """Dollar signs make no formula, an underscore hides no group, a long name is cut visibly."""
    names = ["$x$", "_hidden", "n" * 50]
    ax = draw_points([1, 2, 3], [1, 2, 3], names, "cost in $")

    svg = inline_svg(figure_of(ax), "names", "t", "d")
    for text in (">$x$<", "_hidden<", "n" * 27 + "…<", ">cost in $<"):
        assert text in svg


def test_wells_are_drawn_where_they_are() -> None:
    """Well 4 of a plate of three columns lies in the second row and column; R marks a reference.

    A well that is to stay empty has a cross.
    """
    ax = draw_plate(PlateGrid(2, 3, [1], [2, 5]), [0, 4], ["a", "b"], ["a", "b"], "drug")
    drawn = {str(part.get_label()): np.asarray(part.get_offsets()) for part in ax.collections}

    assert drawn["a"].tolist() == [[0, 0]]
    assert drawn["b"].tolist() == [[1, 1]]
    assert [[2, 0], [2, 1]] in [offsets.tolist() for offsets in drawn.values()]
    assert letters(ax) == ["R"]


def test_strips_show_the_mean_of_each_batch() -> None:
    """The bar of a batch stands at the mean of its values."""
    ax = draw_strips([1.0, 3.0, 10.0], [0, 0, 1], ["x", "y"], "age", "month")

    assert [line.get_ydata()[0] for line in ax.get_lines()] == [2.0, 10.0]
