"""The account of the demo: every scene in plain words, each number with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

from batchsense.questions.demo.result import DemoResult, ShareResult
from batchsense.questions.plan.result import WorkersChoiceResult
from batchsense.reports.columns import paragraph
from batchsense.reports.envelope import Estimate
from batchsense.reports.wording import number, percent, ratio, seconds, size, with_interval

#: The network of the scene, as its story computes it.
WORKERS_NETWORK = "100 Mbit/s"
#: Parts that differ from the whole by less are equal, in double precision.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene of the story."""

    title: str
    paragraphs: tuple[str, ...]


INTRODUCTION = (
    "One real data set, 1,797 handwritten digits that scikit-learn ships, and three questions: how "
    "large should a batch be that you choose, may the thing be cut into batches at all, and what "
    "does a batch do to you that you did not choose?"
)


def scenes(result: DemoResult) -> dict[str, Scene]:
    """Tell every scene."""
    return {
        "law": _law(result),
        "tolerance": _tolerance(result),
        "plan": _plan(result),
        "walls": _walls(result),
        "splits": _splits(result),
        "heat": _heat(result),
        "forms": _forms(result),
        "shares": _shares(result),
        "confounded": _confounded(result),
        "refused": _refused(result),
        "honest": _honest(result),
        "months": _months(result),
    }


def demo_text(result: DemoResult, report: str | None = None) -> str:
    """Write the account for people."""
    parts = [paragraph(INTRODUCTION)]
    for place, scene in enumerate(scenes(result).values(), start=1):
        parts.append("\n".join([f"{place}. {scene.title}", *map(paragraph, scene.paragraphs)]))
    if report is not None:
        parts.append(f"The same with figures: {report}")
    return "\n\n".join(parts)


def _law(result: DemoResult) -> Scene:
    gradient = result.gradient
    sizes = [point.batch_size for point in gradient.points]
    return Scene(
        "Averages settle down: the law of large numbers",
        (
            "A training step follows the mean gradient of a minibatch of n examples, and a mean of "
            f"n opinions varies n times less than one. Measured on a small net after "
            f"{gradient.steps} steps of training, with {gradient.draws} minibatches of every size "
            f"from {sizes[0]} to {sizes[-1]}: the variance of the gradient falls as n to the power "
            f"of {with_interval(gradient.slope)}. The law says −1.",
        ),
    )


def _tolerance(result: DemoResult) -> Scene:
    found = result.tolerance
    names = {
        "calibrated": "if the error of a mean is spread as its moments tell (calibrated)",
        "chebyshev": "if nothing is assumed (Chebyshev)",
    }
    answers = " and ".join(
        f"{promise.batch_size:,} examples {names[promise.name]}" for promise in found.promises
    )
    return Scene(
        "How many are enough?",
        (
            f"Suppose the gradient may be off by {percent(found.tolerance)} of its length, and by "
            f"more than that at most {percent(found.miss_rate)} of the time. At these weights that "
            f"takes {answers}, of the {result.gradient.examples:,} there are.",
            f"Tried: of {found.checked_minibatches:,} fresh minibatches of "
            f"{found.checked_batch_size:,}, {found.misses} were farther off, that is "
            f"{_rate(found.observed_miss_rate)}.",
        ),
    )


def _plan(result: DemoResult) -> Scene:
    plan = result.plan
    timed = plan.step_time
    decides = {
        "noise": "Noise decides: beyond the critical batch size more examples hardly help a step.",
        "overhead": "Overhead decides: from here on each further example costs its full time.",
    }.get(plan.binding, f"What decides: {plan.binding}.")
    return Scene(
        "Which batch size trains fastest here?",
        (
            "Small minibatches waste the fixed cost of a step, large ones waste examples on a mean "
            f"that is good enough already. On this machine a step costs {seconds(timed.c0_seconds)}"
            f" ({seconds(timed.fixed.low)} to {seconds(timed.fixed.high)}) and "
            f"{seconds(timed.c1_seconds_per_example)} "
            f"({seconds(timed.per_example.low)} to {seconds(timed.per_example.high)}) for every "
            "example; the critical batch size is "
            f"{with_interval(plan.critical_batch_size, ' examples')}.",
            f"Advice: {plan.batch_size:,} examples; by the measurements alone "
            f"{with_interval(plan.optimum)}. {decides} Over all values in these intervals the "
            f"advice costs at most {percent(plan.worst_excess)} more time than the best choice.",
        ),
    )


