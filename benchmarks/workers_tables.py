"""Steps predicted from eight measured ones, on three public applications of up to 64 GPUs.

From each table of Pollux (OSDI 2021) eight rows are taken where the documentation says to measure:
one worker, a full node, four nodes with one worker each, four full nodes; each with the smallest
and the largest micro-batch. All other rows are predicted and compared: errors, coverage of the 80 %
interval, flags, which of two is slower at one batch size, and whether further measurements help.
Beside the ensemble stand each of its forms alone and the form of Pollux, fitted the same way.
Where convergence curves exist, the choice that should reach a target soonest is compared with the
best that was possible.

    python benchmarks/workers_tables.py [--data FOLDER] [-o benchmarks/results/workers_tables.json]

By default the tables are those in ``tests/references/pollux``; FOLDER holds them whole.
"""

from __future__ import annotations

import csv
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common.record import options, write

from batchsense.training.workers import (
    StepConfiguration,
    StepModel,
    StepTable,
    fit_steps,
    fitting,
    read_configurations,
    steps_to_target,
)
from batchsense.training.workers.forms import Form, Spread, _overlapped

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "tests" / "references" / "pollux"
APPLICATIONS = ("bert", "cifar10", "deepspeech2")
SEEDS = 5
ADVISED = ((1, 1), (1, 4), (4, 4), (4, 16))
UP_TO_TWO = ((1, 1), (1, 4), (2, 2), (2, 8))


def _pollux(compute: Any, named: Any, spread: Spread) -> Any:
    """The form of Pollux: a constant and a part for each worker beyond two, by link class."""
    between = spread.nodes > 1
    fixed = np.where(between, named["w_between"], named["w_within"])
    each = np.where(between, named["a_between"], named["a_within"])
    exchange = (fixed + each * np.maximum(spread.workers - 2, 0)) * (spread.workers > 1)
    return _overlapped(compute, exchange, named["s"])


POLLUX = Form(
    "pollux",
    ("c0", "c1", "a_between", "w_between", "a_within", "w_within", "two", "s"),
    _pollux,
)


@dataclass(frozen=True)
class Table:
    """Every row of an application, also where nodes hold unlike numbers in several ways."""

    configurations: list[StepConfiguration]
    seconds: Any


def whole(folder: Path) -> Table:
    """Read every row of an application."""
    steps: list[StepConfiguration] = []
    seconds: list[float] = []
    for name in ("placements", "scalability"):
        steps += read_configurations(folder / f"{name}.csv")
        with (folder / f"{name}.csv").open() as file:
            seconds += [float(row["step_time"]) for row in csv.DictReader(file)]
    return Table(steps, np.array(seconds))


def at_ends(table: Table, spreads: Sequence[tuple[int, int]]) -> list[int]:
    """The rows with the smallest and the largest micro-batch of each spread."""
    found = []
    for nodes, workers in spreads:
        rows = [
            (one.micro_batch, k)
            for k, one in enumerate(table.configurations)
            if (one.nodes, one.workers, one.uneven) == (nodes, workers, False)
        ]
        found += [min(rows)[1], max(rows)[1]]
    return found


def part(table: Table, rows: Sequence[int]) -> StepTable:
    """Some rows."""
    return StepTable.of([(table.configurations[k], float(table.seconds[k])) for k in rows])


def judged(table: Table, rows: Sequence[int], seed: int) -> dict[str, Any]:
    """Fit to some rows, predict all others."""
    model = fit_steps(part(table, rows), seed)
    rest = [k for k in range(len(table.configurations)) if k not in set(rows)]
    steps = [table.configurations[k] for k in rest]
    truth = table.seconds[rest]
    predictions = model.predict(steps)
    errors = np.array(
        [abs(p.seconds.estimate / t - 1) for p, t in zip(predictions, truth, strict=True)]
    )
    inside = np.array([t in p.seconds for p, t in zip(predictions, truth, strict=True)])
    flagged = np.array([bool(p.flags) for p in predictions])
    even = np.array([not one.uneven for one in steps])
    found = {
        "rows": len(rest),
        "median_error": float(np.median(errors)),
        "median_error_even": float(np.median(errors[even])),
        "p90_error": float(np.quantile(errors, 0.9)),
        "covered": float(inside.mean()),
        "covered_even": float(inside[even].mean()),
        "flagged": float(flagged.mean()),
        "worst_unflagged": float(errors[~flagged].max()) if not flagged.all() else None,
        "beyond_all_flagged": bool(flagged[[one.nodes > 2 for one in steps]].all()),
    }
    for k, fit in enumerate(model.draws):
        if fit.form.name not in found and (k == 0 or model.draws[k - 1].form != fit.form):
            found[fit.form.name] = _alone(fit, steps, truth)
    spread = Spread.of(model.table.configurations)
    rng = np.random.default_rng(seed)
    found["pollux"] = _alone(
        fitting.fit_form(POLLUX, spread, model.table.seconds, rng), steps, truth
    )
    return {**found, "pairs": compared(model, table, seed)}


