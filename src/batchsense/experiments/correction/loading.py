"""A saved correction of any method, taken up again."""

from __future__ import annotations

from pathlib import Path

from batchsense.experiments.correction.combat.correction import FittedCombat
from batchsense.experiments.correction.combat_seq.correction import FittedCombatSeq
from batchsense.experiments.correction.linear import FittedLinear
from batchsense.experiments.correction.storage import load

AnyFitted = FittedLinear | FittedCombat | FittedCombatSeq


def load_correction(path: str | Path) -> AnyFitted:
    """Read a correction that was saved, whatever its method.

    Parameters
    ----------
    path : path
        A file that ``save`` of a fitted correction wrote.

    Returns
    -------
    FittedLinear, FittedCombat or FittedCombatSeq
        It gives results equal to those of the one that was saved.

    Raises
    ------
    DataError
        There is no such file, or it holds no correction of a known method and version.

    Examples
    --------
    >>> import tempfile
    >>> from batchsense.experiments import CombatCorrection, plant
    >>> fitted = CombatCorrection(keep=("drug",)).fit(plant(seed=1).table, "month")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fitted.save(f"{folder}/months.npz")
    ...     again = load_correction(f"{folder}/months.npz")
    >>> again.batch_levels
    ('m0', 'm1', 'm2')
    """
    method = load(path).method
    if method == "combat":
        return FittedCombat.load(path)
    return FittedLinear.load(path) if method == "linear" else FittedCombatSeq.load(path)
