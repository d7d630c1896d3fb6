"""The HTML reports: one function per command, each giving a single self-contained page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.reports.envelope import Envelope
from batchsense.reports.page import render, write_report

if TYPE_CHECKING:
    from batchsense.experiments import ContrastTests, Corrected, Diagnosis, Table
    from batchsense.reports.results.audit import AuditResult
    from batchsense.reports.results.correct import CorrectResult
    from batchsense.reports.results.demo import DemoResult
    from batchsense.reports.results.diagnose import DiagnoseResult
    from batchsense.reports.results.gap import GapResult
    from batchsense.reports.results.noise import GradientNoiseResult
    from batchsense.reports.results.placebo import PlaceboResult
    from batchsense.reports.results.plan import PlanResult
    from batchsense.reports.results.test import ContrastTestsResult
    from batchsense.reports.results.verify import VerifyResult

__all__ = [
    "audit_report",
    "contrast_report",
    "correct_report",
    "demo_report",
    "diagnose_report",
    "gap_report",
    "noise_report",
    "plan_report",
    "verify_report",
    "write_report",
]


def plan_report(envelope: Envelope[PlanResult], command_line: str | None = None) -> str:
    """Write the report of a plan.

    Parameters
    ----------
    envelope : Envelope of PlanResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.plan import plan_pictures

    result = envelope.answer()
    pictures = plan_pictures(result)
    return render("plan.html.j2", envelope, command_line, pictures=pictures)


def noise_report(envelope: Envelope[GradientNoiseResult], command_line: str | None = None) -> str:
    """Write the report of a noise measurement.

    Parameters
    ----------
    envelope : Envelope of GradientNoiseResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.noise import noise_pictures
    from batchsense.reports.text import noise as text

    result = envelope.answer()
    header, rows = text.layer_rows(result)
    return render(
        "noise.html.j2",
        envelope,
        command_line,
        pictures=noise_pictures(result),
        headline=text.headline(result),
        unresolved=text.unresolved_sentence(result),
        meaning=text.meaning(result),
        run=text.run_sentence(result),
        layer_header=header,
        layer_rows=rows,
    )


def verify_report(envelope: Envelope[VerifyResult], command_line: str | None = None) -> str:
    """Write the report of a checked plan.

    Parameters
    ----------
    envelope : Envelope of VerifyResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.verify import sweep_picture
    from batchsense.reports.text.verify import verdict_sentence

    result = envelope.answer()
    return render(
        "verify.html.j2",
        envelope,
        command_line,
        sentence=verdict_sentence(result),
        sweep=sweep_picture(result),
    )


