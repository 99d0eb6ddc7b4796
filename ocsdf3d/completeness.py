"""Did the grid miss anything? A proof that no piece of a level set larger than ε passed between the nodes.

Marching cubes sees a cell only when its corners differ in sign: a sheet thinner than a cell, or an island
between the nodes, passes unseen, on a dense grid as on a sparse one. A bounded field can do better. Every
cell without a crossing either is proven empty, or it is halved, and its parts too, until what is left falls
into clusters smaller than ε.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ocsdf3d.grid import Grid
from ocsdf3d.oracle import TILE, Field
from ocsdf3d.sparse import BRICK, NUDGE, Nodes, Proof

__all__ = ["Completeness", "missed"]

LIMIT = 20_000_000  # evaluations: more would take longer than a grid of twice the resolution
FINEST = 2.0**-6  # of a cell: a field this flat is asked on a finer grid
LAZIEST = 0.1  # share of L with which φ rises around a piece, at least, or halving on is a waste
FAR = 2.0**-4  # of a cell: at most 2/√3 · LAZIEST, so that what is one cell from a slow surface is decided
_CORNERS = np.array(list(product((0, 1), repeat=3)))
_RING = np.array(list(product((-1, 0, 1), repeat=3)))
_AHEAD = _RING[14:]  # one of each two opposite neighbours


class Completeness(NamedTuple):
    """What may lie unseen beside a grid's crossed cells.

    Attributes
    ----------
    complete : bool
        No piece of the level set with a diameter above ε keeps farther than two cell diagonals from the
        mesh.
    eps : float
        ε [world units].
    largest : float
        Diameter of the largest piece that may have been missed, 0 where there can be none [world units].
    clusters : int
        Places where such a piece, smaller or larger, is not excluded.
    evaluations : int
        Points at which the field was asked.
    """

    complete: bool
    eps: float
    largest: float
    clusters: int
    evaluations: int


def missed(field: Field, grid: Grid, eps: float, *, lipschitz: float, allowance: float = 0.0) -> Completeness:
    """Decide the cells that a sparse grid left undecided.

    Parameters
    ----------
    field : callable, (n, 3) float64 array → (n,) array
        φ, the one that was sampled [world units].
    grid : Grid
        A sparse one.
    eps : float
        Diameter of the largest piece that may be missed [world units].
    lipschitz : float
        Bound L on |φ(x) − φ(y)| / ‖x − y‖.
    allowance : float
        Bound on the rounding error of one value of φ [world units].

    Raises
    ------
    ValueError
        `eps` is not positive, or the grid is dense, so that nothing was proved.

    Notes
    -----
    The proof: outside of the crossed cells and the cells that touch one, the level set lies in the parts
    that are left, because all others hold one sign. A connected piece of it lies in one cluster of touching
    cells, so its diameter is at most that of the cluster's parts. A piece that does reach a cell beside a
    crossed one is within two cell diagonals of the mesh.
    """
    if not 0.0 < eps < np.inf:
        raise ValueError(f"`eps` must be positive and finite; got {eps}.")
    if grid.dense:
        raise ValueError("`grid` must be sparse: a dense one proves nothing. Sample with `lipschitz`.")
    proof = Proof.of(lipschitz, grid.level, allowance, grid.spacing)
    cells, sign = _apart(grid, NUDGE * (lipschitz * grid.spacing + 2.0 * allowance))
    nodes = Nodes(field, grid.lower, grid.spacing, grid.cells, TILE, None)
    sign[sign == 0] = proof.sign(nodes(cells[sign == 0]), 0.0)  # of a corner: all eight have it
    home, low, size = np.arange(len(cells)), cells.astype(np.float64), 1.0
    found: list[_Parts] = []  # of the other sign, for certain
    while True:
        proven = proof.sign(nodes(low + 0.5 * size), 0.5 * np.sqrt(3.0) * size * grid.spacing)
        other = (proven != 0) & (proven != sign[home])
        found.append(_Parts(home[other], low[other], size))
        home, low = home[proven == 0], low[proven == 0]
        diameters = _diameters(cells, [*found, _Parts(home, low, size)]) * grid.spacing
        largest = float(diameters.max(initial=0.0))
        # Parts stick out by no more than this from such a piece: if that leaves more than ε, it is larger.
        # Coarser parts than FAR may as well be the layer that a slow field leaves undecided around its mesh.
        outside = np.sqrt(3.0) * (np.sqrt(3.0) / LAZIEST + 1.0) * size * grid.spacing
        if largest <= eps or len(home) == 0 or (size <= FAR and largest - outside > eps):
            break
        if size <= FINEST or nodes.evaluations + 8 * len(home) > LIMIT:
            break
        size *= 0.5
        home, low = home.repeat(8), (low[:, None] + size * _CORNERS).reshape(-1, 3)
    return Completeness(largest <= eps, float(eps), largest, len(diameters), nodes.evaluations)


def _apart(grid: Grid, nudge: float) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """(k, 3) cells that touch no crossed cell and are not proven empty; their sign, 0 for that of a corner.

    A corner that is negative by less than `nudge` may count as outside when the mesh is made, or not. So
    cells are crossed for certain without such corners only, and are listed here otherwise.
    """
    shape = tuple((grid.cells + 2).tolist())  # a rim, so that neighbours never wrap around
    crossed, vague, signs = [np.zeros((0, 3), np.int64)], [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int8)]
    for origin, brick in zip(grid.origins, grid.bricks, strict=True):
        above = brick.astype(np.float64) - grid.level
        extent = tuple(slice(n) for n in np.minimum(grid.cells - origin, BRICK))
        inside, outside = (_any_corner(nodes)[extent] for nodes in (above <= -nudge, above >= 0.0))
        crossed.append(np.argwhere(inside & outside) + origin)
        unsure = _any_corner((above < 0.0) & (above > -nudge))[extent] & ~(inside & outside)
        vague.append(np.argwhere(unsure) + origin)
        signs.append(np.where(inside[unsure], -1, 1).astype(np.int8))
    names = np.ravel_multi_index(tuple((np.concatenate(crossed) + 1).T), shape)
    steps = np.ravel_multi_index((_RING + 1).T, shape) - np.ravel_multi_index((1, 1, 1), shape)
    touched = np.unique(names[:, None] + steps)
    cells = np.concatenate([*vague, grid.undecided.astype(np.int64)])
    sign = np.concatenate([*signs, np.zeros(len(grid.undecided), np.int8)])
    apart = ~np.isin(np.ravel_multi_index(tuple((cells + 1).T), shape), touched)
    return cells[apart], sign[apart]


def _any_corner(nodes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which cells of a brick have such a node."""
    parts = [nodes[i : i + BRICK, j : j + BRICK, k : k + BRICK] for i, j, k in _CORNERS.tolist()]
    return np.asarray(np.logical_or.reduce(parts))


