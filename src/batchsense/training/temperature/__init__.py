"""Minibatch noise as heat: how much it adds to the loss, and what cooling would gain."""

from __future__ import annotations

from batchsense.training.temperature.escape import EscapeRate, escape_rate
from batchsense.training.temperature.modes import (
    ShuffleFactor,
    epoch_variance,
    independent_variance,
    shuffle_factor,
)
from batchsense.training.temperature.reading import HeatReading, read_windows
from batchsense.training.temperature.run import TemperatureRun, measure_temperature
from batchsense.training.temperature.setting import SAMPLINGS, SgdSetting
from batchsense.training.temperature.stationary import Heat, predict_heat
from batchsense.training.temperature.thermometer import Thermometer
from batchsense.training.temperature.windows import HeatWindow, equilibration

__all__ = [
    "SAMPLINGS",
    "EscapeRate",
    "Heat",
    "HeatReading",
    "HeatWindow",
    "SgdSetting",
    "ShuffleFactor",
    "TemperatureRun",
    "Thermometer",
    "epoch_variance",
    "equilibration",
    "escape_rate",
    "independent_variance",
    "measure_temperature",
    "predict_heat",
    "read_windows",
    "shuffle_factor",
]
