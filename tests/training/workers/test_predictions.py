"""Steps predicted from tables: known truth, public applications, and what is refused."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batchsense.errors import UnresolvedError
from batchsense.training.workers import (
    StepConfiguration,
    StepModel,
    StepTable,
    fit_steps,
    read_configurations,
    steps_to_target,
    turning_point,
)
from batchsense.training.workers.evidence import evidence_from_steps
from batchsense.training.workers.forms import FORMS, Spread
from batchsense.training.workers.turning_point import best_workers

POLLUX = Path(__file__).parents[2] / "references" / "pollux"
#: One worker, a full node, four nodes with one worker each, four full nodes.
ADVISED = ((1, 1), (1, 4), (4, 4), (4, 16))
SMALL = [StepConfiguration(1, k, b) for k in (1, 2, 4) for b in (16, 256)]


def table_of(steps: list[StepConfiguration], seconds: Callable[..., float]) -> StepTable:
    """Steps that take exactly this long."""
    return StepTable.of([(one, seconds(one.workers, one.micro_batch)) for one in steps])


def shared_link(workers: int, micro_batch: float) -> float:
    """No overlap: 0.3 ms an example, and 0.2 s for all gradients over the link."""
    return 0.01 + 0.0003 * micro_batch + 2 * (workers - 1) / workers * 0.2


@pytest.fixture(scope="module")
def small() -> StepModel:
    """Three numbers of workers on one machine, two micro-batches each."""
    return fit_steps(table_of(SMALL, shared_link))


def rows_of(application: str) -> tuple[list[StepConfiguration], np.ndarray]:
    """Every row of a public application."""
    steps: list[StepConfiguration] = []
    seconds: list[float] = []
    for name in ("placements", "scalability"):
        steps += read_configurations(POLLUX / application / f"{name}.csv")
        with (POLLUX / application / f"{name}.csv").open() as file:
            seconds += [float(row["step_time"]) for row in csv.DictReader(file)]
    return steps, np.array(seconds)


def at_ends(steps: list[StepConfiguration], spreads: tuple[tuple[int, int], ...]) -> list[int]:
    """The rows with the smallest and the largest micro-batch of each spread."""
    found = []
    for spread in spreads:
        same = [k for k, one in enumerate(steps) if (one.nodes, one.workers) == spread]
        same = sorted((k for k in same if not steps[k].uneven), key=lambda k: steps[k].micro_batch)
        found += [same[0], same[-1]]
    return found


def fitted(
    application: str, spreads: tuple[tuple[int, int], ...]
) -> tuple[StepModel, list[StepConfiguration], np.ndarray]:
    """A model of a few rows, and all others."""
    steps, seconds = rows_of(application)
    rows = at_ends(steps, spreads)
    model = fit_steps(StepTable.of([(steps[k], float(seconds[k])) for k in rows]))
    rest = [k for k in range(len(steps)) if k not in set(rows)]
    return model, [steps[k] for k in rest], seconds[rest]


@pytest.fixture(scope="module", params=["bert", "cifar10", "deepspeech2"])
def application(
    request: pytest.FixtureRequest,
) -> tuple[StepModel, list[StepConfiguration], np.ndarray]:
    """A public application, fitted to the eight rows that are advised."""
    return fitted(request.param, ADVISED)


def test_eight_rows_predict_the_others(
    application: tuple[StepModel, list[StepConfiguration], np.ndarray],
) -> None:
    """On each of three applications: median error, coverage, and no great error without a flag."""
    model, steps, seconds = application
    predictions = model.predict(steps)
    errors = np.array([one.seconds.estimate for one in predictions]) / seconds - 1
    inside = np.mean([t in one.seconds for one, t in zip(predictions, seconds, strict=True)])
    unflagged = np.array([not one.flags for one in predictions])

    assert np.median(abs(errors)) <= 0.1
    assert 0.7 <= inside <= 0.92
    assert abs(errors[unflagged]).max() <= 0.5
    assert unflagged.mean() > 0.5


def test_which_is_slower_is_right_or_undecided(
    application: tuple[StepModel, list[StepConfiguration], np.ndarray],
) -> None:
    """Over pairs with one batch size: 93 % of the answers at 10 % apart, 98 % at 30 %."""
    model, steps, seconds = application
    right, answered, far = pairs_judged(model, steps, seconds, np.log(1.1))
    assert right[answered & far].mean() >= 0.93
    right, answered, far = pairs_judged(model, steps, seconds, np.log(1.3))
    assert right[answered & far].mean() >= 0.98


def pairs_judged(
    model: StepModel, steps: list[StepConfiguration], seconds: np.ndarray, apart: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which answers are right, which pairs are answered, and which are so far apart."""
    groups: dict[int, list[int]] = {}
    for k, one in enumerate(steps):
        groups.setdefault(one.batch_size, []).append(k)
    pairs = [
        (i, j)
        for group in groups.values()
        for i in group
        for j in group
        if steps[i].workers < steps[j].workers
    ]
    truth = np.array([np.log(seconds[j] / seconds[i]) for i, j in pairs])
    verdicts = np.array(
        [one.verdict for one in model.compare([(steps[i], steps[j]) for i, j in pairs])]
    )
    return (verdicts == "slower") == (truth > 0), verdicts != "undecided", abs(truth) > apart


