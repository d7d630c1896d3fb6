"""Minibatch noise as heat: how much it adds to the loss, and what cooling would gain."""

from __future__ import annotations

from batchsense.training.temperature.escape import EscapeRate, escape_rate
from batchsense.training.temperature.modes import ShuffleFactor, shuffle_factor
from batchsense.training.temperature.reading import HeatReading
from batchsense.training.temperature.run import TemperatureRun, measure_temperature
from batchsense.training.temperature.setting import SgdSetting
from batchsense.training.temperature.stationary import Heat, predict_heat
from batchsense.training.temperature.thermometer import Thermometer
from batchsense.training.temperature.windows import HeatWindow

__all__ = [
    "EscapeRate",
    "Heat",
    "HeatReading",
    "HeatWindow",
    "SgdSetting",
    "ShuffleFactor",
    "TemperatureRun",
    "Thermometer",
    "escape_rate",
    "measure_temperature",
    "predict_heat",
    "shuffle_factor",
]
