"""The pages of every question: files if it needs some, a form, the calculation, the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request as Call
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from batchsense.errors import BatchsenseError, DataError, RequestError
from batchsense.progress import Progress
from batchsense.questions.registry import Question
from batchsense.questions.request import Request
from batchsense.web.answers import answer_routes, begin, last_choice
from batchsense.web.apart import ExceededError
from batchsense.web.calculation import Calculation
from batchsense.web.files.look import Look
from batchsense.web.files.sheet_columns import SheetOutline, digits_outline
from batchsense.web.files.uploads import (
    DOCUMENT_KINDS,
    MATRIX_KINDS,
    SHEET_KINDS,
    STEPS_KINDS,
    UNFOLDED,
    Upload,
    chosen_files,
    keep_files,
)
from batchsense.web.forms import form_fields, in_words_of_the_form, read_form, text_field
from batchsense.web.jobs import Answer, Job, Place, here
from batchsense.web.pages import (
    OFFERED,
    error_page,
    exceeded_page,
    full_page,
    page,
    typed_error_page,
)
from batchsense.web.readers import Readers
from batchsense.web.visitors import FullError, Visitors

_DIGITS = "digits"
#: A sheet of a thousand columns has three fields a column in the largest form.
_MOST_FIELDS = 5000
#: Questions that start from files, by what they are about.
_FROM_FILES = ("table", "sheet", "plan", "steps")


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
        """The paths of the files, by field of the request or ``document``."""
        if self.upload is None:
            return {}
        upload = self.upload
        of = {"matrix": upload.matrix, "sheet": upload.sheet, "document": upload.document}
        found = {name: str(path) for name, path in of.items() if path is not None}
        if upload.sheet is not None and upload.sheet.suffix.lower() == ".xlsx" and self.worksheet:
            found["sheet"] = f"{upload.sheet}#{self.worksheet}"
        return found


def question_routes() -> list[Route]:
    """The routes of all questions."""
    return [route for question in OFFERED.values() for route in _Pages(question).routes()]


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
            kinds={
                "matrix": MATRIX_KINDS,
                "sheet": SHEET_KINDS,
                "plan": DOCUMENT_KINDS,
                "steps": STEPS_KINDS,
            },
            builtin=bool(self.kind.built_in()),
        )

    async def send(self, call: Call) -> Response:
        """Take files in, and lead to the form."""
        visitors: Visitors = call.app.state.visitors
        before = visitors.find(call)
        async with call.form(max_files=2, max_fields=4) as form:
            try:
                chosen = chosen_files(form, self.kind.about)
                readers = call.app.state.readers
                upload = await run_in_threadpool(keep_files, visitors.root, chosen, readers)
            except BatchsenseError as error:
                return typed_error_page(error, self.command, f"/{self.command}")
            except ExceededError as error:
                return exceeded_page(error, self.command, f"/{self.command}")
        if before is not None and before not in visitors:  # forgotten while the files came in
            upload.delete()
            return self._no_files()
        try:
            visitor = visitors.take(call, self.kind.about, upload)
        except FullError:
            return full_page(self.command, f"/{self.command}")
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
                found = await run_in_threadpool(_outline, call, upload, worksheet)
            except BatchsenseError as error:
                return typed_error_page(error, self.command, f"/{self.command}")
            except ExceededError as error:
                return exceeded_page(error, self.command, f"/{self.command}")
        return page(
            "form.html.j2",
            self.command,
            question=self.question,
            about=self.kind.about,
            upload=upload,
            found=found,
            fields=[
                one
                for one in form_fields(self.kind, last.values)
                if one.described.option.of != "wide" or (upload is not None and upload.wide)
            ],
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
        try:
            visitor = call.app.state.visitors.welcome(call)
        except FullError:
            return full_page(self.command, back)
        job = Job(Calculation(checked, choice.names), choice, _place(call, upload))
        return await begin(call, visitor, self.command, job)

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


def _outline(call: Call, upload: Upload | None, worksheet: str | None) -> SheetOutline:
    if upload is None:
        return digits_outline()
    if not upload.outline.worksheets or worksheet in (None, upload.outline.worksheet):
        return upload.outline
    readers: Readers = call.app.state.readers
    look = Look(upload.parts, UNFOLDED * readers.limit, worksheet)
    return replace(
        readers.look(look, upload.sent)[1],
        worksheets=upload.outline.worksheets,
    )


def _place(call: Call, upload: Upload | None) -> Place:
    """Where a calculation is done: what a visitor sent is read in another process only.

    Training jobs stay here, where torch is loaded once; of a plan they take a few checked numbers.
    """
    if upload is None or upload.document is not None:
        return here
    readers: Readers = call.app.state.readers
    return partial(_calculate, readers, upload.sent)


def _calculate(
    readers: Readers, sent: int, work: Callable[[Progress], Answer], listen: Progress
) -> Answer:
    return readers.calculate(work, sent, listen)


def _choice(kind: type[Request], form: FormData, upload: Upload | None) -> Choice:
    """What a form says."""
    worksheet = text_field(form, "worksheet")
    known = () if upload is None else upload.outline.worksheets
    if not known:
        worksheet = None
    elif worksheet not in (None, *known):
        raise DataError(f"the workbook has no worksheet {worksheet!r}; choose one of its own")
    return Choice(upload, worksheet, read_form(kind, form, upload is None))


def _request(kind: type[Request], choice: Choice) -> Request:
    values = {**choice.values, **choice.files()}
    if "document" in values:  # the field of a document bears the name of what it is
        values[kind.about] = values.pop("document")
    output = kind.model_fields.get("output")
    if output is not None and output.is_required():
        values["output"] = "unnamed"
    request = kind.of(values).known_as(choice.names)
    name = request.offered_output()
    return request if name is None else kind.of({**values, "output": name}).known_as(choice.names)
