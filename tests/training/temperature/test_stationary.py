"""Stationary heat in quadratic bowls: against slow sums, closed forms and real minibatches."""

from __future__ import annotations

import numpy as np
import pytest

from batchsense.errors import DataError, UnresolvedError
from batchsense.training.simulate import RegressionBowl, simulate_bowl
from batchsense.training.temperature import SgdSetting, predict_heat, shuffle_factor
from batchsense.training.temperature.modes import epoch_variance, independent_variance
from batchsense.training.temperature.setting import SAMPLINGS


def slowly(setting: SgdSetting, eigenvalue: float, noise: float) -> tuple[float, float]:
    """Form the covariance of all noises of an epoch, and repeat the epoch until nothing changes."""
    lr, m, steps = setting.learning_rate, setting.momentum, setting.steps_per_epoch
    assert setting.examples is not None
    step = np.array([[1 - lr * eigenvalue, -lr * m], [eigenvalue, m]])
    response = np.array([[-lr], [1.0]])
    left = (setting.examples - setting.batch_size) / (setting.examples - 1)
    shared = np.eye(steps) - 1 / steps
    noises = noise / setting.batch_size * left * steps / (steps - 1) * shared
    end = np.zeros((2, 2))
    for _ in range(20_000):
        spreads, reach, moved = [], np.zeros((2, 0)), np.eye(2)
        for k in range(steps):
            spreads.append((moved @ end @ moved.T + reach @ noises[:k, :k] @ reach.T)[0, 0])
            reach = np.hstack([step @ reach, response])
            moved = step @ moved
        updated = moved @ end @ moved.T + reach @ noises @ reach.T
        settled = np.abs(updated - end).max() <= 1e-13 * np.abs(updated).max()
        end = updated
        if settled:
            break
    return float(np.mean(spreads)), float(end[0, 0])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("batch_size", "rate"), [(8, 0.05), (32, 0.3), (4, 0.5)])
def test_epoch_variance_equals_slow_sums(momentum: float, batch_size: int, rate: float) -> None:
    """Powers of one matrix give what the full covariance of an epoch's noises gives."""
    setting = SgdSetting(rate, batch_size, momentum, examples=64, sampling="epoch")

    assert epoch_variance(setting, 1.3, 2.0) == pytest.approx(slowly(setting, 1.3, 2.0), rel=1e-8)


def test_shuffle_factor_follows_its_closed_form_for_small_steps() -> None:
    """1 − 2/x + 2(1 − e^{−x})/x² in the limit, with and without momentum."""
    for momentum in (0.0, 0.9):
        for x in (0.01, 0.3, 3.0, 30.0):
            setting = SgdSetting(
                x * (1 - momentum) / 4096, 1, momentum, examples=4096, sampling="epoch"
            )
            found = shuffle_factor(setting, 1.0)

            mean = 1 - 2 / x + 2 * (1 - np.exp(-x)) / x**2 if x > 0.05 else x / 3 - x**2 / 12
            end = 1 - np.tanh(x / 2) / (x / 2)
            assert found.mean == pytest.approx(mean, rel=0.01)
            if x > 0.05:  # at an epoch's end of slower modes the last few steps are most of it
                assert found.epoch_end == pytest.approx(end, rel=0.05)


def test_slow_modes_keep_a_variance_that_does_not_depend_on_their_curvature() -> None:
    """From x = 1e-3 to 1e-12 the shuffled variance is one number; nothing is lost to cancelling."""
    setting = SgdSetting(1e-3, 8, 0.9, examples=8192, sampling="epoch")
    found = [epoch_variance(setting, value, 1.0)[0] for value in (1e-5, 1e-7, 1e-10, 1e-14)]

    assert max(found) / min(found) - 1 < 1e-3


