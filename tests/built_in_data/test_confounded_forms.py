"""Confounded draws of real rows with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.datasets import digit_forms, load_digits

DRAWS = 50
#: Squared error of three estimates, mean of 50 draws; further sets of 50 agree within 20 %.
PUBLISHED = {
    0.5: (0.012, 0.012, 0.012),
    0.7: (0.021, 0.015, 0.035),
    0.8: (0.033, 0.021, 0.137),
    0.9: (0.052, 0.047, 0.415),
}


def indicators(labels):
    return (labels[:, None] == np.unique(labels)).astype(float)


def three_estimates(scene):
    """Estimate 8 minus 3: forms ignored; forms in the model; each form centred, digit ignored."""
    y, forms = scene.observations, indicators(scene.form_labels)
    eight = scene.digit == 8
    ignored = y[eight].mean(axis=0) - y[~eight].mean(axis=0)
    in_model = np.linalg.lstsq(np.column_stack([eight, forms]), y, rcond=None)[0][0]
    centred = y - forms @ np.linalg.lstsq(forms, y, rcond=None)[0]
    naive = centred[eight].mean(axis=0) - centred[~eight].mean(axis=0)
    return ignored, in_model, naive


@pytest.mark.parametrize("fraction", sorted(PUBLISHED))
def test_error_of_three_analyses(fraction):
    """The errors grow with confounding as published, within 30 %."""
    errors = []
    for seed in range(DRAWS):
        scene = digit_forms(fraction=fraction, seed=seed)
        errors.append([scene.relative_error(effect) for effect in three_estimates(scene)])
    measured = np.mean(errors, axis=0)

    assert np.allclose(PUBLISHED[fraction], measured, rtol=0.3)


def test_full_nesting():
    """At p = 1 ignoring the form errs by .071, centring removes everything, rank is 14 of 15."""
    ignored, naive = [], []
    for seed in range(DRAWS):
        scene = digit_forms(fraction=1.0, seed=seed)
        estimates = three_estimates(scene)
        ignored.append(scene.relative_error(estimates[0]))
        naive.append(scene.relative_error(estimates[2]))
        design = np.column_stack([scene.digit == 8, indicators(scene.form_labels)])
        assert np.linalg.matrix_rank(design) == 14

    assert np.mean(ignored) == pytest.approx(0.071, rel=0.3)
    assert np.allclose(1.0, naive, atol=1e-10)


def test_total_is_two_forms_with_one_digit_each():
    """The hopeless scene: one form with 3s only, one with 8s only, about 13 rows each."""
    for seed in range(5):
        scene = digit_forms("total", seed=seed)
        pairs = set(zip(scene.digit.tolist(), scene.form_labels.tolist(), strict=True))

        assert len(pairs) == len({d for d, _ in pairs}) == len({f for _, f in pairs}) == 2
        assert 18 <= len(scene.digit) <= 28


@pytest.mark.parametrize("confounding", ["balanced", "partial", "total"])
def test_rows_are_real_and_drawn_once(confounding):
    """Every specimen is a row of the full data with its own digit and form, none twice."""
    digits, scene = load_digits(), digit_forms(confounding, seed=3)

    assert len(set(scene.rows.tolist())) == len(scene.rows)
    assert np.array_equal(digits.observations[scene.rows], scene.observations)
    assert np.array_equal(digits.digit[scene.rows], scene.digit)
    assert np.array_equal(digits.form_labels[scene.rows], scene.form_labels)


def test_seed_repeats_the_draw():
    """The same seed gives the same rows, another seed others."""
    first, again, other = (digit_forms("partial", seed=s).rows for s in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("wrong", [{"confounding": "some"}, {"fraction": 0.2}, {"fraction": 1.5}])
def test_impossible_draws_are_refused(wrong):
    """An unknown degree of confounding is named with the known ones."""
    with pytest.raises(ValueError, match=r"known|between 0\.5 and 1"):
        digit_forms(**wrong)
