"""The bladder excerpt as tables, and small experiments with any design."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from batchsense.experiments import Table

REFERENCES = Path(__file__).resolve().parents[2] / "references"


@pytest.fixture(scope="session")
def bladder_sheet():
    """Batch and cancer of the 57 arrays."""
    given = np.load(REFERENCES / "bladder" / "input.npz")
    return {"batch": given["batch"].tolist(), "cancer": given["cancer"].tolist()}


@pytest.fixture(scope="session")
def bladder(bladder_sheet):
    """2,000 probes of 57 arrays: complete, and with 5 % missing values."""
    given = np.load(REFERENCES / "bladder" / "input.npz")
    expression = given["expression"]
    missing = np.unpackbits(given["missing"], count=expression.size).reshape(expression.shape)
    gaps = np.where(missing, np.nan, expression)
    return {
        "complete": Table.from_arrays(expression.T, bladder_sheet),
        "missing": Table.from_arrays(gaps.T, bladder_sheet),
    }