def test_an_epoch_of_one_step_has_no_noise() -> None:
    """The full batch is cold."""
    assert epoch_variance(SgdSetting(0.1, 10, examples=10, sampling="epoch"), 1.0, 1.0) == (0, 0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_additive_noise_solves_the_lyapunov_equation(momentum: float) -> None:
    """The closed form of one mode is the fixed point of weight and buffer."""
    setting = SgdSetting(0.2, 16, momentum)
    step = np.array([[1 - 0.2 * 1.5, -0.2 * momentum], [1.5, momentum]])
    inflow = np.outer([-0.2, 1.0], [-0.2, 1.0]) * 3.0 / 16
    spread = np.zeros((2, 2))
    for _ in range(5000):
        spread = step @ spread @ step.T + inflow

    assert independent_variance(setting, 1.5, 3.0) == pytest.approx(spread[0, 0], rel=1e-9)


def bowl(seed: int, examples: int = 256) -> RegressionBowl:
    """Give a regression on three features of unequal scale."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(examples, 3)) * [1.0, 0.7, 0.5]
    return RegressionBowl(features, features.sum(axis=1) + rng.normal(size=examples))


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize(("momentum", "batch_size", "pace"), [(0.0, 16, 0.8), (0.9, 64, 0.4)])
def test_prediction_holds_for_real_minibatches(
    sampling: str, momentum: float, batch_size: int, pace: float
) -> None:
    """Within 5 % of what replicas of a regression show, whatever the sampling."""
    world = bowl(3)
    steepest = float(np.linalg.eigvalsh(world.hessian)[-1])
    setting = SgdSetting(pace * (1 - momentum) / steepest, batch_size, momentum, 256, sampling)  # type: ignore[arg-type]
    found = predict_heat(world.hessian, world.covariance, setting, world.features)
    seen = simulate_bowl(world, setting, settle=160, steps=1600, replicas=100, seed=11)

    assert found.stable
    assert found.total == pytest.approx(seen.mean, rel=max(0.05, 4 * seen.error / seen.mean))


def test_the_naive_rule_is_far_off_under_shuffling() -> None:
    """η tr C/(4B(1 − m)) is over 50 times too hot where an epoch is short."""
    world = bowl(3)
    steepest = float(np.linalg.eigvalsh(world.hessian)[-1])
    setting = SgdSetting(0.02 * 0.1 / steepest, 64, 0.9, 256, "epoch")
    found = predict_heat(world.hessian, world.covariance, setting, world.features)

    assert found.naive > 50 * found.total


def test_equal_noise_gives_one_temperature_only_for_small_steps() -> None:
    """The temperature kT is the same in all directions as η → 0, and differs at finite η."""
    hessian = np.diag([0.1, 1.0, 5.0])
    small = predict_heat(hessian, np.eye(3), SgdSetting(1e-5, 4)).temperature
    large = predict_heat(hessian, np.eye(3), SgdSetting(0.3, 4)).temperature

    assert np.ptp(small) / small.mean() < 1e-4
    assert np.ptp(large) / large.mean() > 0.5


def test_rotation_changes_nothing() -> None:
    """Heat does not depend on the axes in which the loss is written."""
    world, rng = bowl(5), np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    setting = SgdSetting(0.2, 8, 0.5, 256, "epoch")
    plain = predict_heat(world.hessian, world.covariance, setting, world.features)
    turned = predict_heat(
        turn @ world.hessian @ turn.T,
        turn @ world.covariance @ turn.T,
        setting,
        world.features @ turn.T,
    )

    assert turned.total == pytest.approx(plain.total, rel=1e-9)


def test_an_unstable_step_is_said() -> None:
    """From ηλ = 2(1 + m) on the heat is infinite and the bowl is not stable."""
    for sampling in SAMPLINGS:
        setting = SgdSetting(4.01, 4, 1e-3, 64, sampling)
        found = predict_heat(np.diag([0.1, 0.5]), np.eye(2), setting)

        assert not found.stable
        assert np.isinf(found.total)
        assert np.isfinite(found.by_mode[0])


def test_noise_that_feeds_on_itself_is_refused() -> None:
    """A regression with one example a step and a step too large for it has no stationary heat."""
    world = bowl(3)
    with pytest.raises(UnresolvedError, match="feed on each other"):
        predict_heat(world.hessian, world.covariance, SgdSetting(0.9, 1), world.features)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rate": 0.0}, "learning rate"),
        ({"learning_rate": float("nan")}, "learning rate"),
        ({"batch_size": 0}, "one example"),
        ({"batch_size": 65}, "at most 64"),
        ({"momentum": 1.0}, "below 1"),
        ({"sampling": "shuffled"}, "sampling is one of"),
        ({"sampling": "epoch", "examples": None}, "an epoch has an end"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object], words: str) -> None:
    """Each with what is allowed."""
    given = {"learning_rate": 0.1, "batch_size": 4, "examples": 64, **values}
    with pytest.raises(DataError, match=words):
        SgdSetting(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hessian", "covariance", "words"),
    [
        (np.diag([0.0, 1.0]), np.eye(2), "nothing holds the weights"),
        (np.diag([-1.0, 1.0]), np.eye(2), "nothing holds the weights"),
        ([[1.0, 2.0]], np.eye(2), "square"),
        ([[1.0, 0.5], [0.0, 1.0]], np.eye(2), "symmetric"),
        (np.eye(3), np.eye(2), "shape"),
        ([[np.nan, 0], [0, 1]], np.eye(2), "finite"),
    ],
)
def test_matrices_that_are_no_minimum_are_refused(
    hessian: object, covariance: object, words: str
) -> None:
    """A direction without curvature holds no stationary spread."""
    with pytest.raises(DataError, match=words):
        predict_heat(hessian, covariance, SgdSetting(0.1, 4))  # type: ignore[arg-type]
