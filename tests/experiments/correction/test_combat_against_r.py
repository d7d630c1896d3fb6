"""ComBat equals R's sva to 1e-8, and linear removal limma's to 1e-10, on the bladder data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments.correction.combat.model import fit_combat
from batchsense.experiments.correction.linear import fit_linear
from batchsense.experiments.correction.two_passes.statistics import BatchStatistics

REFERENCES = Path(__file__).parents[2] / "references" / "bladder"
SVA = 1e-8
LIMMA = 1e-10


@pytest.fixture(scope="module")
def bladder():
    """The input, specimens × features, with the terms that are kept."""
    with np.load(REFERENCES / "input.npz") as stored:
        given = dict(stored)
    shape = given["expression"].shape
    missing = np.unpackbits(given["missing"], count=shape[0] * shape[1]).reshape(shape) > 0
    given["na"] = np.where(missing, np.nan, given["expression"])
    given["mod"] = (given["cancer"][:, None] == ["Cancer", "Normal"]).astype(float)
    given["nomod"] = np.empty((57, 0))
    given["age"] = given["age"][:, None]
    given["age_cancer"] = np.hstack([given["age"], given["mod"]])
    return given


@pytest.fixture(scope="module")
def printed():
    """What R prints, probes × specimens."""
    with np.load(REFERENCES / "corrected.npz") as stored:
        return dict(stored)


def corrected(values, batch_labels, kept, **options):
    """Correct features × specimens, as R has them."""
    codes = np.unique(batch_labels, return_inverse=True)[1]
    statistics = BatchStatistics.empty(codes.max() + 1, len(values), kept.shape[1])
    model = fit_combat(statistics.add(values.T, codes, kept), **options)
    return model.affine().apply(values.T, codes, kept).T


@pytest.mark.parametrize(
    ("name", "rows", "missing", "kept", "options"),
    [
        ("par_nomod", 1000, False, "nomod", {}),
        ("par_mod", 1000, False, "mod", {}),
        ("nonpar_nomod", 1000, False, "nomod", {"parametric": False}),
        ("nonpar_mod", 1000, False, "mod", {"parametric": False}),
        ("par_nomod_meanonly", 1000, False, "nomod", {"mean_only": True}),
        ("par_mod_meanonly", 1000, False, "mod", {"mean_only": True}),
        ("par_nomod_ref3", 1000, False, "nomod", {"reference": 2}),
        ("par_mod_ref3", 1000, False, "mod", {"reference": 2}),
        ("par_mod_ref1_na", 500, True, "mod", {"reference": 0}),
        ("par_nomod_na2000", 2000, True, "nomod", {}),
        ("par_mod_na2000", 2000, True, "mod", {}),
        ("par_age", 2000, False, "age", {}),
        ("par_age_cancer", 2000, False, "age_cancer", {}),
    ],
)
def test_every_option_equals_sva(bladder, printed, name, rows, missing, kept, options):
    """Priors, covariates of both kinds, mean-only, reference and missing values: all as in R."""
    values = bladder["na" if missing else "expression"][:rows]
    reference = printed[name]
    found = corrected(values, bladder["batch"], bladder[kept], **options)
    found = found[:: rows // len(reference)]

    assert np.array_equal(np.isnan(reference), np.isnan(found))
    assert np.nanmax(np.abs(reference - found)) < SVA


def test_a_constant_feature_is_left_alone_as_in_sva(bladder, printed):
    """Probes that are constant inside a batch stay as they are, and do not touch the others."""
    values, batch_labels = bladder["expression"][:1000].copy(), bladder["batch"]
    values[:10] = 5.0
    values[10:20, batch_labels == 3] = 2.0
    values[20:30, batch_labels == 3] = 0.0
    found = corrected(values, batch_labels, bladder["mod"])

    assert np.array_equal(values[:30], found[:30])
    assert np.abs(printed["par_mod_zerovar"] - found[::25]).max() < SVA


def test_a_single_specimen_makes_all_batches_mean_only_as_in_sva(bladder, printed):
    """One array with a batch of its own: only means are adjusted, everywhere."""
    batch_labels = bladder["batch"].copy()
    batch_labels[0] = 9
    found = corrected(bladder["expression"][:1000], batch_labels, bladder["mod"])

    assert np.abs(printed["single_sample_batch"] - found[::40]).max() < SVA


def test_linear_removal_equals_limma(bladder, printed):
    """With a design and 5 % missing values, as removeBatchEffect."""
    values = bladder["na"].T
    codes = np.unique(bladder["batch"], return_inverse=True)[1]
    seen = BatchStatistics.empty(5, 2000, 2).add(values, codes, bladder["mod"])
    found = fit_linear(seen).affine().apply(values, codes).T[::80]

    reference = printed["rbe_design_na2000"]
    assert np.array_equal(np.isnan(reference), np.isnan(found))
    assert np.nanmax(np.abs(reference - found)) < LIMMA
