"""The page of ``batchsense diagnose``: what varies with the batches, and one verdict."""

from __future__ import annotations

from batchsense.errors import ConfoundedError, UnresolvedError
from batchsense.progress import Progress
from batchsense.web.jobs import Answer, Work
from batchsense.web.table_choice import TableChoice, load
from batchsense.web.table_pages import table_routes


def work_on(choice: TableChoice, _: str) -> Work:
    """Make the calculation of a choice: the same as on the command line, number by number."""

    def work(progress: Progress) -> Answer:
        from batchsense.experiments import diagnose
        from batchsense.reports.envelope import Envelope, Refusal
        from batchsense.reports.html import diagnose_report
        from batchsense.reports.results.diagnose import DiagnoseResult
        from batchsense.reports.results.shares import published

        progress("reading the files", 0, 1)
        table, _stored, inputs = load(choice)
        try:
            found = diagnose(
                table,
                choice.batch_labels,
                choice.keep,
                categorical=choice.categorical,
                numeric=choice.numeric,
                standardise=choice.standardise,
                permutations=choice.permutations,
                seed=choice.seed,
                progress=progress,
            )
        except (ConfoundedError, UnresolvedError) as error:
            refused = Envelope[DiagnoseResult](
                command="diagnose",
                inputs=inputs,
                seed=choice.seed,
                result=None,
                refusal=Refusal.of(error),
            )
            return Answer(refused.to_json(), refusal=refused.refusal)
        envelope = Envelope[DiagnoseResult](
            command="diagnose",
            inputs=inputs,
            seed=choice.seed,
            result=DiagnoseResult.of(found, table.orientation, choice.standardise),
            notes=published(found.notes),
        )
        progress("drawing the report", 0, 1)
        more = ["--standardise"] if choice.standardise else []
        more += ["--permutations", str(choice.permutations), "--seed", str(choice.seed)]
        words = choice.command_line("diagnose", *more)
        return Answer(envelope.to_json(), diagnose_report(envelope, found, table, words))

    return work


ROUTES = table_routes("diagnose", work_on)
