"""What every question about a training job asks: which one, and where the document goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from batchsense.progress import Progress
from batchsense.questions.option import Option
from batchsense.questions.request import About, Request

if TYPE_CHECKING:
    from batchsense.training import Workload

#: The training jobs that come with the package; no browser may name any other, whose code is run.
BUILT_IN_TARGETS = {
    "digits": "a small network that reads handwritten digits",
    "charlm": "a small transformer that reads Python's own source text",
}

TargetField = Annotated[
    str,
    Option(
        "digits, charlm, path.py:function or module:function (it is run).",
        of="target",
        argument=True,
        metavar="TARGET",
        label="Training job",
        front=True,
        choices=BUILT_IN_TARGETS,
    ),
]


class TrainingRequest(Request):
    """Base of the questions about a training job."""

    about: ClassVar[About] = "training job"

    target: TargetField = "digits"
    output: Annotated[
        str | None,
        Option("Also write the JSON document here.", short="-o", metavar="FILE", of="output"),
    ] = None

    def workload(self, progress: Progress) -> Workload:
        """Make the training job."""
        from batchsense.training import load_target

        progress("preparing the training job", 0, 1)
        return load_target(self.target)
