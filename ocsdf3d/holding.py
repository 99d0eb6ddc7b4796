"""A trained field held to what is known beside it: to dense clean points, to one topology, and to distances.

`spheres` says what holds a field and that its certificate survives; which spheres these are, `touching` finds
for the points, `topology` for threads and pinholes and `inscribed` for the distances, and all ask the field.
Here they are put together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import product

import numpy as np
import trimesh
from numpy.typing import NDArray

from ocsdf3d.field import SDF
from ocsdf3d.grid import Grid, from_nodes, sample
from ocsdf3d.inscribed import CELL, inscribed_balls
from ocsdf3d.sparse import BRICK
from ocsdf3d.spheres import Spheres, touching
from ocsdf3d.surface import EmptyLevelSetError, extract
from ocsdf3d.topology import simplified
from ocsdf3d.winding import Winding

__all__ = ["held"]

Floats = NDArray[np.float64]

NODES = 128  # of the mesh in which a shell's balls are inscribed
FINE = 200  # of a solid's, whose topology is simplified
HAIR = 0.008  # unit frame, see `topology`
CUBE = np.array(list(product((-1, 0, 1), repeat=3)))  # a node and those around it


def held(
    sdf: SDF,
    points: Floats,
    inside: Winding | None,
    lower: Floats,
    upper: Floats,
    rng: np.random.Generator,
    *,
    dense: bool,
    wires: bool,
) -> SDF:
    """Return the field with spheres; as it is where there are none.

    Parameters
    ----------
    sdf : SDF
        As trained, without spheres. One without a surface, as of a run that was stopped early, gets no balls.
    points : (n, 3) array
        Distinct samples that it was learnt from, n > 4 [unit frame].
    inside : callable or None
        What told the sides of a solid, None for a shell, see `sides.Sides`.
    lower, upper : (3,) arrays
        Corners of B [unit frame].
    rng : numpy.random.Generator
        Source of all randomness.
    dense : bool
        Whether the points are clean, and so many that the field is held to them too.
    wires : bool
        Whether those of a solid lie on wires, see `planes.on_wires`.
    """
    frame = sdf.frame
    if dense:
        touched = touching(points, _in_unit_frame(sdf), lambda x: sdf.gradient(frame.to_world(x)), rng)
        if touched is not None:
            sdf = dataclasses.replace(sdf, spheres=touched)
    try:
        if inside is None:
            mesh = sdf.mesh(resolution=NODES)
        else:
            sdf, mesh = _untangled(sdf, points, inside, wires)
    except EmptyLevelSetError:
        return sdf
    mesh.vertices = frame.to_unit(mesh.vertices)
    solid = inside is not None
    balls = inscribed_balls(mesh, points, _in_unit_frame(sdf), lower, upper, rng, solid=solid)
    return _with_balls(sdf, *balls)


def _with_balls(sdf: SDF, inside: Floats, outside: Floats) -> SDF:
    """Return the field with more balls on either side, (k, 4) and (m, 4)."""
    if not len(inside) + len(outside):
        return sdf
    cell, old = CELL, sdf.spheres
    if old is not None:
        inside, outside = np.concatenate([old.inside, inside]), np.concatenate([old.outside, outside])
        cell = min(cell, old.cell)
    return dataclasses.replace(sdf, spheres=Spheres(inside, outside, cell))


def _untangled(sdf: SDF, points: Floats, inside: Winding, wires: bool) -> tuple[SDF, trimesh.Trimesh]:
    """Return the field with balls that cut threads and plug pinholes, and its mesh.

    A node that `topology` turns gets a ball around its cell, and so do the nodes around it that are on its
    new side: between two nodes the field would otherwise still have its way.
    """
    frame = sdf.frame
    box = sdf.box.expanded(2.0 * sdf.box.longest / (FINE - 1))  # the nodes of a mesh
    allowance = 0.5 * HAIR * frame.scale  # counts twice: all within a hair is asked
    grid = sample(sdf, box, FINE, lipschitz=sdf.lipschitz, allowance=allowance)
    values, radius = _nodes(grid, sdf), 0.5 * np.sqrt(3.0) * grid.spacing

    def judged(nodes: NDArray[np.int64]) -> NDArray[np.bool_]:
        judgement: NDArray[np.bool_] = inside(frame.to_unit(grid.lower + grid.spacing * nodes)) > 0.5
        return judgement

    nearest = np.rint((frame.to_world(points) - grid.lower) / grid.spacing).astype(np.int64)
    samples = np.clip(nearest, 0, grid.cells)
    within = simplified(values, HAIR * frame.scale, judged, samples, wires=wires)
    turned = within != (values < 0.0)
    balls = []
    for side in (True, False):
        around = (np.argwhere(turned & (within == side))[:, None] + CUBE).reshape(-1, 3)
        around = np.unique(around[((around >= 0) & (around <= grid.cells)).all(axis=1)], axis=0)
        around = around[within[tuple(around.T)] == side]
        centre = frame.to_unit(grid.lower + grid.spacing * around)
        balls.append(np.column_stack([centre, np.full(len(centre), radius / frame.scale)]))
    values[turned] = np.where(within[turned], -radius, radius)
    return _with_balls(sdf, balls[0], balls[1]), extract(from_nodes(values, grid.lower, grid.spacing))


def _nodes(grid: Grid, sdf: SDF) -> NDArray[np.float32]:
    """Return φ at the nodes near the surface, and something of the right sign at all others [world units]."""
    count = -(-grid.cells // BRICK)
    bricks = np.stack(np.unravel_index(np.arange(np.prod(count)), tuple(count)), axis=1)
    middle = sdf(grid.lower + grid.spacing * np.minimum(BRICK * bricks + BRICK // 2, grid.cells))
    far = np.copysign(np.float32(grid.box.diagonal), middle.astype(np.float32)).reshape(count)
    for axis in range(3):
        far = far.repeat(BRICK, axis=axis)
    values = np.pad(far, [(0, 1)] * 3, mode="edge")[tuple(slice(n + 1) for n in grid.cells)].copy()
    for origin, brick in zip(grid.origins, grid.bricks, strict=True):
        place = tuple(slice(o, o + BRICK + 1) for o in origin)
        part = values[place]
        part[...] = brick[tuple(slice(n) for n in part.shape)]
    return values


def _in_unit_frame(sdf: SDF) -> Callable[[Floats], Floats]:
    """Return the field as a function of the unit frame, in its lengths."""
    return lambda x: sdf(sdf.frame.to_world(x)) / sdf.frame.scale
