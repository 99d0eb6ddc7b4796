"""Sums of float64 that are rounded to one side, so that a bound stays one.

References
----------
Knuth, The Art of Computer Programming 2, 4.2.2, theorem B (what a sum has lost is a float64 itself).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["sum_above"]

Floats = NDArray[np.float64]


def sum_above(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return a + b, where float64 holds that, or else a number above it that is off by two roundings at most.

    Parameters
    ----------
    a, b : array_like
        Finite, of shapes that broadcast. −`sum_above`(−a, −b) is what lies below.
    """
    a, b = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    total = a + b
    other = total - a
    lost = (a - (total - other)) + (b - other)
    return np.where(lost > 0.0, np.nextafter(total, np.inf), total)
