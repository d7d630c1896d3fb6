"""The law of attenuation: centring without the design leaves 1 − R² of a true effect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "benchmarks" / "results" / "attenuation.json"


@pytest.mark.parametrize("squared", [0.0, 0.25, 0.64, 0.81])
def test_what_is_left_of_an_effect(squared: float) -> None:
    """Centring leaves 1 − R², ComBat without the design about as little, both with it all."""
    row = next(r for r in json.loads(STUDY.read_text())["rows"] if r["r_squared"] == squared)

    assert row["centring, nothing kept"]["effect"] == pytest.approx(1 - squared, abs=0.02)
    assert row["ComBat, nothing kept"]["effect"] == pytest.approx(1 - squared, abs=0.03)
    assert row["linear, treatment kept"]["effect"] == pytest.approx(1, abs=0.02)
    assert row["ComBat, treatment kept"]["effect"] == pytest.approx(1, abs=0.02)
