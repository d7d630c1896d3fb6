"""What would make a distributed step faster, each predicted by the same parts of the probe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from batchsense.training.workers.evidence import Lever
from batchsense.training.workers.from_probe import WhiteBox, joined, links_for
from batchsense.training.workers.prediction import StepConfiguration
from batchsense.training.workers.probing.overlap import MEBIBYTE, Exchange, fill_buckets

#: Caps that are tried, in MiB: from many small messages to one.
CAPS = (1, 2, 5, 10, 25)
#: A cap is offered from this gain on; less is lost in what the law leaves out.
_LEAST_GAIN = 1.02
#: How far the other levers are moved where nothing says how far: enough to see what they do.
_ACCUMULATION, _EVERY = 4, 8
#: Bytes that a hook sends for each number.
_HALF = 2
_BYTES_OF = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}


def predict_levers(box: WhiteBox, configuration: StepConfiguration) -> tuple[Lever, ...]:
    """Predict what each lever does to a step of several workers, the strongest first.

    PowerSGD is not among them: on gloo its hook hangs or fails (torch issue 58467). Nor is bf16 on
    gloo, where torch refuses its hook.

    Raises UnresolvedError: the probe measured no exchange.
    """
    if configuration.workers == 1:
        return ()
    found = [_lever(box, configuration, change) for change in _possible(box, configuration)]
    return tuple(sorted(found, key=lambda lever: lever.ratio.estimate))


#: A code, words, an option of train, and the step and exchange then.
_Change = tuple[str, str, str, StepConfiguration, Exchange]


def _possible(box: WhiteBox, now: StepConfiguration) -> Iterable[_Change]:
    as_is = box.exchange
    width = _BYTES_OF.get(box.probe.dtype, 4)
    if width > _HALF:
        half = replace(as_is, compression=_HALF / width)
        for kind in ("fp16", "bf16") if "nccl" in box.probe.backend else ("fp16",):
            yield kind, f"gradients sent as {kind}", f"--compress {kind}", now, half
    if (best := _best_cap(box, now)) is not None:
        cap, exchange = best
        yield "bucket_cap", f"buckets of {cap} MiB", f"--bucket-cap {cap}", now, exchange
    if now.accumulation == 1:
        words = f"weights exchanged every {_EVERY} steps, the loss then unknown"
        yield "sync_every", words, f"--sync-every {_EVERY}", now, replace(as_is, every=_EVERY)
    passes = _ACCUMULATION * now.accumulation
    words = f"{_ACCUMULATION} times the passes between exchanges"
    more = replace(now, accumulation=passes)
    option = f"--batch-size {more.batch_size} --accumulate {passes}"
    yield "accumulation", words, option, more, as_is
    more = replace(now, micro_batch=2 * now.micro_batch)
    words = f"{more.micro_batch:,} examples of a worker, if they fit into memory"
    yield "larger_micro_batch", words, f"--batch-size {more.batch_size}", more, as_is


def _best_cap(box: WhiteBox, now: StepConfiguration) -> tuple[int, Exchange] | None:
    """The cap with the least time, if it gains anything for every link there may be."""
    links = links_for(box, now.workers)

    def worst(exchange: Exchange) -> float:
        return max(float(box.seconds(now, link, exchange)[0]) for link in links)

    exchanges = {cap: Exchange(fill_buckets(box.probe.gradients, cap * MEBIBYTE)) for cap in CAPS}
    best = min(exchanges, key=lambda cap: worst(exchanges[cap]))
    gain = worst(box.exchange) / worst(exchanges[best])
    return (best, exchanges[best]) if gain >= _LEAST_GAIN else None


def _lever(box: WhiteBox, now: StepConfiguration, change: _Change) -> Lever:
    name, words, option, then, exchange = change
    seconds, ratios = [], []
    for link in links_for(box, now.workers):
        before, after = box.seconds(now, link), box.seconds(then, link, exchange)
        seconds.append(box.interval(after))
        ratios.append(box.interval(after / then.batch_size / (before / now.batch_size)))
    return Lever(name, words, then, joined(seconds), joined(ratios), option)
