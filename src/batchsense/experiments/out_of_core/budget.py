"""How many specimens fit in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass

from batchsense.errors import DataError
from batchsense.machine_memory import format_bytes
from batchsense.storage.matrices.chunks import ZARR_AT_ONCE
from batchsense.storage.matrices.location import MatrixLocation

#: Blocks in memory at a time: one is read, one computed, one written. Fewer where they are large.
BLOCKS = 3
#: What the allocator may still take, and loading the compiler where it is not loaded yet. With
#: these and the next one the study of 500 MB (``benchmarks/results/out_of_core.json``) peaks at
#: 354 to 467 MB.
RESERVE, COMPILER = 30_000_000, 100_000_000
#: What a process with all libraries occupies.
LIBRARIES = 280_000_000
#: Bytes of a block; it need not be larger, reading would not be faster.
LARGEST_BLOCK = 48_000_000
#: Bytes a number that a correction takes at its peak if it loads the matrix.
_LOADED = 20
#: Arrays per batch and feature that fitting holds at its peak, and those per kept term more: the
#: tables of statistics, fit and model.
_PER_BATCH, _PER_TERM = 24, 4


@dataclass(frozen=True, slots=True)
class Blocks:
    """How the specimens are taken."""

    rows: int  #: specimens of a block
    number: int  #: blocks in memory at a time


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What of a model takes memory."""

    #: batches and kept terms.
    batches: int
    terms: int = 0
    cells: int = 0  #: distinct combinations of both among the specimens


def needed(location: MatrixLocation, size: ModelSize, blocks: Blocks, folded: bool = False) -> int:
    r"""Count what correction holds in memory beside the libraries.

    With G features of s bytes, k batches, q kept terms, c distinct combinations of both in a block,
    and p chunks of w bytes that are unpacked at a time, m blocks of n specimens take

    .. math:: 8 G \,(k (24 + 4 q) + 3 c) + 4 p w + m n G s + n G u

    bytes, where u is what conversion takes: 24 for a CSR matrix, 8 for numbers of another type
    than float32 and float64, else 0. A block that stays ``folded`` takes what is stored of it, and
    s for each number if values are missing.
    """
    features = location.shape[1]
    cells = min(size.cells, max(4 * size.batches, blocks.rows // 4))
    tables = size.batches * (_PER_BATCH + _PER_TERM * size.terms) + 3 * cells
    touched = location.chunks_per_row * -(-blocks.rows // location.rows)
    chunks = location.chunk_bytes * min(ZARR_AT_ONCE, touched)
    # Packed and unpacked, read and written; where there is one block, not at the same time.
    packed = chunks * (4 if blocks.number > 1 else 2) if location.store == "zarr" else 0
    conversion = 0 if location.dtype == str(location.working) else 8
    conversion = 24 if location.form == "csr" else conversion
    each = location.working.itemsize * blocks.number + conversion
    if folded:
        width = location.working.itemsize * features + int(location.stored_bytes * blocks.number)
    else:
        width = features * each
    return 8 * features * tables + packed + blocks.rows * width


def loaded_bytes(location: MatrixLocation) -> int:
    """Estimate what a correction takes that loads the matrix.

    Values and result in double precision, and some more: measured 21 bytes a number of float32 (80
    million numbers), 18 of float64, dense or a tenth of them in a CSR matrix (40 million).
    """
    return location.shape[0] * location.shape[1] * _LOADED


def blocks_for(
    location: MatrixLocation,
    memory: int,
    size: ModelSize,
    aligned: int = 1,
    occupied: int = 0,
    folded: bool = False,
) -> Blocks:
    """The size of a block, and how many are in memory at a time.

    ``memory`` is what the process may occupy, ``occupied`` what it will occupy with all libraries,
    in bytes. Input and result store ``aligned`` specimens per chunk: blocks hold a multiple.
    ``folded`` says that a sparse matrix is not unfolded as a whole.

    Raises
    ------
    DataError
        Not even one chunk fits; says what is needed.
    """
    free = memory - occupied - RESERVE
    width = location.shape[1] * location.working.itemsize
    if folded:
        width = int(min(max(1.0, location.stored_bytes), width))
    most = min(max(1, LARGEST_BLOCK // width), location.shape[0]) // aligned
    for number in range(BLOCKS, 0, -1):
        for chunks in range(max(1, most), 0, -1):
            blocks = Blocks(chunks * aligned, number)
            if needed(location, size, blocks, folded) <= free:
                return blocks
    smallest = occupied + RESERVE + needed(location, size, Blocks(aligned, 1), folded)
    raise DataError(
        f"{format_bytes(memory)} of memory are too little: at least {format_bytes(smallest)} are "
        f"needed, of which the program itself takes {format_bytes(occupied)}, because {aligned} "
        "specimens are stored together; give more, or store the matrix in smaller chunks",
        where=location.path,
    )
