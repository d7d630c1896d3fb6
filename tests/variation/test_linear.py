"""Least squares that names what it cannot tell apart."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.variation import factor, residual_sum_of_squares


def exact_null_space(design: np.ndarray) -> np.ndarray:
    """Twin in rational numbers: each dependent column by earlier independent ones."""
    rows = [[Fraction(int(value)) for value in row] for row in design]
    columns, done = len(rows[0]), 0
    pivots: list[int] = []
    for column in range(columns):
        found = next((i for i in range(done, len(rows)) if rows[i][column] != 0), None)
        if found is None:
            continue
        rows[done], rows[found] = rows[found], rows[done]
        rows[done] = [value / rows[done][column] for value in rows[done]]
        for i in range(len(rows)):
            factor_ = rows[i][column]
            if i != done and factor_ != 0:
                rows[i] = [a - factor_ * b for a, b in zip(rows[i], rows[done], strict=True)]
        pivots.append(column)
        done += 1
    null = []
    for column in range(columns):
        if column not in pivots:
            vector = [Fraction(0)] * columns
            vector[column] = Fraction(1)
            for i, pivot in enumerate(pivots):
                vector[pivot] = -rows[i][column]
            null.append([float(value) for value in vector])
    return np.array(null).reshape(len(null), columns)


def dummies(generator: np.random.Generator, levels: int, rows: int) -> np.ndarray:
    """All indicator columns of a random factor; a level may be empty."""
    return np.eye(levels, dtype=int)[generator.integers(0, levels, rows)]


def deficient_design(seed: int) -> np.ndarray:
    """A random design of integers, of one of four kinds, that lacks rank."""
    generator = np.random.default_rng(seed)
    for _ in range(1000):
        rows = int(generator.integers(4, 30))
        ones = np.ones((rows, 1), dtype=int)
        if seed % 4 == 0:  # some columns are combinations of others
            base = generator.integers(-3, 4, (rows, int(generator.integers(1, 5))))
            mixed = base @ generator.integers(-2, 3, (base.shape[1], 4))
            design = np.hstack([base, mixed])
        elif seed % 4 == 1:  # all dummies of three factors beside an intercept
            design = np.hstack([ones, *(dummies(generator, k, rows) for k in (2, 3, 4))])
        elif seed % 4 == 2:  # conditions nested in batches, reference coded, and a number
            batches = generator.integers(0, 5, rows)
            conditions = (batches % 3)[:, None] == np.arange(1, 3)
            nested = np.eye(5, dtype=int)[batches][:, 1:]
            number = generator.integers(-50, 50, (rows, 1))
            design = np.hstack([ones, nested, number, conditions.astype(int)])
        else:  # fewer rows than columns
            design = generator.integers(-2, 3, (4, int(generator.integers(5, 9))))
        design = design[:, generator.permutation(design.shape[1])]
        if len(exact_null_space(design)):
            return design
    raise AssertionError("no deficient design found")


@pytest.mark.parametrize("seed", range(100))
def test_names_exactly_the_aliased_terms(seed: int) -> None:
    """Rank, aliased names and every equation equal those of exact rational elimination."""
    design = deficient_design(seed)
    names = [f"term {j}" for j in range(design.shape[1])]
    expected = exact_null_space(design)

    found = factor(design, names)

    assert found.rank == design.shape[1] - len(expected)
    assert set(found.aliased) == {names[j] for j in np.flatnonzero(expected.any(axis=0))}
    np.testing.assert_allclose(found.null_vectors, expected, rtol=1e-9, atol=1e-12)
    for relation, vector in zip(found.relations, expected, strict=True):
        assert relation.terms == tuple(names[j] for j in np.flatnonzero(vector))
        assert relation.dependent == names[np.flatnonzero(vector)[-1]]


@pytest.mark.parametrize("seed", range(100))
def test_estimable_contrasts_agree_with_the_pseudo_inverse(seed: int) -> None:
    """On every deficient design each estimable contrast equals the pseudo-inverse's, to 1e-9."""
    design = deficient_design(seed).astype(float)
    generator = np.random.default_rng(seed)
    rows, columns = design.shape
    responses = generator.normal(size=(rows, 3))
    inverse = np.linalg.pinv(design, rcond=1e-11)
    null = exact_null_space(design)
    fit = factor(design).fit(responses)

    projection = inverse @ design
    contrasts = [*np.eye(columns), *(generator.normal(size=(6, rows)) @ design)]
    for contrast in contrasts:
        estimable = np.allclose(contrast @ projection, contrast, atol=1e-9)
        assert fit.factor.estimable(contrast) == estimable
        if not estimable:
            with pytest.raises(ConfoundedError):
                fit.factor.contrast_variance(contrast)
            continue
        np.testing.assert_allclose(
            fit.factor.contrast_variance(contrast),
            contrast @ inverse @ inverse.T @ contrast,
            rtol=1e-9,
        )
        if fit.df > 0:
            estimate, error = fit.contrast(contrast)
            np.testing.assert_allclose(estimate, contrast @ inverse @ responses, atol=1e-9)
            residuals = responses - design @ (inverse @ responses)
            spread = np.sqrt((residuals**2).sum(axis=0) / fit.df)
            expected = spread * np.linalg.norm(contrast @ inverse)
            np.testing.assert_allclose(error, expected, rtol=1e-8)
    for index in range(columns):
        lost = bool(null[:, index].any())
        assert np.isnan(fit.coefficients[index]).all() == lost
        if not lost:
            expected = (inverse @ responses)[index]
            np.testing.assert_allclose(fit.coefficients[index], expected, atol=1e-9)


