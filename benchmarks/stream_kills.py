"""Streams that are killed at random minibatches and go on: nothing is lost, nothing comes twice.

For 0, 2 and 4 loader processes and 1 and 2 ranks, nine kills each, with SIGKILL, at a minibatch
drawn at random: half of them after the minibatch was trained on and before the state was kept.
What had been trained on when the state was kept counts, as weights kept beside it would. The rows
of two epochs are compared with those of a run that is left alone.

    python benchmarks/stream_kills.py [-o benchmarks/results/stream_kills.json]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common.record import options, write
from torch.utils.data import DataLoader

from batchsense.training.streaming import BlockStream

ROWS, BATCH_SIZE, MEMORY, EPOCHS, KILLS = 2_003, 16, 24_000, 2, 9


def train(folder: Path, rank: int, ranks: int, loaders: int, dies: int | None, late: bool) -> None:
    """Go through the epochs from where the state is, and note the rows; die after some."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(ranks))
    stream = BlockStream(
        folder / "rows.npy", BATCH_SIZE, MEMORY * max(loaders, 1), 3, loaders=loaders, allowed=99.0
    )
    kept, noted = folder / f"state-{rank}.json", folder / f"rows-{rank}.txt"
    epoch = done = 0
    lines: list[str] = []
    if kept.exists():
        state = json.loads(kept.read_text())
        stream.load_state_dict(state["stream"])
        epoch, done = state["stream"]["epoch"], state["stream"]["minibatches"]
        lines = noted.read_text().splitlines()[: state["lines"]]
    noted.write_text("".join(line + "\n" for line in lines))
    count = len(lines)
    for turn in range(epoch, EPOCHS):
        taken = done if turn == epoch else 0
        for minibatch in DataLoader(stream, batch_size=None, num_workers=loaders):
            with noted.open("a") as stream_of_lines:
                stream_of_lines.write(" ".join(map(str, minibatch[:, 0].long().tolist())) + "\n")
            taken, count = taken + 1, count + 1
            dies = None if dies is None else dies - 1
            if dies == 0 and not late:
                os.kill(os.getpid(), signal.SIGKILL)
            draft = kept.with_suffix(".new")
            draft.write_text(json.dumps({"stream": stream.state_dict(taken), "lines": count}))
            draft.replace(kept)
            if dies == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def ran(folder: Path, ranks: int, loaders: int, kills: list[tuple[int, bool]]) -> list[Any]:
    """The rows of each rank's minibatches, after as many kills in each rank."""
    context = multiprocessing.get_context("fork")
    for dies, late in [*kills, (None, False)]:
        processes = [
            context.Process(target=train, args=(folder, rank, ranks, loaders, dies, late))
            for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            wanted = 0 if dies is None else -signal.SIGKILL
            if process.exitcode != wanted:
                raise SystemExit(f"ended with {process.exitcode} instead of {wanted}")
    return [
        [[int(row) for row in line.split()] for line in path.read_text().splitlines()]
        for path in (folder / f"rows-{rank}.txt" for rank in range(ranks))
    ]


def study(seed: int) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    found = []
    for loaders in (0, 2, 4):
        for ranks in (1, 2):
            with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
                for folder in (one, other):
                    np.save(Path(folder, "rows.npy"), np.arange(float(ROWS))[:, None] * [1.0, 1.0])
                steps = EPOCHS * ROWS // BATCH_SIZE // ranks
                # So that all kills happen before the end.
                most = steps // KILLS - 1
                kills = [
                    (int(draw.integers(1, most + 1)), bool(draw.integers(2))) for _ in range(KILLS)
                ]
                alone = ran(Path(one), ranks, loaders, [])
                killed = ran(Path(other), ranks, loaders, kills)
            epochs = [
                sorted(
                    row
                    for minibatches in killed
                    for minibatch in minibatches[
                        epoch * len(minibatches) // EPOCHS : (epoch + 1)
                        * len(minibatches) // EPOCHS
                    ]
                    for row in minibatch
                )
                for epoch in range(EPOCHS)
            ]  # fmt: skip
            found.append(
                {
                    "loaders": loaders,
                    "ranks": ranks,
                    "kills": KILLS,
                    "processes_killed": KILLS * ranks,
                    "each_row_once_an_epoch": epochs == [list(range(ROWS))] * EPOCHS,
                    "order_as_left_alone": killed == alone,
                }
            )
            print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    given = options(__doc__, "stream_kills").parse_args()
    began = time.time()
    settings = study(given.seed)
    write(
        given.output, given.seed, began, time.process_time(),
        settings=settings, kills=sum(one["kills"] for one in settings),
    )  # fmt: skip