def audit_report(envelope: Envelope[AuditResult], command_line: str | None = None) -> str:
    """Write the report of an audit.

    Parameters
    ----------
    envelope : Envelope of AuditResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.audit import audit_picture

    result = envelope.answer()
    return render("audit.html.j2", envelope, command_line, drawn=audit_picture(result))


def diagnose_report(
    envelope: Envelope[DiagnoseResult],
    found: Diagnosis | None = None,
    table: Table | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of a diagnosis.

    Parameters
    ----------
    envelope : Envelope of DiagnoseResult
        The answer; the page carries it unchanged.
    found : Diagnosis, optional
        What the answer was made of.
    table : Table, optional
        What was diagnosed. With both, the page shows the specimens in a plane.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.diagnose import (
        design_pictures,
        plane_pictures,
        scores_picture,
        share_picture,
    )
    from batchsense.reports.text.diagnose import interaction_sentence
    from batchsense.reports.text.scores import contrast_sentences

    result = envelope.answer()
    return render(
        "diagnose.html.j2",
        envelope,
        command_line,
        shares=share_picture(result),
        uncrossed=interaction_sentence(envelope),
        designs=design_pictures(result),
        contrasts=contrast_sentences(result.kept),
        components=None if result.scores is None else scores_picture(result.scores),
        placebo=None if result.placebo is None else _placebo(result.placebo, result.batch.name),
        planes=[] if found is None or table is None else plane_pictures(found, table),
    )


def _placebo(found: PlaceboResult, batch_name: str) -> dict[str, object]:
    """Give what the report of a diagnosis shows of its placebo."""
    from batchsense.reports.pictures.placebo import placebo_picture
    from batchsense.reports.text import placebo as text

    header, rows = text.placebo_rows(found, batch_name)
    return {
        "introduction": text.introduction(found),
        "picture": placebo_picture(found, batch_name),
        "columns": [
            (name, "n") if place > 1 else (name.capitalize(), "")
            for place, name in enumerate(header)
        ],
        "rows": rows,
        "remarks": text.remarks(found, batch_name),
    }


def correct_report(
    envelope: Envelope[CorrectResult],
    corrected: Corrected | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of a correction.

    Parameters
    ----------
    envelope : Envelope of CorrectResult
        The answer; the page carries it unchanged.
    corrected : Corrected, optional
        What the answer was made of: adds pictures of the specimens before and after.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.correct import before_and_after
    from batchsense.reports.text.correct import out_of_core_line, reused_line

    how, earlier = envelope.answer().out_of_core, envelope.answer().reused
    planes = [] if corrected is None else before_and_after(corrected)
    on_disk = None if how is None else out_of_core_line(how)
    return render(
        "correct.html.j2",
        envelope,
        command_line,
        planes=planes,
        on_disk=on_disk,
        reused=None if earlier is None else reused_line(earlier),
    )


def contrast_report(
    envelope: Envelope[ContrastTestsResult],
    found: ContrastTests | None = None,
    command_line: str | None = None,
) -> str:
    """Write the report of tests.

    Parameters
    ----------
    envelope : Envelope of ContrastTestsResult
        The answer; the page carries it unchanged.
    found : ContrastTests, optional
        What the answer was made of: adds pictures of all features.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.test import effect_pictures
    from batchsense.reports.text import test as text

    result = envelope.answer()
    return render(
        "test.html.j2",
        envelope,
        command_line,
        model=text.model_sentence(result),
        headlines=text.headlines(result),
        untested=sum(result.untested.values()),
        prices=text.price_rows(result),
        pictures=[] if found is None else effect_pictures(found),
        tables=text.feature_tables(result),
    )


def gap_report(envelope: Envelope[GapResult], command_line: str | None = None) -> str:
    """Write the report of a model on batches left out.

    Parameters
    ----------
    envelope : Envelope of GapResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.gap import gap_pictures
    from batchsense.reports.text import gap as text
    from batchsense.reports.text.layout_plan import spread

    if envelope.result is None:
        raise ValueError("there is no result to report")
    result = envelope.result
    errors, *folds = gap_pictures(result)
    return render(
        "gap.html.j2",
        envelope,
        command_line,
        task=text.task_sentence(result),
        verdict=text.capital(text.verdict_word(result)),
        sentence=text.verdict_sentence(result),
        changes=text.change_sentences(result),
        guess=text.guess_sentence(result),
        sizes=spread([one.specimens for one in result.ways[0].by_batch]),
        ways=[row[:-1] for row in text.way_rows(result)[1]],  # the figures say on how many
        errors=errors,
        folds=folds,
    )


def demo_report(envelope: Envelope[DemoResult], command_line: str | None = None) -> str:
    """Write the report of the demo.

    Parameters
    ----------
    envelope : Envelope of DemoResult
        The answer; the page carries it unchanged.
    command_line : str, optional
        What was typed.

    Returns
    -------
    str
        HTML.

    Raises
    ------
    ValueError
        If the envelope holds no result.
    """
    from batchsense.reports.pictures.demo import demo_pictures
    from batchsense.reports.text.demo import INTRODUCTION, scenes

    result = envelope.answer()
    return render(
        "demo.html.j2",
        envelope,
        command_line,
        introduction=INTRODUCTION,
        scenes=scenes(result),
        pictures=demo_pictures(result),
    )
