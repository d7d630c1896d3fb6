"""The critical batch size along a run is that of a sweep to the same loss; where it is not."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from batchsense.training import load_target
from batchsense.training.gradient_noise import critical_batch_size_of_path, record_short_run
from batchsense.training.verify import Advice
from batchsense.training.verify.advice import swept_sizes
from batchsense.training.verify.sweeping import SweepStore, sweep
from batchsense.training.verify.verdict import judge


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small kernels: threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ratio(target: float) -> float:
    """Give path over sweep for the digits, down to a loss."""
    workload = load_target("digits")
    records, _ = record_short_run(workload, 600, 16, batch_size_ratio=0.5)
    smooth = np.convolve(records.loss, np.ones(15) / 15, mode="valid")
    end = int(np.flatnonzero(smooth <= target)[0]) + 7
    path = critical_batch_size_of_path(
        replace(
            records,
            trace_covariance=records.trace_covariance[:end],
            squared_gradient_norm=records.squared_gradient_norm[:end],
            loss=records.loss[:end],
        )
    )
    critical = path.critical_batch_size
    claims = Advice(
        batch_size=round(critical.estimate),
        critical_batch_size=critical,
        used_critical_batch_size=critical.estimate,
        target_loss=target,
        learning_rate_batch_size=32,
        steps=path.steps,
        run_batch_size=16,
        largest=1797,
    )
    sizes = swept_sizes(claims.batch_size, claims.largest)
    store = SweepStore("test")
    store.keep_step_seconds(dict.fromkeys(sizes, 1e-3))
    found = sweep(workload, claims, sizes, store, budget=1e9, repeats=1)
    return critical.estimate / judge(claims, found).law.critical_batch_size.estimate


def test_down_to_a_low_loss_they_agree() -> None:
    """Digits to a loss of 0.15: within a factor of 1.6."""
    assert 1 / 1.6 <= ratio(0.15) <= 1.6


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    reason="measured 2.7 (2.4 to 5 over seeds), wanted at most 1.6: in the first 50 steps the "
    "stable learning rate, not noise, sets the least number of steps",
)
def test_down_to_an_easy_loss_they_agree() -> None:
    """Digits to a loss of 1.0: within a factor of 1.6."""
    assert 1 / 1.6 <= ratio(1.0) <= 1.6
