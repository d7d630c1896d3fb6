"""Moved to :mod:`batchsense.blame`."""

from batchsense.blame import described as described
from batchsense.blame import place_now as place_now