def _walls(result: DemoResult) -> Scene:
    wall, found = result.memory, result.workers
    told = []
    if wall is not None:
        told.append(
            f"Memory is a wall. In a device with {size(wall.limit_bytes)} for a step "
            f"{number(wall.most_examples)} examples fit, and one more ends the run. `batchsense "
            "memory` tells before, and accumulating micro-batches gets around it where the loss "
            "may be split."
        )
    alone, most = found.choices[0], found.choices[-1]
    told.append(
        f"Workers are no wall but a hill. Over a network of {WORKERS_NETWORK} {most.workers} of "
        f"them would train for {_relative(most)} the least time, one alone for {_relative(alone)}, "
        "because every step waits until all gradients have crossed. "
        + (
            "For this small net one more worker makes training slower."
            if found.fastest == alone.workers
            else f"The fastest number is {found.fastest}."
        )
    )
    return Scene("Two other bounds: memory and workers", tuple(told))


def _relative(one: WorkersChoiceResult) -> str:
    time = one.relative_time
    return f"{ratio(time.estimate)} times (80 % interval {ratio(time.low)} to {ratio(time.high)})"


def _splits(result: DemoResult) -> Scene:
    atoms, points = result.splits
    answers = {"yes": "allows that", "no": "refuses", "unresolved": "does not allow"}
    return Scene(
        "What may be cut, and what not",
        (
            "Two losses of physics, of the same net and the same 200 places. Collocation points "
            "ask how well an equation holds at each point: `batchsense audit` "
            f"{answers[points.verdict]}; the mean of the parts misses the gradient of the whole by "
            f"{_missed(points.deviation)}. Atoms repel each other, and their energy is a sum over "
            f"pairs: `audit` {answers[atoms.verdict]} that, because here the mean of the parts "
            f"misses it by {_missed(atoms.deviation)}: pairs across the cut are lost. Nothing "
            "crashes where this is ignored; the answer is only wrong.",
        ),
    )


def _missed(deviation: float) -> str:
    return "nothing but rounding" if deviation < _ROUNDING else percent(deviation)


def _heat(result: DemoResult) -> Scene:
    found = result.heat
    return Scene(
        "Heat, and cooling",
        (
            "Minibatches shake the weights, and shaken weights have a higher loss: heat. A line is "
            f"fitted with steps of {found.batch_size} examples at a learning rate of "
            f"{number(found.learning_rate)}; its loss stays at {number(found.loss)}. Read from the "
            f"run alone, {with_interval(found.heat)} of that is heat, which a smaller learning "
            "rate or a larger batch would gain. Here the floor can be solved for: it lies "
            f"{number(found.loss - found.floor)} below.",
        ),
    )


def _forms(result: DemoResult) -> Scene:
    first, *others = result.classifiers
    forms = len(first.by_form)
    also = "".join(
        f" For the {other.model} it is {percent(other.shuffled.estimate)} against "
        f"{percent(other.left_out.estimate)}, {with_interval(other.ratio)} times as many."
        for other in others
    )
    difference, error = 100 * _known(first.difference), 100 * first.standard_error
    return Scene(
        "The batch that nobody wrote down",
        (
            f"The digits were written on {forms} copies of one preprinted form. Which row stands "
            "on which form is not in the data; it is inferred from the order of the rows. Test a "
            "classifier as usual, on rows picked at random, and every form helps to recognise its "
            "own rows. Leave a whole form out of training, and the classifier meets what it will "
            "meet in use: a form that it has never seen.",
            f"A {first.model} errs on {_rate(first.shuffled)} of the rows under shuffled "
            f"validation, and on {_rate(first.left_out)} of the rows of a form left out: "
            f"{with_interval(first.ratio)} times as many. The difference, form by form, is "
            f"{difference:.2f} ± {error:.2f} percentage points (mean ± standard error); "
            f"{first.forms_worse} forms are worse, {first.forms_better} better.{also}",
        ),
    )


