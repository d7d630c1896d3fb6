"""The scenes of the demo compute what they say, on data whose answer is known."""

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from batchsense.questions.demo import confounded, forms, gradient
from batchsense.questions.demo.gradient import GradientScene, log_slope, rate_interval
from batchsense.training import Workload
from batchsense.variation import Interval


def squared_error(model: torch.nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Give the mean squared error of a linear model."""
    x, y = minibatch
    return (model(x).squeeze(1) - y).square().mean()


@pytest.fixture
def linear() -> Workload:
    """Make a linear regression, whose gradients have a closed form."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(300, 3)), dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    y += torch.tensor(rng.normal(size=300))
    model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    torch.nn.init.zeros_(model.weight)
    return Workload(
        model=model,
        loss=squared_error,
        examples=TensorDataset(x, y),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1e-9),
        batch_size=10,
    )


def closed_form(workload: Workload) -> np.ndarray:
    """Give the gradient of every example at weights zero: -2 y x."""
    x, y = (tensor.numpy() for tensor in workload.examples.tensors)  # type: ignore[attr-defined]
    return -2 * y[:, None] * x


def test_variances_are_those_of_the_closed_form(linear: Workload) -> None:
    """Total variance and squared length equal the closed form; the intervals hold trace / n."""
    gradients = closed_form(linear)
    found = GradientScene(linear, seed=1).variance()

    trace = gradients.var(axis=0).sum()
    assert found.trace_covariance == pytest.approx(trace, rel=1e-5)
    assert found.squared_gradient_norm == pytest.approx(
        (gradients.mean(axis=0) ** 2).sum(), rel=1e-5
    )
    held = [p.variance.low <= trace / p.batch_size <= p.variance.high for p in found.points]
    assert sum(held) >= len(held) - 2
    assert found.slope.low < -1 < found.slope.high


def test_the_workload_is_left_as_it_was(linear: Workload) -> None:
    """The scene trains a copy."""
    GradientScene(linear, seed=1)

    assert not linear.model.weight.any()  # type: ignore[union-attr]
    assert linear.model.weight.grad is None


def test_the_promised_size_keeps_its_promise(linear: Workload) -> None:
    """The calibrated size misses about as often as promised; Chebyshev asks for more."""
    found = GradientScene(linear, seed=1).tolerance()
    sizes = {promise.name: promise.batch_size for promise in found.promises}

    assert found.checked_batch_size == sizes["calibrated"] < sizes["chebyshev"] <= 300
    assert found.observed_miss_rate.low < found.miss_rate * 1.4
    gradients = closed_form(linear)
    full = gradients.mean(axis=0)
    rng = np.random.default_rng(5)
    drawn = [rng.choice(300, sizes["calibrated"], replace=False) for _ in range(4000)]
    far = [np.linalg.norm(gradients[rows].mean(axis=0) - full) for rows in drawn]
    twin = np.mean(np.array(far) > found.tolerance * np.linalg.norm(full))
    assert found.observed_miss_rate.estimate is not None
    error = np.sqrt(twin * (1 - twin) * (1 / found.checked_minibatches + 1 / len(drawn)))
    assert abs(found.observed_miss_rate.estimate - twin) <= 3.5 * error


def test_the_slope_interval_covers_as_often_as_it_says() -> None:
    """Over 1,000 simulated measurements the 95 % interval of the slope holds -1 in 92 to 97.5 %."""
    rng = np.random.default_rng(0)
    sizes = gradient.BATCH_SIZES
    hits = 0
    for _ in range(1000):
        measured = []
        for size in sizes:
            draws = rng.chisquare(8, size=200) / 8 / size
            measured.append(gradient.mean_interval(draws))
        slope = log_slope(sizes, measured)
        hits += slope.low <= -1 <= slope.high

    assert 920 <= hits <= 975


def test_a_wrong_law_would_be_noticed() -> None:
    """Variances that fall as n to the power of -0.9 do not pass for 1/n."""
    measured = [Interval(n**-0.9, 0.93 * n**-0.9, 1.07 * n**-0.9) for n in gradient.BATCH_SIZES]
    slope = log_slope(gradient.BATCH_SIZES, measured)

    assert slope.estimate == pytest.approx(-0.9)
    assert slope.low > -1


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.5])
def test_rates_are_covered(rate: float) -> None:
    """The exact interval holds the rate in at least 95 % of all samples of 200."""
    from scipy.stats import binom

    held = [rate_interval(hits, 200) for hits in range(201)]
    chances = binom.pmf(np.arange(201), 200, rate)

    assert sum(c for c, i in zip(chances, held, strict=True) if i.low <= rate <= i.high) >= 0.95
    assert (held[0].low, held[200].high) == (0.0, 1.0)


def test_centring_destroys_what_correcting_keeps() -> None:
    """In confounded draws centring is far off, keeping the digit is near the answer of all rows."""
    found = confounded.compare_methods(seed=3)
    ignored, centred, kept = (method.error for method in found.methods)

    assert centred.low > 3 * kept.high
    assert ignored.low > kept.estimate
    # The design note found .137, .021 and .033 in means of 50 draws, within 30 %.
    assert centred.estimate == pytest.approx(0.137, rel=0.3)
    assert kept.estimate == pytest.approx(0.021, rel=0.3)
    assert ignored.estimate == pytest.approx(0.033, rel=0.3)


def test_the_hopeless_draw_is_refused_by_name() -> None:
    """One relation is named, between 8 and its form, for every seed; no form reads as a digit."""
    for seed in range(10):
        refusal = confounded.refused(seed)
        (relation,) = refusal.aliased

        assert refusal.kind == "confounded"
        assert relation.startswith("digit[8] = form[")
        assert relation not in ("digit[8] = form[3]", "digit[8] = form[8]")


def test_the_form_is_far_above_chance_and_mostly_an_interaction() -> None:
    """The form's share is over five times its null; its additive part is the smaller one."""
    found = forms.share_variation(seed=0)
    shares = {share.term: share for share in found.shares}

    assert found.cramers_v < 0.02
    form, cross = shares["form"], shares["form × digit"]
    assert form.share.estimate > 5 * form.null_mean
    assert form.share.low > form.null_max
    assert form.random_effects_share.high < cross.random_effects_share.low
    assert sum(s.share.estimate for s in found.shares) == pytest.approx(1, abs=1e-3)


def test_scenes_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed gives the same numbers, another seed others."""
    monkeypatch.setattr(confounded, "DRAWS", 4)
    first, again, other = (confounded.compare_methods(seed) for seed in (4, 4, 5))

    assert first == again
    assert first.methods != other.methods
