"""The margin without labels: half the typical gap between neighbouring rows.

hKR asks f ≥ m on the rows and f ≤ −m on negatives, which a 1-Lipschitz f can give only where they are 2m
apart. A negative midway between two rows that are D apart is D/2 from both, so beyond m = D/4 it cannot be
told from them, and f closes the gap; m = D/2 closes gaps up to twice as wide as the typical D. So m follows
the spacing of the rows themselves: a dense cloud gets a small margin and a tight boundary, rows scattered
over many columns a large one. The paper chose among 0.01, 0.05, 0.2 and 1 by the score on labelled rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

__all__ = ["MARGINS", "spacing_margin"]

Floats = NDArray[np.float64]

MARGINS = (0.05, 1.0)  # least and largest of the rule [standard deviations]
ROWS, ASKED = 10_000, 1_000  # rows among which neighbours are sought, and for how many of them


def spacing_margin(rows: Floats, rng: np.random.RandomState) -> float:
    """Return half the median distance of a distinct row to its nearest other one, within `MARGINS`.

    Parameters
    ----------
    rows : (n, d) float64 array
        Standardised [standard deviations]. Of more than `ROWS` a random part is looked at.
    rng : numpy.random.RandomState
        Source of all randomness.
    """
    if len(rows) > ROWS:
        rows = rows[rng.choice(len(rows), ROWS, replace=False)]
    distinct = np.unique(rows, axis=0)
    if len(distinct) < 2:
        return MARGINS[0]
    index = rng.permutation(len(distinct))[:ASKED]
    apart = cdist(distinct[index], distinct)
    apart[np.arange(len(index)), index] = np.inf
    return float(np.clip(0.5 * np.median(apart.min(axis=1)), *MARGINS))
