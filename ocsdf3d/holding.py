"""A trained field held to what is known beside it: to dense clean points, and to distances.

`spheres` says what holds a field and that its certificate survives; which spheres these are, `touching` finds
for the points and `inscribed` for the distances, and both ask the field. Here they are put together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ocsdf3d.field import SDF
from ocsdf3d.inscribed import CELL, inscribed_balls
from ocsdf3d.spheres import Spheres, touching
from ocsdf3d.surface import EmptyLevelSetError

__all__ = ["held"]

Floats = NDArray[np.float64]

NODES = 128  # of the grid in which balls are inscribed


def held(
    sdf: SDF, points: Floats, lower: Floats, upper: Floats, rng: np.random.Generator, *, dense: bool
) -> SDF:
    """Return the field with spheres; as it is where there are none.

    Parameters
    ----------
    sdf : SDF
        As trained, without spheres. One without a surface, as of a run that was stopped early, gets no balls.
    points : (n, 3) array
        Distinct samples that it was learnt from, n > 4 [unit frame].
    lower, upper : (3,) arrays
        Corners of B [unit frame].
    rng : numpy.random.Generator
        Source of all randomness.
    dense : bool
        Whether the points are clean, and so many that the field is held to them too.
    """
    frame = sdf.frame
    inside, outside, cell = np.zeros((0, 4)), np.zeros((0, 4)), CELL
    if dense:
        touched = touching(points, _in_unit_frame(sdf), lambda x: sdf.gradient(frame.to_world(x)), rng)
        if touched is not None:
            inside, outside, cell = touched.inside, touched.outside, min(CELL, touched.cell)
            sdf = dataclasses.replace(sdf, spheres=touched)
    try:
        mesh = sdf.mesh(resolution=NODES)
    except EmptyLevelSetError:
        return sdf
    mesh.vertices = frame.to_unit(mesh.vertices)
    solid = sdf.support == "solid"
    within, without = inscribed_balls(mesh, points, _in_unit_frame(sdf), lower, upper, rng, solid=solid)
    inside, outside = np.concatenate([inside, within]), np.concatenate([outside, without])
    if not len(inside) + len(outside):
        return sdf
    return dataclasses.replace(sdf, spheres=Spheres(inside, outside, cell))


def _in_unit_frame(sdf: SDF) -> Callable[[Floats], Floats]:
    """Return the field as a function of the unit frame, in its lengths."""
    return lambda x: sdf(sdf.frame.to_world(x)) / sdf.frame.scale
