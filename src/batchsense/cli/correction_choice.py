"""The options of ``batchsense correct`` that choose a correction."""

from __future__ import annotations

from typing import Annotated

import typer

from batchsense.questions.correct.choice import Method

MethodOption = Annotated[
    Method,
    typer.Option(help="How to correct: shift; shift and rescale; or remodel counts."),
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="LEVEL",
        help="combat: the batch that stays as it is; the others are brought to it.",
    ),
]
MeanOnlyOption = Annotated[
    bool, typer.Option("--mean-only", help="combat: shift the batches, do not rescale them.")
]
NonParametricOption = Annotated[
    bool,
    typer.Option("--non-parametric", help="combat: no assumed shape of the batch effects; slower."),
]
DespiteOption = Annotated[
    bool,
    typer.Option(
        "--despite-confounding",
        help="Go on where a kept column cannot be told from the batches, and lose it.",
    ),
]
