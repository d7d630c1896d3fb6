"""batchsense: every decision about batches, the ones you choose and the ones you suffer.

The top level exports the errors and the version, and loads nothing heavy. The work is in the
subpackages: :mod:`batchsense.training` (batches you choose), :mod:`batchsense.experiments`
(batches you suffer), :mod:`batchsense.variation` (the mathematics they share) and
:mod:`batchsense.datasets` (the built-in real data).
"""

from batchsense.errors import (
    BatchsenseError,
    ConfoundedError,
    DataError,
    MissingExtraError,
    UnresolvedError,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "BatchsenseError",
    "ConfoundedError",
    "DataError",
    "MissingExtraError",
    "UnresolvedError",
    "__version__",
]
