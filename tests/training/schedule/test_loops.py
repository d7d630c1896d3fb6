"""A loop of one's own under a schedule: which examples, size and learning rate; and resumed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from batchsense.errors import DataError
from batchsense.training.running import EndlessOrder, Ranks
from batchsense.training.schedule import BatchSizeSchedule, parse_schedule

COUNT, EPOCHS, WRITTEN = 53, 3, "8, 16 at 40, 32 at 77"


class Numbered(torch.utils.data.Dataset[Any]):
    """53 examples that know their number."""

    def __init__(self) -> None:
        numbers = torch.Generator().manual_seed(0)
        self.x = torch.randn(COUNT, 4, dtype=torch.float64, generator=numbers)
        self.y = self.x[:, 0].sin() + 0.1 * self.x[:, 1]

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, row: int) -> Any:
        return row, self.x[row], self.y[row]


class Loop:
    """All processes of a run in lockstep on one model, each with a schedule of its own."""

    def __init__(self, mode: Any, drop_last: bool, workers: int, world: int) -> None:
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.halving = torch.optim.lr_scheduler.StepLR(self.sgd, step_size=6, gamma=0.5)
        self.schedules, self.loaders = [], []
        for rank in range(world):
            # The first follows for all: in one process there is one optimizer.
            own = self.sgd if rank == 0 else torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.01)
            schedule = BatchSizeSchedule(
                own,
                WRITTEN,
                "lr",
                mode,
                4 if mode == "accumulate" else None,
                lr_schedulers=[self.halving] if rank == 0 else [],
                ranks=Ranks(rank, world),
            )
            self.schedules.append(schedule)
            self.loaders.append(
                schedule.loader(
                    Numbered(), epochs=EPOCHS, drop_last=drop_last, seed=5, num_workers=workers
                )
            )
        #: Rows, learning rate and size of each step.
        self.trace: list[tuple[list[int], float, int]] = []

    def run(self, steps: int | None = None) -> Loop:
        """Go on to the end, or for so many steps."""
        rows: list[int] = []
        for _ in range(self.loaders[0].epoch, EPOCHS):
            for minibatches in zip(*self.loaders, strict=True):
                for schedule, (row, x, y) in zip(self.schedules, minibatches, strict=True):
                    schedule.backward((self.model(x)[:, 0] - y).square().mean())
                    rows += row.tolist()
                for parameter in self.model.parameters() if self.schedules[0].last_part else ():
                    parameter.grad.div_(len(self.schedules))  # type: ignore[union-attr]
                rate = self.sgd.param_groups[0]["lr"]
                if all([schedule.step() for schedule in reversed(self.schedules)]):
                    self.trace.append((sorted(rows), rate, self.schedules[0].batch_size))
                    self.halving.step()
                    rows = []
                    if steps is not None and len(self.trace) == steps:
                        return self
        return self

    def state(self) -> Any:
        """What a checkpoint holds."""
        parts = (self.model, self.sgd, self.halving, *self.schedules)
        return copy.deepcopy([part.state_dict() for part in parts])

    def load(self, state: Any) -> Loop:
        """Go on from a checkpoint, which is the first process's for all."""
        parts = (self.model, self.sgd, self.halving)
        for part, own in zip(parts, state, strict=False):
            part.load_state_dict(own)
        for schedule in self.schedules:
            schedule.load_state_dict(state[3])
        return self

    @property
    def weights(self) -> torch.Tensor:
        """In one vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])


def expected(drop_last: bool, world: int) -> list[tuple[list[int], float, int]]:
    """The same by counting: a stream of passes, cut by the schedule, and its learning rates."""
    order, written = EndlessOrder(COUNT, 5), parse_schedule(WRITTEN)
    found: list[tuple[list[int], float, int]] = []
    at, end = 0, EPOCHS * COUNT
    while at < end:
        size = planned = written.size_at(at)
        if end - at < size and drop_last:
            break
        left = end - at - size
        size += left if left < 0 or (left < world and not drop_last) else 0
        rate = 0.01 * planned / 8 * 0.5 ** (len(found) // 6)
        found.append((sorted(order.at(at, size).tolist()), rate, planned))
        at += size
    return found


CASES = [(m, d, w) for m in ("accumulate", "loader") for d in (False, True) for w in (1, 2)]
_BRIEF = (("loader", True, 2), ("accumulate", False, 1))


@pytest.mark.parametrize(
    ("workers", "mode", "drop_last", "world"),
    [(0, *case) for case in CASES]
    # Starting worker processes is what takes time: two cases of the eight in `make test`.
    + [pytest.param(2, *case, marks=() if case in _BRIEF else pytest.mark.slow) for case in CASES],
)
def test_every_example_comes_once_an_epoch_at_the_right_size_and_rate(
    mode: str, drop_last: bool, world: int, workers: int
) -> None:
    """Rows, size and learning rate of each step; a run that is stopped goes on to the same."""
    whole = Loop(mode, drop_last, workers, world).run()
    wanted = expected(drop_last, world)

    assert [(rows, size) for rows, _, size in whole.trace] == [(r, s) for r, _, s in wanted]
    assert [rate for _, rate, _ in whole.trace] == pytest.approx([rate for _, rate, _ in wanted])
    counted = np.bincount(np.concatenate([rows for rows, _, _ in whole.trace]), minlength=COUNT)
    assert counted.sum() == (EPOCHS * COUNT if not drop_last else sum(s for _, _, s in wanted))
    if not drop_last:
        assert (counted == EPOCHS).all()

    steps = len(whole.trace)
    for after in range(1, steps) if workers == 0 else (5,):
        stopped = Loop(mode, drop_last, workers, world).run(after)
        again = Loop(mode, drop_last, workers, world).load(stopped.state()).run()
        assert stopped.trace + again.trace == whole.trace
        assert torch.equal(again.weights, whole.weights)


def test_processes_micro_batches_and_loaders_do_not_matter() -> None:
    """The same weights, to rounding; also where a run goes on in other processes."""
    # Without the remainder, which two processes cannot share where it is one example.
    one = Loop("loader", True, 0, 1).run()
    two = Loop("accumulate", True, 0, 2).run()
    torch.testing.assert_close(one.weights, two.weights)

    changed = Loop("accumulate", True, 0, 2).load(Loop("loader", True, 0, 1).run(4).state())
    torch.testing.assert_close(one.weights, changed.run().weights)


def test_lengths_are_counted_by_going_through_the_schedule() -> None:
    """``len`` of each epoch, in minibatches and in micro-batches; none where sizes are measured."""
    for mode in ("accumulate", "loader"):
        loop = Loop(mode, False, 0, 1)
        for _ in range(EPOCHS):
            promised, came = len(loop.loaders[0]), 0
            for _ in loop.loaders[0]:
                loop.schedules[0].step()
                came += 1
            assert came == promised

    class Measured:
        first = 8

        def next_size(self, steps: int, examples: int, ranks: Ranks) -> tuple[int, str]:
            return 8, ""

    sgd = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = BatchSizeSchedule(sgd, Measured(), mode="loader")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="length depends on measurement"):
        len(schedule.loader(Numbered()))


def test_streams_are_filled_across_passes() -> None:
    """Micro-batches of another loader; a short one is weighed by its examples."""
    data = Numbered()
    model = nn.Linear(4, 1).double()
    start = copy.deepcopy(model.state_dict())
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = BatchSizeSchedule(sgd, "20", micro_batch=10)
    loader = torch.utils.data.DataLoader(data, batch_size=10)
    taken = []
    for _ in range(2):
        for row, x, y in schedule.over(loader):
            schedule.backward((model(x)[:, 0] - y).square().mean())
            taken.append(row)
            if schedule.step():
                # 53 examples are five parts of ten and one of three.
                rows = torch.cat(taken)
                other = nn.Linear(4, 1).double()
                other.load_state_dict(start)
                (other(data.x[rows])[:, 0] - data.y[rows]).square().mean().backward()
                assert len(rows) in (20, 23)
                for own, plain in zip(model.parameters(), other.parameters(), strict=True):
                    torch.testing.assert_close(own, plain - 0.01 * plain.grad)  # type: ignore[operator]
                start, taken = copy.deepcopy(model.state_dict()), []
    assert schedule.examples == 20 + 20 + 23 + 20 + 20


def sgd(**settings: Any) -> torch.optim.Optimizer:
    """An optimizer of one number."""
    return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, **settings)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: BatchSizeSchedule(sgd(), "8, 20 at 9", micro_batch=8),
            "nearest size that can: 16",
        ),
        (
            lambda: BatchSizeSchedule(sgd(), "9", mode="loader", ranks=Ranks(0, 2)),
            "nearest size that can: 8",
        ),
        (
            lambda: BatchSizeSchedule(sgd(), "8, 64 at 9", mode="loader", micro_batch=32),
            "take 32 or less",
        ),
        (lambda: BatchSizeSchedule(sgd(), "64", mode="loader").loader(Numbered()), "53 or less"),
        (lambda: BatchSizeSchedule(sgd(), "8 then 16", micro_batch=8), "SIZE at EXAMPLES"),
        (lambda: BatchSizeSchedule(sgd(), "noise", micro_batch=8), "GradientNoiseMeter"),
        (lambda: BatchSizeSchedule(sgd(), "8"), "micro_batch"),
        (
            lambda: BatchSizeSchedule(sgd(), "8", mode="loader").loader(Numbered(), in_order=False),
            "in_order",
        ),
    ],
)
def test_sizes_that_cannot_be_kept_are_refused(make: Any, said: str) -> None:
    """Before any work, with the nearest that can."""
    with pytest.raises(DataError, match=said):
        make()


def test_a_loss_that_is_not_finite_is_named() -> None:
    """The step, its size and the learning rate; and step() is asked for."""
    schedule = BatchSizeSchedule(sgd(), "8", mode="loader")
    for _ in schedule.loader(Numbered()):
        with pytest.raises(DataError, match="nan at step 1, with 8 examples"):
            schedule.backward(torch.tensor(float("nan"), requires_grad=True))
        break
    with pytest.raises(DataError, match=r"call schedule.step\(\)"):
        for _ in schedule.loader(Numbered()):
            pass
