"""The kinds of arrays that functions take and give, named once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
#: Values as they were stored, of whatever type.
Matrix = npt.NDArray[Any]
