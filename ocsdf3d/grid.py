"""Field values at voxel nodes: dense, or sparse by certificate.

A sparse grid holds φ where the level set passes (`sparse.py` proves where it does not) and a constant of the
proven sign elsewhere. Marching cubes looks at nothing but the cells that are crossed, so the mesh is the
dense grid's, bit for bit. Both come as bricks of 16 cells, the crossed ones alone: memory grows with the
surface, 20 kB a brick and one window of the grid, not with the volume.

Measured at 200 nodes, box 5 % wider than the shape, share of the dense evaluations: sphere 4.4 %, capsule 2.9
%, torus 7.7 %, box 8.1 %, plate (4 % thick) 17 %; with blocks alone 7.7, 5.1, 13.6, 17.9 and 39 % (leaves of
1 or 4 cells: a third more); the corners of crossed cells alone, which no method can do without, are 3.9, 2.5,
6.7, 6.3 and 13 %. A trained kitten (preset `default`): 3.6 % at 256 nodes, 1.9 % at 512, and 0.1 and 0.2 GB.
Shares fall as 1/resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ocsdf3d.geometry import Box
from ocsdf3d.memory import free_memory
from ocsdf3d.oracle import TILE, Field, Progress
from ocsdf3d.sparse import BRICK, NUDGE, Nodes, Proof, explore, whole_brick, window_cells

__all__ = ["Grid", "Progress", "ResolutionError", "check_memory", "from_nodes", "memory_needed", "sample"]

LARGEST = (
    8192  # nodes along a side: beyond, a brick's own coordinates are fine, but no machine holds the mesh
)


class ResolutionError(ValueError):
    """The grid asked for needs more memory than is free, or more nodes along a side than can be meshed."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The bricks of a grid of cubic cells that the level set {φ = level} crosses.

    Attributes
    ----------
    lower : (3,) array
        Position of the first node [world units].
    spacing : float
        Side of a cell, h [world units].
    cells : (3,) int array
        Cells along each axis.
    level : float
        The level set that the bricks were kept for [world units].
    origins : (m, 3) int array
        First node of each brick, a multiple of `BRICK`, in lexicographic order.
    bricks : (m, BRICK + 1, BRICK + 1, BRICK + 1) float32 array
        φ at the nodes of each brick, `ij` order, faces shared with neighbours included; bricks that the end
        of the grid cuts repeat their last plane. A sparse grid holds φ at the corners of all crossed cells,
        and wherever else it was asked; `level` ± a constant of the proven sign at all other nodes.
    evaluations : int
        Points at which the field was asked, block centres included.
    dense : bool
        Whether every node was asked; then nothing was proved.
    blocks : int
        Blocks, of any size, that were dropped by proof.
    undecided : (k, 3) int array
        Cells with corners of one sign that no single value proves to be empty. They get no surface, as on
        any grid; `completeness.missed` decides them.
    span : (float, float)
        Smallest and largest φ that was met.
    """

    lower: NDArray[np.float64]
    spacing: float
    cells: NDArray[np.int64]
    level: float
    origins: NDArray[np.int64]
    bricks: NDArray[np.float32]
    evaluations: int
    dense: bool
    blocks: int
    undecided: NDArray[np.int32]
    span: tuple[float, float]

    @property
    def dense_evaluations(self) -> int:
        """Points a dense grid asks: all nodes."""
        return int(np.prod(self.cells + 1))

    @property
    def box(self) -> Box:
        """From the first node to the last [world units]."""
        return Box(self.lower, self.lower + self.spacing * self.cells)


def sample(
    field: Field,
    box: Box,
    resolution: int,
    *,
    lipschitz: float | None = None,
    level: float = 0.0,
    allowance: float = 0.0,
    tile: int = TILE,
    progress: Progress | None = None,
) -> Grid:
    """Evaluate a field at the nodes of a grid over a box, and keep what a level set crosses.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ, defined on the whole box [world units]. Sparse and dense agree bit for bit if the value of a point
        does not depend on the points beside it, which `SDF` and the exact shapes see to.
    box : Box
        Region to cover; its shorter sides are grown symmetrically to whole cells [world units].
    resolution : int
        Nodes along the longest side; cells are cubes.
    lipschitz : float, optional
        A bound L on |φ(x) − φ(y)| / ‖x − y‖ allows blocks to be skipped; None evaluates every node.
    level : float
        Level set to keep [world units].
    allowance : float
        Bound on the rounding error of one value of φ [world units]; a proof keeps twice that in reserve.
    tile : int
        Points handed to `field` at once, at most.
    progress : callable, optional
        Called as `progress(done, total)` with evaluations, after each tile; a sparse total is an estimate.

    Returns
    -------
    Grid
        Its crossed bricks; none where the level set stays out of the box.

    Raises
    ------
    ResolutionError
        The grid does not fit in free memory.
    ValueError
        A box without extent, fewer than 2 nodes, a bound that is not positive, a field that returns another
        shape or a value that is not finite.

    Notes
    -----
    Skipping is sound if and only if `lipschitz` and `allowance` are true bounds on the region; it costs
    O(resolution²) evaluations for a surface on which the field has slope L. A lazy field (slope s < L) costs
    about L/s times that.
    """
    if tile < 1:
        raise ValueError(f"`tile` must be at least 1 point; got {tile}. The default is {TILE}.")
    if lipschitz is not None and not 0.0 < lipschitz < np.inf:
        raise ValueError(
            f"`lipschitz` must be positive and finite; got {lipschitz}. Use None for a dense grid."
        )
    if not (np.isfinite(level) and 0.0 <= allowance < np.inf):
        raise ValueError(
            f"`level` must be finite and `allowance` finite and ≥ 0; got {level} and {allowance}."
        )
    check_memory(box, resolution, dense=lipschitz is None)
    cells, spacing = _layout(box, resolution)
    lower = box.center - 0.5 * spacing * cells
    nodes = Nodes(field, lower, spacing, cells, tile, progress)
    if lipschitz is None:
        return from_nodes(_all(nodes), lower, spacing, level=level)
    found = explore(nodes, Proof.of(lipschitz, float(level), allowance, spacing))
    nodes.finish()
    return Grid(
        lower=lower,
        spacing=spacing,
        cells=cells,
        level=float(level),
        origins=_stacked(found.origins, (3,), np.int64),
        bricks=_stacked(found.bricks, (BRICK + 1,) * 3, np.float32),
        evaluations=nodes.evaluations,
        dense=False,
        blocks=found.blocks,
        undecided=np.concatenate(found.undecided),
        span=nodes.span,
    )


def from_nodes(values: NDArray[np.floating], lower: ArrayLike, spacing: float, *, level: float = 0.0) -> Grid:
    """Return the crossed bricks of a grid whose nodes are all known: a dense evaluation, or other data.

    Parameters
    ----------
    values : (nx, ny, nz) array
        φ at the nodes, `ij` order, at least 2 along each axis; kept as float32 [world units].
    lower : (3,) array_like
        Position of the first node [world units].
    spacing : float
        Side of a cell [world units].
    level : float
        Level set to keep [world units].
    """
    values = np.asarray(values, np.float32)
    cells = np.array(values.shape) - 1
    span = float(values.min()), float(values.max())
    margin = NUDGE * (span[1] - span[0])  # what the nudge in surface.py can reach, and more
    origins, bricks = [], []
    for brick in np.ndindex(*(-(-cells // BRICK)).tolist()):
        origin = BRICK * np.array(brick)
        kept = values[tuple(slice(o, o + BRICK + 1) for o in origin)]
        if kept.min() <= level + margin and kept.max() >= level - margin:
            origins.append(origin)
            bricks.append(whole_brick(kept))
    return Grid(
        lower=np.asarray(lower, np.float64),
        spacing=float(spacing),
        cells=cells,
        level=float(level),
        origins=_stacked(origins, (3,), np.int64),
        bricks=_stacked(bricks, (BRICK + 1,) * 3, np.float32),
        evaluations=values.size,
        dense=True,
        blocks=0,
        undecided=np.zeros((0, 3), np.int32),
        span=span,
    )


def _stacked(parts: list[Any], shape: tuple[int, ...], kind: type) -> NDArray[Any]:
    return np.stack(parts) if parts else np.zeros((0, *shape), kind)


def _all(nodes: Nodes) -> NDArray[np.float32]:
    """Evaluate every node."""
    shape = tuple((nodes.cells + 1).tolist())
    values = np.empty(shape, np.float32)
    nodes.expected = values.size
    for start in range(0, values.size, nodes.tile):
        part = np.arange(start, min(start + nodes.tile, values.size))
        values.reshape(-1)[part] = nodes(np.stack(np.unravel_index(part, shape), axis=1))
    return values


def memory_needed(box: Box, resolution: int, *, dense: bool = False) -> int:
    """Peak memory of sampling and meshing, an estimate that costs nothing [bytes].

    Per node of a window 8 bytes (of a dense grid 5 per node of all); for a surface of 1.5 times the box's
    area, 300 bytes per node of it for bricks and 450 for triangles; 128 MB for tiles and the field's arrays.
    """
    cells, _ = _layout(box, resolution)
    shape = [float(c) + 1.0 for c in cells]
    surface = 3.0 * (shape[0] * shape[1] + shape[1] * shape[2] + shape[2] * shape[0])
    held = (
        5.0 * np.prod(shape) if dense else 8.0 * shape[1] * shape[2] * min(window_cells(cells) + 1, shape[0])
    )
    return int(held + 750.0 * surface) + 2**27


def check_memory(box: Box, resolution: int, *, dense: bool = False) -> None:
    """Refuse a resolution that does not fit, before any work.

    Raises
    ------
    ResolutionError
        With what is needed, what is free and the largest resolution that fits.
    """
    cells, _ = _layout(box, resolution)
    if max(cells) + 1 > LARGEST:
        raise ResolutionError(
            f"`resolution` must be at most {LARGEST} nodes along the longest side; got {resolution}. "
            "Mesh the shape in parts for more."
        )
    needed, free = memory_needed(box, resolution, dense=dense), free_memory()
    if needed <= free:
        return
    fits, fails = 1, resolution
    while fails - fits > 1:  # memory grows with resolution, so bisection finds the largest that fits
        middle = (fits + fails) // 2
        if memory_needed(box, middle, dense=dense) <= free:
            fits = middle
        else:
            fails = middle
    advice = (
        f"The largest that fits is {fits}."
        if fits > 1
        else "Not even the smallest grid fits: free some memory."
    )
    raise ResolutionError(
        f"`resolution` {resolution} needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. {advice}"
    )


def _layout(box: Box, resolution: int) -> tuple[NDArray[np.int64], float]:
    """(3,) cells along each axis and their common side."""
    if isinstance(resolution, bool) or not isinstance(resolution, (int, np.integer)) or resolution < 2:
        raise ValueError(
            f"`resolution` must be an integer of at least 2 nodes; got {resolution!r}. The default is 200."
        )
    if not box.longest > 0.0:
        raise ValueError(
            f"`box` must have an extent; got the single point {box.lower.tolist()}. Expand it first."
        )
    spacing = box.longest / (resolution - 1)
    cells = np.ceil(box.size / spacing - 1e-6).astype(np.int64)  # a side of 10.0000001 cells is one of 10
    return np.clip(cells, 1, resolution - 1), float(spacing)
