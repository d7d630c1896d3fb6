"""What is swept, and what a plan predicts for it."""

import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.verify import Advice
from batchsense.training.verify.advice import swept_sizes
from batchsense.variation import Interval


def advice(batch_size: int = 64, largest: int = 1000, **more: object) -> Advice:
    """Make claims with B_crit 50."""
    return Advice(
        batch_size=batch_size,
        critical_batch_size=Interval(50.0, 30.0, 90.0),
        used_critical_batch_size=50.0,
        target_loss=1.0,
        learning_rate_batch_size=32,
        steps=100,
        run_batch_size=50,
        largest=largest,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("advised", [1, 2, 5, 16, 96, 640, 1000])
def test_sizes_surround_the_advice_within_what_is_possible(advised: int) -> None:
    """Three to five sizes, the advice among them, from an eighth to eight times it, 1 … largest."""
    sizes = swept_sizes(advised, largest=1000)

    assert advised in sizes
    assert 3 <= len(sizes) <= 5
    assert max(1, advised / 8 - 1) <= sizes[0] <= sizes[-1] <= min(1000, 8 * advised)
    assert list(sizes) == sorted(set(sizes))


def test_a_range_without_room_is_refused() -> None:
    """Two examples in all leave nothing to sweep."""
    with pytest.raises(UnresolvedError, match="too few for a sweep"):
        swept_sizes(2, largest=2)


def test_the_prediction_follows_the_law_through_the_plan_s_own_run() -> None:
    """100 steps at B = B_crit = 50 mean 50 at the least, and 150 at B = 25."""
    assert advice().predicted_steps(50) == pytest.approx(100)
    assert advice().predicted_steps(25) == pytest.approx(150)
    assert advice().predicted_steps(10**9) == pytest.approx(50)


def test_a_limit_of_the_user_leaves_one_side_to_compare_with() -> None:
    """An advice at the user's maximum is not blamed for what larger sizes could do."""
    assert [advice(side="smaller").allows(size) for size in (8, 64, 512)] == [True, True, False]
    assert [advice(side="larger").allows(size) for size in (8, 64, 512)] == [False, True, True]
    assert all(advice().allows(size) for size in (8, 64, 512))


def test_an_impossible_advice_is_refused() -> None:
    """A plan from a larger machine may advise what does not fit here."""
    with pytest.raises(DataError, match="plan again on this machine"):
        advice(batch_size=2000)
