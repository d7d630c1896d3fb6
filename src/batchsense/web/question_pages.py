"""The pages of every question: files if it needs some, a form, the calculation, the answer."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request as Call
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from batchsense.errors import (
    BatchsenseError,
    ConfoundedError,
    DataError,
    RequestError,
    UnresolvedError,
)
from batchsense.progress import Progress
from batchsense.questions.registry import QUESTIONS, Question
from batchsense.questions.request import Request
from batchsense.questions.table_request import known_names
from batchsense.web.answers import answer_routes, begin, last_choice
from batchsense.web.archives import pack
from batchsense.web.forms import form_fields, in_words_of_the_form, read_form, text_field
from batchsense.web.jobs import Answer, Work
from batchsense.web.pages import error_page, page, typed_error_page
from batchsense.web.sheet_columns import SheetOutline, sheet_outline
from batchsense.web.uploads import (
    DOCUMENT_KINDS,
    MATRIX_KINDS,
    SHEET_KINDS,
    Upload,
    chosen_files,
    keep_files,
)
from batchsense.web.visitors import Visitors

_DIGITS = "digits"
#: A sheet of a thousand columns has three fields a column in the largest form.
_MOST_FIELDS = 5000
#: Questions that start from files, by what they are about.
_FROM_FILES = ("table", "sheet", "plan")


@dataclass(frozen=True, slots=True)
class Choice:
    """What a visitor chose."""

    upload: Upload | None = None
    worksheet: str | None = None
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """The names that the visitor knows, by path."""
        if self.upload is None:
            return {}
        known = {str(path): path.name for path in self.upload.paths}
        if self.worksheet is not None and self.upload.sheet is not None:
            sheet = self.upload.sheet
            known[f"{sheet}#{self.worksheet}"] = f"{sheet.name}#{self.worksheet}"
        return known

    def files(self) -> dict[str, str]:
        """The paths of the files, by field of the request."""
        if self.upload is None:
            return {}
        upload = self.upload
        of = {"matrix": upload.matrix, "sheet": upload.sheet, "plan": upload.document}
        found = {name: str(path) for name, path in of.items() if path is not None}
        if upload.sheet is not None and upload.sheet.suffix.lower() == ".xlsx" and self.worksheet:
            found["sheet"] = f"{upload.sheet}#{self.worksheet}"
        return found


def question_routes() -> list[Route]:
    """The routes of all questions."""
    return [route for question in QUESTIONS.values() for route in _Pages(question).routes()]


class _Pages:
    """The pages of one question."""

    def __init__(self, question: Question) -> None:
        self.question, self.command, self.kind = question, question.command, question.request
        self.from_files = self.kind.about in _FROM_FILES
        self.form_path = f"/{self.command}/columns" if self.from_files else f"/{self.command}"

    def routes(self) -> list[Route]:
        """The addresses: files if there are any, the form, the calculation, its answer."""
        command = self.command
        first = [
            Route(f"/{command}", self.files),
            Route(f"/{command}/files", self.send, methods=["POST"]),
        ]
        return [
            *(first if self.from_files else []),
            Route(self.form_path, self.form),
            Route(f"/{command}/run", self.run, methods=["POST"]),
            *answer_routes(command, f"/{command}/again"),
            Route(f"/{command}/again", self.again),
        ]

    async def files(self, call: Call) -> Response:
        """Ask for files."""
        return page(
            "files.html.j2",
            self.command,
            question=self.question,
            about=self.kind.about,
            upload=self._upload(call),
            limit=call.app.state.limit,
            kinds={"matrix": MATRIX_KINDS, "sheet": SHEET_KINDS, "plan": DOCUMENT_KINDS},
            builtin=bool(self.kind.built_in()),
        )

    async def send(self, call: Call) -> Response:
        """Take files in, and lead to the form."""
        visitors: Visitors = call.app.state.visitors
        async with call.form(max_files=2, max_fields=4) as form:
            visitor = visitors.welcome(call)
            try:
                chosen = chosen_files(form, self.kind.about)
                upload = await run_in_threadpool(
                    keep_files, visitor.folder, chosen, call.app.state.limit
                )
            except BatchsenseError as error:
                answer: Response = typed_error_page(error, self.command, f"/{self.command}")
                return visitors.remember(visitor, answer)
        if visitor not in visitors:  # forgotten while the files came in
            shutil.rmtree(visitor.folder, ignore_errors=True)
            return self._no_files()
        visitor.take(self.kind.about, upload)
        visitors.trim(visitor)
        return visitors.remember(visitor, RedirectResponse(self.form_path, 303))

    async def form(self, call: Call) -> Response:
        """Show the form, as it was filled in last."""
        builtin = self._wants_builtin(call.query_params.get("data"))
        upload = None if builtin or not self.from_files else self._upload(call)
        if self.from_files and upload is None and not builtin:
            return self._no_files()
        last = last_choice(call, self.command)
        if last is None or last.upload != upload:
            last = Choice(upload, values=self.kind.built_in() if builtin else {})
        worksheet = call.query_params.get("worksheet") or last.worksheet
        found = SheetOutline([])
        if self.kind.about in ("table", "sheet"):
            try:
                found = await run_in_threadpool(sheet_outline, upload, worksheet)
            except BatchsenseError as error:
                return typed_error_page(error, self.command, f"/{self.command}")
        return page(
            "form.html.j2",
            self.command,
            question=self.question,
            about=self.kind.about,
            upload=upload,
            found=found,
            fields=form_fields(self.kind, last.values),
            chosen=last.values,
        )

    async def run(self, call: Call) -> Response:
        """Read the form into a request, and start the calculation."""
        async with call.form(max_files=0, max_fields=_MOST_FIELDS) as form:
            builtin = self._wants_builtin(form.get("data"))
            upload = None if builtin or not self.from_files else self._upload(call)
            if self.from_files and upload is None and not builtin:
                return self._no_files()
            back = self.form_path + (f"?data={_DIGITS}" if builtin and self.from_files else "")
            try:
                choice = _choice(self.kind, form, upload)
                checked = _request(self.kind, choice)
            except RequestError as error:
                told = RequestError(in_words_of_the_form(self.kind, error.message))
                return typed_error_page(told, self.command, back)
            except BatchsenseError as error:
                return typed_error_page(error, self.command, back)
        visitor = call.app.state.visitors.welcome(call)
        work = _work_on(self.question, checked, choice)
        return await begin(call, visitor, self.command, work, choice)

    async def again(self, call: Call) -> Response:
        """Lead back to the form."""
        last = last_choice(call, self.command)
        builtin = self.from_files and last is not None and last.upload is None
        return RedirectResponse(self.form_path + (f"?data={_DIGITS}" if builtin else ""))

    def _wants_builtin(self, data: object) -> bool:
        return bool(self.kind.built_in()) and data == _DIGITS

    def _upload(self, call: Call) -> Upload | None:
        visitor = call.app.state.visitors.find(call)
        return None if visitor is None else visitor.uploads.get(self.kind.about)

    def _no_files(self) -> Response:
        return error_page(
            404,
            "There are no files here",
            "Either none were sent yet, or they were deleted: that happens an hour after your last "
            "visit, and when batchsense web ends. Send them again.",
            self.command,
            f"/{self.command}",
        )


def _choice(kind: type[Request], form: FormData, upload: Upload | None) -> Choice:
    return Choice(upload, text_field(form, "worksheet"), read_form(kind, form, upload is None))


def _request(kind: type[Request], choice: Choice) -> Request:
    values = {**choice.values, **choice.files()}
    output = kind.model_fields.get("output")
    if output is not None and output.is_required():
        values["output"] = "unnamed"
    request = kind.of(values).known_as(choice.names)
    name = request.offered_output()
    return request if name is None else kind.of({**values, "output": name}).known_as(choice.names)


def _work_on(question: Question, request: Request, choice: Choice) -> Work:
    """The calculation: the same as on the command line, with its file in a folder of its own."""

    def work(progress: Progress, folder: Path) -> Answer:
        name = request.offered_output()
        target = None if name is None else folder / name
        here, names = request, choice.names
        if target is not None and name is not None:
            names = {**names, str(target): name}
            here = request.model_copy(update={"output": str(target)}).known_as(names)
        try:
            answer = question.ask(here, progress)
            for product in answer.products:
                if target is not None and product.field == "output":
                    progress(f"writing the {product.name}", 0, 1)
                    product.write(target)
        except (ConfoundedError, UnresolvedError) as error:
            from batchsense.reports.envelope import Refusal

            refusal = Refusal.of(error)
            return Answer(here.envelope(None, refusal=refusal).to_json(), refusal=refusal)
        except RequestError as error:
            message = in_words_of_the_form(type(here), error.message)
            raise RequestError(message) from None
        except DataError as error:
            raise known_names(error, names) from None
        if target is not None and target.is_dir():
            progress(f"packing {name}", 0, 1)
            target = pack(target)
        progress("drawing the report", 0, 1)
        report = answer.html(here.words())
        return Answer(answer.envelope.to_json(), report, file=target)

    return work
