"""What a probe measured, and the file that keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from batchsense.errors import DataError
from batchsense.storage.documents import read_result
from batchsense.training.workers.probing.compute import ComputeReading
from batchsense.training.workers.probing.link import AllReduceReading, Count, Times
from batchsense.training.workers.probing.overlap import Bucket


@dataclass(frozen=True, slots=True)
class StepReading:
    """Real steps of DistributedDataParallel, a check of what the parts predict."""

    #: Of which step.
    workers: Count
    micro_batch: Count
    seconds: Times  #: Each repeat, by the slowest worker.


@dataclass(frozen=True, slots=True)
class Probe:
    """Raw readings of the parts of a distributed step.

    Attributes
    ----------
    target : str
        The training job.
    workers, nodes : int
        Processes that took part, and the machines they ran on.
    backend, interface, device : str, str or None, str
        What carried the gradients; which network interface, where it was named; where the model is.
    dtype : str
        Of the gradients, such as ``"float32"``; ``"mixed"`` for several.
    versions : dict of str to str
        Of python, torch and batchsense.
    compute : tuple of ComputeReading
        Local steps at two micro-batches.
    allreduce : tuple of AllReduceReading
        Sums of one message, sizes of real buckets among them; empty for one worker.
    buckets : tuple of Bucket
        The buckets of DistributedDataParallel as they are sent by default.
    gradients : tuple of Bucket
        One for each trained parameter, in the order in which they become ready.
    steps : tuple of StepReading
        Real distributed steps; empty for one worker.
    """

    target: str
    workers: Count
    nodes: Count
    backend: str
    interface: str | None
    device: str
    dtype: str
    versions: dict[str, str]
    compute: Annotated[tuple[ComputeReading, ...], Field(min_length=1)]
    allreduce: tuple[AllReduceReading, ...]
    buckets: Annotated[tuple[Bucket, ...], Field(min_length=1)]
    gradients: Annotated[tuple[Bucket, ...], Field(min_length=1)]
    steps: tuple[StepReading, ...] = ()

    @property
    def gradient_bytes(self) -> int:
        """Bytes of all gradients."""
        return sum(gradient.bytes for gradient in self.gradients)


def read_probe(path: str | Path, name: str | None = None) -> Probe:
    """Read what ``batchsense probe -o`` or ``--json`` wrote; errors call the file by its name.

    Raises
    ------
    DataError
        The file cannot be read, is another document, or holds a value that no probe measures.
    """
    how = "batchsense probe TARGET -o FILE"
    return probe_from(read_result(path, "probe", how, name), name or str(path))


def probe_from(result: dict[str, Any], where: str = "probe") -> Probe:
    """Make a probe of the ``result`` of its document.

    Raises DataError: a value is missing, of another type, or impossible; ``where`` says which.

    >>> probe_from({"target": "digits"})
    Traceback (most recent call last):
    batchsense.errors.DataError: probe: workers is missing; run batchsense probe again
    """
    known = {name: result[name] for name in Probe.__dataclass_fields__ if name in result}
    try:
        probe = TypeAdapter(Probe).validate_python(known)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        problem = "is missing" if first["type"] == "missing" else f"is damaged ({first['msg']})"
        raise DataError(f"{place} {problem}; run batchsense probe again", where) from None
    for index, row in enumerate(probe.compute):
        parts = row.forward_seconds, row.backward_seconds, row.optimizer_seconds
        if len({len(part) for part in parts}) > 1:
            raise DataError(
                f"compute.{index} has parts of unlike numbers of repeats; run batchsense probe "
                "again",
                where,
            )
    return probe
