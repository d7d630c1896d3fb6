"""One real step at the advised size, in a process of its own under the limit.

``python -m batchsense.training.memory.trial`` reads what to try as JSON from stdin and writes what
came of it as JSON to stdout; prints of the user's code go to stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from batchsense.blame import described
from batchsense.errors import DataError, UnresolvedError
from batchsense.machine_memory import resident_bytes
from batchsense.progress import Progress, silent
from batchsense.training.memory.limit import RETURNING_MEMORY

#: What a trial that runs out is reduced to, and how often: the last is .48 of the first.
_SMALLER, _TRIES = 0.9, 8
#: Words of torch, of the C++ library and of the system where memory ran out.
_NO_MEMORY = (
    "not enough memory",
    "bad_alloc",
    "t allocate memory",
    "out of memory",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of steps under the limit."""

    batch_size: int  #: The largest size that trained; 0 if none of those tried did.
    resident_bytes: int  #: By how much the resident memory of the process rose in it.
    tried: tuple[int, ...]  #: Sizes in the order in which they were tried.


def try_step(
    target: str,
    batch_size: int,
    limit_bytes: int,
    *,
    returning: bool,
    seed: int = 0,
    progress: Progress = silent,
) -> Trial:
    """Train two steps in a child whose address space is limited; smaller ones if it dies.

    With ``returning`` the child is started with the settings of ``RETURNING_MEMORY``.

    Raises UnresolvedError: this system has no limit of the address space.
    Raises DataError: the training job cannot be made in the child, or a step fails there for
    another reason than memory.
    """
    if not sys.platform.startswith("linux"):
        raise UnresolvedError(
            "a step can be tried under a limit on Linux only", "a run on Linux, or no --check"
        )
    tried: list[int] = []
    while batch_size >= 1 and len(tried) < _TRIES:
        progress("trying a step under the limit", len(tried), _TRIES)
        tried.append(batch_size)
        found = in_child(
            {
                "target": target,
                "batch_size": batch_size,
                "limit_bytes": limit_bytes,
                "seed": seed,
            },
            returning,
        )
        if found.get("refused"):
            raise DataError(found["refused"])
        if found.get("trained"):
            return Trial(batch_size, found["resident_bytes"], tuple(tried))
        batch_size = int(batch_size * _SMALLER)
    return Trial(0, 0, tuple(tried))


def in_child(asked: dict[str, Any], returning: bool) -> dict[str, Any]:
    """Run what is asked in a new process and return its answer.

    ``asked`` holds target, batch_size, seed and the limit of the whole process (limit_bytes) or
    what its steps may take (room_bytes).
    """
    environment = {k: v for k, v in os.environ.items() if k not in RETURNING_MEMORY}
    environment |= RETURNING_MEMORY if returning else {}
    with subprocess.Popen(
        [sys.executable, "-m", "batchsense.training.memory.trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as child:
        try:
            answer, _ = child.communicate(json.dumps(asked))
        except BaseException:
            child.kill()
            raise
    # A child that was killed or aborted has not answered: it ran out.
    found: dict[str, Any] = json.loads(answer) if answer.strip() else {"trained": False}
    return found


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    import resource

    from batchsense.training.memory.allocations import two_training_steps
    from batchsense.training.memory.example_sizes import examples_to_trace
    from batchsense.training.memory.probing import first_examples, most_demanding
    from batchsense.training.workload import borrowed_randomness, load_target

    try:
        workload = load_target(asked["target"])
    except DataError as error:
        return {"refused": str(error)}
    with borrowed_randomness(asked["seed"]):
        model = workload.fresh_model()
        lists, _ = examples_to_trace(workload)
        two_training_steps(workload, model, workload.minibatch(first_examples(lists[0], 4)))
        order = most_demanding(workload, model, lists)
        before, size = resident_bytes(), asked["batch_size"]
        room = asked.get("room_bytes") or max(asked["limit_bytes"] - before, 0)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + room, resource.RLIM_INFINITY))
        try:
            # Loaded twice, as a loop holds the last minibatch while it loads the next.
            minibatch = workload.minibatch(first_examples(order, size))
            two_training_steps(workload, model, minibatch)
            minibatch = workload.minibatch(first_examples(order, size))
        except Exception as error:
            if _ran_out(error):
                return {"trained": False}
            return {"refused": f"a step of {size} examples failed: {described(error)}"}
        return {"trained": True, "resident_bytes": max(_highest_resident() - before, 0)}


def _ran_out(error: BaseException | None) -> bool:
    """Whether an error, or what it came of, says that there was no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _highest_resident() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(_answer(json.load(sys.stdin)), out)
    out.close()