def _alone(fit: fitting.Fit, steps: Sequence[StepConfiguration], truth: Any) -> float:
    predicted = fit.form.seconds(fit.theta, Spread.of(steps))
    return float(np.median(np.abs(predicted / truth - 1)))


def compared(model: StepModel, table: Table, seed: int) -> dict[str, Any]:
    """Which of two is slower, over all pairs with one batch size and unlike workers."""
    groups: dict[int, list[int]] = {}
    for k, one in enumerate(table.configurations):
        groups.setdefault(one.batch_size, []).append(k)
    pairs = [
        (i, j)
        for group in groups.values()
        for i, j in itertools.permutations(group, 2)
        if table.configurations[i].workers < table.configurations[j].workers
    ]
    steps = table.configurations
    verdicts = [one.verdict for one in model.compare([(steps[i], steps[j]) for i, j in pairs])]
    truth = np.array([np.log(table.seconds[j] / table.seconds[i]) for i, j in pairs])
    answered = np.array([verdict != "undecided" for verdict in verdicts])
    right = np.array([(v == "slower") == (d > 0) for v, d in zip(verdicts, truth, strict=True)])
    even = np.array([not (steps[i].uneven or steps[j].uneven) for i, j in pairs])
    known = np.array([model.measured.slower_by(steps[k]) == 1 for k in range(len(steps))])
    kind = np.array([known[i] and known[j] for i, j in pairs])
    found = {}
    for name, apart in (("10", np.log(1.1)), ("30", np.log(1.3))):
        far = np.abs(truth) > apart
        for words, some in (("", far), ("_even", far & even), ("_measured_kinds", far & kind)):
            found[f"pairs_{name}{words}"] = int(some.sum())
            found[f"answered_{name}{words}"] = float(answered[some].mean())
            found[f"right_{name}{words}"] = float(right[some & answered].mean())
    return found


