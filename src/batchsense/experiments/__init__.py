"""Batches you suffer: batch effects diagnosed, told apart from biology, and corrected.

Read a matrix with its sheet (:func:`read`), see what varies with the batches (:func:`diagnose`),
and remove it without what is wanted (:class:`LinearCorrection`, :class:`CombatCorrection`), or be
told why that is impossible. What does not fit in memory is corrected on disk
(:func:`correct_store`).
"""

import lazy_loader

# A command needs a few of these names, and loading all costs .2 CPU seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
