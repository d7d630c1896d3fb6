"""Run cases in one or several processes, as asked on the standard input.

torch is loaded once and every process is a fork, so a case costs what it calculates. Each process
has the environment that torchrun would give it. A case has ``world`` and either ``words`` of the
command line, or ``job`` and ``settings`` of :func:`batchsense.training.training_job.train`; what
process r of case NAME printed and saved lies in NAME.r.out, NAME.r.err and NAME.r.pt.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
import torch._dynamo  # which DistributedDataParallel loads, here once for all

sys.path.insert(0, str(Path(__file__).parent))
import jobs
from torch.distributed import TCPStore

import batchsense.questions.train.report
import batchsense.questions.train.request  # noqa: F401
from batchsense.cli.main import run
from batchsense.training.running import CheckpointFolder, Ending, joined_ranks
from batchsense.training.training_job import TrainingSettings, train


def work(folder: Path, name: str, case: dict, rank: int) -> int:
    """What one process does; its exit code."""
    if "words" in case:
        return run(case["words"])
    with joined_ranks(timeout_seconds=60) as ranks:
        kept = None
        if case.get("checkpoint"):
            kept = CheckpointFolder(Path(case["checkpoint"]))
            ranks.from_first(lambda: CheckpointFolder.opened(kept.folder, resume=False))
        done = train(
            getattr(jobs, case["job"])(),
            TrainingSettings(**case["settings"]),
            Ending(**case["ending"]),
            ranks=ranks,
            kept=kept,
        )
    found = {
        "weights": torch.cat([p.detach().reshape(-1) for p in done.model.parameters()]),
        "curve": torch.tensor(done.record.curve, dtype=torch.float64),
        "combined": done.combined,
        "stopped_by": done.stopped_by,
        "examples": done.record.examples,
    }
    torch.save(found, folder / f"{name}.{rank}.pt")
    return 0


def begin(folder: Path, name: str, case: dict, rank: int, port: int) -> int:
    """Fork a process for a rank; its id."""
    child = os.fork()
    if child:
        return child
    code = 99
    # A process that waits for ever says where, and ends.
    faulthandler.dump_traceback_later(300, exit=True)
    try:
        for number, end in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / f"{name}.{rank}.{end}", os.O_WRONLY | os.O_CREAT), number)
        world = case.get("world", 1)
        environment = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_PORT": port}
        environment |= {"LOCAL_WORLD_SIZE": world, "GROUP_WORLD_SIZE": 1}
        os.environ.update({key: str(value) for key, value in environment.items()})
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        code = work(folder, name, case, rank)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def begin_store() -> tuple[int, int]:
    """Fork a process that holds the store, as torchrun does; its id and its port.

    It outlives those that meet in it. Not here: its threads would be in the middle of something
    when the next process is forked.
    """
    ready, written = os.pipe()
    child = os.fork()
    if not child:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        os.write(written, str(store.port).encode())
        os.close(written)
        signal.pause()
    os.close(written)
    port = int(os.read(ready, 16))
    os.close(ready)
    return child, port


def ended(child: int) -> int:
    """Wait for a process; its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_case(folder: Path, name: str, case: dict) -> list[int]:
    """Run a case to its end; the exit codes."""
    store, port = begin_store()
    absent = case.get("absent", [])
    ranks = [rank for rank in range(case.get("world", 1)) if rank not in absent]
    children = [begin(folder, name, case, rank, port) for rank in ranks]
    if "signal" in case:
        hit(children, case, folder)
    codes = [ended(child) for child in children]
    os.kill(store, signal.SIGKILL)
    ended(store)
    return codes


def hit(children: list[int], case: dict, folder: Path) -> None:
    """Send a signal to one process once there is a checkpoint and a random time has passed."""
    number, rank, seed = case["signal"]
    until = time.monotonic() + 60
    while not Path(case["waits_for"]).exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(random.Random(seed).uniform(0.0, case.get("spread", 0.3)))
    for child in children if rank is None else [children[rank]]:
        os.kill(child, getattr(signal, number))


if __name__ == "__main__":
    # Answers requests, a line of JSON each, until its input ends.
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        os.chdir(asked["folder"])
        here = Path(asked["folder"])
        codes = {name: run_case(here, name, case) for name, case in asked["cases"].items()}
        print(json.dumps(codes), flush=True)
