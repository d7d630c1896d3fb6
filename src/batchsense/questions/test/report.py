"""The page of ``batchsense test``, and what its figures say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchsense.questions.test import text
from batchsense.questions.test.result import Q_LIMIT
from batchsense.reports.envelope import Envelope
from batchsense.reports.figures.features import MOST_POINTS, draw_p_values, draw_volcano
from batchsense.reports.page import Picture, render
from batchsense.reports.wording import number

if TYPE_CHECKING:
    from batchsense.experiments.testing import ContrastTests, EffectTest
    from batchsense.questions.test.result import ContrastTestsResult


def contrast_report(
    envelope: Envelope[ContrastTestsResult],
    found: ContrastTests | None = None,
    command_line: str | None = None,
) -> str:
    """The page of tests."""
    result = envelope.answer()
    return render(
        __file__,
        envelope,
        command_line,
        model=text.model_sentence(result),
        libraries=None if result.counts is None else text.library_table(result.counts),
        headlines=text.headlines(result),
        untested=sum(result.untested.values()),
        prices=text.price_rows(result),
        pictures=[] if found is None else _effect_pictures(found),
        tables=text.feature_tables(result),
    )


#: Contrasts beyond this number are in the tables only: two figures each, of up to 100 kB.
MOST_DRAWN = 3


def _effect_pictures(found: ContrastTests) -> list[list[Picture]]:
    return [_pair(one, place) for place, one in enumerate(found.effects[:MOST_DRAWN])]


def _pair(one: EffectTest, place: int) -> list[Picture]:
    called = one.q_value <= Q_LIMIT
    tested = int((one.p_value >= 0).sum())
    finding = (
        f"Every point is a feature: to the right what is higher, to the left what is lower; the "
        f"higher a point, the less it is chance. {number(int(called.sum()))} of {number(tested)} "
        f"features are called at q ≤ {Q_LIMIT:g}."
    )
    if max(int(called.sum()), tested - int(called.sum())) > MOST_POINTS:
        finding += f" Of each kind at most {MOST_POINTS:,} are drawn, evenly by p."
    small = int((one.p_value <= Q_LIMIT).sum())
    spread = (
        f"Without any effect the bars would reach the dashed line; {number(small)} of "
        f"{number(tested)} features have p ≤ 0.05, and chance alone would give "
        f"{number(round(0.05 * tested))}."
    )
    name = str(one.contrast)
    return [
        Picture.of(
            draw_volcano(one.effect, one.p_value, called), f"effects-{place}", name, finding
        ),
        Picture.of(draw_p_values(one.p_value), f"p-values-{place}", f"p-values of {name}", spread),
    ]
