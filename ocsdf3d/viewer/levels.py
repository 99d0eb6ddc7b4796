"""The level sets of a field as fast as a slider moves: coarse while it does, fine once it rests.

Coarse: φ at every node of one grid is kept, so a new level costs marching cubes alone. Fine: the sparse grid
of `Field.mesh`, proved. Both are capped at the faces of the box as `Field.mesh` does it, so that what is seen
is what is written.

Kitten, two idle cores, 30 moves, from the move to the new picture: coarse 18 ms (worst 27, the surface alone
10 and 19), fine at 64 nodes 74 ms (90), at 200 nodes 625 ms (807); `python -m ocsdf3d.bench.latency` measures
it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh
from numpy.typing import NDArray

from ocsdf3d import grid, surface
from ocsdf3d.csg import Field

__all__ = ["Levels", "shared_limits"]

WIDEST = 0.1  # largest offset of the slider, either way, over the longest side of the box
CLEAR = 1.02  # of the least φ that the slider keeps away from, so that its end still shows a surface
_PIECE = 1 << 16  # nodes asked at once


class Levels:
    """Surfaces {φ = c} of one field.

    Parameters
    ----------
    field : Field
        φ, certified.
    coarse : int
        Nodes along the longest side while the level moves: 64³ values are a megabyte.
    fine : int
        Nodes along the longest side once it rests.
    first : float
        A level that must be within the limits, as 0 is [world units].

    Attributes
    ----------
    limits : (float, float)
        Least and largest level worth choosing [world units].
    """

    def __init__(self, field: Field, *, coarse: int = 64, fine: int = 200, first: float = 0.0) -> None:
        self.field, self.fine = field, fine
        longest = field.box.longest
        narrow = WIDEST * longest
        reach = max(narrow, first)
        around = field.box.expanded(reach)
        spacing = around.longest / (coarse - 1)
        counts = np.ceil(around.size / spacing).astype(int) + 3  # a rim of a cell, where φ is capped
        lower = around.center - 0.5 * spacing * (counts - 1)
        axes = [lower[i] + spacing * np.arange(counts[i]) for i in range(3)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        pieces = np.array_split(nodes, -(-len(nodes) // _PIECE))
        self._values: NDArray[np.float64] = np.concatenate([field(piece) for piece in pieces]).reshape(counts)
        beyond = np.maximum(field.box.lower - nodes, nodes - field.box.upper).max(axis=1)
        self._beyond: NDArray[np.float64] = beyond.reshape(counts)
        self._lower, self._spacing = lower, spacing
        inside = np.maximum(self._values, self._beyond)
        # what is thinner than a cell is found by the fine grid alone: 0 is worth choosing all the same
        low = max(-narrow, float(inside.min()) / CLEAR)
        self.limits = (min(low, 0.0, first), reach)

    def coarse(self, level: float) -> trimesh.Trimesh:
        """Return {φ = level} on the kept grid.

        Raises
        ------
        EmptyLevelSetError
            φ does not reach `level` there.
        """
        # the box grows with the level, as in `Field.mesh`: max(φ, beyond − max(level, 0) + level)
        capped = np.maximum(self._values, self._beyond + min(level, 0.0))
        return surface.extract(grid.from_nodes(capped, self._lower, self._spacing, level=level))

    def fine_mesh(self, level: float) -> trimesh.Trimesh:
        """Return {φ = level} on the sparse grid; raises what `Field.mesh` raises."""
        return self.field.mesh(resolution=self.fine, offset=level)


def shared_limits(sets: Sequence[Levels]) -> tuple[float, float]:
    """Return the least and largest level that all of some fields have a surface at [world units]."""
    return max(one.limits[0] for one in sets), min(one.limits[1] for one in sets)
