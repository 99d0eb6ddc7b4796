"""The level c: iso-level of a surface and threshold of a one-class decision are one number.

The paper takes the first percentile of f over the data, which is right for a shell: nearly every point lies
in {f ≥ c}. Samples of the boundary of a *solid* lie on both sides of the true boundary alike, so their median
is the level that passes through the cloud; outliers do not move it. Where a shell is learnt from a skin of
known thickness, see `skin`, f is known within it, and the level with it.

References
----------
Béthune et al., OCSDF, ICML 2023, section 6 (first percentile).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTILES", "level_of"]

QUANTILES = {"solid": 0.5, "shell": 0.01}


def level_of(values: NDArray[np.floating], quantile: float) -> float:
    """Return the level c below which the share `quantile` of the values of f on the data lies.

    Parameters
    ----------
    values : (n,) array
        f on the data.
    quantile : float
        Between 0 (every point in the support) and 1.

    Raises
    ------
    ValueError
        `quantile` outside [0, 1], or no values.
    """
    if not 0.0 <= quantile <= 1.0:
        raise ValueError(f"`quantile` must lie in [0, 1]; got {quantile}.")
    if len(values) == 0:
        raise ValueError("`values` must not be empty: a level needs f on the data.")
    return float(np.quantile(np.asarray(values, dtype=np.float64), quantile))
