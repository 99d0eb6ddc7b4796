"""Principal axes of neighbourhoods: how far a point's neighbours reach, and which way their plane faces."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["principal_axes"]

Floats = NDArray[np.float64]


def principal_axes(patch: Floats, weight: Floats | None = None) -> tuple[Floats, Floats]:
    """Return the squared extents of patches and the directions they are along, smallest first.

    Parameters
    ----------
    patch : (n, k, 3) array
        k points for each of n patches.
    weight : (n, k) array, optional
        Of each point, ≥ 0 and not all 0 in a patch; all the same when None.

    Returns
    -------
    squares : (n, 3) array
        Weighted sums of squared distances from the weighted mean, ascending, ≥ 0.
    axes : (n, 3, 3) array
        Unit and orthogonal, of either sign; `axes[:, :, 0]` are the normals of the planes of least squares.
    """
    if weight is None:
        centred = patch - patch.mean(axis=1, keepdims=True)
        weighed = centred
    else:
        total = weight.sum(axis=1)[:, None, None]
        centred = patch - (weight[..., None] * patch).sum(axis=1, keepdims=True) / total
        weighed = weight[..., None] * centred
    squares, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", weighed, centred))
    return np.maximum(squares, 0.0), axes
