"""How large a function of bounded slope can be in a box, proved."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.geometry import Box
from ocsdf3d.oracle import SAFE, Bounded, Field, lengths

__all__ = ["Extreme", "largest"]

Floats = NDArray[np.float64]

_ROOTS = 4  # blocks along the longest side at the start, at least
_CORNERS = np.array(list(product((-1, 1), repeat=3)))


class Extreme(NamedTuple):
    """An interval that holds the maximum of |φ| over a box."""

    lower: float  # a value that was met, rounded down
    upper: float  # proved
    evaluations: int


def largest(
    field: Field,
    box: Box,
    *,
    lipschitz: float,
    allowance: float,
    tolerance: float,
    enough: float = 0.0,
    limit: int = 1_000_000,
) -> Extreme:
    """Enclose the maximum of |φ| over a box.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ, asked inside the box only.
    box : Box
        Where.
    lipschitz, allowance : float
        Bounds on the slope of φ and on the error of one of its values.
    tolerance : float
        Width of the interval to stop at.
    enough : float
        Blocks in which |φ| is proved to be no larger are not looked into, however narrow the interval.
    limit : int
        Evaluations; when they are spent `upper` is what is proved by then, true but wide.

    Returns
    -------
    Extreme
        `upper` − `lower` is at most `tolerance`, or `upper` at most `enough`, unless `limit` stopped it.

    Raises
    ------
    ValueError
        A bound or tolerance that is none, a field that returns another shape or no finite value.

    Notes
    -----
    In a block of half-diagonal r around c, |φ| ≤ |φ(c)| + L r. Blocks whose bound is within `tolerance` of
    the largest value met are let be, the others are halved along every axis, level by level.
    """
    ask = Bounded(field, lipschitz, allowance)
    if not 0.0 < tolerance < np.inf:
        raise ValueError(f"`tolerance` must be positive and finite; got {tolerance}.")
    shortest = max(float(box.size.min()), box.longest / 64.0)
    counts = np.maximum(1, np.ceil(box.size / min(shortest, box.longest / _ROOTS))).astype(np.int64)
    half = 0.5 * box.size / counts
    grid = np.stack(np.meshgrid(*[np.arange(c) for c in counts], indexing="ij"), axis=-1).reshape(-1, 3)
    center = box.lower + (2 * grid + 1) * half
    stray = SAFE * box.farthest  # centres are rounded to 2⁻⁵³ of a coordinate a level
    met, shelved, above = 0.0, 0.0, np.zeros(0)
    while len(center):
        if ask.evaluations + len(center) > limit:  # of the parents' bounds all hold for their children
            shelved = max(shelved, float(above.max(initial=np.inf if not ask.evaluations else 0.0)))
            break
        values = np.abs(ask(np.clip(center, box.lower, box.upper)))
        met = max(met, float(values.max()) - allowance)
        radius = float(lengths(half[None])[0]) + stray
        above = (values + allowance + lipschitz * radius) * (1.0 + SAFE)
        split = above > max(met + tolerance, enough)
        shelved = max(shelved, float(above[~split].max(initial=0.0)))
        above, half = above[split], 0.5 * half
        center = (center[split][:, None] + _CORNERS * half).reshape(-1, 3)
    return Extreme(max(met, 0.0), shelved, ask.evaluations)
