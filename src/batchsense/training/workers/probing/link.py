"""What it costs to sum the gradients of all workers: a ring of messages over a link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy.optimize import nnls

from batchsense.arrays import Floats
from batchsense.errors import UnresolvedError

#: What a file must hold that is read back: whole numbers from 1, and times of at least one repeat.
Count: TypeAlias = Annotated[int, Field(ge=1)]
Times: TypeAlias = Annotated[
    tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)
]
#: *switched*: each worker sends and receives at its own full rate (a switch, a full-duplex port).
#: *shared*: all that is sent crosses one medium (a hub, a radio channel, the bus of one machine).
LinkClass = Literal["switched", "shared"]
LINK_CLASSES: tuple[LinkClass, ...] = get_args(LinkClass)
#: How near the growth of a time with the workers must come to that of one class, as a part of the
#: way to the other: from 2 to 4 workers a message takes 1.5 times as long over switched links and 3
#: times over a shared one. What lies between (some links shared, processors busy) is not told.
_NEAR = 0.25


@dataclass(frozen=True, slots=True)
class AllReduceReading:
    """How long it took to sum one message over workers."""

    bytes: Count  #: Size of the message.
    workers: Annotated[int, Field(ge=2)]  #: How many took part.
    seconds: Times  #: Each repeat, by the slowest worker.


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A link between workers; the first draw is the estimate, the others are resampled."""

    kind: LinkClass  #: How its rate is divided.
    #: Time of one round of messages, however small: on gloo a round trip; shape (draws,).
    round_seconds: Floats
    seconds_per_byte: Floats  #: One over the rate; shape (draws,).

    @property
    def bytes_per_second(self) -> Floats:
        """The rate; infinite where bytes cost nothing."""
        with np.errstate(divide="ignore"):
            return np.asarray(1 / self.seconds_per_byte)

    def seconds(self, nbytes: float, workers: int) -> Floats:
        r"""Time to sum ``nbytes`` over workers, each draw.

        .. math:: 2(K-1)\,\alpha + \frac{2(K-1)}{K} \frac{n}{\beta} \text{ (switched)}, \qquad
            2(K-1)\,\alpha + 2(K-1)\frac{n}{R} \text{ (shared)}

        Zero for one worker. Source: Thakur, Rabenseifner and Gropp 2005, the ring.

        >>> link = given_link(bytes_per_second=50e6, round_seconds=0.0, kind="shared")
        >>> link.seconds(4.17e6, 4)
        array([0.5004])
        """
        rounds, passes = _terms(self.kind, workers)
        return rounds * self.round_seconds + passes * nbytes * self.seconds_per_byte

    def law(self, nbytes: float) -> tuple[float, float]:
        """Seconds of all gradients and of a message, as the laws of a switched link take them.

        A shared link is one whose messages take as long as all gradients.
        """
        rounds, sent = float(self.round_seconds[0]), nbytes * float(self.seconds_per_byte[0])
        return (sent, rounds) if self.kind == "switched" else (0.0, rounds + sent)


def _terms(kind: LinkClass, workers: npt.ArrayLike) -> tuple[Floats, Floats]:
    """How often a round is waited for, and how often the message crosses the link."""
    count = np.asarray(workers, dtype=np.float64)
    rounds = 2 * (count - 1)
    return rounds, rounds / count if kind == "switched" else rounds


def given_link(*, bytes_per_second: float, round_seconds: float, kind: LinkClass) -> Link:
    """A link of which rate and time of a round are known.

    >>> given_link(bytes_per_second=125e6, round_seconds=2e-4, kind="switched").seconds(0, 2)
    array([0.0004])
    """
    return Link(kind, np.array([round_seconds]), np.array([1 / bytes_per_second]))


def fit_link(
    readings: Sequence[AllReduceReading], kind: LinkClass, *, draws: int = 200, seed: int = 0
) -> Link:
    """Fit a class of link to readings, both parts held non-negative.

    Minimises relative residuals of the medians over repeats; draws resample the repeats.

    Raises UnresolvedError: fewer than two sizes were measured.

    >>> readings = [AllReduceReading(n, 2, (2e-4 + n / 50e6,) * 10) for n in (4096, 10**6)]
    >>> found = fit_link(readings, "switched", draws=0)
    >>> round(float(found.round_seconds[0]), 7), round(1 / float(found.seconds_per_byte[0]))
    (0.0001, 50000000)
    """
    rows = [reading for reading in readings if reading.workers > 1]
    if len({reading.bytes for reading in rows}) < 2:
        raise UnresolvedError(
            "no exchange between workers was measured",
            "a probe under torchrun with at least 2 processes: "
            "torchrun --nproc_per_node 2 -m batchsense probe TARGET -o probe.json",
        )
    sizes = np.array([row.bytes for row in rows], dtype=np.float64)
    design = np.column_stack(_terms(kind, [row.workers for row in rows]))
    design[:, 1] *= sizes
    rng = np.random.default_rng(seed)
    fits = []
    for draw in range(1 + draws):
        medians = np.array([np.median(_resampled(row.seconds, rng, draw)) for row in rows])
        fits.append(nnls(design / medians[:, None], np.ones(len(rows)))[0])
    rounds, per_byte = np.array(fits).T
    return Link(kind, rounds, per_byte)


def _resampled(seconds: tuple[float, ...], rng: np.random.Generator, draw: int) -> Floats:
    values = np.array(seconds)
    return values if draw == 0 else rng.choice(values, size=len(values))


def told_classes(readings: Sequence[AllReduceReading]) -> tuple[LinkClass, ...]:
    """The classes of link that the readings do not exclude: one, or both where they cannot tell.

    What tells them is how much longer a byte takes with more workers. With one number of workers
    the rate takes up any factor, so that both laws fit alike and predict other numbers of workers
    up to twofold apart.

    >>> def probe(*workers):
    ...     seconds = lambda n, k: 2 * (k - 1) * (1e-4 + n / 50e6)
    ...     return [
    ...         AllReduceReading(n, k, (seconds(n, k),)) for n in (4096, 10**6) for k in workers
    ...     ]
    >>> told_classes(probe(2)), told_classes(probe(2, 4))
    (('switched', 'shared'), ('shared',))
    """
    counts = sorted({reading.workers for reading in readings if reading.workers > 1})
    if len(counts) < 2:
        return LINK_CLASSES
    fewest, most = counts[0], counts[-1]
    growth = [
        np.log(
            fit_link([r for r in readings if r.workers == count], "shared", draws=0).seconds(
                1e9, count
            )[0]
        )
        for count in (fewest, most)
    ]
    # An exchange whose time does not grow with its size has no rate to tell by.
    observed = growth[1] - growth[0]
    laws = {
        kind: float(np.log(_terms(kind, most)[1] / _terms(kind, fewest)[1]))
        for kind in LINK_CLASSES
    }
    near = _NEAR * abs(laws["shared"] - laws["switched"])
    told = tuple(kind for kind in LINK_CLASSES if abs(observed - laws[kind]) <= near)
    return told or LINK_CLASSES
