"""What correcting first and testing later calls in pure noise, beside tests with the batch.

40 specimens in two batches with the treated spread 50/50 to 95/5, and the labels of the bladder
study (57 arrays, 5 batches, cancer of three levels). Every feature is noise with batch shifts of
one standard deviation. Reported: the share of p <= 0.05, features called at q <= 0.05, and for
linear removal and centring the rate that the closed forms give from the sheet alone.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import record

from batchsense.experiments import (
    CombatCorrection,
    LinearCorrection,
    PureNoise,
    Table,
    placebo,
    testing,
)
from batchsense.experiments.statistics.tail_areas import t_p_value, t_quantile

FEATURES = 20_000
BLADDER = Path(__file__).resolve().parents[1] / "tests" / "references" / "bladder" / "input.npz"


def designs() -> dict[str, tuple[Table, str, str]]:
    """Give the sheets with their batch column and the column that is tested."""
    found = {}
    for share in (0.5, 0.75, 0.9, 0.95):
        treated = round(20 * share)
        drug = ["yes"] * treated + ["no"] * (20 - treated)
        sheet = {"month": ["May"] * 20 + ["July"] * 20, "drug": drug + drug[::-1]}
        if share != 0.5:
            sheet["drug"] = drug + ["no"] * treated + ["yes"] * (20 - treated)
        name = f"{share:.0%} treated in May"
        found[name] = (Table.from_arrays(np.zeros((40, 1)), sheet), "month", "drug")
    given = np.load(BLADDER)
    sheet = {"batch": given["batch"].tolist(), "cancer": given["cancer"].tolist()}
    found["bladder labels"] = (Table.from_arrays(np.zeros((57, 1)), sheet), "batch", "cancer")
    return found


def centred_rate(r2: float, specimens: int, batch_levels: int, alpha: float = 0.05) -> float:
    """Share of noise that a plain t test calls after centring the batches, nothing kept.

    For a constant and one column: t_plain² = (n - 2)(1 - R²)t²/(df + R²t²), so that the test is
    too timid, the more so the larger R² is.
    """
    df = specimens - 1 - batch_levels
    square = float(t_quantile(1.0 - alpha, specimens - 2)) ** 2
    room = (specimens - 2) * (1.0 - r2) - square * r2
    return float(t_p_value(math.sqrt(square * df / room), df)) if room > 0 else 0.0


def user_pipelines(batch: str, wanted: str) -> dict[str, Any]:
    """Give pipelines that are not built in."""

    def first(found: testing.ContrastTests) -> Any:
        return (found.factors or found.effects)[0].p_value

    def centred(table: Table) -> Any:
        corrected = LinearCorrection().fit(table, batch).transform(table)
        return first(
            testing.test(
                corrected,
                wanted,
                options=testing.ContrastOptions(shrink=False, ignore_batches=True),
            )
        )

    def combat_then_batch(table: Table) -> Any:
        corrected = CombatCorrection(keep=(wanted,)).fit(table, batch).transform(table)
        return first(
            testing.test(corrected, wanted, options=testing.ContrastOptions(values="corrected"))
        )

    def default_after_linear(table: Table) -> Any:
        corrected = LinearCorrection(keep=(wanted,)).fit(table, batch).transform(table)
        return first(testing.test(corrected, wanted))

    def default_after_combat(table: Table) -> Any:
        corrected = CombatCorrection(keep=(wanted,)).fit(table, batch).transform(table)
        return first(testing.test(corrected, wanted))

    return {
        "centred, nothing kept": centred,
        "ComBat, then batch in the model of its values": combat_then_batch,
        "default test after linear removal": default_after_linear,
        "default test after ComBat": default_after_combat,
    }


def main() -> None:
    """Run every pipeline on every design."""
    arguments = record.options(__doc__ or "", "correct_then_test").parse_args()
    began, cpu = time.time(), time.process_time()
    results: dict[str, Any] = {}
    for name, (table, batch, wanted) in designs().items():
        sheet_only = testing.test(
            Table.from_arrays(
                np.random.default_rng(0).normal(size=(len(table.specimens), 9)), table.sheet
            ),
            wanted,
            batch,
        )
        one = (sheet_only.factors or sheet_only.effects)[0]
        expected = {"linear": one.plain.false_positive_rate}
        r2 = {str(e.contrast): 1 - 1 / e.vif for e in sheet_only.effects}
        if not sheet_only.factors:
            expected["centred, nothing kept"] = centred_rate(*r2.values(), len(table.specimens), 2)
        pipelines: dict[str, Any] = {n: n for n in ("uncorrected", "linear", "combat", "model")}
        pipelines.update(user_pipelines(batch, wanted))
        rows = {}
        noise = PureNoise(FEATURES, seed=arguments.seed)
        for label, pipeline in pipelines.items():
            found = placebo(table, pipeline, wanted, batch, noise=noise)
            rows[label] = {
                "rate": found.rate.estimate,
                "low": found.rate.low,
                "high": found.rate.high,
                "called": found.called,
                "closed_form": expected.get(label),
            }
            print(f"{name:22} {label:46} {found}")
        results[name] = {"r2": r2, "pipelines": rows}
    record.write(
        arguments.output,
        arguments.seed,
        began,
        time.process_time() - cpu,
        features=FEATURES,
        designs=results,
    )


if __name__ == "__main__":
    main()
