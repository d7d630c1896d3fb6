"""The one clock by which steps are timed and budgets of time are kept.

Code asks ``clock.now()``, never the system: where the outcome hangs on time, a test replaces
``now`` by a clock of its own and gets the same outcome on a busy machine as on an idle one.
"""

from __future__ import annotations

import time


def now() -> float:
    """Return seconds from some fixed moment, which never go back."""
    return time.perf_counter()


def cpu_now() -> float:
    """Return the seconds of processor time of this process, all its threads together."""
    return time.process_time()
