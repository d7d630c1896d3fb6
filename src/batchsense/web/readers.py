"""How much reading and calculating with uploaded files may take, and how much of it at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from batchsense.machine_memory import available_memory
from batchsense.progress import Progress, silent
from batchsense.web.apart import Bounds, Runner, apart
from batchsense.web.files.uploads import UNFOLDED

T = TypeVar("T")
#: With the server and the libraries (some 300 MB) less than 1 GiB in all, whatever is sent.
MEMORY = 400_000_000
#: The largest text files that are taken are read in a tenth of this.
READING_S = 200.0
#: A look reads a sheet, no matrix.
_SHARE_OF_A_LOOK = 0.4
#: The rest is for the other programs of the machine.
_SHARE_OF_THE_MACHINE = 0.8


class Readers:
    """Work on uploaded files, each in a process of its own; looks at them wait for each other.

    ``limit`` is the largest upload, ``memory`` what a calculation may take beyond ten times what
    was sent, both in bytes; files must have been read within ``reading_s`` seconds.
    """

    def __init__(
        self,
        limit: int,
        memory: int = MEMORY,
        reading_s: float = READING_S,
        runner: Runner = apart,
    ) -> None:
        self.limit, self.memory, self.reading_s, self.runner = limit, memory, reading_s, runner
        self._one_look = threading.Lock()

    def look(self, work: Callable[[Progress], T], sent: int) -> T:
        """Look at files of so many bytes."""
        with self._one_look:
            found: T = self.runner(work, self.bounds(sent, _SHARE_OF_A_LOOK), silent)
            return found

    def calculate(self, work: Callable[[Progress], T], sent: int, listen: Progress) -> T:
        """Calculate with files of so many bytes."""
        found: T = self.runner(work, self.bounds(sent), listen)
        return found

    def bounds(self, sent: int, share: float = 1.0) -> Bounds:
        """What work on files of so many bytes may take."""
        memory = int(share * self.memory) + UNFOLDED * sent
        left = available_memory()
        if left is not None:
            memory = min(memory, int(_SHARE_OF_THE_MACHINE * left))
        return Bounds(memory, UNFOLDED * self.limit, share * self.reading_s)
