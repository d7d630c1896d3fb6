"""LISI and kBET equal the packages that people use, and chance explains what it should."""

from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments import Table
from batchsense.experiments.design import read_design
from batchsense.experiments.diagnosis.neighbourhoods.mixing import ALPHA, kbet, lisi, mixings

REFERENCE = np.load(Path(__file__).parents[2] / "references" / "mixing" / "mixing.npz")
EMBEDDINGS = ("mixed", "shifted", "rings")


@pytest.mark.parametrize("name", EMBEDDINGS)
@pytest.mark.parametrize(("package", "neighbours"), [("harmonypy", 90), ("scib", 89)])
def test_lisi_equals_the_packages(name: str, package: str, neighbours: int) -> None:
    """Each specimen has the LISI of harmonypy 2.1.0 and scib-metrics 0.5.10."""
    actual = lisi(REFERENCE[f"{name}_points"], REFERENCE[f"{name}_codes"], 30, neighbours)

    np.testing.assert_allclose(actual, REFERENCE[f"{name}_{package}"], rtol=1e-9)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_kbet_equals_the_package(name: str) -> None:
    """Each neighbourhood has the p-value of scib-metrics 0.5.10, and as many are rejected."""
    actual = kbet(REFERENCE[f"{name}_points"], REFERENCE[f"{name}_codes"], 20)
    expected = REFERENCE[f"{name}_kbet"]

    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-14)
    assert (actual < ALPHA).sum() == (expected < ALPHA).sum()


def found(shift: float, treated_in_july: float, seed: int = 0, keep: tuple[str, ...] = ("drug",)):
    """Mix 120 specimens of two months; the drug moves them, and was given more often in July."""
    rng = np.random.default_rng(seed)
    month = np.repeat([0, 1], 60)
    drug = rng.random(120) < np.where(month == 1, treated_in_july, 0.5)
    points = rng.normal(size=(120, 3)) + 4 * drug[:, None] + shift * month[:, None]
    labels = {"month": [f"m{k}" for k in month], "drug": ["yes" if d else "no" for d in drug]}
    table = Table.from_arrays(points, labels)
    return {
        (one.name, one.measure): one
        for one in mixings(points, read_design(table, "month", keep), rng, 100)
    }


def test_a_shift_is_seen_and_its_absence_is_not() -> None:
    """Shifted batches are mixed less than their permuted labels; those alike are within chance."""
    apart, alike = found(3.0, 0.5), found(0.0, 0.5)
    for measure in ("iLISI", "kBET"):
        one, other = apart["month", measure], alike["month", measure]
        assert one.p_value == pytest.approx(1 / 101)
        assert not one.low <= one.value <= one.high
        assert other.p_value > 0.05
        assert other.low <= other.value <= other.high
    assert apart["drug", "cLISI"].value < apart["drug", "cLISI"].low


def test_an_uneven_design_is_no_bad_mixing() -> None:
    """Permuted among all, months that hold unlike shares of the drug look apart; within it not."""
    within, among = found(0.0, 0.95), found(0.0, 0.95, keep=())

    assert within["month", "iLISI"].p_value > 0.05
    assert among["month", "iLISI"].p_value < 0.05
    assert within["month", "iLISI"].by_chance < among["month", "iLISI"].by_chance


def test_permuted_labels_reach_the_value_as_often_as_they_should() -> None:
    """Without an effect p is at most 0.1 in about one of ten tables."""
    p = [found(0.0, 0.8, seed)["month", "kBET"].p_value for seed in range(40)]

    assert 0 <= sum(one <= 0.1 for one in p) <= 10
    assert 0.3 < np.mean(p) < 0.7


def test_where_no_label_can_move_there_is_no_chance_level() -> None:
    """Months that hold one drug each cannot be permuted: the value stands without a verdict."""
    points = np.random.default_rng(0).normal(size=(20, 2))
    labels = {"month": ["a"] * 10 + ["b"] * 10, "drug": ["no"] * 10 + ["yes"] * 10}
    table = Table.from_arrays(points, labels)
    (ilisi, *_) = mixings(points, read_design(table, "month", ["drug"]), np.random.default_rng(0))

    assert ilisi.value > 1
    assert (ilisi.by_chance, ilisi.p_value) == (None, None)
    assert "1 ways only" in (ilisi.reason or "")
