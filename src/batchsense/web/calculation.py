"""A question asked of a visitor's files: what another process can be given to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batchsense.errors import ConfoundedError, DataError, RequestError, UnresolvedError
from batchsense.progress import Progress
from batchsense.questions.registry import QUESTIONS
from batchsense.questions.request import Request
from batchsense.questions.table_request import known_names
from batchsense.web.files.archives import pack
from batchsense.web.forms import in_words_of_the_form
from batchsense.web.jobs import Answer


@dataclass(frozen=True, slots=True)
class Calculation:
    """The calculation of the command line, with its file in a folder of its own."""

    request: Request  #: What is asked
    names: Mapping[str, str]  #: The names of files that the visitor knows, by path

    def __call__(self, progress: Progress, folder: Path) -> Answer:
        """Calculate, write what is to be downloaded, and draw the report."""
        request, names = self.request, self.names
        name = request.offered_output()
        target = None if name is None else folder / name
        if target is not None and name is not None:
            names = {**names, str(target): name}
            request = request.model_copy(update={"output": str(target)}).known_as(names)
        try:
            answer = QUESTIONS[request.command].ask(request, progress)
            for product in answer.products:
                if target is not None and product.field == "output":
                    progress(f"writing the {product.name}", 0, 1)
                    product.write(target)
        except (ConfoundedError, UnresolvedError) as error:
            from batchsense.reports.envelope import Refusal

            refusal = Refusal.of(error)
            return Answer(request.envelope(None, refusal=refusal).to_json(), refusal=refusal)
        except RequestError as error:
            message = in_words_of_the_form(type(request), error.message)
            raise RequestError(message) from None
        except DataError as error:
            raise known_names(error, names) from None
        if target is not None and target.is_dir():
            progress(f"packing {name}", 0, 1)
            target = pack(target)
        progress("drawing the report", 0, 1)
        report = answer.html(request.words())
        return Answer(answer.envelope.to_json(), report, file=target)
