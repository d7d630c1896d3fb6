"""The first look at files that were sent: what is inside, and what the form can offer of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchsense.errors import DataError
from batchsense.experiments.tables.matrix import suffix_of
from batchsense.progress import Progress, silent
from batchsense.questions.table_request import known_names
from batchsense.web.files.archives import ARCHIVES, unpack
from batchsense.web.files.contents import check_contents
from batchsense.web.files.sheet_columns import SheetOutline, files_outline


@dataclass(frozen=True, slots=True)
class Look:
    """A look at files; call it in a process of its own, and it gives what it saw."""

    #: The files, by the field of the form that brought them: matrix, sheet or plan.
    paths: Mapping[str, Path]
    most: int  #: Bytes to which a file may unfold
    worksheet: str | None = None  #: The worksheet to show; else the first that can be read

    def __call__(self, listen: Progress = silent) -> tuple[dict[str, Path], SheetOutline]:
        """Check, unpack and outline the files; archives have then given way to folders."""
        paths = {part: self._checked(path) for part, path in self.paths.items()}
        if "plan" in paths or "steps" in paths:
            return paths, SheetOutline([])
        try:
            return paths, files_outline(paths.get("matrix"), paths.get("sheet"), self.worksheet)
        except DataError as error:
            raise known_names(error, {str(path): path.name for path in paths.values()}) from None

    def _checked(self, path: Path) -> Path:
        check_contents(path, self.most)
        if suffix_of(path) in ARCHIVES:
            path = unpack(path, self.most)
            check_contents(path, self.most)
        return path