def test_two_nodes_say_little_about_more() -> None:
    """Every prediction for three and more nodes is flagged where two were the most measured."""
    model, steps, seconds = fitted("bert", ((1, 1), (1, 4), (2, 2), (2, 8)))
    predictions = model.predict(steps)
    errors = np.array([one.seconds.estimate for one in predictions]) / seconds - 1

    assert all(one.flags for one in predictions if one.configuration.nodes > 2)
    assert max(abs(e) for e, one in zip(errors, predictions, strict=True) if not one.flags) <= 0.5


def test_a_known_law_is_recovered(small: StepModel) -> None:
    """Exact times of a link without overlap: predicted within the interval, compared rightly."""
    steps = [StepConfiguration(1, k, b) for k in (2, 4, 8) for b in (32, 128, 512)]
    for one in small.predict(steps):
        truth = shared_link(one.configuration.workers, one.configuration.micro_batch)
        assert truth in one.seconds
        assert not one.flags
    one, two = StepConfiguration(1, 1, 256), StepConfiguration(1, 2, 128)
    assert small.compare([(one, two)])[0].verdict == "slower"
    assert small.compare([(StepConfiguration(1, 1, 512), StepConfiguration(1, 1, 512))])[
        0
    ].verdict == ("undecided")


#: Milliseconds of real DistributedDataParallel steps on one machine, at each batch size with 1, 2,
#: 4 (and 8) workers on nodes of their own; one run each. 4.2 MB of gradients over links of 200
#: Mbit/s that a switch joins, and over one link of 400 Mbit/s that all share.
SWITCHED = {256: (91, 203, 283, 326), 1024: (325, 291, 306, 336), 4096: (1237, 755, 517, 409)}
SHARED = {256: (94, 195, 522), 1024: (316, 290, 555), 4096: (1237, 745, 690)}


