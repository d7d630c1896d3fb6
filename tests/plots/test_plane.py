"""The plane of the first two principal components."""

import numpy as np
import pytest

from batchsense.plots.plane import MOST_FEATURES, principal_plane


def twin(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute coordinates and shares by a singular value decomposition."""
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    return (left * sizes)[:, :2], (sizes**2 / (sizes**2).sum())[:2]


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (40, 40)])
def test_it_equals_a_singular_value_decomposition(shape: tuple[int, int]) -> None:
    """Whichever side is smaller, the coordinates are those of the decomposition, up to sign."""
    values = np.random.default_rng(0).normal(size=shape) * np.arange(1, shape[1] + 1)
    plane = principal_plane(values)
    coordinates, shares = twin(values)

    assert plane is not None
    np.testing.assert_allclose(np.abs(plane.coordinates), np.abs(coordinates), atol=1e-8)
    np.testing.assert_allclose(plane.explained, shares)


def test_the_most_variable_features_serve_when_both_sides_are_large() -> None:
    """With many specimens and features the most variable ones are used, and this is told."""
    scale = np.ones(700)
    scale[:MOST_FEATURES] = 3.0
    values = np.random.default_rng(0).normal(size=(800, 700)) * scale
    plane = principal_plane(values)
    coordinates, _ = twin(values[:, :MOST_FEATURES])

    assert plane is not None
    assert (plane.used, plane.features) == (MOST_FEATURES, 700)
    np.testing.assert_allclose(np.abs(plane.coordinates), np.abs(coordinates), atol=1e-6)


def test_features_with_missing_values_are_left_out() -> None:
    """One missing value costs its feature, not the plane."""
    values = np.random.default_rng(0).normal(size=(20, 5))
    holed = np.column_stack([values, np.r_[np.nan, np.ones(19)]])
    first, second = principal_plane(values), principal_plane(holed)

    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.coordinates, second.coordinates)


@pytest.mark.parametrize(
    "values", [np.ones((5, 3)), np.outer(np.arange(6), [1, 2]), np.ones((5, 1))]
)
def test_without_two_directions_there_is_no_plane(values: np.ndarray) -> None:
    """Constant data, or data on a line, give no plane."""
    assert principal_plane(values) is None
