"""The sweep searches learning rates, stops at its budget and never does a run twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from batchsense.errors import DataError, UnresolvedError
from batchsense.training import Workload, load_target
from batchsense.training.verify import Advice, verify_plan
from batchsense.training.verify.sweeping import SweepStore, fingerprint_of, sweep
from batchsense.training.verify.training_run import (
    OutOfTimeError,
    SweptRun,
    ruled_optimizer,
    train_to_loss,
)
from batchsense.training.workload.target import DIGITS_LEARNING_RATE
from batchsense.variation import Interval

SIZES = (12, 34, 96, 272, 768)


def advice(**more: object) -> Advice:
    """Claim 96 for digits down to an easy loss."""
    claims: dict[str, object] = {
        "batch_size": 96,
        "critical_batch_size": Interval(50.0, 30.0, 90.0),
        "used_critical_batch_size": 50.0,
        "target_loss": 1.8,
        "learning_rate_batch_size": 32,
        "steps": 60,
        "run_batch_size": 32,
        "largest": 1797,
    }
    return Advice(**(claims | more))  # type: ignore[arg-type]


@pytest.fixture
def workload() -> Workload:
    """Digits, untrained."""
    return load_target("digits")


class Law:
    """Stands in for training: steps by a law whose best learning rate is 4 times the rule's."""

    def __init__(self) -> None:
        self.made: list[tuple[int, float, int]] = []
        self.most_runs = 10**6

    def __call__(
        self,
        workload: Workload,
        claims: Advice,
        size: int,
        multiplier: float,
        repeat: int,
        most_steps: int,
        **options: object,
    ) -> SweptRun:
        """Give the steps of a condition, and list it."""
        if len(self.made) >= self.most_runs:
            raise OutOfTimeError
        self.made.append((size, multiplier, repeat))
        steps = 40 * (1 + 50 / size) * (1 + 0.2 * np.log2(multiplier / 4) ** 2)
        found = steps if steps <= most_steps else None
        return SweptRun(size, multiplier, repeat, found, most_steps, False, 0.01)


@pytest.fixture
def law(monkeypatch: pytest.MonkeyPatch) -> Law:
    """Replace training by the law."""
    found = Law()
    monkeypatch.setattr("batchsense.training.verify.sweeping.train_to_loss", found)
    return found


def timed(mark: str, path: Path | None = None) -> SweepStore:
    """Give a store that knows step times already."""
    store = SweepStore(mark, path)
    store.keep_step_seconds({size: 1e-3 for size in SIZES})
    return store


def test_the_grid_of_learning_rates_grows_until_the_best_is_inside(
    workload: Workload, law: Law
) -> None:
    """The best is 4 times the rule: 8 is tried, nothing further, and repeats are made at 4."""
    found = sweep(workload, advice(), SIZES, timed("mark"), repeats=3)

    assert found.complete
    for size in found.sizes:
        tried = {multiplier for at, multiplier, _ in law.made if at == size.batch_size}
        assert (size.multiplier, size.at_edge, len(size.steps)) == (4.0, False, 3)
        assert tried == {0.5, 1.0, 2.0, 4.0, 8.0}
        assert size.mean_steps == pytest.approx(40 * (1 + 50 / size.batch_size))


def test_the_advice_and_the_ends_come_first(workload: Workload, law: Law) -> None:
    """What is cut off by the budget is what tells least."""
    sweep(workload, advice(), SIZES, timed("mark"), repeats=1)

    assert [size for size, _, _ in law.made[:5]] == [96, 12, 768, 34, 272]
    assert {multiplier for _, multiplier, _ in law.made[:5]} == {1.0}


def test_an_interrupted_sweep_goes_on_where_it_stopped(
    workload: Workload, law: Law, tmp_path: Path
) -> None:
    """After a stop in the middle no run is made twice, and the result is that of one go."""
    path = tmp_path / "state.json"
    whole = sweep(workload, advice(), SIZES, timed("mark"), repeats=2)
    expected = list(law.made)
    law.made.clear()
    law.most_runs = 8
    cut = sweep(workload, advice(), SIZES, timed("mark", path), repeats=2)
    law.most_runs = 10**6
    resumed = sweep(workload, advice(), SIZES, SweepStore("mark", path), repeats=2)

    assert not cut.complete
    assert law.made == expected
    assert resumed.sizes == whole.sizes
    assert not list(tmp_path.glob(".*tmp"))