def laboratory(times: dict[int, tuple[int, ...]], most: int) -> StepTable:
    """Steps of up to so many workers."""
    rows = [(b, k, t) for b, row in times.items() for k, t in zip((1, 2, 4, 8), row, strict=False)]
    return StepTable.of(
        [(StepConfiguration(k, k, b // k), t / 1e3) for b, k, t in rows if k <= most]
    )


def test_eight_workers_are_foreseen_from_four() -> None:
    """Links of a switch, where two workers and four leave open what is bytes and what messages."""
    predictions = fit_steps(laboratory(SWITCHED, 4)).predict(
        [StepConfiguration(8, 8, b // 8) for b in SWITCHED]
    )
    for one, row in zip(predictions, SWITCHED.values(), strict=True):
        assert one.seconds.estimate == pytest.approx(row[3] / 1e3, rel=0.4)
        assert not one.flags


def test_a_shared_link_has_its_best_number_of_workers() -> None:
    """One at 256 examples, two at 1,024 and more at 4,096; slower and faster as measured."""
    model = fit_steps(laboratory(SHARED, 4))
    pairs = [
        (StepConfiguration(1, 1, b), StepConfiguration(k, k, b // k))
        for b in SHARED
        for k in (2, 4)
    ]

    assert [turning_point(model, b).workers.estimate for b in SHARED] == [1, 2, 3]
    assert [one.verdict for one in model.compare(pairs)] == [
        "slower", "slower", "undecided", "slower", "faster", "faster",
    ]  # fmt: skip


def test_two_workers_do_not_tell_what_four_take() -> None:
    """A shared link takes twice what a switch lets expect: flagged, and inside the interval."""
    model = fit_steps(laboratory(SHARED, 2))
    for one, row in zip(
        model.predict([StepConfiguration(4, 4, b // 4) for b in SHARED]),
        SHARED.values(),
        strict=True,
    ):
        assert one.flags == ("regime_unmeasured",)
        assert row[2] / 1e3 in one.seconds


def test_flags_say_what_lies_outside(small: StepModel) -> None:
    """Twice what was measured is trusted, more is not; links between nodes are unknown."""
    flags = {
        (1, 8, 64): (),
        (1, 16, 64): ("workers_beyond",),
        (1, 2, 7): ("micro_batch_outside",),
        (1, 2, 512): (),
        (2, 4, 64): ("links_unmeasured",),
        (4, 4, 64): ("links_unmeasured", "nodes_beyond"),
    }
    steps = [StepConfiguration(*one) for one in flags]
    assert [one.flags for one in small.predict(steps)] == list(flags.values())


@pytest.mark.parametrize(
    ("steps", "needed"),
    [
        ([StepConfiguration(1, 1, 8)], "nodes=1, workers=1, micro_batch=32"),
        (
            [StepConfiguration(1, k, b) for k in (2, 4, 8) for b in (8, 64)],
            "workers=1, micro_batch=8",
        ),
        ([StepConfiguration(1, 1, b) for b in (1, 2, 4, 8, 16)], "workers=2"),
    ],
    ids=["one row", "never one worker", "never several"],
)
def test_too_little_says_what_is_needed(steps: list[StepConfiguration], needed: str) -> None:
    """A refusal that names the configuration."""
    with pytest.raises(UnresolvedError) as caught:
        fit_steps(table_of(steps, shared_link))
    assert needed in str(caught.value.needed)


def test_levers_follow_what_dominates(small: StepModel) -> None:
    """Bytes dominate: half of them save nearly half of the exchange; alone there are no levers."""
    evidence = evidence_from_steps(small)
    levers = {one.name: one for one in evidence.levers(StepConfiguration(1, 4, 64))}
    truth = (shared_link(4, 64) - 0.15) / shared_link(4, 64)

    assert levers["half_the_bytes"].ratio.low <= truth <= levers["half_the_bytes"].ratio.high
    assert levers["accumulation"].configuration.batch_size == 4 * 256
    assert evidence.levers(StepConfiguration(1, 1, 64)) == ()


def test_the_turning_point_moves_with_the_batch_size(small: StepModel) -> None:
    """At 128 examples one worker is best; at 16,384 the most that were searched or near it."""
    few, many = turning_point(small, 128), turning_point(small, 16_384)

    assert few.workers.estimate == 1
    assert many.workers.high > 4
    assert many.searched == 8


@pytest.mark.parametrize("batch_size", [64, 500, 2000, 30_000])
@pytest.mark.parametrize("message", [0.0, 1e-4, 0.01])
def test_the_law_finds_the_least_time(batch_size: int, message: float) -> None:
    """As trying every number of workers does."""

    def seconds(k: int) -> float:
        return 3e-4 * batch_size / k + 2 * (k - 1) * message + 2 * (k - 1) / k * 0.17

    least = min(range(1, 65), key=seconds)
    assert seconds(best_workers(batch_size, 3e-4, 0.17, message, 64)) == pytest.approx(
        seconds(least)
    )


def test_forms_agree_where_nothing_is_exchanged() -> None:
    """One worker: compute alone, in every form, and as often as gradients are accumulated."""
    spread = Spread.of([StepConfiguration(1, 1, 10), StepConfiguration(1, 1, 10, accumulation=3)])
    for form in FORMS.values():
        theta = np.log([0.1, 0.01, *[0.5] * (len(form.parameters) - 2)])
        assert form.seconds(theta, spread) == pytest.approx([0.2, 0.6])


def test_steps_to_a_target_follow_the_noise() -> None:
    """Without noise a larger batch size saves no step; with much it saves all but in proportion."""
    assert steps_to_target(0.0, 32, 256, 100) == 100
    assert steps_to_target(1e9, 32, 256, 100) == pytest.approx(12.5, rel=1e-4)
    assert steps_to_target(np.array([0.0, 1e12]), 32, 64) == pytest.approx(1.5)


def test_most_pairs_far_apart_are_answered_where_links_were_measured() -> None:
    """Of pairs more than 30 % apart whose kinds of spread were measured, 40 % and more."""
    steps, seconds = rows_of("bert")
    rows = at_ends(steps, ADVISED)
    model = fit_steps(StepTable.of([(steps[k], float(seconds[k])) for k in rows]))
    known = [k for k, one in enumerate(steps) if model.measured.slower_by(one) == 1]
    some = [steps[k] for k in known]

    _, answered, far = pairs_judged(model, some, seconds[known], np.log(1.3))
    assert answered[far].mean() >= 0.4


@pytest.mark.xfail(
    strict=True,
    reason="21 % (bert) and 18 % (cifar10) are answered, 88 % of deepspeech2: two nodes were not "
    "measured, and pairs across a kind of spread that was not measured stay undecided",
)
@pytest.mark.parametrize("name", ["bert", "cifar10"])
def test_most_pairs_far_apart_are_answered(name: str) -> None:
    """Of all pairs more than 30 % apart, 40 % and more."""
    steps, seconds = rows_of(name)
    rows = at_ends(steps, ADVISED)
    model = fit_steps(StepTable.of([(steps[k], float(seconds[k])) for k in rows]))

    _, answered, far = pairs_judged(model, steps, seconds, np.log(1.3))
    assert answered[far].mean() >= 0.4


@pytest.mark.parametrize(
    "name",
    [
        "cifar10",
        pytest.param(
            "deepspeech2",
            marks=pytest.mark.xfail(
                strict=True, reason="1.38 times: steps at 16 times the batch size are overrated"
            ),
        ),
    ],
)
def test_noise_of_one_small_run_finds_the_shortest_training(name: str) -> None:
    """At most 1.15 times the best of all measured choices, to 95 % of what every run reaches."""
    steps, seconds = rows_of(name)
    rows = at_ends(steps, ADVISED)
    model = fit_steps(StepTable.of([(steps[k], float(seconds[k])) for k in rows]))
    needed = steps_needed(POLLUX / name, 0.95)
    near = [min(needed, key=lambda b: abs(np.log(b / one.batch_size))) for one in steps]
    usable = [k for k, b in enumerate(near) if abs(np.log(b / steps[k].batch_size)) < 0.03]

    predicted = [one.seconds.estimate for one in model.predict([steps[k] for k in usable])]
    expected = [needed[near[k]][0] * t for k, t in zip(usable, predicted, strict=True)]
    real = [needed[near[k]][1] * seconds[k] for k in usable]
    assert real[int(np.argmin(expected))] <= 1.15 * min(real)


def steps_needed(folder: Path, share: float) -> dict[int, tuple[float, float]]:
    """Predicted and real steps to a target by batch size."""
    runs = {}
    for path in folder.glob("validation-*.csv"):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        columns = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
        runs[int(path.stem.split("-")[1])] = columns
    small = min(runs)
    first = runs[small]["metric"][0]
    sign = np.sign(runs[small]["metric"][-1] - first)
    common = min((sign * run["metric"]).max() for run in runs.values())
    target = sign * first + share * (common - sign * first)
    reached = {size: int(np.argmax(sign * run["metric"] >= target)) for size, run in runs.items()}
    start = {key: values[: reached[small] + 1] for key, values in runs[small].items()}
    counts = np.diff(start["iteration"], prepend=0).astype(int)
    noise = small * start["grad_var"] / start["grad_sqr"]
    return {
        size: (
            sum(
                steps_to_target(float(phi), small, size, int(count))
                for phi, count in zip(noise, counts, strict=True)
            ),
            float(run["iteration"][reached[size]]),
        )
        for size, run in runs.items()
    }
