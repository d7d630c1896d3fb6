"""The mathematics of variation that both halves use: numpy and scipy only.

Numbers happen here in pure functions on arrays that return frozen dataclasses. What one half alone
needs lives in that half.
"""

import lazy_loader

# Many questions need an interval and no more: then neither scipy.linalg nor scipy.special loads.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
