"""Steps of real distributed training in a laboratory of shaped links, and what a probe predicts.

In each network the command ``probe`` runs with four workers (and with two, where it must not be
able to tell a shared link from a switched one). Then real steps are timed that it did not see: one
to eight workers, batch sizes over a factor of sixteen, and the levers. Computing is sleep, so that
eight workers fit on two cores; gradients, buckets and their exchange are real. With ``--only``,
results of the other networks are kept.

    python benchmarks/netlab_steps.py [--only shared400 ...] [-o results/netlab_steps.json]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common.record import options, write

sys.path.insert(0, str(Path(__file__).parent / "netlab"))

import lab

from batchsense.training.workers.from_probe import (
    WhiteBox,
    compare_from_probe,
    fit_white_box,
    links_for,
    predict_from_probe,
)
from batchsense.training.workers.prediction import StepConfiguration
from batchsense.training.workers.probing.evidence import evidence_from_probe
from batchsense.training.workers.probing.levers import predict_levers
from batchsense.training.workers.probing.readings import read_probe

HERE = Path(__file__).parent / "netlab"
SIZES = (256, 1024, 4096)


@dataclass(frozen=True)
class Network:
    """One network of the laboratory, and what is measured there."""

    rate: str
    kind: str
    workers: tuple[int, ...]
    sizes: tuple[int, ...] = SIZES
    width: int = 256
    levers: tuple[tuple[int, int], ...] = ()


NETWORKS = {
    "shared400": Network("400mbit", "shared", (1, 2, 4, 8), levers=((2, 2048),)),
    "shared400_17MB": Network("400mbit", "shared", (2, 4), width=512),
    "shared50": Network("50mbit", "shared", (2, 4), (256, 1024), levers=((4, 1024),)),
    "shared1000": Network("1gbit", "shared", (2, 4, 8)),
    "switched200": Network("200mbit", "switched", (2, 4), levers=((4, 4096),)),
}


def run(network: Network, workers: int, words: list[str]) -> None:
    """Run what follows torchrun's own words, with so many workers in the network."""
    more = {"NETLAB_WIDTH": str(network.width)}
    if network.kind == "shared":
        lab.on_shared(network.rate, lab.torchrun(workers, *words), **more)
        return
    with lab.switched(network.rate, workers) as names:
        lab.on_switched(names, words, **more)


def measured(network: Network, workers: int, cases: list[dict[str, Any]]) -> list[float]:
    """Median seconds of a step of each case."""
    with tempfile.TemporaryDirectory() as folder:
        out, asked = Path(folder, "out.json"), Path(folder, "cases.json")
        asked.write_text(json.dumps(cases))
        run(network, workers, [str(HERE / "steps.py"), str(out), str(asked)])
        return [float(np.median(case["seconds"])) for case in json.loads(out.read_text())]


def probed(network: Network, workers: int) -> WhiteBox:
    """What the command finds."""
    with tempfile.TemporaryDirectory() as folder:
        out, job = Path(folder, "probe.json"), f"{HERE / 'job.py'}:workload"
        run(network, workers, ["-m", "batchsense", "probe", job, "-o", str(out), "--quiet"])
        return fit_white_box(read_probe(out))


