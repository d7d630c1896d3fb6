"""What is said of the loss of a training is what its curve shows."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.questions.train.result import LossPoint, TrainResult
from batchsense.questions.train.text import headline

NOISE = 0.05


def of_curve(means: np.ndarray, seed: int) -> TrainResult:
    """A result whose minibatches scatter about these means, one a step."""
    losses = means + NOISE * np.random.default_rng(seed).normal(size=len(means))
    return TrainResult.model_construct(
        curve=[LossPoint(step=k + 1, loss=loss) for k, loss in enumerate(losses)],
        final_loss=float(losses[-20:].mean()),
        final_loss_error=float(losses[-20:].std(ddof=1) / np.sqrt(20)),
        learning_rate=0.8,
    )


FALLING = np.geomspace(2.3, 0.2, 400)


@pytest.mark.parametrize(
    ("means", "code"),
    [
        (FALLING, None),
        (np.append(FALLING, np.full(100, 0.2)), None),
        (np.full(400, 2.3), "loss_did_not_fall"),
        (np.append(FALLING, np.full(60, 1.5)), "loss_was_lower"),
        (np.linspace(2.0, 3.0, 200), "loss_was_lower"),
        (np.append(np.full(20, 8.0), np.full(200, 2.3)), None),
    ],
)
def test_a_loss_that_bursts_or_stands_is_said(means: np.ndarray, code: str | None) -> None:
    """In each of twenty runs a clear case is named, and a fall that ends in noise never."""
    for seed in range(20):
        notes = of_curve(means, seed).what_the_loss_did()
        assert [note.code for note in notes] == ([] if code is None else [code])


def test_the_numbers_in_the_note_are_those_of_the_curve() -> None:
    """The lowest mean with its step, the last with its error, and the learning rate."""
    result = of_curve(np.append(FALLING, np.full(60, 1.5)), 0)
    (note,) = result.what_the_loss_did()

    assert "up to step 400 and is 1.5" in note.message
    assert "learning rate, now 0.800, may be too large" in note.message


def test_of_a_few_steps_nothing_is_said() -> None:
    """Nor of a single one, which has no error."""
    assert not of_curve(np.full(40, 2.3), 0).what_the_loss_did()


@pytest.mark.parametrize(
    ("target", "stopped_by", "missed"),
    [(None, "epochs", False), (3.0, "epochs", False), (3.0, "loss", False), (2.0, "steps", True)],
)
def test_a_loss_is_missed_only_above_it(
    target: float | None, stopped_by: str, missed: bool
) -> None:
    """A run that ends otherwise, with its loss below the one asked for, has reached it."""
    result = of_curve(np.full(12, 2.3), 0).model_copy(
        update={"target_loss": target, "stopped_by": stopped_by, "target": "job"}
    )
    assert result.missed == missed
    assert ("was not reached" in headline(result)) == missed
