"""One door for workloads: every function that measures one refuses the same faults alike."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from batchsense.errors import DataError
from batchsense.training import (
    Workload,
    check_workload,
    fit_memory_envelope,
    measure_gradient_noise,
    measure_step_time,
    plan_tolerance,
    plan_training,
    survey_gradient_noise,
)
from batchsense.training.example_gradients import per_example_squared_norms
from batchsense.training.gradient_noise import record_short_run
from batchsense.training.separability import assert_minibatch_safe, audit, audit_step
from batchsense.training.separability.objective import check_objective
from batchsense.training.separability.preparation import quick_audit
from batchsense.training.tolerance import measure_pilot
from batchsense.training.verify import Advice, verify_plan
from batchsense.variation import Interval

ROWS, ANSWERS = torch.ones(64, 3), torch.ones(64)
DATA = TensorDataset(ROWS, ANSWERS)
ADVICE = Advice(8, Interval(8.0, 4.0, 16.0), 8.0, 0.5, 8, 16, 8, 64)

#: A new function that measures a workload buys every test below by one line here.
ENTRANCES: dict[str, Callable[[Workload], Any]] = {
    "check_workload": check_workload,
    "plan_training": lambda job: plan_training(job, seconds=1),
    "survey_gradient_noise": lambda job: survey_gradient_noise(job, run=None),
    "verify_plan": lambda job: verify_plan(job, ADVICE, budget=1),
    "audit": audit,
    "quick_audit": quick_audit,
    "audit_step": lambda job: audit_step(job, lambda model, parts: None),
    "assert_minibatch_safe": assert_minibatch_safe,
    "check_objective": check_objective,
    "measure_gradient_noise": measure_gradient_noise,
    "measure_pilot": measure_pilot,
    "measure_step_time": measure_step_time,
    "fit_memory_envelope": fit_memory_envelope,
    "plan_tolerance": lambda job: plan_tolerance(job, 0.5),
    "record_short_run": lambda job: record_short_run(job, 16, 8),
    "per_example_squared_norms": lambda job: per_example_squared_norms(job, range(8)),
}


class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Examples one after the other."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter(zip(ROWS, ANSWERS, strict=True))


class Endless:
    """Examples by index, without an end."""

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return ROWS[0], ANSWERS[0]


def square(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
    """Give the mean squared error."""
    return (model(minibatch[0])[:, 0] - minibatch[1]).square().mean()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    """Make plain SGD."""
    return torch.optim.SGD(parameters, lr=0.1)


def job(**parts: Any) -> Workload:
    """Make a sound workload with some part replaced."""
    sound = {"model": nn.Linear(3, 1), "loss": square, "examples": DATA, "optimizer": sgd}
    return Workload(**(sound | parts))


#: Each fault, and what the reader is told to do.
FAULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "a stream": (lambda: job(examples=Stream()), r"a stream \(Stream\).*give a list of its first"),
    "an iterator": (lambda: job(examples=iter(DATA)), "a stream .*give a list of its first"),
    "a generator": (lambda: job(examples=(x for x in DATA)), "a stream .*islice"),
    "a loader": (
        lambda: job(examples=DataLoader(DATA, batch_size=8)),
        "a DataLoader.*examples=loader.dataset, collate=loader.collate_fn",
    ),
    "a number": (lambda: job(examples=64), "of type int, which cannot be indexed; give a list"),
    "no length": (lambda: job(examples=Endless()), "number of examples is unknown.*with a length"),
    "no module": (lambda: job(model=square), "model is of type function, not a torch Module"),
    "nothing to train": (
        lambda: job(model=nn.Linear(3, 1).requires_grad_(False)),
        "no parameter with requires_grad",
    ),
    "lazy weights": (
        lambda: job(model=nn.LazyLinear(1)),
        r"weight, bias: has no shape yet \(lazy modules\); run one minibatch",
    ),
    "meta weights": (
        lambda: job(model=nn.Linear(3, 1, device="meta")),
        "meta device; build it with real weights",
    ),
    "no loss": (lambda: job(loss=None), "Workload.loss is not callable; give a function"),
    "no optimizer": (lambda: job(optimizer="sgd"), "Workload.optimizer is not callable"),
    "size below one": (lambda: job(batch_size=0), "batch_size is 0; it counts examples"),
}


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_entrance_refuses_every_fault(entrance: str, fault: str) -> None:
    """A typed error that names what is wrong and what to do, before anything is run."""
    make, words = FAULTS[fault]
    with pytest.raises(DataError, match=words):
        ENTRANCES[entrance](make())


@pytest.mark.parametrize(
    "entrance", [name for name in ENTRANCES if name not in ("audit", "assert_minibatch_safe")]
)
def test_what_is_no_workload_is_named(entrance: str) -> None:
    """A model in its place, or a loader: neither is mistaken for a training job."""
    for thing in (nn.Linear(3, 1), DataLoader(DATA), None):
        with pytest.raises(DataError, match=r"is no workload; give batchsense.training.Workload"):
            ENTRANCES[entrance](thing)  # type: ignore[arg-type]


@pytest.mark.parametrize("entrance", ["audit", "assert_minibatch_safe"])
def test_the_audit_says_what_else_it_takes(entrance: str) -> None:
    """It also takes a loss, a model and a minibatch, and says so."""
    with pytest.raises(DataError, match="give a Workload, or a function"):
        ENTRANCES[entrance](None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "entrance", ["check_workload", "measure_gradient_noise", "measure_pilot", "plan_training"]
)
def test_a_complex_loss_is_refused(entrance: str) -> None:
    """A complex number has no least value; neither do complex weights have real gradients."""

    def waves(model: nn.Module, minibatch: list[torch.Tensor]) -> torch.Tensor:
        return torch.fft.fft(model(minibatch[0])[:, 0]).mean()

    with pytest.raises(DataError, match="the loss is a complex number; return a real one"):
        ENTRANCES[entrance](job(loss=waves))
    weights = nn.Linear(3, 1, dtype=torch.complex64)
    with pytest.raises(DataError, match=r"complex parameters.*view_as_real"):
        ENTRANCES[entrance](
            job(model=weights, loss=lambda m, b: m(b[0].to(torch.complex64)).abs().mean())
        )
