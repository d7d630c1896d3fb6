"""What a probe tells of steps, in the form that ``batchsense workers`` asks of any evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from batchsense.errors import UnresolvedError
from batchsense.notes import Note
from batchsense.training.workers.evidence import StepEvidence
from batchsense.training.workers.from_probe import (
    WhiteBox,
    compare_from_probe,
    fit_white_box,
    links_for,
    predict_from_probe,
)
from batchsense.training.workers.prediction import LEVEL, StepConfiguration, StepPrediction
from batchsense.training.workers.probing.levers import predict_levers
from batchsense.training.workers.probing.overlap import step_bounds
from batchsense.training.workers.probing.readings import Probe
from batchsense.training.workers.turning_point import TurningPoint, best_workers
from batchsense.variation.interval import Interval

#: More workers than any machine holds.
_ANY = 1 << 30


def evidence_from_probe(probe: Probe, *, seed: int = 0) -> StepEvidence:
    """What a probe tells: predictions of the white box, and what holds whatever overlaps.

    Raises UnresolvedError: a single micro-batch was measured, or messages of a single size.
    """
    box = fit_white_box(probe, seed=seed)
    kinds = " or ".join(link.kind for link in box.links) or "no"
    many = "one worker" if probe.workers == 1 else f"{probe.workers} workers"
    return StepEvidence(
        predict=lambda configurations: predict_from_probe(box, configurations),
        compare=lambda pairs: tuple(compare_from_probe(box, *pair) for pair in pairs),
        levers=lambda configuration: predict_levers(box, configuration),
        turning=(lambda batch_size: probed_turning_point(box, batch_size)) if box.links else None,
        measured=_measured(probe),
        # More workers than were probed on one machine stay on it: its link is all that is known.
        per_node=_ANY if probe.nodes == 1 else math.ceil(probe.workers / probe.nodes),
        forms=(("white_box", 1.0),),
        described=f"a probe of {many}, {kinds} link",
        needed=_needed,
        remarks=lambda batch_size, workers: _certain(box, batch_size, workers),
    )


def _measured(probe: Probe) -> tuple[tuple[StepConfiguration, float], ...]:
    """Local steps of one worker alone, and real steps of all."""
    alone = [
        (
            StepConfiguration(1, 1, row.micro_batch),
            sum(
                float(np.median(part))
                for part in (row.forward_seconds, row.backward_seconds, row.optimizer_seconds)
            ),
        )
        for row in probe.compute
        if row.workers == 1
    ]
    real = [
        (
            StepConfiguration(probe.nodes, step.workers, step.micro_batch, uneven=True),
            float(np.median(step.seconds)),
        )
        for step in probe.steps
    ]
    return (*alone, *real)


def probed_turning_point(box: WhiteBox, batch_size: int) -> TurningPoint:
    """Find the number of workers with the least time in every draw, for every link there may be."""
    most = min(2 * box.probe.workers, batch_size)
    least = []
    for place in range(len(box.links)):
        times = []
        for workers in range(1, most + 1):
            links = links_for(box, workers)
            step = _step_of(box, workers, batch_size)
            times.append(box.seconds(step, links[min(place, len(links) - 1)]))
        least.append(1 + np.argmin(times, axis=0))
    found = np.concatenate(least)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail], method="closest_observation")
    middle = float(min(one[0] for one in least))
    end = math.inf if high >= most and most < batch_size else float(high)
    return TurningPoint(
        batch_size, Interval(middle, min(float(low), middle), max(end, middle), LEVEL), most
    )


def _step_of(box: WhiteBox, workers: int, batch_size: int) -> StepConfiguration:
    return StepConfiguration(1, workers, max(round(batch_size / workers), 1))


def _needed(predictions: Sequence[StepPrediction]) -> str | None:
    if any("link_class_unknown" in one.flags for one in predictions):
        return "a probe with 4 workers, which also times two of them"
    if any("regime_unmeasured" in one.flags for one in predictions):
        return "a probe on as many machines as will train"
    return None


def _certain(box: WhiteBox, batch_size: int, workers: int) -> tuple[Note, ...]:
    """What the least and the most of a step say of workers against one, and the law behind it."""
    if workers == 1:
        return ()
    try:
        links = [link for link in links_for(box, workers) if link is not None]
    except UnresolvedError:
        return ()
    verdicts, needed, best = set(), [], set()
    compute, sent = box.compute_of(workers), box.exchange.sent_bytes
    for link in links:
        alone = box.compute_of(1).step_seconds(batch_size)
        least, most = step_bounds(compute, link, box.exchange, workers, batch_size / workers)
        slower, faster = np.all(alone < least), np.all(alone > most)
        verdicts.add("slower" if slower else "faster" if faster else "open")
        exchange = float((most - compute.step_seconds(batch_size / workers))[0])
        per_example = max(float(compute.seconds_per_example[0]), 1e-15)
        needed.append(workers / (workers - 1) * exchange / per_example)
        best.add(best_workers(batch_size, per_example, *link.law(sent), most=2 * workers))
    verdict = verdicts.pop() if len(verdicts) == 1 else "open"
    said = {
        "slower": f"{workers} workers are slower than one, even if all of the exchange overlaps",
        "faster": f"{workers} workers are faster than one, even if nothing overlaps",
        "open": f"whether {workers} workers are faster than one depends on what overlaps",
    }[verdict]
    ends = " to ".join(f"{size:,.0f}" for size in sorted({min(needed), max(needed)}))
    counts = " or ".join(str(count) for count in sorted(best))
    return (
        Note(
            "whatever_overlaps",
            f"At {batch_size:,} examples a step {said}. Without any overlap {workers} are faster "
            f"from {ends} examples on, and the best number of workers is {counts}.",
        ),
    )
