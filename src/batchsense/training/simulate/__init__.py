"""Small worlds in which minibatch noise can be watched: a bowl and a double well."""

from __future__ import annotations

from batchsense.training.simulate.arrhenius import Arrhenius, ArrheniusPoint, arrhenius_plot
from batchsense.training.simulate.bowl import MeasuredHeat, RegressionBowl, simulate_bowl
from batchsense.training.simulate.descent import MeasuredEscapes, count_escapes
from batchsense.training.simulate.draws import MinibatchDraws
from batchsense.training.simulate.landscape import DoubleWell, example_tilts

__all__ = [
    "Arrhenius",
    "ArrheniusPoint",
    "DoubleWell",
    "MeasuredEscapes",
    "MeasuredHeat",
    "MinibatchDraws",
    "RegressionBowl",
    "arrhenius_plot",
    "count_escapes",
    "example_tilts",
    "simulate_bowl",
]
