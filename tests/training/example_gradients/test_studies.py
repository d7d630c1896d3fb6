"""What the committed study of gradient norms found."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"


def test_norms_cost_less_time_and_memory_than_ghost_clipping() -> None:
    """On two multilayer networks, two convolutional ones and two transformers, in one run."""
    models = json.loads((RESULTS / "norms_against_opacus.json").read_text())["models"]

    assert [name.split()[0].strip(",") for name in models] == [
        kind for kind in ("MLP", "CNN", "transformer") for _ in range(2)
    ]
    for row in models.values():
        assert row["largest_relative_difference_of_squares"] < 1e-5
        assert row["ours_over_opacus"] < 1
        assert row["ours"]["ratio_median"] < row["opacus"]["ratio_median"]
        assert row["peak_mib"]["ours"] < row["peak_mib"]["opacus"]
