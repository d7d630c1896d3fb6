"""Bytes of the pages of 2,000 specimens and 20,000 features, with all that saves their figures.

Twelve months, three kept columns and a number; names of features of 15 letters. ``counts`` is a
test of counts, with their trend. A link that did not fit would be missing: they are counted.

    python benchmarks/report_sizes.py
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common.record import options, write

from batchsense.experiments import ContrastOptions, Table, correct, diagnose, testing
from batchsense.questions.correct.report import correct_report
from batchsense.questions.correct.result import CorrectResult
from batchsense.questions.diagnose.report import diagnose_report
from batchsense.questions.diagnose.result import DiagnoseResult
from batchsense.questions.test.report import contrast_report
from batchsense.questions.test.result import ContrastTestsResult
from batchsense.reports.envelope import Envelope, Note

SPECIMENS, FEATURES, MONTHS = 2000, 20_000, 12


def tables(seed: int) -> tuple[Table, Table]:
    """Logarithms with effects of month and drug, and counts with the same."""
    rng = np.random.default_rng(seed)
    month, drug = rng.integers(MONTHS, size=SPECIMENS), rng.integers(3, size=SPECIMENS)
    logs = rng.normal(size=(SPECIMENS, FEATURES)) + rng.normal(6, 1.5, size=FEATURES)
    logs += 0.5 * rng.normal(size=(MONTHS, FEATURES))[month]
    logs[:, :2000] += rng.normal(size=(3, 2000))[drug]
    sheet: dict[str, Any] = {
        "month": [f"month {k + 1}" for k in month],
        "drug": [("none", "low", "high")[k] for k in drug],
        "sex": [("f", "m")[k] for k in rng.integers(2, size=SPECIMENS)],
        "age": rng.normal(50, 12, size=SPECIMENS).round(1).tolist(),
    }
    names = [f"ENSG{k:011d}" for k in range(FEATURES)]
    ids = [f"specimen-{k:05d}" for k in range(SPECIMENS)]
    counts = rng.poisson(np.exp2(logs)).astype(float)
    return (
        Table.from_arrays(logs, sheet, ids, names),
        Table.from_arrays(counts, sheet, ids, names, values_are="counts"),
    )


def pages(seed: int) -> dict[str, str]:
    """The four pages."""
    logs, counts = tables(seed)
    keep = ["drug", "sex", "age"]
    found = diagnose(logs, "month", keep, permutations=20, seed=seed)
    told = Envelope[DiagnoseResult](
        command="diagnose",
        result=DiagnoseResult.of(found, logs.orientation),
        notes=Note.published(found.notes),
    )
    written = {"diagnose": diagnose_report(told, found, logs)}
    corrected = correct(logs, "month", keep)
    answer = Envelope[CorrectResult](command="correct", result=CorrectResult.of(corrected, "c.csv"))
    written["correct"] = correct_report(answer, corrected)
    for name, table in (("test", logs), ("counts", counts)):
        how = ContrastOptions(trend=name == "test")
        tests = testing.test(table, "drug", "month", keep[1:], how)
        tested = Envelope[ContrastTestsResult](
            command="test",
            result=ContrastTestsResult.of(tests, table.orientation),
            notes=Note.published(tests.notes),
        )
        written[name] = contrast_report(tested, tests, None, table)
    return written


def main() -> None:
    """Write the pages and count their bytes, figures and links."""
    given = options(__doc__ or "", "report_sizes").parse_args()
    began = time.time()
    found = {
        name: {
            "bytes": len(page.encode()),
            "figures": page.count("<figure"),
            "links": page.count("<a download="),
        }
        for name, page in pages(given.seed).items()
    }
    size = {"specimens": SPECIMENS, "features": FEATURES}
    write(given.output, given.seed, began, time.process_time(), **size, pages=found)
    for name, numbers in found.items():
        print(name, numbers)
    print(f"{time.process_time():.0f} CPU seconds")


if __name__ == "__main__":
    main()
