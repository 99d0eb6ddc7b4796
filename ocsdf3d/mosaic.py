"""A huge scan in overlapping tiles: where they lie, what each learns from, and their join.

One network resolves about 1/100 of its frame, whatever it is shown. So first the whole scan is fitted,
thinned; then each tile, with all the points that a network can use. Three things come from the whole: the
*sides*, for what is cut out of a solid is open and cannot tell its inside; the *rest of the surface*, sparse
samples of the mesh of the whole beyond the tile, which close it and to which far points have their distances;
and the *guide* of the `join`, which also is the field of tiles without points.

A tile is fitted on its cell and `halo` around it. Over three quarters of that, to either side of a face, two
tiles share the weight; in the last quarter none has any, and what a network does at the end of its world is
never seen. A wider ramp is a gentler one: of a camel of 10⁶ points in 2 × 2 tiles (`fast`, seed 0) the slope
proved is 1.43 with half of the halo, 1.34 with three quarters, 1.33 with nine tenths, the distance to the
truth the same to a thousandth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

import numpy as np
import trimesh
from numpy.typing import NDArray

from ocsdf3d import io
from ocsdf3d.field import SDF
from ocsdf3d.geometry import Box, PointCloud
from ocsdf3d.join import Join
from ocsdf3d.pipeline import fit_within
from ocsdf3d.sampling import surface_points
from ocsdf3d.sides import USED_POINTS
from ocsdf3d.thinning import LARGE, thinned

__all__ = ["HALO", "Plan", "Tile", "checked", "fit_tile", "joined", "planned"]

Floats = NDArray[np.float64]

HALO = 0.15  # of the longest side of a cell
RAMP = 1.5  # width of a ramp, to both sides of a face, over the halo
SPACINGS = 4.0  # of the points of the whole: the least halo
SPREAD = 1.27  # mean distance to ten neighbours of random points, over the root of the area of one
KEPT = 60_000  # points of a tile
FEWEST = 64  # points; tiles of fewer are left to the whole
OTHERS = 6_000  # samples of the mesh of the whole, at most as many as it had points
ROOM = 1.25  # band over the largest |φ₀| at a point


@dataclass(frozen=True)
class Plan:
    """Where tiles lie.

    Attributes
    ----------
    cuts : three tuples of floats
        Where planes cross each axis [world units].
    halo : float
        How far a tile is fitted beyond its cell [world units].
    box : Box
        Of them all.
    resolved : float
        Spacing of the points of the whole [world units].
    """

    cuts: tuple[tuple[float, ...], ...]
    halo: float
    box: Box
    resolved: float

    @property
    def ramp(self) -> float:
        """How wide the ramps between tiles are [world units]."""
        return RAMP * self.halo

    @property
    def regions(self) -> dict[tuple[int, ...], Box]:
        """Where each tile is fitted, by its place; the last axis runs fastest."""
        edges = [
            np.array([low, *cuts, high])
            for low, cuts, high in zip(self.box.lower, self.cuts, self.box.upper, strict=True)
        ]
        found = {}
        for place in product(*(range(len(edge) - 1) for edge in edges)):
            low = np.array([edge[i] for edge, i in zip(edges, place, strict=True)]) - self.halo
            high = np.array([edge[i + 1] for edge, i in zip(edges, place, strict=True)]) + self.halo
            found[place] = Box(np.maximum(low, self.box.lower), np.minimum(high, self.box.upper))
        return found


@dataclass(frozen=True, eq=False)
class Tile:
    """The field of a tile, the points it was given, and how far the farthest of them is from the whole.

    Attributes
    ----------
    field : SDF
        The whole's own where the tile has too few points.
    points : int
        Of the scan, after thinning.
    strayed : float
        Largest |φ₀| of them [world units].
    """

    field: SDF
    points: int
    strayed: float


def checked(tiles: Sequence[int], halo: float | None = None) -> tuple[list[int], float]:
    """Return numbers of tiles and the halo's share, if they are any.

    Raises
    ------
    ValueError
        They make no tiles, whatever the scan.
    """
    numbers = [int(n) for n in tiles]
    if len(numbers) not in (2, 3) or min(numbers) < 1 or max(numbers) < 2:
        raise ValueError(
            f"`tiles` must be two or three numbers from 1, one of them above; got {list(tiles)}."
        )
    share = HALO if halo is None else halo
    if not 0.0 < share <= 1.0 / RAMP:
        raise ValueError(f"`halo` must be above 0 and at most {1.0 / RAMP:.3f} sides of a tile; got {halo}.")
    return numbers, share


def planned(whole: SDF, mesh: trimesh.Trimesh, tiles: Sequence[int], halo: float | None = None) -> Plan:
    """Return where tiles lie: equal cells of a mesh's box, those of the rim up to the field's.

    Parameters
    ----------
    whole : SDF
        Of all the scan.
    mesh : trimesh.Trimesh
        Of `whole`.
    tiles : two or three ints
        Along each axis; of two the first is along the longest axis, the second along the next.
    halo : float, optional
        As a share of the longest side of a cell, `HALO` when None; at least `SPACINGS` spacings of the points
        that `whole` was learnt from.

    Raises
    ------
    ValueError
        Numbers that make no tiles, or cells narrower than their halo.
    """
    numbers, share = checked(tiles, halo)
    box = Box.of(mesh.vertices)
    if len(numbers) == 2:
        along = np.argsort(-box.size, kind="stable")[:2]
        numbers = [numbers[list(along).index(axis)] if axis in along else 1 for axis in range(3)]
    count = min(USED_POINTS, int(whole.settings["points"]))
    resolved = SPREAD * float(np.sqrt(mesh.area / count))
    cells = box.size / numbers
    split = np.array(numbers) > 1
    reach, least = max(share * float(cells[split].max()), SPACINGS * resolved), float(cells[split].min())
    if RAMP * reach > least:
        raise ValueError(
            f"a halo of {reach:.4g} is too wide for a tile of {least:.4g}: it must be at least {SPACINGS:g} "
            f"spacings of the points of the whole and at most {1.0 / RAMP:.3f} of a tile. Take fewer `tiles`."
        )
    cuts = tuple(
        tuple(float(low + side * i) for i in range(1, n))
        for low, side, n in zip(box.lower, cells, numbers, strict=True)
    )
    return Plan(cuts, reach, whole.box.joined(box), resolved)


def fit_tile(
    source: Any,
    region: Box,
    whole: SDF,
    mesh: trimesh.Trimesh,
    resolved: float,
    *,
    seed: int = 0,
    **options: Any,
) -> Tile:
    """Return the field of a tile of a scan.

    Parameters
    ----------
    source
        The scan, as for `fit`; read in blocks where its format allows it.
    region : Box
        Of the tile, see `Plan.regions` [world units].
    whole : SDF
        Of all the scan.
    mesh : trimesh.Trimesh
        Of `whole`.
    resolved : float
        See `Plan`.
    seed : int
        Fixes every draw.
    **options
        Of `pipeline.fit_within`.
    """
    points = points_within(source, region, seed)
    strayed = float(np.abs(whole(points)).max(initial=0.0))
    if len(points) < FEWEST:
        return Tile(whole, len(points), 0.0)
    count = min(OTHERS, int(whole.settings["points"]))
    others = surface_points(mesh, count, np.random.default_rng(seed))[0]
    others = others[~region.contains(others)]
    return Tile(
        fit_within(points, region, whole, others, resolved, seed=seed, **options), len(points), strayed
    )


def blocks_of_cloud(source: Any) -> io.Blocks:
    """Return a scan in blocks of points; ValueError where it is a mesh."""
    blocks = io.blocks_of(source)
    if blocks is None:
        shape = io.read(source)
        if not isinstance(shape, PointCloud):
            raise ValueError("tiles are made of clouds of points, not of meshes; sample its surface first.")
        blocks = io.blocks_of(shape)
        assert blocks is not None  # of a cloud there are always blocks
    return blocks


def points_within(source: Any, region: Box, seed: int) -> Floats:
    """Return the points of a scan in a box, (n, 3), thinned to about `KEPT`; the scan is never held whole."""
    blocks = blocks_of_cloud(source)
    every = blocks.each

    def within() -> Iterator[io.Block]:
        for block in every():
            here = region.contains(block.points)
            if here.any():
                yield io.Block(block.points[here], None)

    rest, held, count = within(), [], 0
    for block in rest:
        held.append(block)
        count += len(block.points)
        if count > LARGE:
            break
    if count <= KEPT:
        return np.concatenate([block.points for block in held]) if held else np.zeros((0, 3))
    return thinned(io.Blocks(blocks.name, count, lambda: chain(held, rest)), seed, kept=KEPT).points


def joined(plan: Plan, whole: SDF, tiles: Sequence[Tile]) -> Join:
    """Return the one field of all tiles, in the order of `Plan.regions`; nothing is proved yet."""
    parts: list[SDF] = [whole]
    which = []
    for tile in tiles:
        same = tile.field.certificate["hash"] == whole.certificate["hash"]
        empty = same and tile.field.frame.scale == whole.frame.scale
        which.append(0 if empty else len(parts))
        parts += [] if empty else [tile.field]
    band = ROOM * max(tile.strayed for tile in tiles)
    lower, upper = plan.box.lower.tolist(), plan.box.upper.tolist()
    least = 1e-6 * plan.box.longest  # a scan of empty tiles
    return Join(tuple(parts), plan.cuts, (plan.ramp,) * 3, tuple(which), max(band, least), lower, upper)  # type: ignore[arg-type]
