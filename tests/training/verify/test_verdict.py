"""Verdicts on sweeps whose truth is known."""

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.verify import Advice, Sweep, SweptSize, Verdict
from batchsense.training.verify.verdict import judge
from batchsense.variation import Interval

SIZES = (8, 22, 64, 181, 512)


def advised(batch_size: int, **more: object) -> Advice:
    """Claim a size, with B_crit 60."""
    return Advice(
        batch_size=batch_size,
        critical_batch_size=Interval(60.0, 40.0, 90.0),
        used_critical_batch_size=60.0,
        target_loss=1.0,
        learning_rate_batch_size=32,
        steps=100,
        run_batch_size=32,
        largest=4096,
        **more,  # type: ignore[arg-type]
    )


def swept(
    rng: np.random.Generator, noise: float = 0.03, repeats: int = 5, without: tuple[int, ...] = ()
) -> Sweep:
    """Sweep a job with S_min 50, B_crit 60 and step time 60 + B: the best size is 60."""
    sizes = []
    for size in SIZES:
        mean = 50 * (1 + 60 / size)
        steps = mean * np.exp(noise * rng.standard_normal(repeats))
        reached = () if size in without else tuple(steps.tolist())
        sizes.append(SweptSize(size, reached, 1.0, at_edge=False))
    return Sweep(tuple(sizes), {size: 60.0 + size for size in SIZES}, True, 10.0)


def regret_of(batch_size: int) -> float:
    """Give the true regret among the swept sizes."""
    times = {size: (1 + 60 / size) * (60 + size) for size in SIZES}
    return times[batch_size] / min(times.values()) - 1


def test_a_good_advice_is_confirmed_and_a_bad_one_refuted() -> None:
    """At low noise the best size is confirmed; 512, which takes 2.7 times as long, is refuted."""
    found = swept(np.random.default_rng(0))

    assert judge(advised(64), found).outcome == "confirmed"
    bad = judge(advised(512), found)
    assert bad.outcome == "refuted"
    assert bad.fastest == 64
    assert regret_of(512) in bad.regret


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_interval_of_the_regret_covers(repeats: int) -> None:
    """In 95 of 100 noisy sweeps the interval holds the true regret, of each size."""
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(150):
        found = swept(rng, noise=0.08, repeats=repeats)
        covered += [regret_of(size) in judge(advised(size), found).regret for size in SIZES]

    assert np.mean(covered) >= 0.95


def test_a_good_advice_is_hardly_ever_refuted() -> None:
    """The best size is refuted by chance in at most 2 of 100 noisy sweeps."""
    rng = np.random.default_rng(2)
    outcomes = [judge(advised(64), swept(rng, noise=0.15, repeats=2)).outcome for _ in range(200)]

    assert outcomes.count("refuted") <= 4


def test_the_ratio_to_the_plan_is_told() -> None:
    """A plan with B_crit 60 on a job with B_crit 60 has a ratio near 1, with an interval."""
    verdict = judge(advised(64), swept(np.random.default_rng(3), noise=0.01))

    assert verdict.ratio_to_plan.estimate == pytest.approx(1.0, abs=0.15)
    assert 1.0 in verdict.ratio_to_plan


def test_limits_keep_the_advice_from_being_compared_with_what_was_forbidden() -> None:
    """At the user's maximum of 8 the larger, faster sizes are no regret."""
    found = swept(np.random.default_rng(4))
    free, bound = judge(advised(8), found), judge(advised(8, side="smaller"), found)

    assert free.outcome == "refuted"
    assert bound.outcome == "confirmed"
    assert bound.fastest == 8


def outcome_without(sizes: tuple[int, ...]) -> Verdict:
    """Judge a sweep in which some sizes never arrived."""
    return judge(advised(64), swept(np.random.default_rng(5), without=sizes))


def test_an_advice_that_never_arrives_is_refuted() -> None:
    """Where other sizes reached the target and the advised one did not, there is no regret."""
    verdict = outcome_without((64,))

    assert verdict.outcome == "refuted"
    assert not verdict.advised_reached


def test_too_few_arrivals_are_no_answer() -> None:
    """Two sizes that reached the target settle nothing; what is needed is said."""
    with pytest.raises(UnresolvedError, match="2 of the batch sizes") as refusal:
        outcome_without((8, 64, 512))
    assert "--budget" in str(refusal.value.needed)