@pytest.mark.parametrize("rows", [12, 60])
def test_twin_response_by_response(rows: int) -> None:
    """All responses at once give what one lstsq after another gives."""
    generator = np.random.default_rng(rows)
    design = np.hstack([np.ones((rows, 1)), generator.normal(size=(rows, 4))])
    responses = generator.normal(size=(rows, 50)) + 10.0
    fit = factor(design).fit(responses)
    hat = design @ np.linalg.inv(design.T @ design) @ design.T

    for index in range(50):
        solution, squares, *_ = np.linalg.lstsq(design, responses[:, index], rcond=None)
        np.testing.assert_allclose(fit.coefficients[:, index], solution, atol=1e-11)
        np.testing.assert_allclose(fit.residual_sum_of_squares[index], squares[0], rtol=1e-10)
        np.testing.assert_allclose(fit.fitted[:, index], design @ solution, rtol=1e-12)
    np.testing.assert_allclose(fit.factor.leverages, np.diag(hat), rtol=1e-10)
    np.testing.assert_allclose(
        fit.factor.unscaled_covariance, np.linalg.inv(design.T @ design), rtol=1e-8
    )
    np.testing.assert_allclose(fit.residual_variance, fit.residual_sum_of_squares / (rows - 5))


def test_twenty_thousand_responses_recover_their_planted_effects() -> None:
    """Planted effects come back within their standard errors as often as t says."""
    generator = np.random.default_rng(1)
    design = np.repeat([[1.0, 0.0], [1.0, 1.0]], [6, 10], axis=0)
    effects = generator.normal(size=20_000)
    responses = 5.0 + np.outer(design[:, 1], effects) + generator.normal(size=(16, 20_000))

    estimate, error = factor(design, ["1", "drug"]).fit(responses).contrast("drug")

    inside = np.abs(estimate - effects) <= 2.144787 * error  # t quantile .975, 14 df
    assert abs(inside.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 20_000)


def test_large_offset_is_not_mistaken_for_the_intercept() -> None:
    """A date of eight digits varies on its own; without centring it would look constant."""
    day = np.arange(12.0) % 5
    for offset in (0.0, 2e7, 1e12):
        found = factor(np.stack([np.ones(12), day + offset], axis=1), ["Intercept", "date"])

        assert found.relations == ()
        estimate, _ = found.fit(3.0 * day + np.tile([0.5, -0.5], 6)).contrast("date")
        reference = factor(np.stack([np.ones(12), day], axis=1))
        expected, _ = reference.fit(3.0 * day + np.tile([0.5, -0.5], 6)).contrast("column[1]")
        np.testing.assert_allclose(estimate, expected, rtol=1e-9)


def test_relations_survive_units_and_offsets() -> None:
    """Rescaled and shifted copies of a column are named with their exact coefficients."""
    generator = np.random.default_rng(2)
    celsius = generator.normal(size=20) * 30
    metres = generator.integers(0, 9, 20) / 2.0**10 + 1e8
    design = np.stack([np.ones(20), celsius, 32 + 1.8 * celsius, metres, 1024 * metres], axis=1)

    found = factor(design, ["Intercept", "celsius", "fahrenheit", "metres", "steps"])

    assert [str(r) for r in found.relations] == [
        "fahrenheit = 32*Intercept + 1.8*celsius",
        "steps = 1024*metres",
    ]


