"""All 22,283 probes of the bladder data against R, where R has written them down."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments.correction.combat.model import fit_combat
from batchsense.experiments.correction.linear import fit_linear
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics

SVA = 1e-8
LIMMA = 1e-10
FOLDER = os.environ.get("BATCHSENSE_BLADDER", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not list(Path(FOLDER).glob("par_mod__*.f64")) if FOLDER else True,
        reason="BATCHSENSE_BLADDER names no folder written by tests/references/bladder/full.R",
    ),
]


def printed(name):
    """Read what R wrote, features × specimens."""
    (path,) = Path(FOLDER).glob(f"{name}__*.f64")
    rows, columns = map(int, path.stem.split("__")[1:])
    values = np.fromfile(path).reshape((rows, columns), order="F")
    return np.where(np.isnan(values), np.nan, values)  # R's NA is a NaN that signals


def gathered(values, kept, alone=False):
    """Gather all arrays, the first one possibly as a batch of its own."""
    batch_labels = printed("batch").ravel()
    if alone:
        batch_labels[0] = 9
    codes = np.unique(batch_labels, return_inverse=True)[1]
    empty = BatchStatistics.empty(codes.max() + 1, len(values), kept.shape[1])
    return empty.add(values.T, codes, kept), codes


def kept_terms(name):
    return np.empty((57, 0)) if "nomod" in name else printed("age" if "age" in name else "mod")


@pytest.mark.parametrize(
    ("name", "values", "options"),
    [
        ("par_nomod", "input", {}),
        ("par_mod", "input", {}),
        ("par_nomod_meanonly", "input", {"mean_only": True}),
        ("par_mod_meanonly", "input", {"mean_only": True}),
        ("par_nomod_ref3", "input", {"reference": 2}),
        ("par_mod_ref3", "input", {"reference": 2}),
        ("par_age", "input", {}),
        ("par_nomod_holes", "holes", {}),
        ("par_mod_holes", "holes", {}),
        ("nonpar_nomod_2000", "input", {"parametric": False}),
        ("nonpar_mod_2000", "input", {"parametric": False}),
        ("nonpar_mod_meanonly_500", "input", {"parametric": False, "mean_only": True}),
        ("nonpar_mod_ref3_500", "input", {"parametric": False, "reference": 2}),
        ("nonpar_mod_holes_500", "holes", {"parametric": False}),
        ("par_mod_ref3_meanonly_500", "input", {"reference": 2, "mean_only": True}),
        ("par_mod_meanonly_holes_500", "holes", {"mean_only": True}),
        ("par_age_holes_500", "holes", {}),
        ("alone_mod_ref3_500", "input", {"reference": 2}),
        ("alone_mod_holes_500", "holes", {}),
    ],
)
def test_combat_equals_sva_on_all_probes(name, values, options):
    """Every option on every probe, to 1e-8; slow options and pairs of options on some probes."""
    reference = printed(name)
    data, kept = printed(values)[: len(reference)], kept_terms(name)
    statistics, codes = gathered(data, kept, alone="alone" in name)
    found = fit_combat(statistics, **options).affine().apply(data.T, codes, kept).T

    assert np.array_equal(np.isnan(reference), np.isnan(found))
    assert np.nanmax(np.abs(reference - found)) < SVA


def test_linear_removal_equals_limma_on_all_probes():
    """As removeBatchEffect with a design, to 1e-10."""
    data, kept = printed("input"), printed("mod")
    statistics, codes = gathered(data, kept)
    found = fit_linear(statistics).affine().apply(data.T, codes).T

    assert np.abs(printed("rbe_mod") - found).max() < LIMMA


def test_the_non_parametric_option_runs_on_all_probes():
    """22,283 probes against each other, without NaN."""
    data = printed("input")
    statistics, codes = gathered(data, np.empty((57, 0)))
    found = fit_combat(statistics, parametric=False).affine().apply(data.T, codes)

    assert np.isfinite(found).all()
