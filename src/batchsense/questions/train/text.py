"""A training in plain words."""

from __future__ import annotations

from batchsense.questions.answer import Tabulate
from batchsense.questions.train.result import TrainResult
from batchsense.reports.columns import prose
from batchsense.reports.envelope import Envelope
from batchsense.reports.wording import number, seconds, with_interval

#: Rows of the table of losses: enough to see a fall level off.
_ROWS = 8

_ENDINGS = {
    "loss": "the loss asked for was reached",
    "steps": "the number of steps asked for was made",
    "epochs": "every example was seen as often as asked for",
    "signal": "it was asked to stop",
}


def train_text(envelope: Envelope[TrainResult], table: Tabulate) -> str:
    """Write the training for people."""
    result = envelope.answer()
    parts = [prose(headline(result)), prose(work_sentence(result)), prose(noise_sentence(result))]
    if result.batch_sizes:
        parts.insert(2, prose(schedule_sentence(result)))
    if len(result.batch_sizes) > 1:
        parts.insert(3, table(*size_rows(result)))
    if len(result.curve) > 1:
        parts += ["The loss on the way:", table(*curve_rows(result))]
    if envelope.notes:
        notes = (prose(note.message, "- ") for note in envelope.notes)
        parts.append("\n".join(["What to keep in mind:", *notes]))
    return "\n\n".join(parts)


def headline(result: TrainResult) -> str:
    """Say the answer first."""
    missed = ""
    if result.target_loss is not None and result.missed:
        missed = f" The loss of {number(result.target_loss)} was not reached."
    return (
        f"Trained {result.target} to a loss of {loss_words(result)} over the last minibatches; "
        f"stopped because {_ENDINGS[result.stopped_by]}.{missed}"
    )


def loss_words(result: TrainResult) -> str:
    """The last loss with its standard error."""
    error = result.final_loss_error
    return number(result.final_loss) + ("" if error is None else f" ± {number(error, 2)}")


def work_sentence(result: TrainResult) -> str:
    """Say what was done, where and how fast."""
    where = "in one process"
    if result.processes > 1:
        machines = "" if result.nodes in (None, 1) else f" on {result.nodes} machines"
        where = f"in {result.processes} processes ({result.backend}){machines}"
    split = {
        "mean": ", whose parts were weighted by their examples",
        "ratio": ", whose parts were weighted by what the loss divides by",
        "sum": ", whose parts were added up",
        "inexact": ", whose parts do not add up to the whole",
    }.get(result.combined or "", "")
    resumed = "" if result.resumed_at is None else f", from step {result.resumed_at:,} on anew"
    sizes = [change.batch_size for change in result.batch_sizes] or [result.batch_size]
    least = "" if min(sizes) == max(sizes) else f"{min(sizes):,} to "
    sentence = (
        f"{result.steps:,} steps of {least}{max(sizes):,} examples{split}, in "
        f"{seconds(result.seconds)} {where}{resumed}."
    )
    if result.learning_rate is None or least:
        return sentence
    sentence += f" Learning rate {number(result.learning_rate)}"
    if result.learning_rate_from is None:
        return f"{sentence}, the job's own."
    if result.learning_rate_from == result.batch_size:
        return f"{sentence}, the job's own for this batch size."
    return f"{sentence}, from the job's own for {result.learning_rate_from:,} examples."


_FOLLOWED = {
    None: "The learning rate stayed as it was",
    "lr": "The learning rate followed by the rule of the optimizer",
    "temperature": "The learning rate followed, and what else keeps the heat",
    "seesaw": "The learning rate was divided by the root of each factor",
}


def schedule_sentence(result: TrainResult) -> str:
    """Say how often the batch size changed and what the learning rate did."""
    changes = len(result.batch_sizes) - 1
    if not changes and result.schedule == "noise":
        return (
            f"The batch size stayed at {result.batch_size:,}: the noise scale was never found "
            "to be twice as large, beyond doubt."
        )
    if not changes:
        return f"The batch size stayed at {result.batch_size:,}: no change of the schedule came."
    times = "once" if changes == 1 else f"{changes} times"
    sizes = [change.batch_size for change in result.batch_sizes]
    cooled = ", so that growth cooled the run" * (result.couple is None and sizes == sorted(sizes))
    return f"The batch size changed {times}. {_FOLLOWED[result.couple]}{cooled}."


def size_rows(result: TrainResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the sizes."""
    rows = [
        [
            f"{one.examples:,}",
            f"{one.step + 1:,}",
            f"{one.batch_size:,}",
            number(one.learning_rate),
            one.reason,
        ]
        for one in result.batch_sizes
    ]
    return ["after examples", "from step", "batch size", "learning rate", "why"], rows


def noise_sentence(result: TrainResult) -> str:
    """Say how noisy the gradient was at the end."""
    if result.noise_scale.reason is not None and result.noise_scale.estimate is None:
        return f"Noise scale: unknown; {result.noise_scale.reason}."
    sentence = (
        "Noise scale over the last measured steps: "
        f"{with_interval(result.noise_scale, ' examples', 2)}."
    )
    if not result.noise_scale.resolved:
        sentence += " Not resolved: the interval is wider than a factor of four."
    return sentence


def curve_rows(result: TrainResult) -> tuple[list[str], list[list[str]]]:
    """Tabulate the loss at evenly spread steps."""
    last = len(result.curve) - 1
    places = sorted({round(k * last / (_ROWS - 1)) for k in range(_ROWS)})
    points = [result.curve[place] for place in places]
    return ["up to step", "loss"], [[f"{p.step:,}", number(p.loss)] for p in points]