def step_of(workers: int, batch_size: int) -> StepConfiguration:
    """On one machine, as the laboratory is one."""
    return StepConfiguration(1, workers, batch_size // workers)


def held_out(name: str, network: Network, box: WhiteBox) -> list[dict[str, Any]]:
    """Measured and predicted seconds; those of the probe's own steps are marked."""
    rows = []
    for workers in network.workers:
        cases = [{"batch_size": size} for size in network.sizes]
        for size, seconds in zip(network.sizes, measured(network, workers, cases), strict=True):
            step = step_of(workers, size)
            predicted = predict_from_probe(box, [step])[0]
            seen = any(
                (one.workers, one.micro_batch) == (workers, step.micro_batch)
                for one in box.probe.steps
            )
            rows.append({
                "network": name, "workers": workers, "batch_size": size, "seen": seen,
                "measured": seconds, "predicted": predicted.seconds.estimate,
                "low": predicted.seconds.low, "high": predicted.seconds.high,
                "flags": list(predicted.flags), "error": predicted.seconds.estimate / seconds - 1,
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def lever_options(option: str) -> dict[str, Any]:
    """The words of train as options of the measured steps; the batch size stands beside them."""
    words = option.split()
    given = dict(zip(words[::2], words[1::2], strict=True))
    names = {"--bucket-cap": "bucket_cap_mb", "--sync-every": "sync_every"}
    names["--accumulate"] = "accumulate"
    found: dict[str, Any] = {names[one]: int(value) for one, value in given.items() if one in names}
    return found | ({"hook": given["--compress"]} if "--compress" in given else {})


def levered(name: str, network: Network, box: WhiteBox) -> list[dict[str, Any]]:
    """What each lever gains in examples a second, measured and predicted."""
    rows = []
    for workers, size in network.levers:
        levers = predict_levers(box, step_of(workers, size))
        cases: list[dict[str, Any]] = [{"batch_size": size}]
        for lever in levers:
            cases.append({
                "batch_size": lever.configuration.batch_size,
                "options": lever_options(lever.option),
            })  # fmt: skip
        now, *then = measured(network, workers, cases)
        for lever, seconds in zip(levers, then, strict=True):
            gain = now / size * lever.configuration.batch_size / seconds
            rows.append({
                "network": name, "workers": workers, "batch_size": size, "option": lever.option,
                "measured": gain, "predicted": 1 / lever.ratio.estimate,
                "low": 1 / lever.ratio.high, "high": 1 / lever.ratio.low,
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def exchange(box: WhiteBox, two: WhiteBox) -> dict[str, Any]:
    """The exchange of four workers, measured, and predicted from that of two and from both."""
    sent = box.exchange.sent_bytes
    seen = sum(
        float(np.median(row.seconds))
        for bucket in box.probe.buckets
        for row in box.probe.allreduce
        if row.workers == 4 and abs(row.bytes - bucket.bytes) < 0.01 * bucket.bytes
    )
    return {
        "measured": seen,
        "from_four": float(links_for(box, 4)[0].seconds(sent, 4)[0]),  # type: ignore[union-attr]
        "from_two": {link.kind: float(link.seconds(sent, 4)[0]) for link in two.links},
        "classes_of_two": [link.kind for link in two.links],
        "classes_of_four": [link.kind for link in box.links],
    }


def break_evens(box: WhiteBox) -> list[dict[str, Any]]:
    """The verdicts of two workers against one, and the best number."""
    rows = []
    evidence = evidence_from_probe(box.probe)
    for size in SIZES:
        verdict = compare_from_probe(box, step_of(1, size), step_of(2, size)).verdict
        assert evidence.turning is not None
        rows.append({
            "batch_size": size, "verdict": verdict,
            "best": evidence.turning(size).workers.estimate,
            "whatever_overlaps": evidence.remarks(size, 2)[0].message,
        })  # fmt: skip
    return rows


def kept(path: Path, again: list[str]) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """What an earlier run found in the networks that are not measured again."""
    if not path.exists():
        return [], [], {}
    found = json.loads(path.read_text())
    more = {name: found[name] for name in ("exchange", "break_even")}
    steps, levers = (
        [row for row in found[kind] if row["network"] not in again] for kind in ("steps", "levers")
    )
    return steps, levers, more


def main() -> None:
    parser = options(__doc__, "netlab_steps")
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    arguments = parser.parse_args()
    if (reason := lab.why_not()) is not None:
        print(f"skipped: {reason}")
        return
    began, cpu = time.time(), time.process_time()
    rows, levers, more = kept(arguments.output, arguments.only)
    for name in arguments.only:
        network = NETWORKS[name]
        box = probed(network, 4)
        rows += held_out(name, network, box)
        levers += levered(name, network, box)
        if name == "shared400":
            more = {"exchange": exchange(box, probed(network, 2)), "break_even": break_evens(box)}
    errors = [abs(row["error"]) for row in rows if not row["seen"]]
    write(
        arguments.output, arguments.seed, began, time.process_time() - cpu,
        held_out=len(errors), median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
        coverage=float(np.mean([row["low"] <= row["measured"] <= row["high"] for row in rows])),
        steps=rows, levers=levers, **more,
    )  # fmt: skip
    print(f"median {np.median(errors):.1%}, p90 {np.quantile(errors, 0.9):.1%}")


if __name__ == "__main__":
    main()