class _Parts(NamedTuple):
    """Cubic parts of cells: whose, where, and how large, in cells."""

    home: NDArray[np.int64]
    low: NDArray[np.float64]
    size: float


def _diameters(cells: NDArray[np.int64], left: list[_Parts]) -> NDArray[np.float64]:
    """Diameters of the clusters of parts that are left, in cells; parts of touching cells are one cluster."""
    home = np.concatenate([part.home for part in left])
    if len(home) == 0:
        return np.zeros(0)
    low = np.concatenate([part.low for part in left])
    high = np.concatenate([part.low + part.size for part in left])
    owners, member = np.unique(home, return_inverse=True)
    shape = tuple((cells.max(axis=0) + 3).tolist())
    names = np.ravel_multi_index(tuple((cells[owners] + 1).T), shape)
    order = np.argsort(names)
    rows, columns = [np.arange(len(names))], [np.arange(len(names))]
    for step in np.ravel_multi_index((_AHEAD + 1).T, shape) - np.ravel_multi_index((1, 1, 1), shape):
        found = np.minimum(np.searchsorted(names[order], names + step), len(names) - 1)
        match = names[order][found] == names + step
        rows.append(np.flatnonzero(match))
        columns.append(order[found[match]])
    one, two = np.concatenate(rows), np.concatenate(columns)
    count, cluster = connected_components(coo_matrix((np.ones(len(one)), (one, two)), (len(names),) * 2))
    lowest, highest = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
    np.minimum.at(lowest, cluster[member], low)
    np.maximum.at(highest, cluster[member], high)
    return np.linalg.norm(highest - lowest, axis=1)
