"""The page of ``batchsense demo``, and what its figures say."""

from __future__ import annotations

import numpy as np

from batchsense.datasets import load_digits
from batchsense.questions.demo.result import (
    ClassifierResult,
    ConfoundedResult,
    DemoResult,
    FormsResult,
    GradientResult,
)
from batchsense.questions.demo.text import INTRODUCTION, scenes
from batchsense.questions.plan.report import plan_pictures
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.batches import draw_folds
from batchsense.reports.figures.images import draw_differences, draw_digits
from batchsense.reports.figures.intervals import Row, draw_intervals
from batchsense.reports.figures.laws import draw_variance
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number, percent, with_interval


def demo_report(envelope: Envelope[DemoResult], command_line: str | None = None) -> str:
    """The page of the demo."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        introduction=INTRODUCTION,
        scenes=scenes(result),
        pictures=_demo_pictures(result),
    )


#: Two forms that are shown; any two would do.
SHOWN_FORMS = (0, 4)
# Pixels along a side of the built-in digits.
_SIDE = 8


def _demo_pictures(result: DemoResult) -> dict[str, Picture]:
    of_plan = plan_pictures(result.plan)
    drawn = [
        _law(result.gradient),
        *(of_plan[name] for name in ("tradeoff", "sizes") if name in of_plan),
        _digits(),
        _folds(result.classifiers[0]),
        _shares(result.forms),
        _effects(result.confounded),
        _errors(result.confounded),
        _random(result.forms),
    ]
    return {picture.name: picture for picture in drawn}


def _law(gradient: GradientResult) -> Picture:
    points = gradient.points
    ax = draw_variance(
        [point.batch_size for point in points],
        [point.variance.estimate or np.nan for point in points],
        [point.variance.low or np.nan for point in points],
        [point.variance.high or np.nan for point in points],
        gradient.squared_gradient_norm,
    )
    finding = (
        "The measured variances lie on the line of the law 1/n: their slope is "
        f"{with_interval(gradient.slope)}. Where the line crosses the dashed level, the noise of "
        "the minibatch is as long as the gradient itself."
    )
    return Picture.of(ax, "law", "Variance of the gradient by batch size", finding)


def _digits() -> Picture:
    digits = load_digits()
    rows = []
    for form in SHOWN_FORMS:
        here = np.flatnonzero(digits.form_labels == form)[: _SIDE + 2]
        rows.append([digits.observations[row].reshape(_SIDE, _SIDE) for row in here])
    finding = (
        f"The first ten rows of forms {SHOWN_FORMS[0]} and {SHOWN_FORMS[1]}: the same printed "
        "digits, copied twice. The strokes of one form resemble each other."
    )
    ax = draw_digits(rows, [f"form {form}" for form in SHOWN_FORMS])
    return Picture.of(ax, "digits", "The same digits on two forms", finding)


def _folds(classifier: ClassifierResult) -> Picture:
    ax = draw_folds(
        [[form.shuffled, form.left_out] for form in classifier.by_form],
        [form.form for form in classifier.by_form],
    )
    finding = (
        f"Errors of a {classifier.model} on each form. Left out of training, a form is recognised "
        f"worse: {percent(classifier.left_out.estimate)} errors instead of "
        f"{percent(classifier.shuffled.estimate)}. {classifier.forms_worse} forms are worse, "
        f"{classifier.forms_equal} equal, {classifier.forms_better} better."
    )
    return Picture.of(ax, "folds", "Shuffled validation against a form left out", finding)


def _shares(forms: FormsResult) -> Picture:
    form = next(share for share in forms.shares if share.term == "form")
    rows = [Row.of(share.term, share.share, 100, share.null_max) for share in forms.shares]
    ax = draw_intervals(
        rows, "share of the variation (%)", "share", f"most in {forms.permutations} shuffles"
    )
    finding = (
        f"The form takes {percent(form.share.estimate)} of the variation; in "
        f"{forms.permutations} shuffles its labels never took more than {percent(form.null_max)}. "
        "The intervals are for other forms like these."
    )
    return Picture.of(ax, "shares", "What the variation goes with", finding)


def _effects(found: ConfoundedResult) -> Picture:
    _, centred, kept = found.methods
    names = ["all rows:\nthe answer", *_METHOD_NAMES]
    images = [found.truth, *(method.effect for method in found.methods)]
    ax = draw_differences([np.reshape(image, (_SIDE, _SIDE)) for image in images], names)
    finding = (
        "How an 8 differs from a 3: more ink is orange, less is purple. Centring each form leaves "
        f"a faint picture: squared error {with_interval(centred.error)}. With the digit kept in "
        f"the model the answer comes back: {with_interval(kept.error)}. One draw is shown, the "
        "errors are means of all draws."
    )
    return Picture.of(ax, "effects", "Mean image of 8 minus mean image of 3", finding)


def _errors(found: ConfoundedResult) -> Picture:
    names = [name.replace("\n", " ") for name in _METHOD_NAMES]
    rows = [Row.of(name, method.error) for name, method in zip(names, found.methods, strict=True)]
    ignored, centred, kept = (method.error.estimate or 0.0 for method in found.methods)
    finding = (
        f"Centring is {number(centred / kept, 2)} times as far from the answer as correcting with "
        f"the digit kept, and {number(centred / ignored, 2)} times as far as doing nothing at all."
    )
    ax = draw_intervals(rows, "squared error, relative to the answer", f"mean of {found.draws}")
    return Picture.of(ax, "errors", "Distance from the known answer", finding)


def _random(forms: FormsResult) -> Picture:
    rows = [Row.of(share.term, share.random_effects_share, 100) for share in forms.shares]
    by_term = {share.term: share.random_effects_share.estimate for share in forms.shares}
    finding = (
        f"With the forms as a random draw, what a form adds to every digit alike is "
        f"{percent(by_term['form'])} of the variation; how it writes each digit is "
        f"{percent(by_term['form × digit'])}. An additive correction reaches the first part only."
    )
    ax = draw_intervals(rows, "share of the variance (%)", "share")
    return Picture.of(ax, "random", "What an additive correction can reach", finding)


_METHOD_NAMES = ("form\nignored", "each form\ncentred", "corrected,\ndigit kept")
