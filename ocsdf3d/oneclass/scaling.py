"""Columns → a common scale: mean 0 and deviation 1, of the rows that may set them.

One row of a mark such as 999999 makes the deviation of its column so large that all others look alike, and,
being data, pulls f up without end. So rows absurdly far off are left out, of the scale and of the learning.
Of the 18 tables that `estimator` was measured on, as the world wrote them, shuttle alone has such rows, 63
of 49,097, and 40 of the 63 are anomalies. Without them its AUROC is 0.994 instead of 0.992 (seeds 0 to 2
each); from 30 ranges on it is 0.991, thyroid's 0.970 instead of 0.964, arrhythmia's
0.716 instead of 0.715: nothing that would justify leaving out more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["far_off", "standardisation"]

Floats = NDArray[np.float64]

ROUNDINGS = 8.0  # what a column varies by at least, of those of its largest number
SHARE = 0.05  # of the rows at either end of a column that its range leaves out
RANGES = 100.0  # farther than so many of them from the median is absurd


def far_off(rows: Floats) -> NDArray[np.bool_]:
    """Return which numbers are absurdly far from the others of their column, (n, d).

    Parameters
    ----------
    rows : (n, d) float64 array
        Finite numbers.

    Returns
    -------
    (n, d) bool array
        More than `RANGES` times the range of the middle nine tenths of a column away from its median; at most
        a tenth of the rows for each column. Nothing is absurd where the nine tenths are equal, nor among so
        few rows that none is left out at the ends.
    """
    if len(rows) * SHARE < 1.0:
        return np.zeros(rows.shape, np.bool_)
    lower = np.quantile(rows, SHARE, axis=0, method="higher")
    median = np.quantile(rows, 0.5, axis=0, method="lower")
    upper = np.quantile(rows, 1.0 - SHARE, axis=0, method="lower")
    with np.errstate(over="ignore"):  # an infinite range bounds nothing
        reach = RANGES * (upper - lower)
        return np.asarray((np.abs(rows - median) > reach) & (reach > 0.0))


def standardisation(rows: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the means of columns, their standard deviations, and which columns vary, (d,) each.

    The deviation of a column that does not is 1. What a sum rounds may feign a deviation, so a column varies
    where that is more than some roundings of its numbers, of whatever size they are.
    """
    off = rows - rows[0]  # exactly 0 where all are equal
    reach = np.abs(off).max(axis=0)
    off /= np.where(reach > 0.0, reach, 1.0)  # so that no square overflows, and none vanishes
    spread = reach * off.std(axis=0)
    varies = spread > ROUNDINGS * np.finfo(np.float64).eps * np.abs(rows).max(axis=0)
    return rows[0] + reach * off.mean(axis=0), np.where(varies, spread, 1.0), varies