def test_without_time_nothing_is_found(workload: Workload) -> None:
    """A budget that is spent at once gives no sizes, and says that it was not complete."""
    found = sweep(workload, advice(), SIZES, timed("mark"), budget=1e-6)

    assert (found.sizes, found.complete) == ((), False)


def test_a_state_file_of_another_check_is_refused(workload: Workload, tmp_path: Path) -> None:
    """Another seed, another loss, other weights, or no state at all; --restart replaces it."""
    path = tmp_path / "state.json"
    mark = fingerprint_of(workload, advice(), 0)
    SweepStore(mark, path).add(SweptRun(12, 1.0, 0, 9.0, 10, False, 0.1))
    other = load_target("digits")
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1e-3

    assert SweepStore(mark, path).find(12, 1.0, 0) is not None
    for changed in (
        fingerprint_of(workload, advice(), 1),
        fingerprint_of(workload, advice(target_loss=1.7), 0),
        fingerprint_of(other, advice(), 0),
    ):
        with pytest.raises(DataError, match=r"state.json: belongs to the check of another"):
            SweepStore(changed, path)
    assert SweepStore("another", path, restart=True).runs == ()
    for text in ("{", "[]", json.dumps({"format": "x"})):
        path.write_text(text)
        for restart in (False, True):
            with pytest.raises(DataError, match="not the state of a check"):
                SweepStore(mark, path, restart)


def test_an_edited_state_is_refused(workload: Workload, tmp_path: Path) -> None:
    """Any number of a state changed, or its seal: refused in words; --restart replaces it."""
    path = tmp_path / "state.json"
    store = SweepStore("this", path)
    store.keep_step_seconds({32: 1e-3})
    store.add(SweptRun(32, 1.0, 0, 120.0, 130, False, 0.4))
    text = path.read_text()
    assert SweepStore("this", path).find(32, 1.0, 0) is not None
    digits = [place for place, letter in enumerate(text) if letter.isdigit()]
    for place in digits:
        other = "7" if text[place] != "7" else "3"
        path.write_text(text[:place] + other + text[place + 1 :])
        with pytest.raises(DataError):
            SweepStore("this", path)
    path.write_text(json.dumps({**json.loads(text), "runs": [{"steps": "x"}]}))
    with pytest.raises(DataError, match="damaged or changed"):
        SweepStore("this", path)
    assert SweepStore("this", path, restart=True).runs == ()


def test_learning_rates_follow_the_rule(workload: Workload) -> None:
    """SGD: saturating rule times the multiplier; Adam: square root, with β₂ and ε."""
    model = workload.fresh_model()
    sgd = ruled_optimizer(workload, model, advice(), 96, 2.0)
    adam_workload = Workload(
        workload.model, workload.loss, workload.examples, lambda p: torch.optim.Adam(p, lr=1e-3)
    )
    adam = ruled_optimizer(adam_workload, adam_workload.fresh_model(), advice(), 128, 1.0)

    assert sgd.param_groups[0]["lr"] == pytest.approx(
        2 * DIGITS_LEARNING_RATE * (1 + 50 / 32) / (1 + 50 / 96)
    )
    assert adam.param_groups[0]["lr"] == pytest.approx(2e-3)
    assert adam.param_groups[0]["betas"][1] == pytest.approx(0.999**4)


def test_runs_of_one_order_see_the_same_examples_and_leave_the_model_alone(
    workload: Workload,
) -> None:
    """Same order and seed: the same steps to the digit; another order: other steps."""
    before = [parameter.clone() for parameter in workload.model.parameters()]
    first, again, other = (
        train_to_loss(workload, advice(), 64, 2.0, repeat, 400).steps for repeat in (0, 0, 1)
    )

    assert first == again != other
    assert all(map(torch.equal, before, workload.model.parameters()))


def test_divergence_ends_a_run(workload: Workload) -> None:
    """A learning rate 3,000 times too large is given up at once."""
    run = train_to_loss(workload, advice(), 32, 3000.0, 0, 1000)

    assert run.steps is None
    assert run.diverged
    assert run.tried < 100


def test_a_target_above_the_first_loss_is_refused(workload: Workload) -> None:
    """There is nothing to train for; the reader is told."""
    with pytest.raises(UnresolvedError, match="nothing to train for"):
        verify_plan(workload, advice(target_loss=5.0), budget=30)


def test_nonsense_is_refused(workload: Workload) -> None:
    """No time at all, or no loss allowed at all."""
    with pytest.raises(DataError, match="budget must be positive"):
        verify_plan(workload, advice(), budget=0)
    with pytest.raises(DataError, match="allowed loss of time"):
        verify_plan(workload, advice(), allowed=0)