def averaged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over seeds; the worst of what is a worst, all of what holds for all."""
    mean: dict[str, Any] = {}
    for key, first in found[0].items():
        values = [one[key] for one in found]
        if isinstance(first, dict):
            mean[key] = averaged(values)
        elif isinstance(first, bool):
            mean[key] = all(values)
        elif key.startswith("worst"):
            mean[key] = None if None in values else max(values)
        else:
            mean[key] = float(np.mean(values))
    return mean


def left_over(table: Table) -> float:
    """What no form follows: the standard deviation about a fit to every row but two nodes."""
    from batchsense.training.workers.forms import FORMS

    rows = [k for k, one in enumerate(table.configurations) if one.nodes != 2]
    some = part(table, rows)
    spread = Spread.of(some.configurations)
    found = []
    for form in FORMS.values():
        fit = fitting.fit_form(form, spread, some.seconds, np.random.default_rng(0))
        found.append((np.log(form.seconds(fit.theta, spread)) - np.log(some.seconds)).std())
    return float(np.mean(found))


def held_out(tables: dict[str, Table]) -> dict[str, Any]:
    """The least spread chosen on two applications, used on the third."""
    own = {name: left_over(table) for name, table in tables.items()}
    kept = fitting._LEAST_SPREAD
    found: dict[str, Any] = {"left_over": own}
    try:
        for name, table in tables.items():
            fitting._LEAST_SPREAD = float(np.mean([own[other] for other in own if other != name]))
            one = averaged([judged(table, at_ends(table, ADVISED), seed) for seed in range(SEEDS)])
            found[name] = {key: one[key] for key in ("median_error", "covered", "covered_even")} | {
                "least_spread": fitting._LEAST_SPREAD
            }
    finally:
        fitting._LEAST_SPREAD = kept
    return found


def suggestions(table: Table, seed: int) -> dict[str, list[int]]:
    """Four further rows by each rule."""
    first = at_ends(table, ADVISED)
    rest = [k for k in range(len(table.configurations)) if k not in set(first)]
    model = fit_steps(part(table, first), seed)
    spread = model.log_seconds([table.configurations[k] for k in rest]).std(axis=0)
    rng = np.random.default_rng(1000 + seed)
    return {
        "none": [],
        "two_nodes": at_ends(table, UP_TO_TWO[2:]),
        "largest_spread": [rest[k] for k in np.argsort(-spread)[:4]],
        "random": rng.choice(rest, 4, replace=False).tolist(),
    }


def measured_next(table: Table) -> dict[str, float]:
    """Median error on rows that no rule took, after four further measurements by each."""
    found: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        rules = suggestions(table, seed)
        first = at_ends(table, ADVISED)
        taken = set(first).union(*map(set, rules.values()))
        rest = [k for k in range(len(table.configurations)) if k not in taken]
        for name, more in rules.items():
            model = fit_steps(part(table, list(dict.fromkeys(first + more))), seed)
            predictions = model.predict([table.configurations[k] for k in rest])
            centres = np.array([one.seconds.estimate for one in predictions])
            found.setdefault(name, []).append(
                float(np.median(np.abs(centres / table.seconds[rest] - 1)))
            )
    return {name: float(np.mean(values)) for name, values in found.items()}


def curves(folder: Path) -> dict[int, dict[str, Any]]:
    """The convergence curves by batch size."""
    found = {}
    for path in folder.glob("validation-*.csv"):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
        found[int(path.stem.split("-")[1])] = columns
    return dict(sorted(found.items()))


def first_reached(curve: dict[str, Any], target: float, falling: bool) -> int:
    """The first evaluation that reaches a target."""
    sign = -1 if falling else 1
    return int(np.argmax(sign * curve["metric"] >= sign * target))


def to_target(table: Table, folder: Path, seed: int) -> list[dict[str, float]]:
    """Time to several targets of the choice with noise from the smallest run, over the best."""
    runs = curves(folder)
    small = min(runs)
    falling = runs[small]["metric"][-1] < runs[small]["metric"][0]
    bests = [(min if falling else max)(run["metric"]) for run in runs.values()]
    common = max(bests) if falling else min(bests)  # what every run reaches
    start = runs[small]["metric"][0]
    model = fit_steps(part(table, at_ends(table, ADVISED)), seed)
    steps = table.configurations
    near = {
        k: min(runs, key=lambda size: abs(np.log(size / steps[k].batch_size)))
        for k in range(len(steps))
    }
    usable = [k for k, size in near.items() if abs(np.log(size / steps[k].batch_size)) < 0.03]
    predicted = [one.seconds.estimate for one in model.predict([steps[k] for k in usable])]
    # What is done without any model: the largest batch size on the most workers.
    largest = max(range(len(usable)), key=lambda k: (near[usable[k]], steps[usable[k]].workers))
    found = []
    for share in (0.9, 0.95, 0.98):
        target = start + share * (common - start)
        end = first_reached(runs[small], target, falling) + 1
        run = {key: values[:end] for key, values in runs[small].items()}
        each = np.diff(run["iteration"], prepend=0)
        noise = np.maximum(small * run["grad_var"] / run["grad_sqr"], 0)
        needed = {}
        for size, other in runs.items():
            expected = sum(
                steps_to_target(float(phi), small, size, int(count))
                for phi, count in zip(noise, each, strict=True)
            )
            real = other["iteration"][first_reached(other, target, falling)]
            needed[size] = expected, float(real)
        expected = [needed[near[k]][0] * t for k, t in zip(usable, predicted, strict=True)]
        real = [needed[near[k]][1] * table.seconds[k] for k in usable]
        chosen = int(np.argmin(expected))
        ratios = [a / b for a, b in needed.values()]
        found.append({
            "share": share, "over_best": float(real[chosen] / min(real)), "choices": len(usable),
            "largest_over_best": float(real[largest] / min(real)),
            "predicted_over_real_steps": [round(float(min(ratios)), 3), round(max(ratios), 3)],
        })  # fmt: skip
    return found


def main() -> None:
    parser = options(__doc__, "workers_tables")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the tables")
    arguments = parser.parse_args()
    began, cpu = time.time(), time.process_time()
    tables = {name: whole(arguments.data / name) for name in APPLICATIONS}
    by_application = {}
    for name, table in tables.items():
        rows = at_ends(table, ADVISED)
        by_application[name] = averaged([judged(table, rows, seed) for seed in range(SEEDS)])
        two = at_ends(table, UP_TO_TWO)
        by_application[name]["from_two_nodes"] = averaged(
            [judged(table, two, seed) for seed in range(2)]
        )
        by_application[name]["measure_next"] = measured_next(table)
        if curves(arguments.data / name) and name != "bert":
            by_application[name]["to_target"] = [
                to_target(table, arguments.data / name, seed) for seed in range(3)
            ]
        print(name, by_application[name])
    names = ("median_error", "pollux", "ring", "split", "hierarchical", "no overlap")
    mean = {key: float(np.mean([one[key] for one in by_application.values()])) for key in names}
    print(mean)
    held = held_out(tables)
    write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        seeds=SEEDS,
        mean_of_medians=mean,
        applications=by_application,
        least_spread_held_out=held,
    )


if __name__ == "__main__":
    main()
