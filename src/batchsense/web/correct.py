"""The page of ``batchsense correct``: the corrected matrix to download, or why there is none."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from batchsense.errors import ConfoundedError, DataError, UnresolvedError
from batchsense.progress import Progress
from batchsense.web.jobs import Answer, Work
from batchsense.web.table_choice import TableChoice, load
from batchsense.web.table_pages import table_routes


def work_on(choice: TableChoice, folder: str) -> Work:
    """Make the calculation of a choice; the matrix goes to a folder of the visitor."""

    def work(progress: Progress) -> Answer:
        from batchsense.experiments import LinearCorrection, write
        from batchsense.reports.envelope import Envelope, Refusal
        from batchsense.reports.html import correct_report
        from batchsense.reports.results.correct import CorrectResult, provenance
        from batchsense.reports.results.shares import published

        progress("reading the files", 0, 1)
        table, stored, inputs = load(choice)
        correction = LinearCorrection(
            keep=choice.keep, categorical=choice.categorical, numeric=choice.numeric
        )
        try:
            fitted = correction.fit(table, choice.batch_labels, progress)
            corrected = fitted.transform(table)
        except (ConfoundedError, UnresolvedError) as error:
            refused = Envelope[CorrectResult](
                command="correct",
                inputs=inputs,
                seed=choice.seed,
                result=None,
                refusal=Refusal.of(error),
            )
            return Answer(refused.to_json(), refusal=refused.refusal)
        name = output_name(None if choice.upload is None else choice.upload.names[0])
        envelope = Envelope[CorrectResult](
            command="correct",
            inputs=inputs,
            seed=choice.seed,
            result=CorrectResult.of(corrected, name),
            notes=published(table.notes),
        )
        progress("writing the corrected matrix", 0, 1)
        target = Path(tempfile.mkdtemp(dir=folder)) / name
        try:
            write(
                stored,
                corrected.values,
                target,
                provenance(corrected, envelope, {"method": corrected.method}),
            )
            progress("drawing the report", 0, 1)
            words = choice.command_line("correct", "--method", corrected.method, "--output", name)
            report = correct_report(envelope, corrected, words)
        except BaseException as error:
            shutil.rmtree(target.parent, ignore_errors=True)
            if isinstance(error, DataError):
                raise DataError(str(error).replace(str(target), name)) from None
            raise
        return Answer(envelope.to_json(), report, matrix=target)

    return work


def output_name(matrix: str | None) -> str:
    """Name the corrected matrix after the one that was sent, in the same format.

    Examples
    --------
    >>> output_name("cells.tsv.gz"), output_name(None)
    ('cells-corrected.tsv.gz', 'digits-corrected.csv')
    """
    name = Path(matrix or "digits.csv")
    endings = name.suffixes[-2:] if name.suffix.lower() == ".gz" else name.suffixes[-1:]
    ending = "".join(endings)
    return f"{name.name.removesuffix(ending)}-corrected{ending}"


ROUTES = table_routes("correct", work_on)
