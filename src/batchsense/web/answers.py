"""The page of a calculation: waiting, answer, refusal or error; and the downloads of its answer."""

from __future__ import annotations

import mimetypes
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from batchsense.errors import BatchsenseError
from batchsense.web.apart import ExceededError
from batchsense.web.jobs import Answer, Job, SupersededError
from batchsense.web.pages import (
    error_page,
    exceeded_page,
    full_page,
    page,
    typed_error_page,
    with_bar,
)
from batchsense.web.visitors import FullError, Visitor, Visitors

#: A short calculation is waited for, so that its answer comes without a page in between.
_PATIENCE_S = 1.0


async def begin(request: Request, visitor: Visitor, command: str, job: Job) -> Response:
    """Start a calculation and lead to its page."""
    visitors: Visitors = request.app.state.visitors
    visitor.run(command, job, visitors.worker)
    await run_in_threadpool(job.wait, _PATIENCE_S)
    return visitors.remember(visitor, RedirectResponse(f"/{command}/result", 303))


def last_choice(request: Request, command: str) -> Any:
    """Give what the visitor asked for last, None where nothing was."""
    visitor = request.app.state.visitors.find(request)
    job = visitor.jobs.get(command) if visitor else None
    return None if job is None else job.choice


def answer_routes(command: str, back: str) -> list[Route]:
    """Make the routes of a command's answer."""

    async def result(request: Request) -> Response:
        job = _job(request, command)
        if job is None:
            return _nothing(command)
        if not job.over:
            waiting = page("waiting.html.j2", command, stage=job.stage, elapsed=job.elapsed)
            waiting.headers["Refresh"] = "2"
            return waiting
        visitors: Visitors = request.app.state.visitors
        visitor = visitors.find(request)
        assert visitor is not None  # else there is no job
        try:
            visitors.keep(visitor)
            answer = job.answer()
        except FullError:
            job.discard()
            visitor.jobs.pop(command)
            return full_page(command, back)
        except SupersededError:
            return error_page(
                409,
                "This calculation was stopped",
                "A newer one was started, or the files were replaced: of every visitor only the "
                "newest calculation runs.",
                command,
                back,
            )
        except BatchsenseError as error:
            return typed_error_page(error, command, back)
        except MemoryError:
            return exceeded_page(ExceededError("memory"), command, back)
        except ExceededError as error:
            return exceeded_page(error, command, back)
        if answer.refusal is not None:
            return page("refusal.html.j2", command, refusal=answer.refusal, back=back)
        name = None if answer.file is None else answer.file.name
        return HTMLResponse(with_bar(answer.report or "", command, name))

    async def cancel(request: Request) -> Response:
        job = _job(request, command)
        if job is not None and not job.over:
            job.discard()
        return RedirectResponse(back, 303)

    async def report(request: Request) -> Response:
        answer = _answer(request, command)
        if answer is None or answer.report is None:
            return _nothing(command)
        name = f"batchsense-{command}.html"
        return Response(answer.report, media_type="text/html", headers=_attached(name))

    async def document(request: Request) -> Response:
        answer = _answer(request, command)
        if answer is None:
            return _nothing(command)
        name = f"batchsense-{command}.json"
        text = answer.document + "\n"
        return Response(text, media_type="application/json", headers=_attached(name))

    async def file(request: Request) -> Response:
        answer = _answer(request, command)
        if answer is None or answer.file is None or not answer.file.exists():
            return _nothing(command)
        kind, packed = mimetypes.guess_type(answer.file.name)
        kind = "application/gzip" if packed else kind or "application/octet-stream"
        return FileResponse(answer.file, media_type=kind, filename=answer.file.name)

    return [
        Route(f"/{command}/result", result),
        Route(f"/{command}/cancel", cancel, methods=["POST"]),
        Route(f"/{command}/report.html", report),
        Route(f"/{command}/result.json", document),
        Route(f"/{command}/file", file),
    ]


def _job(request: Request, command: str) -> Job | None:
    """Give the visitor's calculation."""
    visitor = request.app.state.visitors.find(request)
    return None if visitor is None else visitor.jobs.get(command)


def _answer(request: Request, command: str) -> Answer | None:
    """Give the answer of the visitor's calculation, None where there is none (yet)."""
    job = _job(request, command)
    try:
        return job.answer() if job is not None and job.over else None
    except (SupersededError, BatchsenseError, ExceededError, MemoryError):
        return None


def _attached(name: str) -> dict[str, str]:
    """Make the header that lets a browser save what it gets."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _nothing(command: str) -> Response:
    """Say that there is no answer here."""
    return error_page(
        404,
        "There is no result here",
        "Either nothing was calculated yet, or it was forgotten: files and results are deleted an "
        "hour after your last visit, and when batchsense web ends.",
        command,
        f"/{command}",
    )
