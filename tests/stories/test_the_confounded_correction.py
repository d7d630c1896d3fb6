"""Scene: real digits on real forms; how an analysis treats the form decides what it finds."""

import numpy as np
import pytest

from batchsense import ConfoundedError
from batchsense.datasets import DigitForms, digit_forms
from batchsense.experiments import Table, correct


def table_of(scene: DigitForms) -> Table:
    """Give a draw as a table with its sheet."""
    sheet = {"form": scene.form_labels, "digit": [f"digit {d}" for d in scene.digit]}
    return Table.from_arrays(scene.observations, sheet)


def effect(scene: DigitForms, observations: np.ndarray) -> np.ndarray:
    """Estimate the mean image of 8 minus the mean image of 3."""
    return np.asarray(
        observations[scene.digit == 8].mean(axis=0) - observations[scene.digit == 3].mean(axis=0)
    )


def test_keeping_the_digit_beats_ignoring_and_centring_the_form() -> None:
    """At V = 0.6, over ten draws: keeping the digit errs least, centring destroys most."""
    ignored, kept, centred = [], [], []
    for seed in range(10):
        scene = digit_forms("partial", seed=seed)
        ignored.append(scene.relative_error(effect(scene, scene.observations)))
        kept.append(
            scene.relative_error(effect(scene, correct(table_of(scene), "form", ["digit"]).values))
        )
        centred.append(scene.relative_error(effect(scene, correct(table_of(scene), "form").values)))

    assert np.mean(kept) < np.mean(ignored) < np.mean(centred)
    assert np.mean(centred) > 4 * np.mean(kept)


def test_without_confounding_nothing_is_at_stake() -> None:
    """Balanced over the forms, the three ways agree."""
    scene = digit_forms("balanced", seed=3)

    plain = effect(scene, scene.observations)
    kept = effect(scene, correct(table_of(scene), "form", ["digit"]).values)

    assert np.allclose(plain, kept, atol=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_one_form_for_each_digit_is_refused(seed: int) -> None:
    """3s on one form and 8s on another: the correction refuses, centring would erase everything."""
    scene = digit_forms("total", seed=seed)

    with pytest.raises(ConfoundedError):
        correct(table_of(scene), "form", ["digit"])
    erased = effect(scene, correct(table_of(scene), "form").values)
    assert scene.relative_error(erased) == pytest.approx(1.0)