def test_later_columns_are_expressed_by_earlier_ones() -> None:
    """The order of the columns decides which term stands on the left."""
    july = np.array([0.0, 0, 1, 1])
    design = np.stack([np.ones(4), july, july], axis=1)

    assert str(factor(design, ["1", "month[July]", "drug[yes]"]).relations[0]) == (
        "drug[yes] = month[July]"
    )
    assert str(factor(design, ["1", "drug[yes]", "month[July]"]).relations[0]) == (
        "month[July] = drug[yes]"
    )


def test_empty_levels_are_equal_to_zero() -> None:
    """A column of zeros is aliased by itself and only itself."""
    found = factor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], ["Intercept", "site[C]"])

    assert found.aliased == ("site[C]",)
    assert str(found.relations[0]) == "site[C] = 0"
    assert found.estimable("Intercept")


def test_refusal_names_the_relation() -> None:
    """A contrast that is not estimable raises with the equation that forbids it."""
    july = np.array([0.0, 0, 1, 1, 1])
    site = np.array([0.0, 1, 0, 1, 1])
    design = np.stack([np.ones(5), july, site, july], axis=1)
    fit = factor(design, ["Intercept", "month[July]", "site[B]", "drug[yes]"]).fit(np.arange(5.0))

    with pytest.raises(ConfoundedError, match=r"drug\[yes\] = month\[July\]") as caught:
        fit.contrast({"drug[yes]": 1.0})

    assert caught.value.aliased == ("drug[yes] = month[July]",)
    assert np.isnan(fit.coefficients[[1, 3]]).all()
    assert np.isfinite(fit.coefficients[[0, 2]]).all()
    assert np.isnan(fit.factor.unscaled_covariance[1]).all()
    assert fit.factor.unscaled_covariance[2, 2] == pytest.approx(
        fit.factor.contrast_variance("site[B]")
    )


def test_residual_sum_of_squares_against_a_loop() -> None:
    """The helper equals the sum over residuals of lstsq."""
    generator = np.random.default_rng(5)
    design, responses = generator.normal(size=(9, 2)), generator.normal(size=(9, 4))
    solution = np.linalg.lstsq(design, responses, rcond=None)[0]

    found = residual_sum_of_squares(design, responses)

    expected = [sum(r**2 for r in column) for column in (responses - design @ solution).T]
    np.testing.assert_allclose(found, expected)


def test_no_degrees_of_freedom_is_not_a_zero_variance() -> None:
    """Two points fix a line: the fit exists, its variance is refused."""
    fit = factor([[1.0, 0.0], [1.0, 1.0]]).fit([3.0, 5.0])

    np.testing.assert_allclose(fit.coefficients[:, 0], [3.0, 2.0])
    with pytest.raises(UnresolvedError, match="no degrees of freedom"):
        _ = fit.residual_variance
    with pytest.raises(UnresolvedError):
        fit.contrast("column[1]")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: factor([[1.0], [np.nan]]), "row 1, column 0 is nan"),
        (lambda: factor([["a"], ["b"]]), "must be numbers"),
        (lambda: factor(np.empty((0, 2))), "at least one row"),
        (lambda: factor(np.empty((2, 0))), "no columns"),
        (lambda: factor([[1.0, 2.0]], ["one"]), "1 names for 2"),
        (lambda: factor([[1.0, 2.0]], ["one", "one"]), "occur twice: one"),
        (lambda: factor([[1.0], [1.0]]).fit([1.0]), "2 rows and the responses 1"),
        (lambda: factor([[1.0], [1.0]]).fit([1.0, np.inf]), "row 1, column 0 is inf"),
        (lambda: factor([[1.0], [1.0]]).estimable("drug"), "contrast names drug"),
        (lambda: factor([[1.0], [1.0]]).estimable([1.0, 2.0]), r"shape \(2,\)"),
        (lambda: factor([[1.0], [1.0]]).estimable([np.nan]), "finite"),
    ],
)
def test_bad_input_says_what_and_where(call, text: str) -> None:
    """Every misuse raises DataError with the place."""
    with pytest.raises(DataError, match=text):
        call()