def _shares(result: DemoResult) -> Scene:
    forms = result.forms
    form, cross = _share(result, "form"), _share(result, "form × digit")
    times = (form.share.estimate or 0) / (form.null_mean or 1)
    return Scene(
        "How much varies with the form?",
        (
            f"Of the variation of all pixels, {_rate(form.share)} goes with the form, given the "
            f"digit. Any {len(result.classifiers[0].by_form)} groups would take some: shuffled "
            f"labels take {percent(form.null_mean)} on average and {percent(form.null_max)} at "
            f"most in {forms.permutations} shuffles. The form takes {number(times, 2)} times their "
            "average, so it is no accident. How a form writes each digit (form × digit) takes "
            f"{_rate(cross.share)}, by chance {percent(cross.null_mean)}.",
            "The design is not to blame: every form holds every digit about equally often "
            f"(Cramér's V {number(forms.cramers_v, 2)}; 0 is balance, 1 is identity).",
        ),
    )


def _confounded(result: DemoResult) -> Scene:
    found = result.confounded
    ignored, centred, kept = found.methods
    return Scene(
        "A careless design",
        (
            "Now draw 3s and 8s so that some forms hold mostly 3s and the others mostly 8s "
            f"({found.rows} rows, Cramér's V {number(found.cramers_v, 2)}). Question: how does an "
            "8 differ from a 3? All rows of the two digits give the known answer; the squared "
            "error is measured against it: 0 is right, 1 is nothing left. Means of "
            f"{found.draws} draws:",
            f"Ignoring the form: {with_interval(ignored.error)}. Centring every form, as is often "
            f"done: {with_interval(centred.error)}; it takes the form away, and much of the 8 with "
            "it. `batchsense correct` with the digit kept in the model: "
            f"{with_interval(kept.error)}.",
        ),
    )


def _refused(result: DemoResult) -> Scene:
    refusal = result.confounded.refusal
    return Scene(
        "A hopeless design, refused",
        (
            "Last, one form with 3s only and one with 8s only: the laboratory that measured the "
            "controls in May and the treated in July. Any program could subtract "
            "something and print a number; it would mean nothing. `batchsense correct` refuses, "
            f"and names what is entangled: `{'; '.join(refusal.aliased)}`. Its words:",
            refusal.message,
        ),
    )


def _honest(result: DemoResult) -> Scene:
    form, cross = _share(result, "form"), _share(result, "form × digit")
    return Scene(
        "What correction does not do",
        (
            "A correction like the one above shifts all rows of a form alike. With the forms seen "
            f"as a random draw of all forms, that additive part is "
            f"{_rate(form.random_effects_share)} of the variation, while the way in which a form "
            f"writes each digit is {_rate(cross.random_effects_share)}. So an additive correction "
            "removes the smaller part of what a form does, and it does not bring a classifier "
            "back to the error rate that shuffled validation promised.",
        ),
    )


def _months(result: DemoResult) -> Scene:
    found = result.months
    return Scene(
        "The same in a laboratory: May and July",
        (
            f"{found.specimens} specimens with {found.genes} genes, simulated, so that the truth "
            f"is known: a drug moves {found.moved} genes. Half were measured in May, most of them "
            "controls, half in July, most of them treated. `batchsense diagnose` sees the month: "
            f"beside the drug it has {_rate(found.share)} of the variance, chance subtracted "
            f"(p = {number(found.p_value, 2)}, by permuting the labels).",
            f"Was it the drug or the month? Of what a test calls {percent(found.false_discovery)} "
            f"may be wrong. A t test that ignores the month calls {found.called[0]} genes, "
            f"{found.wrong[0]} of them wrongly; `batchsense test`, with the month in its model, "
            f"calls {found.called[1]}, {found.wrong[1]} of them wrongly. The price: "
            f"{found.specimens} specimens are worth {number(found.effective_specimens, 3)}.",
            "With all controls in May and all treated in July the same genes tell nothing of the "
            "drug, and `batchsense correct` refuses. Its words:",
            found.refusal.message,
        ),
    )


def _share(result: DemoResult, term: str) -> ShareResult:
    return next(share for share in result.forms.shares if share.term == term)


def _known(value: Estimate) -> float:
    """Give an estimate that the built-in data always define."""
    if value.estimate is None:
        raise ValueError(value.reason)
    return value.estimate


def _rate(value: Estimate) -> str:
    return with_interval(value, " %", scale=100)
